//! Traffic for measuring: frames of many clients out of the kernel itself, and trivial programs to compare with.
//!
//! `source` runs over live frames (`BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES`): it makes
//! each of them a frame of the stream, from a client chosen at random, and sends it into one end of a
//! veth pair. The program to be measured runs at the other end. What that sends back meets `sink`,
//! which counts and drops it. `swap_tx` and `bare_pass` do as little as a program can that answers,
//! or does not.
#![no_std]
#![no_main]

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{
        bpf_get_prandom_u32, bpf_redirect, bpf_xdp_adjust_tail, bpf_xdp_store_bytes,
    },
    macros::{btf_map, xdp},
    programs::XdpContext,
};

const FRAME_BYTES: usize = 1024;
/// Places in a frame at which something of the client can stand; those not in use are 0.
const PLACES: usize = 4;

/// What the source sends. Written by `xtask/src/bench/stream.rs`, field by field.
#[repr(C)]
pub struct Stream {
    /// The frame of client 0.
    pub frame: [u8; FRAME_BYTES],
    /// Bytes of the frame, 1 to 1024.
    pub len: u32,
    /// Interface that frames go into.
    pub target: u32,
    /// Client numbers are below this.
    pub clients: u32,
    /// Where the client's MAC address stands: that of client 0 plus its number.
    pub macs: [u32; PLACES],
    /// Last four bytes of the MAC address of client 0, as a number.
    pub first_mac: u32,
    /// Where the client's IP address stands: that of client 0 plus its number.
    pub addresses: [u32; PLACES],
    /// IP address of client 0, as a number.
    pub first_address: u32,
    /// Where the IP header's checksum stands if one of the addresses is in the header.
    pub checksum: u32,
    /// Sum of the IP header's words without the checksum and that address.
    pub sum: u32,
    /// 1: the frame has two tags, whose ids are made out of the client's number.
    pub tagged: u32,
}

/// What is sent now.
#[btf_map]
static STREAM: Array<Stream, 1> = Array::new();

/// Frames that came back.
#[btf_map]
static RETURNED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Makes the frame anew, because the page still holds the reply that it came back with, and in its
/// length: the kernel sets the length again only if this program changes it. So it runs over frames
/// that are too long, and cuts each.
#[xdp]
pub fn source(ctx: XdpContext) -> u32 {
    let Some(stream) = STREAM.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    let too_long = (ctx.data_end() - ctx.data()).wrapping_sub(stream.len as usize) as i32;
    // SAFETY: the context is that of this run; pointers into the packet are not used.
    if too_long <= 0 || unsafe { bpf_xdp_adjust_tail(ctx.as_ptr().cast(), -too_long) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let less = stream.len.wrapping_sub(1) & (FRAME_BYTES as u32 - 1);
    // SAFETY: 1 to 1024 bytes of the map's value; the helper checks the packet's end.
    let stored = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            0,
            (&raw const stream.frame).cast_mut().cast(),
            less + 1,
        )
    };
    if stored != 0 {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the helper takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    let client = ((u64::from(random) * u64::from(stream.clients)) >> 32) as u32;
    let mac = stream.first_mac.wrapping_add(client).to_be_bytes();
    for place in stream.macs {
        if place != 0 {
            // The first two bytes are the same for all.
            put(&ctx, place + 2, &mac);
        }
    }
    let address = stream.first_address.wrapping_add(client);
    for place in stream.addresses {
        if place != 0 {
            put(&ctx, place, &address.to_be_bytes());
        }
    }
    if stream.checksum != 0 {
        let sum = u64::from(stream.sum) + u64::from(address >> 16) + u64::from(address & 0xffff);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        put(&ctx, stream.checksum, &(!(sum as u16)).to_be_bytes());
    }
    if stream.tagged != 0 {
        let [outer, inner] = vids(client);
        put(&ctx, 14, &outer.to_be_bytes());
        put(&ctx, 18, &inner.to_be_bytes());
    }
    // SAFETY: a plain helper call with values.
    unsafe { bpf_redirect(stream.target, 0) as u32 }
}

/// Ids of the outer and the inner tag of a client's line: 1 to 2048 each.
fn vids(client: u32) -> [u16; 2] {
    [((client >> 11) & 0x7ff) + 1, (client & 0x7ff) + 1].map(|vid| vid as u16)
}

fn put<const N: usize>(ctx: &XdpContext, at: u32, bytes: &[u8; N]) {
    // SAFETY: N bytes from the stack; the helper checks the packet's end, and a frame that lacks
    // them is counted as something else at the other end.
    let _ = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            at,
            bytes.as_ptr().cast_mut().cast(),
            N as u32,
        )
    };
}

/// Counts what came back.
#[xdp]
pub fn sink(_ctx: XdpContext) -> u32 {
    if let Some(count) = RETURNED.get_ptr_mut(0) {
        // SAFETY: the entry of this CPU, which no other program writes while this one runs.
        unsafe { *count += 1 }
    }
    xdp_action::XDP_DROP
}

/// The least that a program does which answers: both MAC addresses change places.
#[xdp]
pub fn swap_tx(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + 12 > ctx.data_end() {
        return xdp_action::XDP_PASS;
    }
    let addresses = start as *mut [[u16; 3]; 2];
    // SAFETY: twelve bytes were just checked to be inside the packet, which starts at an even address.
    unsafe { (*addresses).swap(0, 1) };
    xdp_action::XDP_TX
}

/// The least that a program does.
#[xdp]
pub fn bare_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
