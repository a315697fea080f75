//! Token buckets in front of the slow path, so that a flood from one line cannot drown it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::settings::INTERFACE_COUNT;

/// Buckets for interfaces: the first entries of `PUNTS`, by number.
pub const PUNT_INTERFACES: u32 = INTERFACE_COUNT;

/// Buckets for lines in each of the two rows that follow. A line has one in each row, chosen by two
/// parts of a seeded hash, and is held back only if both are empty: another line would have to
/// share both.
pub const PUNT_LINES: u32 = 4096;

/// Entries in `PUNTS`.
pub const PUNT_COUNT: u32 = PUNT_INTERFACES + 2 * PUNT_LINES;

/// A token bucket.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Punt {
    /// Low half of the kernel's jiffies when it was filled up last.
    pub filled_jiffies: u32,
    /// What has been taken out and not come back, in 1/65536 of a packet.
    pub taken: u32,
}

/// How a token bucket fills.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Rate {
    /// What comes back in a jiffy, in 1/65536 of a packet; 0: there is no limit.
    pub per_jiffy: u32,
    /// Packets that may come at once, at most 32,767, in 1/65536 of a packet.
    pub burst: u32,
}
