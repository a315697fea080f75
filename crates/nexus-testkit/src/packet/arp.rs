//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::reader::Reader;
use super::{
    ETH_P_8021AD, ETH_P_8021Q, ETH_P_ARP, ETH_P_IPV4, ETH_P_QINQ1, MAC_BROADCAST, Mac, PacketError,
    Tag,
};

/// An ARP packet in its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Destination MAC of the frame.
    pub destination: Mac,
    /// Source MAC of the frame.
    pub source: Mac,
    /// Tags, the outermost first.
    pub tags: Vec<Tag>,
    /// 1: request, 2: reply.
    pub operation: u16,
    /// MAC of who speaks.
    pub sender_mac: Mac,
    /// Address of who speaks.
    pub sender: Ipv4Addr,
    /// MAC of who is spoken to or asked for; zeros in a request.
    pub target_mac: Mac,
    /// Address of who is spoken to or asked for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// The broadcast question of the host at `mac` and `sender`: who has `target`?
    #[must_use]
    pub fn who_has(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            destination: MAC_BROADCAST,
            source: mac,
            tags: Vec::new(),
            operation: 1,
            sender_mac: mac,
            sender,
            target_mac: [0; 6],
            target,
        }
    }

    /// Adds a tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// The frame's bytes, padded with zeros to the 60 bytes that an Ethernet card sends at least.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut out = Vec::from(self.destination);
        out.extend(self.source);
        for tag in &self.tags {
            out.extend(tag.protocol.to_be_bytes());
            out.extend(tag.tci.to_be_bytes());
        }
        out.extend(ETH_P_ARP.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ETH_P_IPV4.to_be_bytes());
        out.extend([6, 4]);
        out.extend(self.operation.to_be_bytes());
        out.extend(self.sender_mac);
        out.extend(self.sender.octets());
        out.extend(self.target_mac);
        out.extend(self.target.octets());
        out.resize(out.len().max(60), 0);
        out
    }

    /// Reads a packet back; what pads the frame is ignored.
    ///
    /// # Errors
    /// If it is not ARP for IPv4 over Ethernet, or is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let mut at = Reader::new(bytes, "the ARP packet");
        let (destination, source) = (at.array()?, at.array()?);
        let mut tags = Vec::new();
        let mut ether_type = at.u16()?;
        while [ETH_P_8021Q, ETH_P_8021AD, ETH_P_QINQ1].contains(&ether_type) {
            tags.push(Tag {
                protocol: ether_type,
                tci: at.u16()?,
            });
            ether_type = at.u16()?;
        }
        let kinds: [u16; 3] = [at.u16()?, at.u16()?, at.u16()?];
        if ether_type != ETH_P_ARP || kinds != [1, ETH_P_IPV4, 0x0604] {
            return Err(PacketError::Not("ARP for IPv4 over Ethernet"));
        }
        Ok(Self {
            destination,
            source,
            tags,
            operation: at.u16()?,
            sender_mac: at.array()?,
            sender: Ipv4Addr::from(at.array::<4>()?),
            target_mac: at.array()?,
            target: Ipv4Addr::from(at.array::<4>()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_stands_as_rfc_826_lays_it_out() {
        let (me, it) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        let bytes = Arp::who_has([2, 0, 0, 0, 0, 9], me, it).build();
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(bytes[22..32], [2, 0, 0, 0, 0, 9, 10, 0, 0, 2]);
        assert_eq!(bytes[32..42], [0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    }

    #[test]
    fn a_packet_reads_back_as_it_was_written_and_a_cut_one_is_an_error() {
        let (me, it) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        let sent = Arp::who_has([2, 0, 0, 0, 0, 9], me, it)
            .tag(Tag::s_vlan(200))
            .tag(Tag::c_vlan(30));
        let bytes = sent.build();
        assert_eq!(Arp::parse(&bytes).unwrap(), sent);
        assert!(Arp::parse(&bytes[..40]).is_err());
    }
}
