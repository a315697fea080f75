//! When this node stands for election, and whether it would vote for another.
//!
//! openraft 0.9 has no pre-vote and draws its election timeout once per process, so that two voters may split every vote.
//! Its own election timer is therefore off. Before a node campaigns here it asks the voters whether they would vote for it;
//! only with a majority does its term rise. A node that comes back from behind a cut has the term it left with, and does
//! not unseat the leader. The timeout is drawn anew for each try.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use rand::Rng as _;
use tokio::time::MissedTickBehavior;

use crate::message::{Canvass, Question, Reply, row};
use crate::quorum::Inner;
use crate::rows::LogIdRow;
use crate::types::Metrics;

/// Whether a node that stands so votes for the asker: it hears no leader, and misses nothing by it.
pub fn would_vote(
    hears_leader: bool,
    own_last: Option<LogIdRow>,
    asked_last: Option<LogIdRow>,
) -> bool {
    !hears_leader && asked_last >= own_last
}

/// Whether `yes` are a majority of each set of voters.
pub fn is_majority(voters: &[BTreeSet<u32>], yes: &BTreeSet<u32>) -> bool {
    !voters.is_empty()
        && voters
            .iter()
            .all(|set| set.intersection(yes).count() * 2 > set.len())
}

/// Stand for election whenever it is time to, until the quorum stops.
pub async fn run(inner: Arc<Inner>) {
    let mut tick =
        tokio::time::interval((inner.timing.heartbeat / 2).max(Duration::from_millis(5)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_try = Instant::now();
    let mut timeout = draw(&inner);
    loop {
        tokio::select! {
            _ = inner.shared.until_stopped() => return,
            _ = tick.tick() => {}
        }
        let seen = inner.raft.metrics().borrow().clone();
        if seen.state == ServerState::Leader {
            inner.shared.hear();
            continue;
        }
        let voters = seen
            .membership_config
            .membership()
            .get_joint_config()
            .clone();
        let alone = BTreeSet::from([inner.shared.number]);
        if !voters.is_empty() && voters.iter().all(|set| *set == alone) {
            // Nobody else to ask, nobody to disturb.
            if last_try.elapsed() >= inner.timing.heartbeat && seen.state != ServerState::Candidate
            {
                last_try = Instant::now();
                elect(&inner).await;
            }
            continue;
        }
        if inner.shared.silence() < timeout || last_try.elapsed() < timeout {
            continue;
        }
        let is_voter = voters.iter().any(|set| set.contains(&inner.shared.number));
        let others: BTreeSet<u32> = voters
            .iter()
            .flatten()
            .copied()
            .filter(|number| *number != inner.shared.number)
            .collect();
        if !others.is_empty() {
            let mut yes = canvass(&inner, &seen, &others).await.yes;
            yes.insert(inner.shared.number);
            // A voter that was removed and hears so stays quiet; a learner only wanted to know.
            if is_voter && !inner.shared.is_removed() && is_majority(&voters, &yes) {
                elect(&inner).await;
            }
        }
        last_try = Instant::now();
        timeout = draw(&inner);
    }
}

fn draw(inner: &Inner) -> Duration {
    rand::rng().random_range(inner.timing.election_min..=inner.timing.election_max)
}

async fn elect(inner: &Inner) {
    if let Err(fatal) = inner.raft.trigger().elect().await {
        inner.shared.stop(&fatal.to_string());
    }
}

/// What the others said.
#[derive(Default)]
pub struct Canvassed {
    /// Who would vote for this node.
    pub yes: BTreeSet<u32>,
    /// Who answered at all.
    pub there: BTreeSet<u32>,
}

/// Ask `others`. Notes it if one says that this node was removed.
pub async fn canvass(inner: &Inner, seen: &Metrics, others: &BTreeSet<u32>) -> Canvassed {
    let question = Canvass {
        last: row(inner.store.log_ends().1),
        membership: row(*seen.membership_config.log_id()),
    };
    let patience = inner.timing.election_min / 2;
    let mut asked: FuturesUnordered<_> = others
        .iter()
        .map(|number| async move {
            (
                *number,
                inner
                    .peers
                    .ask(*number, Question::Canvass(question), patience)
                    .await,
            )
        })
        .collect();
    let mut said = Canvassed::default();
    while let Some((number, reply)) = asked.next().await {
        if let Ok(Reply::Canvass { granted, removed }) = reply {
            said.there.insert(number);
            if granted {
                said.yes.insert(number);
            }
            if removed && !inner.shared.is_removed() {
                tracing::warn!(by = number, "this node is no longer a member of the quorum");
                inner.shared.set_removed();
            }
        }
    }
    said
}

impl Inner {
    /// The answer to another node's canvass.
    pub(crate) fn canvassed(&self, from: u32, canvass: Canvass) -> Reply {
        let seen = self.raft.metrics().borrow().clone();
        let hears_leader = if seen.state == ServerState::Leader {
            self.shared.leads()
        } else {
            self.shared.silence() < self.timing.election_min
        };
        let granted = would_vote(hears_leader, row(self.store.log_ends().1), canvass.last);
        let membership = row(*seen.membership_config.log_id());
        let is_committed = membership <= row(seen.last_applied);
        let is_member = seen
            .membership_config
            .membership()
            .get_node(&from)
            .is_some();
        let removed = is_committed
            && !is_member
            && canvass.membership.is_some()
            && membership > canvass.membership;
        Reply::Canvass { granted, removed }
    }
}

#[cfg(test)]
mod tests;
