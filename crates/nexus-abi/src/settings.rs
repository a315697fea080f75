//! What a loaded program is told about its interface: constants, so that what is off costs nothing.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::punt::Rate;

/// Most interfaces of a host.
pub const INTERFACE_COUNT: u32 = 64;

/// Most kinds of identity of an interface.
pub const IDENTITY_COUNT: usize = 4;

/// Most clients that are traced at a time.
pub const TRACE_COUNT: usize = 4;

/// Read-only data of the program, set when it is loaded. The kernel's verifier knows the values and
/// leaves out the code that they rule out.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Settings {
    /// Seed of the hash that places keys in `BINDINGS`.
    pub seed: u64,
    /// Buckets of `BINDINGS`, a power of two, minus 1.
    pub bucket_mask: u32,
    /// Entries of `CIRCUITS`, a power of two, minus 1.
    pub circuit_mask: u32,
    /// Number of the interface.
    pub interface: u8,
    /// 1: a circuit is circuit-id and remote-id; 0: circuit-id alone.
    pub remote_id: u8,
    /// 1: somebody reads `EVENTS`.
    pub events: u8,
    /// Clients in `trace`.
    pub traced: u8,
    /// The kinds of key (`KIND_` codes of [`BindingKey`](crate::BindingKey)) that are looked up, in
    /// this order; 0: none.
    pub identity: [u8; IDENTITY_COUNT],
    /// Limit for one line.
    pub line_rate: Rate,
    /// Limit for the interface.
    pub interface_rate: Rate,
    /// MAC addresses of traced clients, as integers in memory order, the two high bytes zero.
    pub trace: [u64; TRACE_COUNT],
}
