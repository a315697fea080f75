//! `EVENTS`: rare things and traced clients, told through a ring buffer. Off, there is no trace of this in
//! the loaded program.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use nexus_abi::{EVENT_FRAME, EVENTS_BYTES, Event, EventKind, Outcome, TRACE_COUNT};

use crate::clock::boot_ns;
use crate::frame::hidden;
use crate::settings::setting;

/// Of [`Event`]s; libbpf takes no ring buffer that says what is in it.
#[btf_map]
static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();

/// Events that found no room.
#[btf_map]
static EVENTS_LOST: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Whether the client with this MAC is traced.
#[inline(always)]
pub fn is_traced(mac: u64) -> bool {
    let traced = setting!(traced);
    let mut index = 0;
    while index < TRACE_COUNT {
        if index as u8 >= traced {
            return false;
        }
        if setting!(trace[index]) == mac {
            return true;
        }
        index += 1;
    }
    false
}

/// Tells of an outcome that is rare, if somebody listens.
#[inline(always)]
pub fn tell_outcome(ctx: &XdpContext, outcome: Outcome) {
    if setting!(events) == 0 {
        return;
    }
    let kind = match outcome {
        Outcome::UnknownClient => EventKind::UnknownClient,
        Outcome::MacMismatch => EventKind::MacMismatch,
        Outcome::Nak => EventKind::Nak,
        _ => return,
    };
    tell(ctx, kind, outcome);
}

/// Tells of the frame as it is now. A full buffer loses the event and counts it.
#[inline(always)]
pub fn tell(ctx: &XdpContext, kind: EventKind, outcome: Outcome) {
    let lost = EVENTS_LOST.get_ptr_mut(0);
    let Some(mut event) = EVENTS.reserve_untyped::<Event>(0) else {
        if let Some(lost) = lost {
            // SAFETY: the entry of this CPU, which no other program writes while this one runs.
            unsafe { *lost += 1 };
        }
        return;
    };
    let len = ctx.data_end() - ctx.data();
    let event_at = event.as_mut_ptr();
    // Of the frames that are told of, all are longer than an Ethernet header.
    let captured = hidden(if len > EVENT_FRAME { EVENT_FRAME } else { len } - 1);
    let captured = (captured & 0x3ff) + 1;
    // SAFETY: every field of the event lies within what was reserved; the frame's part is bounded
    // by a comparison right before it is filled.
    unsafe {
        (&raw mut (*event_at).boot_ns).write(boot_ns());
        (&raw mut (*event_at).kind).write(kind as u32);
        (&raw mut (*event_at).outcome).write(outcome as u32);
        (&raw mut (*event_at).interface).write(u32::from(setting!(interface)));
        (&raw mut (*event_at).frame_len).write(len as u32);
        (&raw mut (*event_at).lost).write(lost.map_or(0, |lost| *lost));
        let frame = (&raw mut (*event_at).frame).cast::<u8>();
        let loaded = if captured <= EVENT_FRAME {
            bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, frame.cast(), captured as u32)
        } else {
            -1
        };
        let captured = if loaded == 0 { captured as u32 } else { 0 };
        (&raw mut (*event_at).captured).write(captured);
    }
    event.submit(0);
}
