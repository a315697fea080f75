//! DHCP of bound subscribers: read, look up, decide, and only then write.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use nexus_dhcp::{FRAME_CAPACITY, Link, OptionTable, Outcome, Reply, decide, parse_message};

use crate::bindings;
use crate::clock::boot_ns;
use crate::frame::{Frame, hidden};

/// Memory for one packet at a time.
#[repr(C)]
struct Scratch {
    options: OptionTable,
    reply: Reply,
}

/// One per CPU.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Answers a DISCOVER or REQUEST. `Ok`: the frame is the reply. `Err`: it is what it was, except
/// after [`Outcome::Internal`].
#[inline(always)]
pub fn answer(ctx: &XdpContext, frame: &Frame, link: Link) -> Result<Outcome, Outcome> {
    let message = parse_message(frame, link)?;
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Outcome::Internal)?;
    // SAFETY: the entry of this CPU, which no other program uses while this one runs.
    let scratch = unsafe { &mut *scratch };
    let request = message.into_request(frame, &mut scratch.options)?;
    let ifindex = ctx.ingress_ifindex() as u32;
    let found = bindings::find(request.line_key(ifindex), request.mac_key(ifindex))?;
    let profile = found.profile()?;
    let now = boot_ns();
    let answer = decide(&request, &found.binding, profile, now)?;
    let reply = &mut scratch.reply;
    let span = reply.write(frame, &request, &answer, profile)?;

    let received = frame.len();
    if span.len > received && !resize(ctx, span.len - received) {
        return Err(Outcome::NoRoom);
    }
    store(ctx, reply, span.offset, span.len)?;
    if span.len < received && !resize(ctx, span.len.wrapping_sub(received)) {
        return Err(Outcome::Internal);
    }
    found.seen(now);
    Ok(answer.outcome)
}

/// Moves the end of the packet by `delta` bytes.
#[inline(always)]
fn resize(ctx: &XdpContext, delta: usize) -> bool {
    // SAFETY: the context is that of this run; pointers into the packet are not used any more.
    unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta as i32) == 0 }
}

/// Writes the reply over the packet.
#[inline(always)]
fn store(ctx: &XdpContext, reply: &Reply, offset: usize, len: usize) -> Result<(), Outcome> {
    // Both bounds hold by construction; the verifier needs to see them.
    let len = hidden(len);
    if offset > 14 || len > FRAME_CAPACITY - 14 {
        return Err(Outcome::Internal);
    }
    let from = (&raw const *reply).cast::<u8>();
    // SAFETY: `offset + len` bytes lie within the buffer; the helper checks the packet's end.
    let stored = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            0,
            from.add(offset).cast_mut().cast(),
            len as u32,
        )
    };
    if stored == 0 {
        Ok(())
    } else {
        Err(Outcome::Internal)
    }
}
