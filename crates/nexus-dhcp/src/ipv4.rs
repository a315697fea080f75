//! IPv4, UDP and the fixed part of BOOTP, as far as a server's port is concerned.

use nexus_abi::Outcome;
use zerocopy::{FromBytes, Immutable, KnownLayout, transmute};

use crate::checksum::fold;
use crate::packet::Packet;
use crate::wire::{
    BOOTP_LEN, BOOTREQUEST, HTYPE_ETHERNET, IPV4_LEN, IPV4_UDP_LEN, MAGIC_COOKIE, SERVER_PORT,
};

const PROTOCOL_UDP: u16 = 17;
const VERSION_4_LENGTH_20: u16 = 0x45;
const FRAGMENT_MASK: u16 = 0x3fff;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Most bytes of an IP datagram that is read: what an Ethernet frame carries. It keeps every offset
/// below the bound of [`Packet::opaque`].
const DATAGRAM_MAX: usize = 1500;

/// An IPv4 header without options, as words in memory order (RFC 791 3.1).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Ipv4 {
    words: [u16; 10],
}

/// A UDP header in network order (RFC 768).
#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Udp {
    source: u16,
    destination: u16,
    length: u16,
    checksum: u16,
}

/// The part of a BOOTP message that a server reads, in memory order (RFC 2131 2).
#[repr(C, packed(2))]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
pub(crate) struct Bootp {
    pub op_htype: [u8; 2],
    pub hlen_hops: [u8; 2],
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub ciaddr: u32,
    pub yiaddr: u32,
    pub siaddr: u32,
    pub giaddr: u32,
    pub chaddr: [u16; 8],
}

/// A client's message on its way to a server, headers checked.
pub(crate) struct Datagram {
    /// Destination address, in memory order.
    pub destination: u32,
    pub bootp: Bootp,
    /// Offset of the first option.
    pub options: usize,
    /// Offset behind the last option.
    pub end: usize,
}

/// Reads what follows the link layer at `payload`, if it is DHCP from a client.
///
/// Errors: [`Outcome::NotDhcp`] for all other traffic, [`Outcome::Malformed`] for lengths or a
/// header checksum that are wrong and for a frame that ends before its datagram, [`Outcome::Unsupported`] for IP options, fragments, datagrams of
/// more than [`DATAGRAM_MAX`] bytes, plain BOOTP and hardware other than Ethernet.
#[inline(always)]
pub(crate) fn parse_datagram<P: Packet>(packet: &P, payload: usize) -> Result<Datagram, Outcome> {
    let ip: Ipv4 = packet.at(payload).ok_or(Outcome::NotDhcp)?;
    let [version_tos, total_len, _, fragment, ttl_protocol, ..] = ip.words.map(u16::from_be);
    if ttl_protocol & 0xff != PROTOCOL_UDP || fragment & FRAGMENT_OFFSET != 0 {
        return Err(Outcome::NotDhcp);
    }
    if version_tos >> 8 != VERSION_4_LENGTH_20 {
        return if version_tos >> 12 == 4 {
            Err(Outcome::Unsupported)
        } else {
            Err(Outcome::NotDhcp)
        };
    }
    let udp: Udp = packet.at(payload + IPV4_LEN).ok_or(Outcome::NotDhcp)?;
    if udp.destination != SERVER_PORT.to_be() {
        return Err(Outcome::NotDhcp);
    }
    if fragment & FRAGMENT_MASK != 0 {
        return Err(Outcome::Unsupported);
    }
    let mut sum = 0u64;
    for word in ip.words {
        sum += u64::from(word);
    }
    let total_len = usize::from(total_len);
    if fold(sum) != 0xffff
        || usize::from(u16::from_be(udp.length)) + IPV4_LEN != total_len
        || total_len < IPV4_UDP_LEN + BOOTP_LEN
    {
        return Err(Outcome::Malformed);
    }
    if total_len > DATAGRAM_MAX {
        return Err(Outcome::Unsupported);
    }
    // A frame that was cut off may still hold an END, but it is not what the client sent.
    if packet.at::<u8>(payload + total_len - 1).is_none() {
        return Err(Outcome::Malformed);
    }
    let bootp: Bootp = packet
        .at(payload + IPV4_UDP_LEN)
        .ok_or(Outcome::Malformed)?;
    let cookie: [u16; 2] = packet
        .at(payload + IPV4_UDP_LEN + BOOTP_LEN - 4)
        .ok_or(Outcome::Malformed)?;
    if bootp.op_htype[0] != BOOTREQUEST {
        return Err(Outcome::NotDhcp);
    }
    let [.., high, low] = ip.words;
    let magic = [(MAGIC_COOKIE >> 16) as u16, MAGIC_COOKIE as u16];
    if bootp.op_htype[1] != HTYPE_ETHERNET
        || bootp.hlen_hops[0] != 6
        || cookie.map(u16::from_be) != magic
    {
        return Err(Outcome::Unsupported);
    }
    Ok(Datagram {
        destination: transmute!([high, low]),
        bootp,
        options: payload + IPV4_UDP_LEN + BOOTP_LEN,
        end: payload + total_len,
    })
}
