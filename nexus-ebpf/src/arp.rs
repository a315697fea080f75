//! ARP for the gateway address of a bound subscriber (RFC 826), so that unicast renewals find the
//! server while nothing in user space runs.

use nexus_dhcp::{Link, Outcome, Packet, PacketMut, wire};

use crate::bindings;
use crate::frame::Frame;

/// Bytes of an ARP packet of IPv4 over Ethernet.
const LEN: usize = 28;
/// Hardware type Ethernet, protocol IPv4, their address lengths, operation request: the first eight
/// bytes in memory order.
const REQUEST: u64 = head(1);
const REPLY: u64 = head(2);
const MAC_MASK: u64 = 0xffff_ffff_ffff;

const fn head(operation: u8) -> u64 {
    let [high, low] = wire::ETHERTYPE_IPV4.to_be_bytes();
    u64::from_ne_bytes([0, 1, high, low, 6, 4, 0, operation])
}

/// Answers who-has for the gateway of the client's own pool and for its server identifier.
#[inline(always)]
pub fn answer(frame: &mut Frame, link: &Link) -> Result<Outcome, Outcome> {
    let window: &[u8; LEN] = frame.window(link.payload).ok_or(Outcome::NotDhcp)?;
    let sender_mac = Frame::u64_in::<LEN, 8>(window) & MAC_MASK;
    let sender = Frame::u32_in::<LEN, 14>(window);
    let target = Frame::u32_in::<LEN, 24>(window);
    if Frame::u64_in::<LEN, 0>(window) != REQUEST || sender_mac != link.source {
        return Err(Outcome::NotDhcp);
    }
    let Ok(found) = bindings::find_on_line(link.vids, sender_mac) else {
        return Err(Outcome::NotDhcp);
    };
    let Ok(profile) = found.profile() else {
        return Err(Outcome::NotDhcp);
    };
    // A sender address of 0 is a probe (RFC 5227 2.1.1): the gateway defends its address.
    let sender_is_bound = sender == u32::from_ne_bytes(found.binding.address) || sender == 0;
    let target_is_ours = target == u32::from_ne_bytes(profile.gateway)
        || target == u32::from_ne_bytes(profile.server_id);
    if profile.present == 0 || target == 0 || !target_is_ours || !sender_is_bound {
        return Err(Outcome::NotDhcp);
    }
    let [a, b, c, d, e, f] = profile.gateway_mac;
    let gateway = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
    let window: &mut [u8; LEN] = frame.window_mut(link.payload).ok_or(Outcome::Internal)?;
    Frame::set_u64::<LEN, 0>(window, REPLY);
    Frame::set_u64::<LEN, 8>(window, gateway | u64::from(target) << 48);
    Frame::set_u64::<LEN, 16>(window, u64::from(target) >> 16 | sender_mac << 16);
    Frame::set_u32::<LEN, 24>(window, sender);
    let window: &mut [u8; 12] = frame.window_mut(0).ok_or(Outcome::Internal)?;
    Frame::set_u64::<12, 0>(window, sender_mac | gateway << 48);
    Frame::set_u32::<12, 8>(window, (gateway >> 16) as u32);
    Ok(Outcome::ArpReply)
}
