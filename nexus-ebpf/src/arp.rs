//! ARP for the gateway address of a bound subscriber (RFC 826), so that unicast renewals find the
//! server while nothing in user space runs.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_xdp_store_bytes;
use aya_ebpf::programs::XdpContext;
use nexus_abi::BindingKey;
use nexus_dhcp::{Link, Outcome, Packet, wire};
use zerocopy::{FromBytes, Immutable, KnownLayout, transmute};

use crate::bindings;
use crate::clock::boot_ns;
use crate::frame::Frame;

const ETHERNET: u16 = 1;
const LENGTHS: u16 = 0x0604;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An ARP packet of IPv4 over Ethernet, in memory order.
#[repr(C, packed(2))]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Arp {
    hardware: u16,
    protocol: u16,
    lengths: u16,
    operation: u16,
    sender_mac: [u16; 3],
    sender: u32,
    target_mac: [u16; 3],
    target: u32,
}

/// Answers who-has for the gateway address of the client's own pool.
#[inline(always)]
pub fn answer(ctx: &XdpContext, frame: &Frame, link: Link) -> Result<Outcome, Outcome> {
    let payload = link.payload;
    let request: Arp = frame.at(payload).ok_or(Outcome::NotDhcp)?;
    if request.hardware != ETHERNET.to_be()
        || request.protocol != wire::ETHERTYPE_IPV4.to_be()
        || request.lengths != LENGTHS.to_be()
        || request.operation != REQUEST.to_be()
        || request.sender_mac != link.source
    {
        return Err(Outcome::NotDhcp);
    }
    let mac: [u8; 6] = transmute!(link.source);
    let ifindex = ctx.ingress_ifindex() as u32;
    let line = BindingKey::line(ifindex, link.outer_vid(), link.inner_vid(), mac);
    let Ok(found) = bindings::find(line, BindingKey::mac(ifindex, mac)) else {
        return Err(Outcome::NotDhcp);
    };
    let Ok(profile) = found.profile() else {
        return Err(Outcome::NotDhcp);
    };
    let own = u32::from_ne_bytes(found.binding.address);
    // A sender address of 0 is a probe (RFC 5227 2.1.1): the gateway defends its address.
    let sender_is_bound = request.sender == own || request.sender == 0;
    if profile.present == 0
        || request.target != u32::from_ne_bytes(profile.server_id)
        || !sender_is_bound
        || found.binding.valid_until_ns <= boot_ns()
    {
        return Err(Outcome::NotDhcp);
    }
    let gateway: [u16; 3] = transmute!(profile.gateway_mac);
    let reply = Arp {
        operation: REPLY.to_be(),
        sender_mac: gateway,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
        ..request
    };
    let addresses: [[u16; 3]; 2] = [link.source, gateway];
    store(ctx, payload, &reply)?;
    store(ctx, 0, &addresses)?;
    Ok(Outcome::ArpReply)
}

/// Writes `value` at `offset` of the packet, where as many bytes have been read before.
#[inline(always)]
fn store<T>(ctx: &XdpContext, offset: usize, value: &T) -> Result<(), Outcome> {
    let from = (&raw const *value).cast_mut();
    // SAFETY: the helper reads `size_of::<T>()` bytes of `value` and checks the packet's end.
    let stored = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            offset as u32,
            from.cast(),
            size_of::<T>() as u32,
        )
    };
    if stored == 0 {
        Ok(())
    } else {
        Err(Outcome::Internal)
    }
}
