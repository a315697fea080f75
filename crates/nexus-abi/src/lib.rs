//! The contract between the kernel program and user space: map keys, values, outcome codes and their version.
//!
//! Every type here is `repr(C)`, made of fixed-width integers and byte arrays, without padding and
//! valid for every bit pattern, so that a map value can be read by any of the two sides, by
//! `bpftool` and by a later version. A change of layout bumps [`ABI_VERSION`], which stands in the
//! path that the maps are pinned under.
#![no_std]

mod binding;
mod outcome;
mod profile;

pub use binding::{Binding, BindingKey, Entry, NEVER_EXPIRES};
pub use outcome::{OUTCOME_COUNT, Outcome};
pub use profile::{OPTION_WORDS, OPTIONS_CAPACITY, OPTIONS_HEAD, PROFILE_COUNT, Profile};

/// Version of every layout in this crate; part of the pin path (`/sys/fs/bpf/nexus/v1`).
pub const ABI_VERSION: u32 = 1;

/// Names of the maps, as they stand in the object file and under the pin path.
pub mod map {
    /// [`BindingKey`](crate::BindingKey) to [`Entry`](crate::Entry); a hash, sized to the host.
    pub const BINDINGS: &str = "BINDINGS";
    /// Profile id (`u32`) to [`Profile`](crate::Profile); an array of `PROFILE_COUNT`.
    pub const PROFILES: &str = "PROFILES";
    /// Outcome code (`u32`) to a per-CPU `u64`; one entry per [`Outcome`](crate::Outcome).
    pub const COUNTERS: &str = "COUNTERS";
}

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "nexus_dhcp";
