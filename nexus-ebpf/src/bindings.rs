//! `BINDINGS` and `PROFILES`: who the client is and what it holds.

use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::btf_map;
use nexus_abi::{Binding, BindingKey, Entry, Outcome, PROFILE_COUNT, Profile};

/// Sized to the host when it is loaded.
#[btf_map]
static BINDINGS: HashMap<BindingKey, Entry, 65536> = HashMap::new();

#[btf_map]
static PROFILES: Array<Profile, { PROFILE_COUNT as usize }> = Array::new();

/// A binding as it was when it was looked up, and the entry it came from.
pub struct Found {
    pub binding: Binding,
    entry: *mut Entry,
}

impl Found {
    /// The reply template of this binding.
    #[inline(always)]
    pub fn profile(&self) -> Result<&'static Profile, Outcome> {
        PROFILES.get(self.binding.profile).ok_or(Outcome::NoProfile)
    }

    /// Notes that the client was answered at `now_ns` of the boot-time clock.
    #[inline(always)]
    pub fn seen(&self, now_ns: u64) {
        // SAFETY: map memory stays valid while the program runs. Should the entry have got another
        // key meanwhile, that subscriber's last-seen time is early by the time this run takes.
        unsafe { (&raw mut (*self.entry).binding.last_seen_ns).write_volatile(now_ns) }
    }
}

/// The binding of a client: by its line and MAC, else by its MAC.
#[inline(always)]
pub fn find(line: BindingKey, mac: BindingKey) -> Result<Found, Outcome> {
    lookup(&line)
        .or_else(|| lookup(&mac))
        .ok_or(Outcome::UnknownClient)
}

#[inline(always)]
fn lookup(key: &BindingKey) -> Option<Found> {
    let entry = BINDINGS.get_ptr_mut(key)?;
    // SAFETY: map memory stays valid while the program runs; any bytes make an entry. The key is
    // read after the binding: see `Entry`.
    let (binding, holder) = unsafe {
        let binding = (&raw const (*entry).binding).read_volatile();
        let holder = (&raw const (*entry).key).read_volatile();
        (binding, holder)
    };
    if holder == *key {
        Some(Found { binding, entry })
    } else {
        None
    }
}
