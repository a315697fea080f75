//! DHCP of bound subscribers: read, look up, decide, and only then write.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use nexus_dhcp::circuit::CircuitBuffer;
use nexus_dhcp::{
    Answer, Draft, Echo, Message, OptionTable, Outcome, Packet as _, Request, Shape, Sums, decide,
    selection,
};

use crate::bindings::{self, Found};
use crate::frame::Frame;

/// Memory for one packet at a time. What a step has found out is put here and read back by the next ones:
/// then the verifier knows nothing of it any more, and looks at each step once instead of once for
/// every way through those before.
#[repr(C)]
struct Scratch {
    options: OptionTable,
    echo: Echo,
    circuit: CircuitBuffer,
    request: MaybeUninit<Request>,
    found: MaybeUninit<Found>,
    answer: MaybeUninit<Answer>,
    set: MaybeUninit<u32>,
    shape: MaybeUninit<Shape>,
    draft: MaybeUninit<Sums>,
}

/// One per CPU.
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Answers a DISCOVER, REQUEST or INFORM. `Ok`: the frame is the reply. `Err`: it is what it was,
/// except after [`Outcome::Internal`].
#[inline(always)]
pub fn answer(ctx: &XdpContext, frame: &Frame, message: Message) -> Result<Outcome, Outcome> {
    // There always is an entry 0; the verifier wants to see that one looks.
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Outcome::Unsupported)?;
    // SAFETY: the entry of this CPU, which no other program uses while this one runs.
    let scratch = unsafe { &mut *scratch };
    // Looked up first where that is possible: the processor goes on with the options while it waits for
    // the table's memory, and a client that nobody knows is none the worse for odd options.
    let early = if bindings::needs_circuit() {
        None
    } else {
        Some(bindings::find_on_line(message.vids(), message.mac_word())?)
    };
    let request = message.into_request(frame, &mut scratch.options)?;
    let request = settle(&mut scratch.request, request);
    let found = match early {
        Some(found) => found,
        None => bindings::find_client(frame, request, &mut scratch.circuit)?,
    };
    let found = settle(&mut scratch.found, found);
    let profile = found.profile()?;
    let answer = decide(request, &found.binding, profile, found.now_secs)?;
    let answer = settle(&mut scratch.answer, answer);
    let set = selection::wanted(frame, request, answer, profile)?;
    let set = *settle(&mut scratch.set, set);
    let shape = Shape::of(frame, request, answer, profile, set)?;
    let shape = settle(&mut scratch.shape, shape);
    let sums = Sums::save(frame, request, &mut scratch.echo)?;
    let draft = Draft {
        request,
        answer,
        profile,
        set,
        shape,
        echo: &scratch.echo,
        sums: settle(&mut scratch.draft, sums),
    };

    let received = frame.frame_len();
    if shape.len > received && !resize(ctx, shape.len - received) {
        return Err(Outcome::NoRoom);
    }
    draft.write(&mut Frame::new(ctx)).ok_or(Outcome::Internal)?;
    if shape.len < received && !resize(ctx, shape.len.wrapping_sub(received)) {
        return Err(Outcome::Internal);
    }
    Ok(answer.outcome)
}

/// Puts `value` into map memory and returns it from there, as something nothing is known of.
#[inline(always)]
fn settle<T>(place: &mut MaybeUninit<T>, value: T) -> &T {
    place.write(value);
    let mut at = place.as_ptr();
    // SAFETY: plain addition of nothing; it may write what `at` points to as far as the compiler
    // knows, and does not.
    unsafe { asm!("{0} += 0", inout(reg) at, options(nostack)) };
    // SAFETY: just written.
    unsafe { &*at }
}

/// Moves the end of the packet by `delta` bytes.
#[inline(always)]
fn resize(ctx: &XdpContext, delta: usize) -> bool {
    // SAFETY: the context is that of this run; pointers into the packet are not used any more.
    unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), delta as i32) == 0 }
}
