//! The access node of the test bench: tags what a subscriber sends and untags what it receives.
//!
//! Each subscriber port belongs to one line, a pair of VLAN ids. `port_in` runs where a port's
//! frames enter: it pushes the line's tags and hands the frame to the uplink. `uplink_in` runs where
//! the uplink's frames enter: it pops the tags and hands a copy to every port of that line, as a hub
//! does. `pass` is an XDP program that lets everything through: a veth takes `XDP_TX` of its
//! peer only while it runs an XDP program itself. `reflect` stands for an OLT in the bench's own test: it
//! sends every frame back to where it came from.
#![no_std]
#![no_main]

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    btf_maps::HashMap,
    helpers::{bpf_clone_redirect, bpf_redirect, bpf_skb_vlan_pop, bpf_skb_vlan_push},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const VID_MASK: u32 = 0x0fff;
/// Ports that one line can have.
const LINE_PORTS: usize = 16;

/// A pair of VLAN ids; 0 stands for "no such tag".
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Line {
    /// S-VLAN of two tags, or the VLAN of a single one.
    pub outer_vid: u16,
    /// C-VLAN of two tags.
    pub inner_vid: u16,
}

/// Where a subscriber port's frames go.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Port {
    /// Interface index of the uplink.
    pub uplink: u32,
    /// Tags to push.
    pub line: Line,
}

/// Interface indices of a line's ports, the unused ones 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Members {
    /// Ports in use come first.
    pub ports: [u32; LINE_PORTS],
}

/// Interface index of a subscriber port to its line.
#[btf_map]
static PORTS: HashMap<u32, Port, 256> = HashMap::new();

/// Line to its ports.
#[btf_map]
static LINES: HashMap<Line, Members, 256> = HashMap::new();

/// Ingress of a subscriber port.
#[classifier]
pub fn port_in(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    // SAFETY: entries are written before frames flow and never removed.
    let Some(port) = (unsafe { PORTS.get(ifindex) }) else {
        return TC_ACT_SHOT;
    };
    let Port { uplink, line } = *port;
    let single_or_outer = if line.inner_vid == 0 {
        ETH_P_8021Q
    } else {
        ETH_P_8021AD
    };
    if line.inner_vid != 0 && !push(&ctx, ETH_P_8021Q, line.inner_vid) {
        return TC_ACT_SHOT;
    }
    if line.outer_vid != 0 && !push(&ctx, single_or_outer, line.outer_vid) {
        return TC_ACT_SHOT;
    }
    // SAFETY: a plain helper call with values.
    unsafe { bpf_redirect(uplink, 0) as i32 }
}

/// Ingress of the uplink. Frames of a line nobody belongs to stay with the access node itself.
#[classifier]
pub fn uplink_in(ctx: TcContext) -> i32 {
    let line = line_of(&ctx);
    // SAFETY: entries are written before frames flow and never removed.
    let Some(members) = (unsafe { LINES.get(line) }) else {
        return TC_ACT_OK;
    };
    if line.outer_vid != 0 && !pop(&ctx) {
        return TC_ACT_SHOT;
    }
    if line.inner_vid != 0 && !pop(&ctx) {
        return TC_ACT_SHOT;
    }
    for port in members.ports {
        if port == 0 {
            break;
        }
        // SAFETY: the context is valid; a failed copy is a lost frame, as on any hub.
        let _ = unsafe { bpf_clone_redirect(ctx.as_ptr().cast(), port, 0) };
    }
    TC_ACT_SHOT
}

/// Lets everything through.
#[xdp]
pub fn pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Sends a frame back to its sender, tags untouched.
#[xdp]
pub fn reflect(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + 12 > ctx.data_end() {
        return xdp_action::XDP_PASS;
    }
    let addresses = start as *mut [[u8; 6]; 2];
    // SAFETY: twelve bytes were just checked to be inside the packet; bytes need no alignment.
    unsafe { (*addresses).swap(0, 1) };
    xdp_action::XDP_TX
}

fn push(ctx: &TcContext, protocol: u16, vid: u16) -> bool {
    // SAFETY: the context is valid; the kernel checks the values.
    unsafe { bpf_skb_vlan_push(ctx.as_ptr().cast(), protocol.to_be(), vid) == 0 }
}

fn pop(ctx: &TcContext) -> bool {
    // SAFETY: the context is valid.
    unsafe { bpf_skb_vlan_pop(ctx.as_ptr().cast()) == 0 }
}

/// The tags of a frame. At this hook the kernel has moved the outer tag out of the frame, into the
/// buffer's metadata; the inner one still stands behind the MAC addresses.
fn line_of(ctx: &TcContext) -> Line {
    // SAFETY: the context is valid while the program runs.
    let (present, tci) = unsafe { ((*ctx.skb.skb).vlan_present, (*ctx.skb.skb).vlan_tci) };
    if present == 0 {
        return Line {
            outer_vid: 0,
            inner_vid: 0,
        };
    }
    let outer_vid = (tci & VID_MASK) as u16;
    let protocol: u16 = ctx.load::<u16>(12).map_or(0, u16::from_be);
    let inner_vid = if protocol == ETH_P_8021Q || protocol == ETH_P_8021AD {
        ctx.load::<u16>(14).map_or(0, u16::from_be) & VID_MASK as u16
    } else {
        0
    };
    Line {
        outer_vid,
        inner_vid,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
