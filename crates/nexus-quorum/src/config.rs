//! What a quorum is opened with, and the bounds that are not for setting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::QuorumError;

/// Time since boot, suspended time included (CLOCK_BOOTTIME).
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a quorum is opened with.
#[derive(Clone)]
pub struct Options {
    /// This node's number, never used by another node of this cluster, not even a former one.
    pub number: u32,
    /// The redb file; made if it is not there. Its directory must exist.
    pub path: PathBuf,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// The clock from which cluster time is counted.
    pub clock: Clock,
    /// When to take a snapshot.
    pub limits: Limits,
}

/// Heartbeats and elections. The same on all nodes of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The leader lets the others hear from it at least this often (sent every 1.5 times this).
    /// Also how long it waits for the answer to one replication message.
    pub heartbeat: Duration,
    /// A voter that heard from no leader for a time drawn anew each time from here to `election_max` asks the others
    /// whether they would vote for it. Also how long a voter that heard from a leader votes for nobody else.
    pub election_min: Duration,
    /// See `election_min`. A leader that has not heard from a majority for so long gives up accepting proposals.
    pub election_max: Duration,
}

impl Default for Timing {
    /// For nodes in one site: heartbeat 250 ms, election 1 s to 2 s.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(2000),
        }
    }
}

impl Timing {
    pub(crate) fn check(&self) -> Result<(), QuorumError> {
        let refuse = |why: &str| Err(QuorumError::Settings(format!("{why}; they are {self:?}")));
        if self.heartbeat < Duration::from_millis(10) {
            return refuse("the heartbeat must be at least 10 ms");
        }
        if self.election_min < self.heartbeat * 3 {
            return refuse("election_min must be at least three heartbeats");
        }
        if self.election_max < self.election_min + self.heartbeat {
            return refuse("election_max must be at least a heartbeat above election_min");
        }
        if self.election_max > Duration::from_secs(600) {
            return refuse("election_max must be at most 600 s");
        }
        Ok(())
    }
}

/// When to take a snapshot, after which the log before it is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many log entries since the last one.
    pub snapshot_entries: u64,
    /// After so many bytes of log.
    pub snapshot_bytes: u64,
    /// Entries that are kept behind a snapshot, so that a node that is a little behind needs no snapshot.
    pub keep_entries: u64,
    /// How many log entries a learner may be behind to become a voter.
    pub promote_lag: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            snapshot_entries: 4096,
            snapshot_bytes: 32 << 20,
            keep_entries: 512,
            promote_lag: 64,
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), QuorumError> {
        if self.snapshot_entries == 0 || self.snapshot_bytes < MAX_COMMAND as u64 {
            return Err(QuorumError::Settings(format!(
                "a snapshot must come after at least one entry and one mebibyte; the limits are {self:?}"
            )));
        }
        Ok(())
    }
}

/// Bytes of one command.
pub(crate) const MAX_COMMAND: usize = 1 << 20;
/// Commands of one log entry; bytes are bounded by [`MAX_COMMAND`].
pub(crate) const MAX_BATCH: usize = 256;
/// Bytes of log entries in one replication message, but always at least one entry.
pub(crate) const REPLICATE_BYTES: usize = 512 << 10;
/// Entries in one replication message.
pub(crate) const REPLICATE_ENTRIES: usize = 256;
/// Bytes of snapshot in one message.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;
/// Bytes of a snapshot.
pub(crate) const MAX_SNAPSHOT: usize = 256 << 20;
/// Bytes of one message; above it is refused before it is decoded.
pub(crate) const MAX_MESSAGE: usize = 3 << 20;
/// Proposals of one node on their way; more are refused.
pub(crate) const MAX_IN_FLIGHT: usize = 1024;
/// Submissions that wait at the leader; more are refused.
pub(crate) const MAX_WAITING: usize = 4096;
/// How far a node's newest proposal may be ahead of its oldest open one.
pub(crate) const WINDOW: u64 = 8192;
/// Members of a cluster, learners included.
pub(crate) const MAX_MEMBERS: usize = 128;
/// Commands in one call of the machine.
pub(crate) const MAX_APPLY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_they_are() {
        let good = Timing::default();
        assert!(good.check().is_ok() && Limits::default().check().is_ok());
        let ms = Duration::from_millis;
        for bad in [
            Timing {
                heartbeat: ms(1),
                ..good
            },
            Timing {
                heartbeat: ms(400),
                ..good
            },
            Timing {
                election_max: good.election_min,
                ..good
            },
            Timing {
                election_max: ms(700_000),
                ..good
            },
        ] {
            let refused = bad.check().unwrap_err().to_string();
            assert!(refused.contains("they are Timing"), "{refused}");
        }
        assert!(
            Limits {
                snapshot_entries: 0,
                ..Limits::default()
            }
            .check()
            .is_err()
        );
        assert!(
            Limits {
                snapshot_bytes: 9,
                ..Limits::default()
            }
            .check()
            .is_err()
        );
    }
}
