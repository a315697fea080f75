//! Bound subscribers who ask all the time, each request held against its reply, byte for byte.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nexus_testkit::access_node::Line;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Frame, Mac};
use nexus_testkit::pcap::Captured;
use nexus_testkit::wire::Wire;

use crate::world::{Account, DNS, LIMIT, SERVER, World};

/// Between two requests: some thousand each second.
const PACE: Duration = Duration::from_micros(500);
/// Transaction ids of the requests count from here, for each traffic in a block of its own; nobody else uses
/// such.
const FIRST_XID: u32 = 0x6000_0000;
const BLOCK: u32 = 1 << 24;
static BLOCKS: AtomicU32 = AtomicU32::new(0);
/// Seconds of a lease.
pub const LEASE_SECS: u32 = 3600;

/// What each subscriber says in turn.
const SAYS: usize = 4;

/// Subscribers on QinQ lines of their own.
pub fn accounts(count: u16, pool: &'static str) -> Vec<Account> {
    (1..=count)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            Account {
                name: format!("sub-{number}"),
                mac: [2, 0, 0, 1, high, low],
                line: Line::QinQ {
                    s_vlan: 200 + number % 4,
                    c_vlan: number,
                },
                pool,
            }
        })
        .collect()
}

/// A subscriber with its address, who sends as a client program does.
#[derive(Clone)]
pub struct Asker {
    pub account: Account,
    pub address: Ipv4Addr,
    gateway: Mac,
}

impl Asker {
    pub fn all(
        world: &World,
        accounts: &[Account],
        addresses: &BTreeMap<String, Ipv4Addr>,
    ) -> Vec<Self> {
        let asker = |account: &Account| Self {
            account: account.clone(),
            address: addresses[&account.name],
            gateway: world.gateway,
        };
        accounts.iter().map(asker).collect()
    }

    fn says(&self, turn: usize) -> Says {
        match turn % SAYS {
            0 => Says::Discover,
            1 => Says::Select(self.address, SERVER),
            2 => Says::Renew(self.address),
            _ => Says::Reboot(self.address),
        }
    }

    fn request(&self, turn: usize, xid: u32) -> Vec<u8> {
        let says = self.says(turn);
        let mut frame = Client::Udhcpc.frame(self.account.mac, xid, says);
        if matches!(says, Says::Renew(_)) {
            frame = frame.unicast(self.gateway, SERVER);
        }
        frame.tags = self.account.tags();
        frame.build()
    }

    /// The reply is that of RFC 2131 table 3 to its request, with what RADIUS and the pool say.
    fn assert_right(&self, turn: usize, reply: &Frame) {
        let says = self.says(turn);
        let message = reply.bootp().unwrap();
        let kind = if says == Says::Discover { 2 } else { 5 };
        assert_eq!(message.message_type(), Some(kind), "{says:?}");
        assert_eq!(message.yiaddr, self.address);
        assert_eq!(message.mac(), self.account.mac);
        assert_eq!(message.address(54), Some(SERVER));
        assert_eq!(message.address(3), Some(SERVER));
        assert_eq!(message.number(51), Some(LEASE_SECS));
        assert_eq!(
            message.get(6),
            Some(&DNS.map(|dns| dns.octets()).concat()[..])
        );
        assert_eq!(reply.tags, self.account.tags());
        assert_eq!(reply.destination, self.account.mac);
        assert_eq!((reply.source, reply.source_ip), (self.gateway, SERVER));
        assert_eq!((reply.source_port, reply.destination_port), (67, 68));
    }
}

/// Everybody asks in turn, until this is stopped.
pub struct Traffic {
    askers: Vec<Asker>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
    first_xid: u32,
    kernel_before: u64,
}

impl Traffic {
    pub fn start(world: &World, askers: &[Asker]) -> Self {
        let uplink = world.host.network.uplink().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (own, flag) = (askers.to_vec(), Arc::clone(&stop));
        let kernel_before = world.answers().kernel;
        let first_xid = FIRST_XID + BLOCK * BLOCKS.fetch_add(1, Ordering::Relaxed);
        Self {
            askers: askers.to_vec(),
            stop,
            thread: std::thread::spawn(move || ask(&uplink, &own, first_xid, &flag)),
            first_xid,
            kernel_before,
        }
    }

    /// Stops it, and makes sure that every request was answered once, by the kernel, with the right bytes.
    /// Returns how many that were.
    pub fn assert_answered(self, world: &World) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join().unwrap();
        let replies = replies(world, self.first_xid, sent);
        let mut references: BTreeMap<(usize, usize), Vec<u8>> = BTreeMap::new();
        for number in 0..sent {
            let (asker, turn) = whose(number, self.askers.len());
            let own = replies
                .get(&(self.first_xid + number))
                .map_or(&[][..], Vec::as_slice);
            let name = &self.askers[asker].account.name;
            let says = self.askers[asker].says(turn);
            let [reply] = own else {
                panic!(
                    "{} replies to request {number} ({says:?} of {name})",
                    own.len()
                );
            };
            let frame = Frame::parse(reply).unwrap_or_else(|error| {
                panic!("the reply to request {number} ({says:?} of {name}): {error}")
            });
            let reply = without_xid(&frame);
            let key = (asker, turn % SAYS);
            match references.get(&key) {
                Some(reference) => assert_eq!(reply, *reference, "request {number} of {name}"),
                None => {
                    self.askers[asker].assert_right(turn, &frame);
                    references.insert(key, reply);
                }
            }
        }
        assert_eq!(
            world.answers().kernel - self.kernel_before,
            u64::from(sent),
            "all by the kernel"
        );
        sent
    }
}

/// Who sends the request of that number, and in which turn.
fn whose(number: u32, askers: usize) -> (usize, usize) {
    let number = number as usize;
    (number % askers, number / askers)
}

fn ask(uplink: &Wire, askers: &[Asker], first_xid: u32, stop: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let (asker, turn) = whose(sent, askers.len());
        uplink
            .send(&askers[asker].request(turn, first_xid + sent))
            .unwrap();
        sent += 1;
        std::thread::sleep(PACE);
    }
    sent
}

/// A frame as it is but for the transaction id and the checksum over it, which has been found right.
fn without_xid(frame: &Frame) -> Vec<u8> {
    let mut frame = frame.clone();
    frame.payload[4..8].fill(0);
    frame.build()
}

/// Replies to this traffic's requests, by transaction id; waits until the last request has its own.
fn replies(world: &World, first_xid: u32, sent: u32) -> BTreeMap<u32, Vec<Vec<u8>>> {
    assert!((1..=BLOCK).contains(&sent), "{sent} requests");
    let last = first_xid + (sent - 1);
    let read = || -> BTreeMap<u32, Vec<Vec<u8>>> {
        let mut replies: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for captured in world.capture.frames().unwrap() {
            // Two tags, IPv4, UDP, and the transaction id at 4 of BOOTP.
            let from = captured.bytes.get(6..12) == Some(&world.gateway[..]);
            let xid = captured.bytes.get(54..58).filter(|_| from);
            let xid = xid.and_then(|xid| xid.try_into().ok());
            if let Some(xid) = xid.map(u32::from_be_bytes)
                && (first_xid..=last).contains(&xid)
            {
                replies.entry(xid).or_default().push(captured.bytes);
            }
        }
        replies
    };
    wait_until("the reply to the last request", LIMIT, || {
        std::thread::sleep(Duration::from_millis(100));
        let replies = read();
        Ok(replies.contains_key(&last).then_some(replies))
    })
    .unwrap()
}

/// Frames of any kind that the OLT has sent to its subscribers.
pub fn sent_by_olt(world: &World) -> usize {
    let frames = world.capture.frames().unwrap();
    let sent = |captured: &&Captured| captured.bytes.get(6..12) == Some(&world.gateway[..]);
    frames.iter().filter(sent).count()
}
