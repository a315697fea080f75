//! The clocks: boot time, which bindings are measured in, and jiffies, which cost next to nothing.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns};

/// Nanoseconds of `CLOCK_BOOTTIME`: it goes on while the machine sleeps and never steps.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and only reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Whole seconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn boot_secs() -> u32 {
    (boot_ns() / 1_000_000_000) as u32
}

/// The kernel's count of timer ticks; the kernel makes a single load of this call.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: the helper takes nothing and only reads a counter.
    unsafe { bpf_jiffies64() }
}
