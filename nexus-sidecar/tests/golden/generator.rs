//! Frames by chance: what clients, access nodes, relays, broken lines and fuzzers send. One seed, one sequence.

use std::net::Ipv4Addr;

use nexus_testkit::packet::clients::{Client, Says, relay_information};
use nexus_testkit::packet::{Bootp, Frame, Mac, Tag, internet_checksum};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use crate::world::{
    BOUND, CIRCUITS, ELSEWHERE, GATEWAY_MAC, LINES, ON_CIRCUIT, OTHER_SERVER, PORT, RELAY,
    RELAY_MAC, REMOTES, RICH_SERVER, SERVER, STRANGER, VLANS,
};

/// Some parameter lists; an empty one stands for none.
const LISTS: [&[u8]; 6] = [
    &[],
    &[1, 3, 6],
    &[3, 1],
    &[252, 6, 51, 58],
    &[121, 1, 3, 6, 15, 26, 43],
    &[51, 54],
];

/// Somebody on an interface, and how it shows there.
#[derive(Clone)]
struct Sender {
    interface: u8,
    mac: Mac,
    address: Ipv4Addr,
    line: (u16, u16),
    circuit: Option<(&'static [u8], &'static [u8])>,
}

/// Everybody who is bound, and a stranger.
fn senders() -> Vec<Sender> {
    let mut senders = vec![Sender {
        interface: LINES,
        mac: STRANGER,
        address: Ipv4Addr::new(100, 64, 3, 99),
        line: (0, 0),
        circuit: None,
    }];
    senders.extend(BOUND.iter().map(|(mac, address, line, _)| Sender {
        interface: LINES,
        mac: *mac,
        address: *address,
        line: line.unwrap_or_default(),
        circuit: None,
    }));
    let on_circuits = ON_CIRCUIT.iter();
    senders.extend(
        on_circuits.map(|(interface, id, remote, mac, address, _)| Sender {
            interface: *interface,
            mac: *mac,
            address: *address,
            line: (500, 1),
            circuit: Some((id, remote)),
        }),
    );
    senders.extend(
        ELSEWHERE
            .iter()
            .map(|(interface, _, line, mac, address)| Sender {
                interface: *interface,
                mac: *mac,
                address: *address,
                line: *line,
                circuit: None,
            }),
    );
    senders
}

pub struct Generator {
    random: StdRng,
    senders: Vec<Sender>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            senders: senders(),
        }
    }

    /// True in so many of a hundred cases.
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// The number of an interface, and a frame that comes in there.
    pub fn next_frame(&mut self) -> (u8, Vec<u8>) {
        if self.chance(2) {
            return self.noise();
        }
        let number = self.below(self.senders.len());
        let mut sender = self.senders[number].clone();
        if self.chance(4) {
            sender.interface = [LINES, CIRCUITS, REMOTES, VLANS][self.below(4)];
        }
        if self.chance(4) {
            let other = self.below(self.senders.len());
            sender.mac = self.senders[other].mac;
        }
        let message = self.message(&sender);
        let frame = self.frame(&sender, message);
        let ip = 14 + 4 * frame.tags.len();
        let mut bytes = frame.build();
        if self.chance(35) {
            self.spoil(&mut bytes, ip);
        }
        if self.chance(15) {
            let behind = 1 + self.below(200);
            let with = [0, 0x5a, 255][self.below(3)];
            bytes.resize(bytes.len() + behind, with);
        }
        (sender.interface, bytes)
    }

    fn noise(&mut self) -> (u8, Vec<u8>) {
        let len = 14 + self.below(1500);
        let mut bytes = self.bytes(len);
        if self.chance(50) {
            bytes[12..14].copy_from_slice(&[8, 0]);
        }
        (LINES, bytes)
    }

    fn says(&mut self, own: Ipv4Addr) -> Says {
        let wrong = Ipv4Addr::new(10, 9, 8, 7);
        let server = if own.octets()[1] == 96 {
            RICH_SERVER
        } else {
            SERVER
        };
        [
            Says::Discover,
            Says::Discover,
            Says::Select(own, server),
            Says::Select(own, server),
            Says::Select(wrong, server),
            Says::Select(own, OTHER_SERVER),
            Says::Reboot(own),
            Says::Renew(own),
            Says::Renew(wrong),
            Says::Rebind(own),
        ][self.below(10)]
    }

    fn message(&mut self, sender: &Sender) -> Bootp {
        let says = self.says(sender.address);
        let client = Client::ALL[self.below(Client::ALL.len())];
        let xid = self.random.next_u32();
        let mut message = client.message(sender.mac, xid, says);
        message.secs = self.random.random();
        message.flags = if self.chance(40) { 0x8000 } else { 0 };
        if self.chance(5) {
            message.flags = self.random.random();
        }
        message.min_len = if self.chance(20) {
            self.below(1473)
        } else {
            self.below(600)
        };
        if self.chance(10) {
            message.options[0] = (53, vec![8]);
            message.ciaddr = sender.address;
        } else if self.chance(3) {
            message.options[0].1 = self.bytes(1);
        }
        self.relay_option(sender, &mut message);
        self.list(&mut message);
        let mut replace = |code: u8, value: Option<Vec<u8>>| {
            message.options.retain(|(at, _)| *at != code);
            message.options.extend(value.map(|value| (code, value)));
        };
        if self.chance(30) {
            let size = self.random.random_range(0..2048_u16);
            replace(57, Some(size.to_be_bytes().to_vec()));
        }
        if self.chance(25) {
            let len = [self.below(4), self.below(40), self.below(256)][self.below(3)];
            replace(61, Some(self.bytes(len)));
        }
        if self.chance(20) {
            replace(80, Some(Vec::new()));
        }
        if self.chance(12) {
            for _ in 0..=self.below(4) {
                let code = self.random.random();
                let len = self.below(40);
                message.options.push((code, self.bytes(len)));
            }
        }
        if self.chance(5) {
            let pads = self.below(70);
            message.options.extend(vec![(0, Vec::new()); pads]);
        }
        let by = self.below(message.options.len());
        message.options.rotate_left(by);
        message
    }

    /// Option 82: the sender's own, another's, with sub-options in any order, or nonsense.
    fn relay_option(&mut self, sender: &Sender, message: &mut Bootp) {
        let shown = match sender.circuit {
            Some(circuit) if !self.chance(15) => Some(circuit),
            _ if self.chance(70) => None,
            _ => Some((PORT, &b"onu-77"[..])),
        };
        message.options.retain(|(code, _)| *code != 82);
        let value = match shown {
            Some((circuit, remote)) => {
                let mut subs = vec![(1, circuit.to_vec())];
                if !remote.is_empty() || self.chance(30) {
                    subs.push((2, remote.to_vec()));
                }
                while self.chance(20) {
                    let len = self.below(6);
                    subs.push((self.random.random_range(1..12), self.bytes(len)));
                }
                let by = self.below(subs.len());
                subs.rotate_left(by);
                let parts = subs.into_iter();
                parts
                    .flat_map(|(code, value)| [vec![code, value.len() as u8], value].concat())
                    .collect()
            }
            None if self.chance(20) => relay_information(b"port 1", b"nobody"),
            None if self.chance(10) => {
                let len = self.below(256);
                self.bytes(len)
            }
            None => return,
        };
        let mut value: Vec<u8> = value;
        value.truncate(255);
        if self.chance(5) {
            let at = self.below(value.len().max(1));
            if let Some(byte) = value.get_mut(at) {
                *byte = self.random.random();
            }
        }
        message.options.push((82, value));
    }

    /// Option 55: a likely one, or any.
    fn list(&mut self, message: &mut Bootp) {
        if self.chance(15) {
            return;
        }
        message.options.retain(|(code, _)| *code != 55);
        if self.chance(15) {
            let len = self.below(256);
            message.options.push((55, self.bytes(len)));
            return;
        }
        let list = LISTS[self.below(LISTS.len())];
        if !list.is_empty() {
            message.options.push((55, list.to_vec()));
        }
    }

    fn frame(&mut self, sender: &Sender, mut message: Bootp) -> Frame {
        let relayed = self.chance(20);
        if relayed {
            message.giaddr = RELAY;
            message.hops = 1;
        }
        let mut frame = Frame::from_client(&message);
        if relayed {
            frame.source = RELAY_MAC;
        }
        if relayed || self.chance(10) {
            frame = frame.unicast(GATEWAY_MAC, SERVER);
        }
        frame.udp_checksum = self.chance(80);
        if self.chance(12) {
            for _ in 0..self.below(4) {
                let tag = self.tag(None);
                frame.tags.push(tag);
            }
            return frame;
        }
        let (outer, inner) = sender.line;
        for vid in [outer, inner].into_iter().filter(|vid| *vid != 0) {
            let tag = self.tag(Some(vid));
            frame.tags.push(tag);
        }
        frame
    }

    fn tag(&mut self, vid: Option<u16>) -> Tag {
        let any: u16 = self.random.random();
        let vid = vid.unwrap_or_else(|| [30, 100, 200, any & 0x0fff][self.below(4)]);
        Tag {
            protocol: [0x8100, 0x88a8, 0x9100][self.below(3)],
            tci: (any & 0xf000) | vid,
        }
    }

    /// What a line, a switch or a fuzzer does to it.
    fn spoil(&mut self, bytes: &mut Vec<u8>, ip: usize) {
        for _ in 0..self.below(5) {
            // Headers, the fixed part, or what stands in the options.
            let from = [0, ip, ip + 28, ip + 268][self.below(4)].min(bytes.len() - 1);
            let at = from + self.below((bytes.len() - from).min(90));
            bytes[at] = match self.below(3) {
                0 => [0, 1, 4, 53, 82, 255][self.below(6)],
                1 => bytes[at] ^ 1 << self.below(8),
                _ => self.random.random(),
            };
        }
        if self.chance(25) {
            let len = 14 + self.below(bytes.len() - 14);
            bytes.truncate(len);
            if self.chance(30) {
                bytes[len - 1] = 255;
            }
        }
        if self.chance(70) {
            let behind = if self.chance(10) { self.below(20) } else { 0 };
            mend_lengths(bytes, ip, behind);
        }
    }
}

/// Makes both lengths and the IP checksum fit a datagram that ends `behind` bytes before the frame does.
pub fn mend_lengths(frame: &mut [u8], ip: usize, behind: usize) {
    if frame.len() < ip + 28 + behind {
        return;
    }
    let total = u16::try_from(frame.len() - ip - behind).unwrap();
    frame[ip + 2..ip + 4].copy_from_slice(&total.to_be_bytes());
    frame[ip + 24..ip + 26].copy_from_slice(&(total - 20).to_be_bytes());
    frame[ip + 10..ip + 12].fill(0);
    let sum = internet_checksum(&[&frame[ip..ip + 20]]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
}
