//! An OLT host with a native XDP interface, and a client at the other end of it.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use nexus_sidecar::fastpath::{AttachMode, Attached, FastPath, FastPathError};
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::packet::{Bootp, Frame};
use nexus_testkit::wire::Wire;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::home::{Home, discover, interface};
use crate::world::is_slow_machine;

pub const INTERFACE: &str = "access0";
/// The far end of it.
const LINE: &str = "eth0";

/// `ip`'s numbers of where a program runs.
pub const IN_DRIVER: u64 = 1;
pub const GENERIC: u64 = 2;

/// Longest that a reply takes: it comes out of the driver.
const PATIENCE: TimeVal = TimeVal::new(2, 0);

/// Time between two requests of a load.
fn pause() -> Duration {
    Duration::from_micros(if is_slow_machine() { 50_000 } else { 400 })
}

pub struct Bench {
    pub home: Home,
    pub olt: Namespace,
    pub line: Namespace,
}

impl Bench {
    pub fn new(test: &str) -> Self {
        let prefix = unique_prefix(test);
        let olt = Namespace::create(&prefix, "olt").unwrap();
        let line = Namespace::create(&prefix, "line").unwrap();
        link::veth(End::new(&olt, INTERFACE), End::new(&line, LINE)).unwrap();
        Self {
            home: Home::new(test),
            olt,
            line,
        }
    }

    /// Adds an interface `access1`, whose far end is `eth1`.
    pub fn second(&self) {
        let (near, far) = (End::new(&self.olt, "access1"), End::new(&self.line, "eth1"));
        link::veth(near, far).unwrap();
    }

    /// Attaches interface number 0.
    pub fn attach(
        &self,
        fast_path: &mut FastPath,
        name: &str,
        mode: AttachMode,
    ) -> Result<Attached, FastPathError> {
        let config = interface(0, name, mode);
        self.olt.enter(|| fast_path.attach(&config)).unwrap()
    }

    pub fn native(&self, fast_path: &mut FastPath) -> Attached {
        self.attach(fast_path, INTERFACE, AttachMode::Native)
            .unwrap()
    }

    /// (mode, program id) of the program on an interface, as `ip` shows it.
    pub fn program(&self, interface: &str) -> Option<(u64, u64)> {
        let arguments = ["-json", "-details", "link", "show", "dev", interface];
        let text = self.olt.run("ip", &arguments).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let xdp = shown.get(0)?.get("xdp")?;
        let number = |value: Option<&serde_json::Value>| value.and_then(serde_json::Value::as_u64);
        number(xdp.get("mode")).zip(number(xdp.get("prog")?.get("id")))
    }

    pub fn client(&self) -> Client {
        self.client_on(LINE)
    }

    /// A client at the far end `interface`.
    pub fn client_on(&self, interface: &str) -> Client {
        // A veth takes what the other end's XDP sends back if it has a program itself: ours lets replies
        // pass.
        let home = Home::new("client");
        let mut passing = home.open(1);
        let config = crate::home::interface(0, interface, AttachMode::Native);
        self.line
            .enter(|| passing.attach(&config))
            .unwrap()
            .unwrap();
        let wire = Wire::open(&self.line, interface).unwrap();
        let socket = self.line.enter(listening).unwrap().unwrap();
        Client {
            wire,
            socket,
            _home: home,
        }
    }
}

/// A packet socket that hears all frames of a namespace.
fn listening() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    Ok(socket)
}

/// A client that keeps no state.
pub struct Client {
    wire: Wire,
    socket: OwnedFd,
    /// The program at its end of the line.
    _home: Home,
}

impl Client {
    pub fn send(&self, message: &Bootp) -> Result<()> {
        self.wire.send(&Frame::from_client(message).build())
    }

    /// The address in the answer to a transaction; `None`: there is no answer within two seconds.
    pub fn offer(&self, xid: u32) -> Result<Option<Ipv4Addr>> {
        while let Some((found, address)) = self.heard()? {
            if found == xid {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// Transaction and address of the next answer; `None`: there is none for two seconds.
    fn heard(&self) -> Result<Option<(u32, Ipv4Addr)>> {
        const REPLY: u8 = 2;
        let mut bytes = [0; 2048];
        loop {
            let len = match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            // It hears its own requests too, and whatever else is on the line.
            let message = Frame::parse(&bytes[..len]).and_then(|frame| frame.bootp());
            if let Ok(message) = message
                && message.op == REPLY
            {
                return Ok(Some((message.xid, message.yiaddr)));
            }
        }
    }
}

/// Clients 1 to `clients` ask in turn as long as `work` goes on, one request after the other.
/// Returns how many requests there were, those that were not answered, and the addresses that each
/// client was offered.
pub fn under_load<T>(client: &Client, clients: u32, work: impl FnOnce() -> T) -> (T, Load) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut xid = 0;
            while !done.load(Ordering::Relaxed) {
                xid += 1;
                client.send(&discover(1 + xid % clients, xid)).unwrap();
                std::thread::sleep(pause());
            }
            xid
        });
        let hearing = scope.spawn(|| {
            let mut heard = BTreeMap::new();
            // Until the line has been silent for as long as a reply may take, and nobody asks any more.
            loop {
                let ended = done.load(Ordering::Relaxed);
                match client.heard().unwrap() {
                    Some((xid, address)) => {
                        heard.insert(xid, address);
                    }
                    None if ended => break,
                    None => {}
                }
            }
            heard
        });
        let stop = Stop(&done);
        let result = work();
        // What comes after the work counts as well.
        std::thread::sleep(pause() * 50);
        drop(stop);
        let asked = asking.join().unwrap();
        let heard = hearing.join().unwrap();
        let unanswered = (1..=asked).filter(|xid| !heard.contains_key(xid)).collect();
        let offers = heard
            .into_iter()
            .map(|(xid, address)| (1 + xid % clients, address))
            .collect();
        let load = Load {
            asked,
            unanswered,
            offers,
        };
        (result, load)
    })
}

/// Ends the load, also when the work panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What [`under_load`] has seen.
pub struct Load {
    pub asked: u32,
    pub unanswered: Vec<u32>,
    pub offers: Vec<(u32, Ipv4Addr)>,
}
