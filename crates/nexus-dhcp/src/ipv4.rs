//! IPv4, UDP and the fixed part of BOOTP, as far as a server's port is concerned.

use nexus_abi::Outcome;

use crate::checksum::{fold, halves};
use crate::packet::Packet;
use crate::wire::{
    BOOTP_LEN, BOOTREQUEST, HTYPE_ETHERNET, IPV4_LEN, IPV4_UDP_LEN, MAGIC_COOKIE, SERVER_PORT,
};

const PROTOCOL_UDP: u8 = 17;
const FRAGMENT_MASK: u16 = 0x3fff;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Most bytes of an IP datagram that is read: what an Ethernet frame carries. It keeps every offset
/// below the bound of [`Packet::opaque`].
const DATAGRAM_MAX: usize = 1500;

/// Bytes from the IP header to the magic cookie.
pub(crate) const HEADERS: usize = IPV4_UDP_LEN + BOOTP_LEN;

/// The part of a BOOTP message that a server reads, in memory order (RFC 2131 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bootp {
    pub xid: u32,
    pub flags: u16,
    pub ciaddr: u32,
    pub giaddr: u32,
    /// The first and the second half of the 16 bytes.
    pub chaddr: [u64; 2],
}

/// A client's message on its way to a server, headers checked.
#[derive(Clone, Copy)]
pub(crate) struct Datagram {
    /// Destination address, in memory order.
    pub destination: u32,
    /// Bytes of the IP datagram.
    pub total: usize,
    pub bootp: Bootp,
}

/// Reads what follows the link layer at `payload`, if it is DHCP from a client.
///
/// Errors: [`Outcome::NotDhcp`] for all other traffic, [`Outcome::Malformed`] for lengths or a
/// header checksum that are wrong and for a frame that ends before its datagram,
/// [`Outcome::Unsupported`] for IP options, fragments, datagrams of more than [`DATAGRAM_MAX`]
/// bytes, plain BOOTP and hardware other than Ethernet.
#[inline(always)]
pub(crate) fn parse_datagram<P: Packet>(packet: &P, payload: usize) -> Result<Datagram, Outcome> {
    const UDP_END: usize = IPV4_UDP_LEN;
    let window: &[u8; UDP_END] = packet.window(payload).ok_or(Outcome::NotDhcp)?;
    let first = P::u64_in::<UDP_END, 0>(window);
    let second = P::u64_in::<UDP_END, 8>(window);
    let destination = P::u32_in::<UDP_END, 16>(window);
    let fragment = u16::from_be((first >> 48) as u16);
    if (second >> 8) as u8 != PROTOCOL_UDP || fragment & FRAGMENT_OFFSET != 0 {
        return Err(Outcome::NotDhcp);
    }
    if first as u8 != 0x45 {
        return Err(with_options(packet, payload, first as u8));
    }
    let udp = P::u64_in::<UDP_END, IPV4_LEN>(window);
    if (udp >> 16) as u16 != SERVER_PORT.to_be() {
        return Err(Outcome::NotDhcp);
    }
    if fragment & FRAGMENT_MASK != 0 {
        return Err(Outcome::Unsupported);
    }
    let sum = halves(first) + halves(second) + u64::from(destination);
    let total = usize::from(u16::from_be((first >> 16) as u16));
    let udp_len = usize::from(u16::from_be((udp >> 32) as u16));
    if fold(sum) != 0xffff || udp_len + IPV4_LEN != total || total < HEADERS {
        return Err(Outcome::Malformed);
    }
    if total > DATAGRAM_MAX {
        return Err(Outcome::Unsupported);
    }
    // A frame that was cut off may still hold an END, but it is not what the client sent.
    if packet.u8_at(packet.opaque(payload + total - 1)).is_none() {
        return Err(Outcome::Malformed);
    }
    let window: &[u8; BOOTP_LEN] = packet
        .window(payload + IPV4_UDP_LEN)
        .ok_or(Outcome::Malformed)?;
    let [op, htype, hlen, ..] = P::u64_in::<BOOTP_LEN, 0>(window).to_ne_bytes();
    let cookie = P::u32_in::<BOOTP_LEN, 236>(window);
    if op != BOOTREQUEST {
        return Err(Outcome::NotDhcp);
    }
    if htype != HTYPE_ETHERNET || hlen != 6 || cookie != MAGIC_COOKIE.to_be() {
        return Err(Outcome::Unsupported);
    }
    Ok(Datagram {
        destination,
        total,
        bootp: Bootp {
            xid: P::u32_in::<BOOTP_LEN, 4>(window),
            flags: (P::u32_in::<BOOTP_LEN, 8>(window) >> 16) as u16,
            ciaddr: P::u32_in::<BOOTP_LEN, 12>(window),
            giaddr: P::u32_in::<BOOTP_LEN, 24>(window),
            chaddr: [
                P::u64_in::<BOOTP_LEN, 28>(window),
                P::u64_in::<BOOTP_LEN, 36>(window),
            ],
        },
    })
}

/// What a UDP datagram is whose IP header is not the usual one: `first` is its first byte.
#[inline(always)]
fn with_options<P: Packet>(packet: &P, payload: usize, first: u8) -> Outcome {
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < IPV4_LEN {
        return Outcome::NotDhcp;
    }
    match packet.u16_at(packet.opaque(payload + header + 2)) {
        Some(port) if port == SERVER_PORT.to_be() => Outcome::Unsupported,
        _ => Outcome::NotDhcp,
    }
}
