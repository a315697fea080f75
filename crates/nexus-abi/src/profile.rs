//! What all bindings of one pool share: `PROFILES`, from an id to a reply template.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries in `PROFILES`.
pub const PROFILE_COUNT: u32 = 256;

/// 64-bit words of encoded options in a profile.
pub const OPTION_WORDS: usize = 36;

/// Most bytes of encoded options in a profile, the head of [`OPTIONS_HEAD`] bytes included.
pub const OPTIONS_CAPACITY: usize = OPTION_WORDS * 8;

/// Bytes of the head of `options`: message type (53), server identifier (54), lease time (51),
/// renewal time (58) and rebinding time (59), in this order.
pub const OPTIONS_HEAD: usize = 27;

/// A reply template. Addresses are in network order; an all-zero profile is an absent one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Profile {
    /// 1 if the entry is in use, 0 if not.
    pub present: u32,
    /// DHCP lease in seconds for a binding without an end.
    pub lease_secs: u32,
    /// Server identifier (option 54), source address of replies and gateway of the pool.
    pub server_id: [u8; 4],
    /// `siaddr` of replies; zero if there is none.
    pub next_server: [u8; 4],
    /// Source MAC address of replies.
    pub gateway_mac: [u8; 6],
    /// Bytes of `options` in use.
    pub options_len: u16,
    /// Zero.
    pub reserved: u64,
    /// The options as they go on the wire, in memory order: the head (see [`OPTIONS_HEAD`]; message
    /// type and times are zero here), then the pool's own options without END; zeros behind.
    pub options: [u64; OPTION_WORDS],
}

const _: () = assert!(size_of::<Profile>() == 32 + OPTIONS_CAPACITY);
