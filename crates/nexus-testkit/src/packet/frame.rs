//! Ethernet frames: tags, IPv4 and UDP around a payload (RFC 791, RFC 768, IEEE 802.1Q).

use std::net::Ipv4Addr;

use super::{Bootp, Mac, PacketError, internet_checksum, reader::Reader};

/// The broadcast address.
pub const MAC_BROADCAST: Mac = [0xff; 6];
/// EtherType of IPv4.
pub const ETH_P_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_P_ARP: u16 = 0x0806;
/// Tag protocol of a C-VLAN tag, or of a single tag.
pub const ETH_P_8021Q: u16 = 0x8100;
/// Tag protocol of an S-VLAN tag.
pub const ETH_P_8021AD: u16 = 0x88a8;
/// Tag protocol that older equipment puts on the outer of two tags.
pub const ETH_P_QINQ1: u16 = 0x9100;

const PROTOCOL_UDP: u8 = 17;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: u16 = 8;

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`ETH_P_8021Q`], [`ETH_P_8021AD`] or [`ETH_P_QINQ1`].
    pub protocol: u16,
    /// Priority (3 bits), drop eligibility (1 bit), VLAN id (12 bits).
    pub tci: u16,
}

impl Tag {
    /// An 802.1Q tag of priority 0.
    #[must_use]
    pub const fn c_vlan(vid: u16) -> Self {
        Self {
            protocol: ETH_P_8021Q,
            tci: vid & 0x0fff,
        }
    }

    /// An 802.1ad tag of priority 0.
    #[must_use]
    pub const fn s_vlan(vid: u16) -> Self {
        Self {
            protocol: ETH_P_8021AD,
            tci: vid & 0x0fff,
        }
    }

    /// The same tag with a priority of 0 to 7.
    #[must_use]
    pub const fn priority(self, priority: u16) -> Self {
        Self {
            protocol: self.protocol,
            tci: (self.tci & 0x1fff) | ((priority & 7) << 13),
        }
    }

    /// The VLAN id.
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// An Ethernet frame that carries UDP over IPv4 without IP options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC.
    pub source: Mac,
    /// Tags, the outermost first.
    pub tags: Vec<Tag>,
    /// Type of service.
    pub tos: u8,
    /// IPv4 identification.
    pub id: u16,
    /// Flags (3 bits) and fragment offset (13 bits).
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Source address.
    pub source_ip: Ipv4Addr,
    /// Destination address.
    pub destination_ip: Ipv4Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// UDP payload.
    pub payload: Vec<u8>,
    /// Whether the UDP checksum is sent; without it the field is zero (RFC 768).
    pub udp_checksum: bool,
}

impl Frame {
    /// A broadcast from a client that has no address, or from `ciaddr` if the message has one.
    #[must_use]
    pub fn from_client(message: &Bootp) -> Self {
        Self {
            destination: MAC_BROADCAST,
            source: message.mac(),
            tags: Vec::new(),
            tos: 0,
            id: 0,
            fragment: 0,
            ttl: 64,
            source_ip: message.ciaddr,
            destination_ip: Ipv4Addr::BROADCAST,
            source_port: 68,
            destination_port: 67,
            payload: message.build(),
            udp_checksum: true,
        }
    }

    /// The same frame, addressed to one server instead of all.
    #[must_use]
    pub fn unicast(mut self, mac: Mac, address: Ipv4Addr) -> Self {
        self.destination = mac;
        self.destination_ip = address;
        self
    }

    /// Adds a tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// The frame's bytes, with right lengths and checksums, without padding to 60 bytes.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let udp_len = UDP_HEADER.saturating_add(clamp(self.payload.len()));
        let mut ip = vec![0x45, self.tos];
        ip.extend(clamp(IPV4_HEADER + usize::from(udp_len)).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, PROTOCOL_UDP, 0, 0]);
        ip.extend(self.source_ip.octets());
        ip.extend(self.destination_ip.octets());
        let ip_checksum = internet_checksum(&[&ip]);

        let mut udp = Vec::from(self.source_port.to_be_bytes());
        udp.extend(self.destination_port.to_be_bytes());
        udp.extend(udp_len.to_be_bytes());
        let checksum = if self.udp_checksum {
            let pseudo = pseudo_header(self.source_ip, self.destination_ip, udp_len);
            match internet_checksum(&[&pseudo, &udp, &self.payload]) {
                // Zero means "none", so a sum of zero is sent as its other representation.
                0 => 0xffff,
                sum => sum,
            }
        } else {
            0
        };
        udp.extend(checksum.to_be_bytes());

        let mut out = Vec::from(self.destination);
        out.extend(self.source);
        for tag in &self.tags {
            out.extend(tag.protocol.to_be_bytes());
            out.extend(tag.tci.to_be_bytes());
        }
        out.extend(ETH_P_IPV4.to_be_bytes());
        let mut ip = ip.into_iter();
        out.extend(ip.by_ref().take(10));
        out.extend(ip_checksum.to_be_bytes());
        out.extend(ip.skip(2));
        out.extend(udp);
        out.extend(&self.payload);
        out
    }

    /// Reads a frame back and checks both checksums. Ethernet padding behind the IP packet is
    /// ignored.
    ///
    /// # Errors
    /// If it is not UDP over IPv4 without options, is cut off, or a checksum is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let mut at = Reader::new(bytes, "the Ethernet header");
        let destination = at.array()?;
        let source = at.array()?;
        let mut tags = Vec::new();
        let ether_type = loop {
            match at.u16()? {
                protocol @ (ETH_P_8021Q | ETH_P_8021AD | ETH_P_QINQ1) => {
                    tags.push(Tag {
                        protocol,
                        tci: at.u16()?,
                    });
                }
                other => break other,
            }
        };
        if ether_type != ETH_P_IPV4 {
            return Err(PacketError::Not("IPv4"));
        }
        let packet = at.rest();
        let mut ip = Reader::new(packet, "the IP header");
        if ip.u8()? != 0x45 {
            return Err(PacketError::Not("IPv4 without options"));
        }
        let tos = ip.u8()?;
        let total = usize::from(ip.u16()?);
        let id = ip.u16()?;
        let fragment = ip.u16()?;
        let ttl = ip.u8()?;
        let protocol = ip.u8()?;
        let ip_checksum = ip.u16()?;
        let source_ip = Ipv4Addr::from(ip.array::<4>()?);
        let destination_ip = Ipv4Addr::from(ip.array::<4>()?);
        let header = packet
            .get(..IPV4_HEADER)
            .ok_or(PacketError::Short("the IP header"))?;
        verify("IP", ip_checksum, internet_checksum(&[header]))?;
        if protocol != PROTOCOL_UDP {
            return Err(PacketError::Not("UDP"));
        }
        let datagram = packet
            .get(IPV4_HEADER..total)
            .ok_or(PacketError::Short("the IP packet"))?;

        let mut udp = Reader::new(datagram, "the UDP header");
        let source_port = udp.u16()?;
        let destination_port = udp.u16()?;
        let udp_len = udp.u16()?;
        let udp_sum = udp.u16()?;
        if usize::from(udp_len) != datagram.len() {
            return Err(PacketError::Not("of one length in IP and UDP"));
        }
        if udp_sum != 0 {
            let pseudo = pseudo_header(source_ip, destination_ip, udp_len);
            verify("UDP", udp_sum, internet_checksum(&[&pseudo, datagram]))?;
        }
        Ok(Self {
            destination,
            source,
            tags,
            tos,
            id,
            fragment,
            ttl,
            source_ip,
            destination_ip,
            source_port,
            destination_port,
            payload: udp.rest().to_vec(),
            udp_checksum: udp_sum != 0,
        })
    }

    /// The BOOTP message inside.
    ///
    /// # Errors
    /// If the payload is not one.
    pub fn bootp(&self) -> Result<Bootp, PacketError> {
        Bootp::parse(&self.payload)
    }

    /// The VLAN pair as people write it: `untagged`, `100`, `200.30`.
    #[must_use]
    pub fn vlan_text(&self) -> String {
        if self.tags.is_empty() {
            return "untagged".to_owned();
        }
        self.tags
            .iter()
            .map(|tag| tag.vid().to_string())
            .collect::<Vec<_>>()
            .join(".")
    }
}

/// A sum over data that contains its own right checksum is zero.
fn verify(part: &'static str, is: u16, over_all: u16) -> Result<(), PacketError> {
    if over_all == 0 {
        return Ok(());
    }
    let should = !super::fold(u32::from(!over_all) + u32::from(!is));
    Err(PacketError::Checksum(part, is, should))
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> Vec<u8> {
    let mut out = Vec::from(source.octets());
    out.extend(destination.octets());
    out.extend([0, PROTOCOL_UDP]);
    out.extend(length.to_be_bytes());
    out
}

fn clamp(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame::from_client(&Bootp::discover([2, 0, 0, 0, 0, 1], 0xfeed))
            .tag(Tag::s_vlan(200).priority(5))
            .tag(Tag::c_vlan(30))
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        assert_eq!(Frame::parse(&frame().build()).unwrap(), frame());
    }

    #[test]
    fn tags_stand_in_front_of_the_ether_type_outermost_first() {
        let bytes = frame().build();
        assert_eq!(
            bytes[12..22],
            [0x88, 0xa8, 0xa0, 200, 0x81, 0, 0, 30, 0x08, 0x00]
        );
    }

    #[test]
    fn a_wrong_ip_checksum_is_reported_with_the_right_one() {
        let mut bytes = frame().build();
        let right = u16::from_be_bytes([bytes[32], bytes[33]]);
        bytes[32] ^= 0xff;
        let wrong = u16::from_be_bytes([bytes[32], bytes[33]]);
        assert_eq!(
            Frame::parse(&bytes),
            Err(PacketError::Checksum("IP", wrong, right))
        );
    }

    #[test]
    fn a_changed_payload_is_seen_by_the_udp_checksum() {
        let mut bytes = frame().build();
        bytes[60] ^= 1;
        assert!(matches!(
            Frame::parse(&bytes),
            Err(PacketError::Checksum("UDP", ..))
        ));
    }

    #[test]
    fn a_frame_without_udp_checksum_is_accepted() {
        let mut sent = frame();
        sent.udp_checksum = false;
        assert_eq!(Frame::parse(&sent.build()).unwrap(), sent);
    }

    #[test]
    fn padding_to_the_ethernet_minimum_is_ignored() {
        let mut sent = frame();
        sent.payload = vec![1, 2, 3];
        let mut bytes = sent.build();
        bytes.resize(68, 0);
        assert_eq!(Frame::parse(&bytes).unwrap().payload, [1, 2, 3]);
    }
}
