//! What all bindings of one pool share: reply templates, one for each set of options that clients ask for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries in `PROFILES`.
pub const PROFILE_COUNT: u32 = 256;

/// Most templates of a profile.
pub const VARIANTS: usize = 16;

/// Entries in `TEMPLATES`.
pub const TEMPLATE_COUNT: u32 = PROFILE_COUNT * VARIANTS as u32;

/// Most options of a pool: one bit each of a set.
pub const OPTION_BITS: usize = 31;

/// Most bytes of encoded options in a template, the head of [`OPTIONS_HEAD`] bytes included.
pub const OPTIONS_CAPACITY: usize = 288;

/// 64-bit words of a template: its options, and zeros that a reader of whole words may run into.
pub const TEMPLATE_WORDS: usize = OPTIONS_CAPACITY / 8 + 4;

/// Bytes of message type (53) and server identifier (54), which every reply begins with.
pub const SERVER_HEAD: usize = 9;

/// Bytes of the head of a template: [`SERVER_HEAD`], lease time (51), renewal time (58) and rebinding
/// time (59), in this order.
pub const OPTIONS_HEAD: usize = SERVER_HEAD + 18;

/// A pool on one interface. Addresses are in network order; an all-zero profile is an absent one.
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
    /// 1: a DISCOVER with option 80 is answered with an ACK (RFC 4039).
    pub rapid_commit: u16,
    /// The bits of all options that the pool has.
    pub all: u32,
    /// Templates in use, 1 to [`VARIANTS`].
    pub variants: u32,
    /// The set of options that each template has. The first one is `all`.
    pub sets: [u32; VARIANTS],
    /// The bit of each option by its code; 31: the pool does not have it.
    pub bits: [u8; 256],
}

/// The options of a reply with a certain set of the pool's options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Template {
    /// Bytes of `options` in use, at most [`OPTIONS_CAPACITY`].
    pub len: u16,
    /// Zero.
    pub reserved: u16,
    /// One's complement sum of the options' 16-bit words in memory order, folded to 16 bits (RFC 1071).
    pub sum: u32,
    /// The same without the head of [`OPTIONS_HEAD`] bytes, as if what follows it stood at offset
    /// [`SERVER_HEAD`].
    pub tail_sum: u32,
    /// Zero.
    pub reserved_too: u32,
    /// The options as they go on the wire, in memory order: the head (see [`OPTIONS_HEAD`]; message
    /// type and times are zero here), then the pool's own options by ascending code, without END;
    /// zeros behind.
    pub options: [u64; TEMPLATE_WORDS],
}

const _: () = assert!(size_of::<Profile>() == 32 + 4 * VARIANTS + 256);
const _: () = assert!(size_of::<Template>() == 16 + 8 * TEMPLATE_WORDS);
const _: () = assert!(core::mem::offset_of!(Template, options) == 16);
