//! Ethernet with up to two VLAN tags: the one door that every protocol comes through.

use nexus_abi::Outcome;

use crate::packet::Packet;
use crate::wire::{ETHERTYPE_CVLAN, ETHERTYPE_QINQ, ETHERTYPE_SVLAN};

const VID_MASK: u32 = 0x0fff;
/// The six low bytes of a word, where a MAC address stands.
pub(crate) const MAC_MASK: u64 = 0xffff_ffff_ffff;

/// The link layer of one frame. It stays where it is in a reply, but for the two MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Source address, in the six low bytes, in memory order.
    pub source: u64,
    /// VLAN id of the outer tag in the low half, of the inner tag in the high half; 0 without one. A
    /// tag that only carries a priority has id 0 too.
    pub vids: u32,
    /// EtherType of the payload, in host order.
    pub ethertype: u16,
    /// Offset of the payload: 14, 18 or 22.
    pub payload: usize,
}

impl Link {
    /// VLAN id of the outer tag.
    #[inline(always)]
    #[must_use]
    pub const fn outer_vid(&self) -> u16 {
        self.vids as u16
    }

    /// VLAN id of the inner tag.
    #[inline(always)]
    #[must_use]
    pub const fn inner_vid(&self) -> u16 {
        (self.vids >> 16) as u16
    }
}

/// `ethertype` is in memory order.
#[inline(always)]
fn is_vlan(ethertype: u32) -> bool {
    const C: u32 = ETHERTYPE_CVLAN.to_be() as u32;
    const S: u32 = ETHERTYPE_SVLAN.to_be() as u32;
    const Q: u32 = ETHERTYPE_QINQ.to_be() as u32;
    ethertype == C || ethertype == S || ethertype == Q
}

/// VLAN id of a tag's control word in memory order, in the low half of `tag`.
#[inline(always)]
fn vid(tag: u32) -> u32 {
    u32::from(u16::from_be(tag as u16)) & VID_MASK
}

/// Reads the link layer. A frame that ends within it, or that has more than two tags, is none of
/// ours ([`Outcome::NotDhcp`]).
#[inline(always)]
pub fn parse_link<P: Packet>(packet: &P) -> Result<Link, Outcome> {
    // Every packet that could be ours is longer than an Ethernet header with two tags.
    let window: &[u8; 22] = packet.window(0).ok_or(Outcome::NotDhcp)?;
    let addresses = P::u64_in::<22, 4>(window);
    let type_and_tag = P::u32_in::<22, 12>(window);
    let mut link = Link {
        source: addresses >> 16,
        vids: 0,
        ethertype: 0,
        payload: 14,
    };
    let mut ethertype = type_and_tag & 0xffff;
    if is_vlan(ethertype) {
        link.vids = vid(type_and_tag >> 16);
        link.payload = 18;
        let type_and_tag = P::u32_in::<22, 16>(window);
        ethertype = type_and_tag & 0xffff;
        if is_vlan(ethertype) {
            link.vids |= vid(type_and_tag >> 16) << 16;
            link.payload = 22;
            ethertype = P::u32_in::<22, 18>(window) >> 16;
        }
    }
    link.ethertype = u16::from_be(ethertype as u16);
    // One path from here on, however many tags there are.
    link.payload = packet.opaque(link.payload);
    Ok(link)
}
