//! The boot-time clock, the one that bindings are measured in.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

/// Nanoseconds of `CLOCK_BOOTTIME`: it goes on while the machine sleeps and never steps.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and only reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}
