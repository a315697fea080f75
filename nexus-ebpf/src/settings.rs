//! `SETTINGS`: constants that the sidecar sets when it loads the program for an interface.

use nexus_abi::{BindingKey, INTERFACE_COUNT, Rate, Settings};

/// Read-only data. The verifier knows what stands here and drops the code that is not needed.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    seed: 0,
    // As many as `BINDINGS` has unless it is given another size.
    bucket_mask: 65_535,
    circuit_mask: 1,
    interface: 0,
    remote_id: 0,
    events: 0,
    traced: 0,
    // For whoever loads the object without the sidecar.
    identity: [BindingKey::KIND_LINE, BindingKey::KIND_MAC, 0, 0],
    line_rate: Rate {
        per_jiffy: 0,
        burst: 0,
    },
    interface_rate: Rate {
        per_jiffy: 0,
        burst: 0,
    },
    trace: [0; nexus_abi::TRACE_COUNT],
};

const _: () = assert!(INTERFACE_COUNT <= 256);

/// The value of a field, in a way that the compiler does not take for the one that stands here.
macro_rules! setting {
    ($($field:tt)+) => {
        crate::settings::read(&crate::settings::get().$($field)+)
    };
}

pub(crate) use setting;

#[inline(always)]
pub fn read<T: Copy>(field: &'static T) -> T {
    // SAFETY: a reference is readable.
    unsafe { core::ptr::from_ref(field).read_volatile() }
}

#[inline(always)]
pub fn get() -> &'static Settings {
    &SETTINGS
}
