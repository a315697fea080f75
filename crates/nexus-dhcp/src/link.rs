//! Ethernet with up to two VLAN tags: the one door that every protocol comes through.

use nexus_abi::Outcome;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::packet::Packet;
use crate::wire::{ETHERTYPE_CVLAN, ETHERTYPE_QINQ, ETHERTYPE_SVLAN};

#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Ethernet {
    destination: [u16; 3],
    source: [u16; 3],
    ethertype: u16,
}

/// A VLAN tag behind the tag's EtherType; all in network order.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Tag {
    control: u16,
    ethertype: u16,
}

const VID_MASK: u16 = 0x0fff;

/// The link layer of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Source address, as three words in memory order.
    pub source: [u16; 3],
    /// Number of VLAN tags: 0, 1 or 2.
    pub tags: u32,
    /// EtherType and control word of the outer tag, in network order; zero if there is none.
    pub outer: [u16; 2],
    /// EtherType and control word of the inner tag, in network order; zero if there is none.
    pub inner: [u16; 2],
    /// EtherType of the payload, in host order.
    pub ethertype: u16,
    /// Offset of the payload: 14, 18 or 22.
    pub payload: usize,
}

impl Link {
    /// VLAN id of the outer tag; 0 without one. A tag that only carries a priority has id 0 too.
    #[inline(always)]
    #[must_use]
    pub fn outer_vid(&self) -> u16 {
        u16::from_be(self.outer[1]) & VID_MASK
    }

    /// VLAN id of the inner tag; 0 without one.
    #[inline(always)]
    #[must_use]
    pub fn inner_vid(&self) -> u16 {
        u16::from_be(self.inner[1]) & VID_MASK
    }
}

#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_CVLAN.to_be()
        || ethertype == ETHERTYPE_SVLAN.to_be()
        || ethertype == ETHERTYPE_QINQ.to_be()
}

/// Reads the link layer. A frame that ends within it, or that has more than two tags, is none of
/// ours ([`Outcome::NotDhcp`]).
#[inline(always)]
pub fn parse_link<P: Packet>(packet: &P) -> Result<Link, Outcome> {
    let ethernet: Ethernet = packet.at(0).ok_or(Outcome::NotDhcp)?;
    let mut link = Link {
        source: ethernet.source,
        tags: 0,
        outer: [0; 2],
        inner: [0; 2],
        ethertype: 0,
        payload: 14,
    };
    let mut ethertype = ethernet.ethertype;
    if is_vlan(ethertype) {
        let tag: Tag = packet.at(14).ok_or(Outcome::NotDhcp)?;
        link.outer = [ethertype, tag.control];
        link.tags = 1;
        link.payload = 18;
        ethertype = tag.ethertype;
        if is_vlan(ethertype) {
            let tag: Tag = packet.at(18).ok_or(Outcome::NotDhcp)?;
            link.inner = [ethertype, tag.control];
            link.tags = 2;
            link.payload = 22;
            ethertype = tag.ethertype;
        }
    }
    link.ethertype = u16::from_be(ethertype);
    // One path from here on, however many tags there are.
    link.tags = packet.opaque(link.tags as usize) as u32;
    link.payload = packet.opaque(link.payload);
    Ok(link)
}
