//! `BINDINGS` as memory: a table of buckets of one cache line each, two of which can hold a key.
//!
//! The sidecar is the only writer and has the table mapped into its memory. A key stands in its
//! home bucket or, when that was full, in its other one; the home bucket counts such keys in
//! `overflow`, so a lookup touches a second line only where there is reason to. Nothing here needs a
//! lock:
//!
//! * An entry is there if `valid_until_secs` is not 0. Together with the address it is one 64-bit
//!   word ([`Entry::held`]) that is written and read at once.
//! * A writer clears that word before it changes anything else of an entry, and writes it last.
//! * A reader reads it, then the rest and the circuit that this may name, then once more; if it has
//!   changed, the entry is as good as absent.
//! * An entry that moves is written to its new place before it is cleared in the old one, and
//!   `overflow` is raised before and lowered after what it counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::binding::BindingKey;
use crate::circuit::{CIRCUIT_WORDS, Circuit};

/// Entries of a bucket.
pub const BUCKET_ENTRIES: usize = 2;

/// A cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Bucket {
    /// The places for bindings.
    pub entries: [Entry; BUCKET_ENTRIES],
}

/// A place for one binding.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Entry {
    /// The MAC that may use the binding; part of the key in entries of the kinds LINE and MAC.
    pub mac: [u8; 6],
    /// One of the `KIND_` codes of [`BindingKey`].
    pub kind: u8,
    /// Number of the interface.
    pub interface: u8,
    /// VLAN id of the outer tag; of kind MAC: 0; of kind CIRCUIT: low half of an index into `CIRCUITS`.
    pub outer_vid: u16,
    /// VLAN id of the inner tag; of kind MAC: 0; of kind CIRCUIT: high half of that index.
    pub inner_vid: u16,
    /// Index into `PROFILES`.
    pub profile: u16,
    /// Zero.
    pub reserved: u16,
    /// IPv4 address, in network order.
    pub address: [u8; 4],
    /// See [`Binding::valid_until_secs`](crate::Binding::valid_until_secs); 0: the place is free.
    pub valid_until_secs: u32,
    /// See [`Binding::last_seen_jiffies`](crate::Binding::last_seen_jiffies).
    pub last_seen_jiffies: u32,
    /// In the first entry of a bucket: keys that have their home here and stand elsewhere. Else 0.
    pub overflow: u32,
}

impl Entry {
    /// Byte offset of the word of `address` and `valid_until_secs`.
    pub const HELD: usize = 16;
    /// Byte offset of `last_seen_jiffies`.
    pub const LAST_SEEN: usize = 24;
    /// Byte offset of `overflow`.
    pub const OVERFLOW: usize = 28;

    /// The index into `CIRCUITS` of an entry of kind CIRCUIT.
    #[inline(always)]
    #[must_use]
    pub const fn circuit(&self) -> u32 {
        (self.inner_vid as u32) << 16 | self.outer_vid as u32
    }
}

const _: () = assert!(size_of::<Bucket>() == 64);
const _: () = assert!(size_of::<Entry>() == 32);
const _: () = assert!(core::mem::offset_of!(Entry, address) == Entry::HELD);
const _: () = assert!(core::mem::offset_of!(Entry, last_seen_jiffies) == Entry::LAST_SEEN);
const _: () = assert!(core::mem::offset_of!(Entry, overflow) == Entry::OVERFLOW);

const ODD_A: u64 = 0x9e37_79b9_7f4a_7c15;
const ODD_B: u64 = 0xd6e8_feb8_6659_fd93;

/// One round of mixing: multiply, and bring the high bits down.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(ODD_A);
    (product ^ (product >> 29)).wrapping_mul(ODD_B)
}

#[inline(always)]
const fn finish(hash: u64) -> u64 {
    hash ^ (hash >> 32)
}

/// The hash of a key other than a circuit: `identity` is MAC (0 in a key without one), kind and
/// interface as the first eight bytes of an [`Entry`] have them, `vids` the next four, both as
/// integers in memory order.
#[inline(always)]
#[must_use]
pub const fn hash_key(seed: u64, identity: u64, vids: u32) -> u64 {
    finish(mix(mix(seed, identity), vids as u64))
}

/// The hash of a circuit on an interface.
#[inline(always)]
#[must_use]
pub fn hash_circuit(seed: u64, interface: u8, circuit: &Circuit) -> u64 {
    let mut hash = mix(
        seed,
        (interface as u64) << 8 | BindingKey::KIND_CIRCUIT as u64,
    );
    let mut at = 0;
    while at < CIRCUIT_WORDS {
        // Words of zeros behind the end are mixed in as well: one path for all lengths.
        if let Some(word) = circuit.words.get(at) {
            hash = mix(hash, *word);
        }
        at += 1;
    }
    finish(hash)
}

/// The two buckets of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it stands if there was room.
    pub home: u32,
    /// Where it stands if not. Never the same.
    pub other: u32,
}

impl Place {
    /// `mask`: number of buckets, a power of two and at least 2, minus 1.
    #[inline(always)]
    #[must_use]
    pub const fn of(hash: u64, mask: u32) -> Self {
        let home = hash as u32 & mask;
        Self {
            home,
            other: (home ^ ((hash >> 32) as u32 | 1)) & mask,
        }
    }
}
