//! `COUNTERS`: one per outcome and CPU.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use nexus_abi::{OUTCOME_COUNT, Outcome};

#[btf_map]
static COUNTERS: PerCpuArray<u64, { OUTCOME_COUNT as usize }> = PerCpuArray::new();

/// Counts `outcome`. Traffic that is none of ours costs nothing here: it is not counted.
#[inline(always)]
pub fn count(outcome: Outcome) {
    if outcome as u32 == Outcome::NotDhcp as u32 {
        return;
    }
    if let Some(counter) = COUNTERS.get_ptr_mut(outcome as u32) {
        // SAFETY: the entry of this CPU, which no other program writes while this one runs.
        unsafe { *counter += 1 }
    }
}
