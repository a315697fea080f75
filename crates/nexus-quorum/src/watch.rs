//! What an operator sees of the quorum, and the chores that need doing now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use tokio::time::MissedTickBehavior;

use crate::machine::ClusterTime;
use crate::quorum::Inner;
use crate::types::Membership;

/// Where this node's quorum stands. Figures of one moment, but not all of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub number: u32,
    /// The leader, if this node hears it and it accepts proposals.
    pub leader: Option<u32>,
    /// The term this node is in.
    pub term: u64,
    /// The last entry in this node's log.
    pub last_index: Option<u64>,
    /// The last entry this node knows to be committed.
    pub committed: Option<u64>,
    /// The last entry this node has applied.
    pub applied: Option<u64>,
    /// The last entry that this node's snapshot covers.
    pub snapshot: Option<u64>,
    /// Bytes of this node's log.
    pub log_bytes: u64,
    /// Commands applied since the cluster was founded.
    pub commands: u64,
    /// Who decides, as far as this node knows; while that changes, the ones to come.
    pub voters: BTreeSet<u32>,
    /// Who follows without deciding.
    pub learners: BTreeSet<u32>,
    /// Voters are being changed: both the old and the new ones must agree to everything.
    pub changing: bool,
    /// This node is among neither. Either not yet, or `removed`.
    pub member: bool,
    /// Another node said that this one has been removed.
    pub removed: bool,
    /// On the leader: how many entries each other member has not got yet. Empty elsewhere.
    pub lag: BTreeMap<u32, u64>,
    /// The stamp of the last command applied here.
    pub time: ClusterTime,
    /// Why the quorum has stopped, if it has.
    pub stopped: Option<String>,
}

impl Inner {
    pub(crate) fn status(&self) -> Status {
        let seen = self.raft.metrics().borrow().clone();
        let membership = seen.membership_config.membership();
        let voters = membership
            .get_joint_config()
            .last()
            .cloned()
            .unwrap_or_default();
        let members: BTreeSet<u32> = membership.nodes().map(|(number, _)| *number).collect();
        Status {
            number: self.shared.number,
            leader: *self.shared.leader.borrow(),
            term: seen.current_term,
            last_index: seen.last_log_index,
            committed: self
                .store
                .committed()
                .map(|id| id.index)
                .max(seen.last_applied.map(|id| id.index)),
            applied: seen.last_applied.map(|id| id.index),
            snapshot: self.store.snapshot_last().map(|id| id.index),
            log_bytes: self.store.log_bytes(),
            commands: self.shared.ordinal(),
            learners: members.difference(&voters).copied().collect(),
            changing: membership.get_joint_config().len() > 1,
            member: members.contains(&self.shared.number),
            removed: self.shared.is_removed(),
            lag: self.lag(),
            voters,
            time: ClusterTime::from_nanos(self.shared.greatest()),
            stopped: self.shared.why_stopped(),
        }
    }

    /// Entries that each other member lacks; empty if this node does not lead.
    pub(crate) fn lag(&self) -> BTreeMap<u32, u64> {
        let seen = self.raft.metrics().borrow().clone();
        let end = seen.last_log_index.map_or(0, |last| last + 1);
        let matched = seen.replication.unwrap_or_default();
        matched
            .into_iter()
            .filter(|(number, _)| *number != self.shared.number)
            .map(|(number, matched)| {
                (
                    number,
                    end.saturating_sub(matched.map_or(0, |id| id.index + 1)),
                )
            })
            .collect()
    }

    pub(crate) fn membership(&self) -> Membership {
        self.raft
            .metrics()
            .borrow()
            .membership_config
            .membership()
            .clone()
    }

    pub(crate) fn is_member(&self) -> bool {
        !self.shared.is_removed() && self.membership().get_node(&self.shared.number).is_some()
    }
}

/// Chores, until the quorum stops: a snapshot when the log has grown too many bytes, the end of a change that a former
/// leader began.
pub async fn run(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(inner.timing.heartbeat.max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = inner.shared.until_stopped() => return,
            _ = tick.tick() => {}
        }
        let seen = inner.raft.metrics().borrow().clone();
        if inner.store.log_bytes() > inner.limits.snapshot_bytes
            && asked.is_none_or(|asked| asked.elapsed() > inner.timing.election_max)
        {
            asked = Some(Instant::now());
            let snapshot = inner.store.snapshot_last();
            // First drop what the last snapshot covers; if that is not enough, take another.
            let done = match snapshot {
                Some(last) if seen.purged < Some(last) => {
                    inner.raft.trigger().purge_log(last.index).await
                }
                _ if seen.last_applied > snapshot => inner.raft.trigger().snapshot().await,
                _ => Ok(()),
            };
            if let Err(fatal) = done {
                inner.shared.stop(&fatal.to_string());
            }
        }
        let is_joint = seen.membership_config.membership().get_joint_config().len() > 1;
        if is_joint
            && seen.state == ServerState::Leader
            && inner.shared.leads()
            && let Ok(_one_at_a_time) = inner.changing.try_lock()
            && let Err(error) = inner.finish_joint().await
        {
            tracing::debug!(%error, "a change of the membership could not be ended yet");
        }
    }
}
