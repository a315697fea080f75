//! What all bindings of one pool share: `PROFILES`, from an id to a reply template.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries in `PROFILES`.
pub const PROFILE_COUNT: u32 = 256;

/// Most bytes of encoded options in a profile; a multiple of 8.
pub const OPTIONS_CAPACITY: usize = 256;

/// A reply template. Addresses are in network order; an all-zero profile is an absent one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Profile {
    /// 1 if the entry is in use, 0 if not.
    pub present: u32,
    /// DHCP lease in seconds for a binding without an end.
    pub lease_secs: u32,
    /// Server identifier (option 54), source address of replies and the gateway of the pool.
    pub server_id: [u8; 4],
    /// `siaddr` of replies; zero if there is none.
    pub next_server: [u8; 4],
    /// Source MAC address of replies.
    pub gateway_mac: [u8; 6],
    /// Bytes of `options` in use.
    pub options_len: u16,
    /// One's complement sum of `options` as big-endian 16-bit words, not folded.
    pub options_sum: u32,
    /// Zero; keeps `options` on an 8-byte boundary.
    pub reserved: u32,
    /// The pool's options as they go on the wire, without 51, 53, 54, 58, 59, 61, 82 and END; zeros
    /// behind `options_len`.
    pub options: [u8; OPTIONS_CAPACITY],
}

const _: () = assert!(size_of::<Profile>() == 32 + OPTIONS_CAPACITY);
