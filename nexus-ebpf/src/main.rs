//! The XDP program: answers DHCP and ARP of bound subscribers, and passes on all else untouched.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod bindings;
mod clock;
mod counters;
mod dhcp;
mod frame;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use nexus_abi::Outcome;
use nexus_dhcp::{parse_link, wire};

use crate::frame::Frame;

/// Named in [`nexus_abi::PROGRAM`].
#[xdp]
pub fn nexus_dhcp(ctx: XdpContext) -> u32 {
    let outcome = match handle(&ctx) {
        Ok(outcome) | Err(outcome) => outcome,
    };
    counters::count(outcome);
    verdict(outcome)
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
        | Outcome::NoRoom => xdp_action::XDP_PASS,
        Outcome::Internal => xdp_action::XDP_DROP,
    }
}

/// The door: one parser of Ethernet and VLANs, behind it a room for each protocol.
#[inline(always)]
fn handle(ctx: &XdpContext) -> Result<Outcome, Outcome> {
    let frame = Frame::new(ctx);
    let link = parse_link(&frame)?;
    match link.ethertype {
        wire::ETHERTYPE_IPV4 => dhcp::answer(ctx, &frame, link),
        wire::ETHERTYPE_ARP => arp::answer(ctx, &frame, link),
        _ => Err(Outcome::NotDhcp),
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
