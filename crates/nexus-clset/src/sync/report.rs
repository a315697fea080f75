//! How replicas stand to each other, for operators, metrics and health.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sync::Sync;
use crate::sync::clock::{ClockNotice, WritesRefused};
use crate::sync::digest::alike;
use crate::version::NodeId;

/// Something that an operator wants to read, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This replica must be wiped ([`wipe`](crate::wipe)) and start over from its peers. It takes and gives
    /// nothing any more.
    MustStartOver {
        /// Why, and what to do.
        why: String,
    },
    /// Another replica writes under this one's number: a store was copied, or a number given twice. One of
    /// the two must be stopped and given another number and an empty store. This one takes and gives
    /// nothing any more.
    Twin {
        /// Who knows of more writes than were made here, and what to do.
        why: String,
    },
    /// A peer has less than it said in an earlier boot that it had for good: its store was restored from a
    /// copy, or its disk has lost writes. It is told to start over, and gets nothing until it does.
    RolledBack {
        /// Who.
        peer: NodeId,
    },
    /// This node is not in the list of members any more.
    Removed,
    /// The first copy is taken from this peer: from the start, or after another one or a restart.
    FirstCopy {
        /// From whom.
        from: NodeId,
        /// Entries that are here already.
        entries: u64,
        /// Entries that there are.
        expected: u64,
    },
    /// The first copy is here.
    Complete {
        /// Entries.
        entries: u64,
    },
    /// This replica and a peer have seen the same, and yet hold different entries: one of the two is
    /// damaged. It is being repaired.
    RootsDiffer {
        /// With whom.
        peer: NodeId,
    },
    /// Ranges were compared with a peer.
    Repaired {
        /// With whom.
        peer: NodeId,
        /// Entries that came.
        taken: u64,
        /// Entries that were sent.
        given: u64,
        /// Bytes both ways.
        bytes: u64,
    },
    /// The rows of a range of keys do not give the fingerprint that was kept of them: rows were lost or
    /// changed behind the replica's back. The fingerprint is put right, so that peers' roots tell.
    RowsDamaged {
        /// The key behind which the range starts.
        low: Vec<u8>,
    },
    /// About clocks.
    Clock(ClockNotice),
}

/// Messages and entries since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Batches that were published.
    pub published: u64,
    /// Their bytes.
    pub published_bytes: u64,
    /// Batches that came.
    pub pushes: u64,
    /// Batches that were not taken because too much waits to be written.
    pub dropped: u64,
    /// Messages from who is no member.
    pub strangers: u64,
    /// Pages that were pulled.
    pub pages: u64,
    /// Entries in them.
    pub pulled_entries: u64,
    /// Questions that were not answered.
    pub failures: u64,
    /// Times that ranges were compared.
    pub repairs: u64,
    /// Bytes of these, both ways.
    pub repair_bytes: u64,
}

/// How a peer stands to this replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerReport {
    /// Whether it can be reached.
    pub up: bool,
    /// Whether it has had its first copy; nothing if it never spoke.
    pub complete: Option<bool>,
    /// How long ago it was heard.
    pub heard: Option<Duration>,
    /// Whether it said that this node is no member.
    pub refuses_us: bool,
    /// Writes that it has and this replica does not, as far as it said.
    pub ahead: u64,
    /// Writes that this replica has for good and it does not, as far as it said.
    pub behind: u64,
    /// Since when something is missing here that it has.
    pub ahead_for: Option<Duration>,
    /// How long ago the oldest own write was made that it has not confirmed.
    pub behind_for: Option<Duration>,
    /// Whether what it said last and what is here for good now is the same: both have seen the same, and
    /// their roots are equal. Never from counters alone. While there are writes it is mostly false.
    pub in_sync: bool,
    /// How long ago roots were compared (which takes that both have seen the same).
    pub compared: Option<Duration>,
    /// How often in a row they differed.
    pub mismatches: u32,
    /// Greetings that were exchanged.
    pub rounds: u64,
    /// Times that ranges were compared with it.
    pub repairs: u64,
    /// Bytes that came from it.
    pub bytes_in: u64,
    /// Bytes that it was sent, without what was published.
    pub bytes_out: u64,
}

/// How a first copy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// From whom; nothing while no complete member can be reached.
    pub source: Option<NodeId>,
    /// Entries that are here, those of before a restart too.
    pub entries: u64,
    /// Entries that there are.
    pub entries_expected: u64,
    /// Bytes that came since the start.
    pub bytes: u64,
    /// Bytes that will have come in the end, reckoned from what came for how many entries.
    pub bytes_expected: u64,
    /// For how long.
    pub took: Duration,
}

/// How the own clock stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReport {
    /// Milliseconds ahead of the median of peers' clocks (behind if below 0); nothing while none spoke.
    pub ahead_millis: Option<i64>,
    /// Messages with stamps that lay too far ahead to be followed.
    pub refused_stamps: u64,
    /// Whether this node must not be written to.
    pub writes_refused: Option<WritesRefused>,
}

/// How this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether it is in the list of members.
    pub member: bool,
    /// Whether it has had its first copy.
    pub complete: bool,
    /// The first copy, while it is not.
    pub bootstrap: Option<Bootstrap>,
    /// Why it takes and gives nothing any more: [`Notice::MustStartOver`] or [`Notice::Twin`].
    pub stopped: Option<Notice>,
    /// Whether all other members can be reached and are in sync.
    pub converged: bool,
    /// Peers.
    pub peers: BTreeMap<NodeId, PeerReport>,
    /// Members that were not heard of for too long ([`Options::overdue`](crate::Options::overdue)): they
    /// hold up the collection of tombstones until they are evicted.
    pub overdue: Vec<NodeId>,
    /// Entries, tombstones among them.
    pub entries: u64,
    /// Root over all entries.
    pub root: u128,
    /// Tombstones among the entries, as last counted; collected ones still to be removed too.
    pub tombstones: u64,
    /// Writers in the version vector.
    pub origins: usize,
    /// Nodes and older boots that the forgotten ones are known by.
    pub retired: usize,
    /// Whether ranges are being compared now, and with whom.
    pub repairing: Option<NodeId>,
    /// Blocks whose rows were compared with the summary since the start, and those that did not fit.
    pub scrubbed: (u64, u64),
    /// The clock.
    pub clock: ClockReport,
    /// Messages.
    pub traffic: Traffic,
}

impl Sync {
    /// How this replica stands, as of the last input.
    #[must_use]
    pub fn report(&self) -> Report {
        let now = self.now.boot;
        let ago = |at: Duration| now.saturating_sub(at);
        let peers: BTreeMap<NodeId, PeerReport> = self
            .peers
            .iter()
            .map(|(node, peer)| {
                let digest = peer.digest.as_ref();
                let behind = digest.map_or_else(
                    || self.durable.seen.ahead_of(&Default::default()),
                    |digest| self.durable.seen.ahead_of(&digest.seen),
                );
                let own = digest.map_or(0, |digest| digest.seen.upto(self.durable.origin));
                let report = PeerReport {
                    up: peer.up,
                    complete: digest.map(|digest| digest.complete),
                    heard: peer.heard.map(ago),
                    refuses_us: peer.refuses_us,
                    ahead: digest.map_or(0, |digest| digest.seen.ahead_of(&self.durable.seen)),
                    behind,
                    ahead_for: peer.missing_since.map(ago),
                    behind_for: self.outbox.oldest_behind(own).map(ago),
                    in_sync: peer.up && digest.is_some_and(|digest| alike(&self.durable, digest)),
                    compared: peer.compared.map(ago),
                    mismatches: peer.mismatches,
                    rounds: peer.rounds,
                    repairs: peer.repairs,
                    bytes_in: peer.bytes_in,
                    bytes_out: peer.bytes_out,
                };
                (*node, report)
            })
            .collect();
        let complete = self.durable.complete;
        let others = self.members.keys().filter(|node| **node != self.me);
        let in_sync = |node: &NodeId| peers.get(node).is_some_and(|p| p.up && p.in_sync);
        Report {
            member: self.is_member(self.me),
            complete,
            bootstrap: (!complete).then(|| self.bootstrap_report()),
            stopped: self.stopped.clone(),
            converged: complete && self.stopped.is_none() && others.clone().all(in_sync),
            overdue: others
                .filter(|node| self.is_overdue(**node))
                .copied()
                .collect(),
            peers,
            entries: self.durable.fingerprint.count,
            root: self.durable.fingerprint.sum,
            tombstones: self.housekeeping.tombstones(),
            origins: self.durable.seen.origins().count(),
            retired: self.durable.retired.len(),
            repairing: self.session.as_ref().map(super::Session::peer),
            scrubbed: self.housekeeping.scrubbed(),
            clock: self.guard.report(self.now),
            traffic: self.traffic,
        }
    }

    fn bootstrap_report(&self) -> Bootstrap {
        let progress = &self.bootstrap;
        let since_start = |entries: u64| entries.saturating_sub(progress.entries_before);
        let came = u128::from(progress.bytes);
        let expected = came
            .saturating_mul(since_start(progress.entries_expected).into())
            .checked_div(since_start(progress.entries).into())
            .unwrap_or(0);
        Bootstrap {
            source: progress.source,
            entries: progress.entries,
            entries_expected: progress.entries_expected,
            bytes: progress.bytes,
            bytes_expected: u64::try_from(expected).unwrap_or(u64::MAX),
            took: progress
                .since
                .map_or(Duration::ZERO, |since| self.now.boot.saturating_sub(since)),
        }
    }
}

pub(super) fn number(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
