//! What placement would do next, as commands for the quorum.

use nexus_core::id::OltId;
use nexus_core::shard_table::{Command, MAX_STEPS, Step};

use super::Centre;

impl Centre {
    /// Everything that placement would do next; nothing if nothing has changed since it had nothing to do.
    pub fn placement(&mut self) -> Vec<Command> {
        commands(&self.cluster.steps())
    }

    /// What placement would give an OLT that has no shard: it needs some at once. One that has some can wait
    /// for the leader, so that a whole network that comes back is placed once, not once per OLT.
    pub fn first_shards(&mut self, olt: &OltId) -> Vec<Command> {
        if !self.table().shards_of(olt).is_empty() {
            return Vec::new();
        }
        let mut steps = self.cluster.steps();
        steps.retain(|step| matches!(step, Step::Grant { to, .. } if to == olt));
        commands(&steps)
    }
}

fn commands(steps: &[Step]) -> Vec<Command> {
    let parts = steps.chunks(MAX_STEPS);
    parts
        .map(|steps| Command::Place {
            steps: steps.to_vec(),
        })
        .collect()
}
