//! The contract between the kernel program and user space: map values, settings, outcome codes and their version.
//!
//! Every type that stands in a map is `repr(C)`, made of fixed-width integers and byte arrays,
//! without padding and valid for every bit pattern, so that it can be read by either side, by
//! `bpftool` and by a later version. A change of layout bumps [`ABI_VERSION`], which stands in the
//! path that the maps are pinned under.
#![no_std]

mod binding;
mod circuit;
mod event;
mod outcome;
mod profile;
mod punt;
mod settings;
mod table;

pub use binding::{Binding, BindingKey, NEVER_EXPIRES};
pub use circuit::{CIRCUIT_CAPACITY, CIRCUIT_WORDS, Circuit, CircuitError};
pub use event::{EVENT_FRAME, EVENTS_BYTES, Event, EventKind};
pub use outcome::{OUTCOME_COUNT, Outcome};
pub use profile::{Encoded, OPTION_BITS, OPTION_WORDS, OPTIONS_CAPACITY, PROFILE_COUNT, Profile};
pub use punt::{PUNT_COUNT, PUNT_INTERFACES, PUNT_LINES, Punt, Rate};
pub use settings::{IDENTITY_COUNT, INTERFACE_COUNT, Settings, TRACE_COUNT};
pub use table::{BUCKET_ENTRIES, Bucket, Entry, Place, hash_circuit, hash_key};

/// Version of every layout in this crate; part of the pin path (`/sys/fs/bpf/nexus/v2`).
pub const ABI_VERSION: u32 = 2;

/// Names of the maps, as they stand in the object file and under the pin path.
pub mod map {
    /// Array of [`Bucket`](crate::Bucket), mapped into the sidecar; a power of two of them, sized to
    /// the host.
    pub const BINDINGS: &str = "BINDINGS";
    /// Array of [`Circuit`](crate::Circuit), mapped into the sidecar; a power of two of them.
    pub const CIRCUITS: &str = "CIRCUITS";
    /// Number of an interface to a bit for each kind of key (`1 << KIND_...`) that may stand in `BINDINGS`; an array.
    /// A bit is set before the first such key is written; kinds without one are not looked up.
    pub const KINDS: &str = "KINDS";
    /// Profile id to [`Profile`](crate::Profile); an array of `PROFILE_COUNT`.
    pub const PROFILES: &str = "PROFILES";
    /// Outcome code (`u32`) to a per-CPU `u64`; one entry per [`Outcome`](crate::Outcome).
    pub const COUNTERS: &str = "COUNTERS";
    /// Token buckets in front of the slow path: an array of [`Punt`](crate::Punt).
    pub const PUNTS: &str = "PUNTS";
    /// Ring buffer of [`Event`](crate::Event)s.
    pub const EVENTS: &str = "EVENTS";
}

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "nexus_dhcp";

/// Name of the XDP program in the object file that tells the time (`BPF_PROG_TEST_RUN` only).
pub const CLOCK_PROGRAM: &str = "nexus_clock";

/// Name of the constant in the object file that holds the [`Settings`].
pub const SETTINGS: &str = "SETTINGS";
