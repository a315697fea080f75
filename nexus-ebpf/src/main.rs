//! The XDP program: answers DHCP and ARP of bound subscribers, and passes on all else untouched.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod bindings;
mod clock;
mod counters;
mod dhcp;
mod events;
mod frame;
mod punts;
mod settings;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use nexus_abi::{EventKind, Outcome};
use nexus_dhcp::{Link, PacketMut as _, parse_link, parse_message, wire};

use crate::frame::Frame;

/// Named in [`nexus_abi::PROGRAM`].
#[xdp]
#[inline(always)]
pub fn nexus_dhcp(ctx: XdpContext) -> u32 {
    let outcome = handle(&ctx);
    counters::count(outcome);
    verdict(outcome)
}

/// Named in [`nexus_abi::CLOCK_PROGRAM`]: writes jiffies and nanoseconds of the boot-time clock, eight
/// bytes each, over the beginning of the packet.
#[xdp]
pub fn nexus_clock(ctx: XdpContext) -> u32 {
    let mut frame = Frame::new(&ctx);
    let written = frame
        .put_u64(0, clock::jiffies())
        .and_then(|()| frame.put_u64(8, clock::boot_ns()));
    match written {
        Some(()) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}

/// The one place where outcomes become verdicts.
#[inline(always)]
fn verdict(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Offer | Outcome::Ack | Outcome::Nak | Outcome::InformAck | Outcome::ArpReply => {
            xdp_action::XDP_TX
        }
        Outcome::NotDhcp
        | Outcome::OtherServer
        | Outcome::UnknownClient
        | Outcome::SlowMessage
        | Outcome::Malformed
        | Outcome::Unsupported
        | Outcome::NoProfile
        | Outcome::NoRoom
        | Outcome::MacMismatch => xdp_action::XDP_PASS,
        Outcome::Internal | Outcome::Flooded => xdp_action::XDP_DROP,
    }
}

/// The door: one parser of Ethernet and VLANs, behind it a room for each protocol.
#[inline(always)]
fn handle(ctx: &XdpContext) -> Outcome {
    let mut frame = Frame::new(ctx);
    let link = match parse_link(&frame) {
        Ok(link) => link,
        Err(outcome) => return outcome,
    };
    match link.ethertype {
        wire::ETHERTYPE_IPV4 => dhcp(ctx, &frame, link),
        wire::ETHERTYPE_ARP => match arp::answer(&mut frame, &link) {
            Ok(outcome) | Err(outcome) => outcome,
        },
        _ => Outcome::NotDhcp,
    }
}

/// The room of DHCP: what is answered, what goes to the slow path and what is told.
#[inline(always)]
fn dhcp(ctx: &XdpContext, frame: &Frame, link: Link) -> Outcome {
    let message = parse_message(frame, link);
    let mac = match &message {
        Ok(message) => message.mac_word(),
        Err(Outcome::NotDhcp) => return Outcome::NotDhcp,
        Err(_) => link.source,
    };
    let traced = events::is_traced(mac);
    if traced {
        events::tell(ctx, EventKind::Request, Outcome::NotDhcp);
    }
    let answered = message.and_then(|message| dhcp::answer(ctx, frame, message));
    let outcome = match answered {
        Ok(outcome) => outcome,
        Err(Outcome::Internal) => Outcome::Internal,
        Err(outcome) if punts::admit(&link, mac) => outcome,
        Err(_) => Outcome::Flooded,
    };
    if traced {
        events::tell(ctx, EventKind::Verdict, outcome);
    }
    events::tell_outcome(ctx, outcome);
    outcome
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
