//! Who wrote an entry, and which of two entries counts.

use std::fmt;

use crate::hlc::Hlc;

/// Number of a replica, the same for its whole life and used by no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// One boot of a replica: greater at every boot, durable before its first write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// A writer: one boot of one replica. What it numbers, nobody ever numbers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The replica.
    pub node: NodeId,
    /// Its boot.
    pub incarnation: Incarnation,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node.0, self.incarnation.0)
    }
}

/// One write: the `seq`th (from 1) of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub origin: Origin,
    /// Which of its writes.
    pub seq: u64,
}

/// Up to which right a write was made: whoever held an older one never overwrites. Compared field by
/// field in this order. Keys that nobody owns have [`Fence::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// Epoch of the shard: grows with each change of its owner.
    pub epoch: u64,
    /// Which command of that owner: it may have sent them to different servers, and the newest counts
    /// whatever each of them had seen.
    pub seq: u64,
}

impl Fence {
    /// That of keys that nobody owns.
    pub const NONE: Self = Self::epoch(0);

    /// The fence of an epoch whose commands have no numbers.
    #[must_use]
    pub const fn epoch(epoch: u64) -> Self {
        Self { epoch, seq: 0 }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, command {}", self.epoch, self.seq)
    }
}

/// What decides between two entries of one key: compared field by field in this order, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Epoch and command for keys of allocations: an older one never overwrites.
    pub fence: Fence,
    /// Causal length (Yu and Rostad, PaPoC 2020): odd while the key is there, even while it is deleted.
    pub causal_length: u64,
    /// When, as far as clocks can tell; decides only between concurrent writes of the same sort.
    pub hlc: Hlc,
    /// Who; decides what is left.
    pub origin: Origin,
}
