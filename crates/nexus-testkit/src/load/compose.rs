//! Writing the clients' frames: templates that are made once, and a few bytes of each client. Pure.
//!
//! All that differs stands at an even distance from the UDP header, so that the checksum of a frame is that of its
//! template plus some 16-bit words.

use std::net::Ipv4Addr;

use super::plan::{self, Plan};
use super::sessions::{Message, Says};
use crate::packet::{Bootp, Frame, Mac, Tag};

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IP: usize = 20;
const UDP: usize = 8;

// Distances from the start of the BOOTP message.
const XID: usize = 4;
const SECS: usize = 8;
const CIADDR: usize = 12;
const CHADDR: usize = 28;
/// The first option is 53, three bytes long; so the value of option 61 begins at 245, its MAC address at 246.
const CLIENT_ID_MAC: usize = 246;
const REQUESTED: usize = 254;
const SERVER_ID: usize = 260;
/// Behind option 55 with four codes: option 82, its first suboption, and `line` before the client's digits.
const CIRCUIT_OF_DISCOVER: usize = 252 + 6 + 4 + CIRCUIT.len();
const CIRCUIT_OF_SELECT: usize = 264 + 6 + 4 + CIRCUIT.len();

/// Mask, router, name servers, lease time: what `udhcpc` and most others ask for, in an even number of bytes.
const PARAMETERS: [u8; 4] = [1, 3, 6, 51];
const CIRCUIT: &[u8] = b"line";
const DIGITS: usize = 8;

/// Writes the frames of one thread's clients.
pub struct Composer {
    first_mac: Mac,
    tags: usize,
    discover: Template,
    select: Template,
    renew: Template,
    /// Where renewals go: whoever sent the last reply.
    gateway: Mac,
}

struct Template {
    bytes: Vec<u8>,
    /// Sum of pseudo header, UDP header and payload, with zeros where clients differ.
    sum: u32,
    /// Where the circuit-id's digits stand, if it has one.
    circuit: Option<usize>,
}

impl Composer {
    /// Makes the templates.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let none = Ipv4Addr::UNSPECIFIED.octets();
        let start = |message_type| {
            Bootp::request([0; 6], 0)
                .option(53, &[message_type])
                .option(61, &[1, 0, 0, 0, 0, 0, 0])
        };
        let finish = |message: Bootp, circuit| {
            let mut message = message.option(55, &PARAMETERS);
            if plan.option_82 {
                let mut value = vec![1, (CIRCUIT.len() + DIGITS) as u8];
                value.extend(CIRCUIT);
                value.extend([0; DIGITS]);
                message = message.option(82, &value);
            }
            Template::new(&message, plan.tags, plan.option_82.then_some(circuit))
        };
        Self {
            first_mac: plan.first_mac,
            tags: usize::from(plan.tags),
            discover: finish(start(1), CIRCUIT_OF_DISCOVER),
            select: finish(
                start(3).option(50, &none).option(54, &none),
                CIRCUIT_OF_SELECT,
            ),
            renew: finish(start(3), CIRCUIT_OF_DISCOVER),
            gateway: crate::packet::MAC_BROADCAST,
        }
    }

    /// Renewals go to this address from now on.
    pub fn set_gateway(&mut self, gateway: Mac) {
        self.gateway = gateway;
    }

    /// Puts the message's frame into `frame`, whatever was there.
    pub fn write(&self, message: &Message, frame: &mut Vec<u8>) {
        let template = match message.says {
            Says::Discover => &self.discover,
            Says::Select { .. } => &self.select,
            Says::Renew { .. } => &self.renew,
        };
        frame.clear();
        frame.extend_from_slice(&template.bytes);
        let mac = plan::mac(self.first_mac, message.client);
        put(frame, 6, &mac);
        let [outer, inner] = vids(message.client);
        match self.tags {
            0 => {}
            1 => put(frame, 14, &inner.to_be_bytes()),
            _ => {
                put(frame, 14, &outer.to_be_bytes());
                put(frame, 18, &inner.to_be_bytes());
            }
        }
        let ip = ETHERNET + TAG * self.tags;
        let bootp = ip + IP + UDP;
        let mut sum = Sum(template.sum);
        let mut vary = |at: usize, bytes: &[u8]| {
            put(frame, bootp + at, bytes);
            sum.add(bytes);
        };
        vary(XID, &message.xid.to_be_bytes());
        vary(SECS, &message.secs.to_be_bytes());
        vary(CHADDR, &mac);
        vary(CLIENT_ID_MAC, &mac);
        if let Some(circuit) = template.circuit {
            vary(circuit, &digits(message.client));
        }
        match message.says {
            Says::Discover => {}
            Says::Select { address, server } => {
                vary(REQUESTED, &address.octets());
                vary(SERVER_ID, &server.octets());
            }
            Says::Renew { address, server } => {
                vary(CIADDR, &address.octets());
                // From its address to the server's, which were zero in the template's pseudo header too.
                sum.add(&address.octets());
                sum.add(&server.octets());
                put(frame, 0, &self.gateway);
                put(frame, ip + 12, &address.octets());
                put(frame, ip + 16, &server.octets());
                let mut header = Sum(0);
                header.add(frame.get(ip..ip + 10).unwrap_or_default());
                header.add(frame.get(ip + 12..ip + IP).unwrap_or_default());
                put(frame, ip + 10, &header.checksum().to_be_bytes());
            }
        }
        let checksum = match sum.checksum() {
            // Zero means "none" (RFC 768).
            0 => 0xffff,
            checksum => checksum,
        };
        put(frame, ip + IP + 6, &checksum.to_be_bytes());
    }
}

impl Template {
    fn new(message: &Bootp, tags: u8, circuit: Option<usize>) -> Self {
        let mut frame = Frame::from_client(message);
        frame.tags = match tags {
            0 => Vec::new(),
            1 => vec![Tag::c_vlan(0)],
            _ => vec![Tag::s_vlan(0), Tag::c_vlan(0)],
        };
        let is_renewal = message.message_type() == Some(3) && message.get(50).is_none();
        if is_renewal {
            frame.destination_ip = Ipv4Addr::UNSPECIFIED;
        }
        let bytes = frame.build();
        let udp = ETHERNET + TAG * frame.tags.len() + IP;
        // The sum without its own field: as `build` has put it there, over everything else.
        let built = bytes
            .get(udp + 6..udp + 8)
            .and_then(|at| at.first_chunk().copied());
        let sum = u32::from(!u16::from_be_bytes(built.unwrap_or_default()));
        Self {
            bytes,
            sum,
            circuit,
        }
    }
}

/// A sum of big-endian 16-bit words; 65,536 words fit.
struct Sum(u32);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks::<2>().0 {
            self.0 += u32::from(u16::from_be_bytes(*word));
        }
    }

    fn checksum(&self) -> u16 {
        !crate::packet::fold(self.0)
    }
}

/// Ids of a client's outer and inner tag, 1 to 2048 each; with one tag the inner is it, and 2048 lines are shared.
fn vids(client: u32) -> [u16; 2] {
    [((client >> 11) & 0x7ff) + 1, (client & 0x7ff) + 1].map(|vid| vid as u16)
}

fn digits(client: u32) -> [u8; DIGITS] {
    let mut rest = client;
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::Pace;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 9);
    const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

    fn frames(tags: u8, option_82: bool) -> Vec<(Message, Frame)> {
        let plan = Plan {
            tags,
            option_82,
            ..Plan::new(
                "x0",
                [2, 0, 0, 0, 0xff, 0xf0],
                100_000,
                Pace::Closed { window: 1 },
            )
        };
        let mut composer = Composer::new(&plan);
        composer.set_gateway([2, 0, 0, 0, 0, 1]);
        let mut bytes = Vec::new();
        let says = [
            Says::Discover,
            Says::Select {
                address: ADDRESS,
                server: SERVER,
            },
            Says::Renew {
                address: ADDRESS,
                server: SERVER,
            },
        ];
        let mut frames = Vec::new();
        for (client, says) in [0, 17, 99_999]
            .into_iter()
            .flat_map(|n| says.map(|says| (n, says)))
        {
            let message = Message {
                client,
                xid: 0xdead_0000 + client,
                secs: 7,
                says,
            };
            composer.write(&message, &mut bytes);
            // This checks both checksums.
            frames.push((message, Frame::parse(&bytes).unwrap()));
        }
        frames
    }

    #[test]
    fn frames_say_what_the_message_says_and_their_checksums_are_right() {
        for (tags, option_82) in [(0, false), (0, true), (1, false), (2, true)] {
            for (message, frame) in frames(tags, option_82) {
                let bootp = frame.bootp().unwrap();
                let mac = plan::mac([2, 0, 0, 0, 0xff, 0xf0], message.client);
                assert_eq!((bootp.mac(), frame.source), (mac, mac));
                assert_eq!((bootp.xid, bootp.secs), (message.xid, 7));
                assert!(bootp.get(61).unwrap().ends_with(&mac), "{bootp:?}");
                assert_eq!(bootp.get(55), Some(PARAMETERS.as_slice()));
                assert_eq!(frame.tags.len(), usize::from(tags));
                assert!(frame.udp_checksum && bootp.end && bootp.trailer.is_empty());
                let circuit = format!("line{:08}", message.client);
                let shown = bootp.get(82).and_then(|value| value.get(2..));
                assert_eq!(shown, option_82.then_some(circuit.as_bytes()));
                match message.says {
                    Says::Discover => {
                        assert_eq!(bootp.message_type(), Some(1));
                        assert_eq!(frame.destination_ip, Ipv4Addr::BROADCAST);
                    }
                    Says::Select { .. } => {
                        assert_eq!(bootp.message_type(), Some(3));
                        assert_eq!(
                            (bootp.address(50), bootp.address(54)),
                            (Some(ADDRESS), Some(SERVER))
                        );
                        assert_eq!(bootp.ciaddr, Ipv4Addr::UNSPECIFIED);
                    }
                    Says::Renew { .. } => {
                        assert_eq!(bootp.message_type(), Some(3));
                        assert_eq!((bootp.ciaddr, bootp.get(50)), (ADDRESS, None));
                        assert_eq!((frame.source_ip, frame.destination_ip), (ADDRESS, SERVER));
                        assert_eq!(frame.destination, [2, 0, 0, 0, 0, 1]);
                    }
                }
            }
        }
    }

    #[test]
    fn with_two_tags_every_client_has_a_line_of_its_own() {
        let lines: Vec<_> = [0, 1, 2047, 2048, 99_999].map(vids).to_vec();
        assert_eq!(lines.first(), Some(&[1, 1]));
        let mut distinct = lines.clone();
        distinct.dedup();
        assert_eq!(distinct, lines);
        assert!(lines.iter().flatten().all(|vid| (1..=4094).contains(vid)));
    }
}
