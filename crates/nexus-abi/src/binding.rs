//! What the kernel knows of a subscriber: `BINDINGS`, from an exact key to an address.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `valid_until_ns` of a binding that has no end: the centre has acknowledged it.
pub const NEVER_EXPIRES: u64 = u64::MAX;

/// Who is asking. Exact: nothing is truncated or hashed, unused fields are zero.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct BindingKey {
    /// Interface that the frame arrived on.
    pub ifindex: u32,
    /// VLAN id of the outer tag (S-VLAN), 1..=4094; 0: untagged.
    pub outer_vid: u16,
    /// VLAN id of the inner tag (C-VLAN), 1..=4094; 0: at most one tag.
    pub inner_vid: u16,
    /// `chaddr` of the client, which is also the source address of its frames.
    pub mac: [u8; 6],
    /// [`BindingKey::KIND_LINE`] or [`BindingKey::KIND_MAC`].
    pub kind: u16,
}

impl BindingKey {
    /// The line (interface and VLAN pair) and the MAC on it.
    pub const KIND_LINE: u16 = 1;
    /// The MAC, on whichever VLAN of the interface; both VLAN fields are zero.
    pub const KIND_MAC: u16 = 2;

    /// The key of `mac` on one VLAN pair of an interface.
    #[must_use]
    pub const fn line(ifindex: u32, outer_vid: u16, inner_vid: u16, mac: [u8; 6]) -> Self {
        Self {
            ifindex,
            outer_vid,
            inner_vid,
            mac,
            kind: Self::KIND_LINE,
        }
    }

    /// The key of `mac` anywhere on an interface.
    #[must_use]
    pub const fn mac(ifindex: u32, mac: [u8; 6]) -> Self {
        Self {
            ifindex,
            outer_vid: 0,
            inner_vid: 0,
            mac,
            kind: Self::KIND_MAC,
        }
    }
}

/// What the subscriber holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Binding {
    /// Nanoseconds of `CLOCK_BOOTTIME`; from then on the entry is as good as absent.
    /// [`NEVER_EXPIRES`]: no end.
    pub valid_until_ns: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME` of the last answered request. The kernel is its only writer.
    pub last_seen_ns: u64,
    /// IPv4 address, in network order.
    pub address: [u8; 4],
    /// Index into `PROFILES`.
    pub profile: u32,
}

/// A value of `BINDINGS`. It begins with its own key: the kernel may give the memory of an entry to
/// another key while a program still reads it, so a reader compares `key` after it has read
/// `binding`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Entry {
    /// The key that this entry stands under.
    pub key: BindingKey,
    /// What the subscriber holds.
    pub binding: Binding,
}

const _: () = assert!(size_of::<Entry>() == 40);
const _: () = assert!(size_of::<BindingKey>() == 16);
const _: () = assert!(size_of::<Binding>() == 24);
