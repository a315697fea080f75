//! What subscribers send while the clock runs.

use std::net::Ipv4Addr;

use nexus_testkit::packet::clients::{Client, Says, relay_information};
use nexus_testkit::packet::{Bootp, Frame, Tag};

use super::stream::{ADDRESS, MAC, Stream};

/// Server of the bound subscribers.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0x5e, 0, 0, 1];
/// Nobody's address.
const WRONG: Ipv4Addr = Ipv4Addr::new(100, 127, 1, 1);
const XID: u32 = 0x5eed_0001;
/// Far behind the last client that is bound.
const STRANGERS: u32 = 0x2000_0000;

/// One kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// DISCOVER.
    Discover,
    /// REQUEST of a client that renews, to the server alone.
    Renew,
    /// REQUEST of an offer, with option 82 at the end.
    Select82,
    /// REQUEST of an address that is not the client's.
    Nak,
    /// DISCOVER of a client that nobody knows.
    Miss,
    /// UDP to another port.
    NotDhcp,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Discover,
        Self::Renew,
        Self::Select82,
        Self::Nak,
        Self::Miss,
        Self::NotDhcp,
    ];

    /// In the names of rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Renew => "REQUEST renew",
            Self::Select82 => "REQUEST selecting, option 82",
            Self::Nak => "NAK",
            Self::Miss => "miss",
            Self::NotDhcp => "not DHCP",
        }
    }

    /// What the fast path has to count for each frame; nothing for what is none of its business.
    pub fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Discover => Some("offer"),
            Self::Renew | Self::Select82 => Some("ack"),
            Self::Nak => Some("nak"),
            Self::Miss => Some("unknown-client"),
            Self::NotDhcp => None,
        }
    }

    /// Whether it is answered.
    pub fn is_reply(self) -> bool {
        matches!(
            self,
            Self::Discover | Self::Renew | Self::Select82 | Self::Nak
        )
    }

    /// Its frames.
    pub fn stream(self, tagged: bool) -> Stream {
        let mut frame = match self {
            Self::Discover | Self::Miss => Client::Udhcpc.frame(MAC, XID, Says::Discover),
            Self::Renew => Client::Udhcpc
                .frame(MAC, XID, Says::Renew(ADDRESS))
                .unicast(GATEWAY_MAC, SERVER),
            Self::Select82 => {
                let message = Client::Udhcpc.message(MAC, XID, Says::Select(ADDRESS, SERVER));
                let relay = relay_information(b"olt1 eth 0/1/5/32:200.30", b"onu-77");
                Frame::from_client(&message.option(82, &relay))
            }
            Self::Nak => Client::Udhcpc.frame(MAC, XID, Says::Reboot(WRONG)),
            Self::NotDhcp => not_dhcp(),
        };
        frame.udp_checksum = false;
        if tagged {
            frame = frame.tag(Tag::s_vlan(1)).tag(Tag::c_vlan(1));
        }
        Stream {
            frame: frame.build(),
            tagged,
            first_client: if self == Self::Miss { STRANGERS } else { 0 },
        }
    }
}

/// What subscribers send most: a datagram to somebody in the Internet.
fn not_dhcp() -> Frame {
    let mut frame = Frame::from_client(&Bootp::request(MAC, XID));
    frame = frame.unicast(GATEWAY_MAC, Ipv4Addr::new(192, 0, 2, 1));
    frame.source_ip = ADDRESS;
    (frame.source_port, frame.destination_port) = (40_000, 443);
    frame.payload = vec![0x5a; 200];
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_makes_frames_that_the_source_can_send() {
        for case in Case::ALL {
            for tagged in [false, true] {
                let stream = case.stream(tagged);
                assert!(stream.encode(1, 1).is_ok(), "{case:?}");
                let read = Frame::parse(&stream.frame).unwrap();
                assert_eq!(read.tags.len(), if tagged { 2 } else { 0 }, "{case:?}");
            }
        }
    }
}
