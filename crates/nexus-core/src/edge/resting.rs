//! From when on rests count: what was released on a clock that was fast has rested for less time than its row says.
//!
//! A client goes on with an address that it lost until its own lease ends, so an address rests for that long before
//! somebody else gets it. If this host's clock turns out to be fast, nobody knows what that has cost every rest that was counted on
//! it. So as long as it counts as fast nothing is given anyway ([`Edge::hear_clock`]), and from the moment at which it is
//! found to be right again, what somebody else has held rests for its full time once more. Meanwhile subscribers get what
//! they had, or what nobody has had yet.

use serde::{Deserialize, Serialize};

use super::{Denied, Edge, Effects};
use crate::id::PoolId;
use crate::time::BootTime;

/// What a subscriber is told for whom there is nothing that nobody else has held.
pub(super) const RESTS_ANEW: Denied = Denied::NotReady(
    "the clock of this host was fast, and what others have held rests for its full time once more",
);

/// From when on rests count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rests {
    /// As the rows of the units say. Also what a store says that was written before this was kept.
    #[default]
    AsWritten,
    /// From the moment on at which the clock is found to be right.
    Uncounted,
    /// From then on, whatever the rows say.
    From(BootTime),
}

impl Rests {
    /// A process that starts at `now` compares the clocks anew, and takes its own to be right until then. After a reboot the
    /// times of the rows mean nothing.
    #[must_use]
    pub(super) fn restored(self, now: BootTime, same_boot: bool) -> Self {
        match self {
            Self::From(since) if same_boot => Self::From(since),
            Self::Uncounted | Self::From(_) => Self::From(now),
            Self::AsWritten => Self::AsWritten,
        }
    }
}

impl Edge {
    /// The clock has been compared, and counts as fast or does not.
    pub(super) fn doubt_rests(&mut self, now: BootTime, is_fast: bool, fx: &mut Effects) {
        let rests = match (self.rests, is_fast) {
            (_, true) => Rests::Uncounted,
            (Rests::Uncounted, false) => Rests::From(now),
            (counted, false) => counted,
        };
        self.count_rests(rests, fx);
    }

    /// Nothing rests any more of what was released before.
    pub(super) fn settle_rests(&mut self, now: BootTime, fx: &mut Effects) {
        if matches!(self.rests, Rests::From(_))
            && self.pools.keys().all(|id| self.has_rested(now, id))
        {
            self.count_rests(Rests::AsWritten, fx);
        }
    }

    fn count_rests(&mut self, rests: Rests, fx: &mut Effects) {
        if self.rests != rests {
            self.rests = rests;
            self.save(fx);
        }
    }

    /// Whether what others have held of a pool may be given once its row says so.
    pub(super) fn has_rested(&self, now: BootTime, pool: &PoolId) -> bool {
        let rest = || Some(self.pools.get(pool)?.allocator.pool().rest());
        match self.rests {
            Rests::AsWritten => true,
            Rests::Uncounted => false,
            Rests::From(since) => rest().is_none_or(|rest| now >= since + rest),
        }
    }
}
