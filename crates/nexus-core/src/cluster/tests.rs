//! Tests of the state machine of the cluster.

mod codec;
mod members;
mod size;
mod snapshot;

use crate::cluster::{Applied, ClusterCommand, ClusterState, Introduction, Refusal, Role};
use crate::id::NodeName;
use crate::shard_table::{Command, MAX_STEPS};
use crate::time::ClusterTime;

impl ClusterState {
    /// Carries out a command and what placement then says.
    fn drive(&mut self, now: ClusterTime, command: ClusterCommand) -> Result<Applied, Refusal> {
        let applied = self.apply(now, command)?;
        for steps in self.steps().chunks(MAX_STEPS) {
            let steps = steps.to_vec();
            let _ = self.apply(now, Command::Place { steps }.into())?;
        }
        Ok(applied)
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A node whose key and addresses come from its number.
fn node(number: u32, called: &str, role: Role) -> Introduction {
    Introduction {
        number,
        name: name(called),
        role,
        peer_id: format!("12D3KooW{number}"),
        addresses: vec![format!("/ip4/192.0.2.{}/tcp/9000", number % 256)],
        http: "http://192.0.2.1:8080".into(),
        grpc: String::new(),
    }
}
