//! What all bindings of one pool share on an interface: addresses, times, and the pool's options, encoded.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries in `PROFILES`.
pub const PROFILE_COUNT: u32 = 256;

/// Most options of a pool: one bit each of a set.
pub const OPTION_BITS: usize = 31;

/// Most bytes that a pool's options take, codes and lengths included.
pub const OPTIONS_CAPACITY: usize = 256;

/// 64-bit words of the options, and of zeros behind them that a reader of whole words may run into.
pub const OPTION_WORDS: usize = OPTIONS_CAPACITY / 8 + 1;

/// A pool on one interface. Addresses are in network order; an all-zero profile is an absent one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Profile {
    /// 1 if the entry is in use, 0 if not.
    pub present: u32,
    /// DHCP lease in seconds for a binding without an end.
    pub lease_secs: u32,
    /// Server identifier (option 54) and source address of replies.
    pub server_id: [u8; 4],
    /// `siaddr` of replies; zero if there is none.
    pub next_server: [u8; 4],
    /// Source MAC address of replies.
    pub gateway_mac: [u8; 6],
    /// 1: a DISCOVER with option 80 is answered with an ACK (RFC 4039).
    pub rapid_commit: u16,
    /// The bits of all options that the pool has: `(1 << count) - 1`.
    pub all: u32,
    /// Options that the pool has, at most [`OPTION_BITS`].
    pub count: u32,
    /// Gateway of the pool, which ARP is answered for like the server identifier; zero if there is none.
    pub gateway: [u8; 4],
    /// Zero.
    pub reserved: u32,
    /// The bit of each option by its code; 31: the pool does not have it.
    pub bits: [u8; 256],
    /// The options by their bits, which go up with their codes.
    pub encoded: [Encoded; OPTION_BITS + 1],
    /// The options as they go on the wire, in memory order; zeros behind.
    pub options: [u64; OPTION_WORDS],
}

/// One option in [`Profile::options`]; all zero: there is none.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Encoded {
    /// Offset of its code in bytes.
    pub offset: u16,
    /// Bytes from its code to the end of its value.
    pub len: u16,
    /// One's complement sum of these bytes as 16-bit words in memory order, folded to 16 bits, as if they
    /// stood at an even offset (RFC 1071).
    pub sum: u32,
}

const _: () = assert!(size_of::<Profile>() == 40 + 256 + 8 * 32 + 8 * OPTION_WORDS);
const _: () = assert!(core::mem::offset_of!(Profile, options) % 8 == 0);
