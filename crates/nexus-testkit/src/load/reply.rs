//! Reading what servers answer, as far as a client needs it; nothing is copied and nothing allocated. Pure.

use std::net::Ipv4Addr;

use crate::packet::{ETH_P_8021AD, ETH_P_8021Q, ETH_P_IPV4, ETH_P_QINQ1, Mac};

const PROTOCOL_UDP: u8 = 17;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// OFFER.
    Offer,
    /// ACK.
    Ack,
    /// NAK.
    Nak,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who sent the frame: the server, or the gateway in front of it.
    pub from: Mac,
    /// Transaction id.
    pub xid: u32,
    /// Which message.
    pub kind: Kind,
    /// chaddr.
    pub mac: Mac,
    /// yiaddr.
    pub address: Ipv4Addr,
    /// Server identifier; unspecified if there is none.
    pub server: Ipv4Addr,
}

impl Reply {
    /// Reads a frame, with tags or without. With `echo` a request that comes back counts as its own reply: a
    /// DISCOVER as an OFFER, a REQUEST as an ACK.
    #[must_use]
    pub fn read(frame: &[u8], echo: bool) -> Option<Self> {
        let bootp = bootp(frame, if echo { 68 } else { 67 })?;
        let (fixed, options) = bootp.split_at_checked(236)?;
        let (cookie, options) = options.split_at_checked(4)?;
        let op = if echo { 1 } else { 2 };
        if *fixed.first()? != op || cookie != MAGIC {
            return None;
        }
        let (mut kind, mut server) = (None, Ipv4Addr::UNSPECIFIED);
        let mut rest = options;
        while let Some((code, behind)) = rest.split_first() {
            match *code {
                END => break,
                PAD => rest = behind,
                code => {
                    let (length, behind) = behind.split_first()?;
                    let (value, behind) = behind.split_at_checked(usize::from(*length))?;
                    rest = behind;
                    match (code, value) {
                        (MESSAGE_TYPE, [value]) => kind = kind_of(*value, echo),
                        (SERVER_ID, [a, b, c, d]) => server = Ipv4Addr::new(*a, *b, *c, *d),
                        _ => {}
                    }
                }
            }
        }
        Some(Self {
            from: array(frame, 6)?,
            xid: u32::from_be_bytes(array(fixed, 4)?),
            kind: kind?,
            mac: array(fixed, 28)?,
            address: Ipv4Addr::from(array::<4>(fixed, 16)?),
            server,
        })
    }
}

fn kind_of(message_type: u8, echo: bool) -> Option<Kind> {
    match (message_type, echo) {
        (2, false) | (1, true) => Some(Kind::Offer),
        (5, false) | (3, true) => Some(Kind::Ack),
        (6, false) => Some(Kind::Nak),
        _ => None,
    }
}

/// The UDP payload of an IPv4 frame from `port`.
fn bootp(frame: &[u8], port: u16) -> Option<&[u8]> {
    let mut rest = frame.get(12..)?;
    let ip = loop {
        let ether_type = u16::from_be_bytes(array(rest, 0)?);
        match ether_type {
            ETH_P_8021Q | ETH_P_8021AD | ETH_P_QINQ1 => rest = rest.get(4..)?,
            ETH_P_IPV4 => break rest.get(2..)?,
            _ => return None,
        }
    };
    let [first] = array(ip, 0)?;
    let header = usize::from(first & 0x0f) * 4;
    let [protocol] = array(ip, 9)?;
    if first >> 4 != 4 || protocol != PROTOCOL_UDP {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(array(ip, 2)?));
    let udp = ip.get(header..total)?;
    if u16::from_be_bytes(array(udp, 0)?) != port {
        return None;
    }
    udp.get(8..)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Bootp, Frame, Tag};

    const MAC: Mac = [2, 0, 0, 0, 0, 7];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn reply(kind: u8) -> Frame {
        let mut message = Bootp::request(MAC, 0x1234)
            .option(0, &[])
            .option(53, &[kind])
            .option(54, &SERVER.octets());
        message.op = 2;
        message.yiaddr = ADDRESS;
        let mut frame = Frame::from_client(&message);
        frame.source = [2, 0, 0, 0, 0, 1];
        (frame.source_port, frame.destination_port) = (67, 68);
        frame
    }

    #[test]
    fn offer_ack_and_nak_are_read_whatever_the_tags() {
        for (number, kind) in [(2, Kind::Offer), (5, Kind::Ack), (6, Kind::Nak)] {
            for tags in [
                &[][..],
                &[Tag::c_vlan(3)],
                &[Tag::s_vlan(2), Tag::c_vlan(3)],
            ] {
                let mut frame = reply(number);
                frame.tags = tags.to_vec();
                let expected = Reply {
                    from: [2, 0, 0, 0, 0, 1],
                    xid: 0x1234,
                    kind,
                    mac: MAC,
                    address: ADDRESS,
                    server: SERVER,
                };
                assert_eq!(Reply::read(&frame.build(), false), Some(expected));
            }
        }
    }

    #[test]
    fn a_request_is_no_reply_unless_echoes_are_expected() {
        let request = Frame::from_client(&Bootp::discover(MAC, 5)).build();
        assert_eq!(Reply::read(&request, false), None);
        assert_eq!(
            Reply::read(&request, true).map(|reply| reply.kind),
            Some(Kind::Offer)
        );
        assert_eq!(Reply::read(&reply(2).build(), true), None);
    }

    #[test]
    fn a_frame_that_is_cut_off_anywhere_is_read_without_a_panic() {
        let frame = reply(5).build();
        for length in 0..frame.len() {
            assert_eq!(
                Reply::read(frame.get(..length).unwrap(), false),
                None,
                "{length}"
            );
        }
    }
}
