//! The subscribers' end of one OLT's line: DHCP exchanges and releases, each with an account of its answer.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::Socket;

use super::history::{Outcome, Who};
use super::subscribers::{mac, on_line};
use crate::netns::Namespace;
use crate::packet::{Bootp, Frame, Mac};
use crate::packet_socket::open;

/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(700);
/// Memory for frames that were received and not read yet; beyond it the kernel drops them, and they are asked for again.
const RECEIVE_BUFFER: usize = 4 << 20;
/// DHCP message types (RFC 2132 section 9.6).
const OFFER: u8 = 2;
const ACK: u8 = 5;
/// Most bytes of a frame; what is behind is cut off.
const FRAME_MAX: usize = 1024;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Offer,
    Ack,
}

#[derive(Debug)]
struct Waiting {
    who: Who,
    address: Ipv4Addr,
    next: Next,
    frame: Vec<u8>,
    began: Instant,
    sent: Instant,
}

/// One line.
#[derive(Debug)]
pub struct Station {
    socket: Socket,
    /// MAC address of the OLT's interface.
    gateway: Mac,
    server: Ipv4Addr,
    give_up: Duration,
    waiting: BTreeMap<u32, Waiting>,
    xid: u32,
}

impl Station {
    /// Opens the line. `server` is the pool's router.
    ///
    /// # Errors
    /// If there is no such interface, or the caller is not root.
    pub fn open(
        namespace: &Namespace,
        interface: &str,
        gateway: Mac,
        server: Ipv4Addr,
        give_up: Duration,
    ) -> Result<Self> {
        let socket = namespace.enter(|| open(interface, RECEIVE_BUFFER, &[]))??;
        Ok(Self {
            socket,
            gateway,
            server,
            give_up,
            waiting: BTreeMap::new(),
            xid: 1,
        })
    }

    /// Renews an address: REQUEST to the server alone (RFC 2131 section 4.3.2, RENEWING).
    pub fn renew(&mut self, now: Instant, who: Who, address: Ipv4Addr) {
        let xid = self.xid();
        let frame = self.to_server(who, &Bootp::renew(mac(who), xid, address));
        self.begin(now, (xid, who, address), Next::Ack, frame);
    }

    /// Asks everybody, as a client that knows nothing: DISCOVER, and the REQUEST of what is offered (SELECTING).
    pub fn discover(&mut self, now: Instant, who: Who, address: Ipv4Addr) {
        let xid = self.xid();
        let frame = to_everybody(who, &Bootp::discover(mac(who), xid));
        self.begin(now, (xid, who, address), Next::Offer, frame);
    }

    /// Asks everybody for an address that it had before it was switched off (RFC 2131 section 4.3.2, INIT-REBOOT).
    pub fn reboot(&mut self, now: Instant, who: Who, address: Ipv4Addr) {
        let xid = self.xid();
        let message = Bootp::request(mac(who), xid)
            .option(53, &[3])
            .option(50, &address.octets())
            .option(55, &[1, 3, 6, 51, 54]);
        let frame = to_everybody(who, &message);
        self.begin(now, (xid, who, address), Next::Ack, frame);
    }

    /// Releases an address (RFC 2131 section 4.4.6). Nobody answers.
    pub fn release(&mut self, who: Who, address: Ipv4Addr) {
        let mut message = Bootp::request(mac(who), self.xid())
            .option(53, &[7])
            .option(54, &self.server.octets());
        message.ciaddr = address;
        let frame = self.to_server(who, &message);
        self.send(&frame);
    }

    /// Takes what has come, repeats what is due, gives up what has waited too long. Returns what is decided.
    pub fn poll(&mut self, now: Instant) -> Vec<(Who, Outcome)> {
        let mut done = Vec::new();
        let mut buffer = [0; FRAME_MAX];
        while let Ok(len) = (&self.socket).read(&mut buffer) {
            let frame = Frame::parse(buffer.get(..len).unwrap_or_default());
            if let Ok(reply) = frame.and_then(|frame| frame.bootp()) {
                done.extend(self.take(now, &reply));
            }
        }
        let mut given_up = Vec::new();
        for (xid, waiting) in &mut self.waiting {
            if now.saturating_duration_since(waiting.began) >= self.give_up {
                given_up.push(*xid);
            } else if now.saturating_duration_since(waiting.sent) >= AGAIN {
                waiting.sent = now;
                let _ = self.socket.send(&waiting.frame);
            }
        }
        for xid in given_up {
            if let Some(waiting) = self.waiting.remove(&xid) {
                done.push((waiting.who, Outcome::Silent));
            }
        }
        done
    }

    fn take(&mut self, now: Instant, reply: &Bootp) -> Option<(Who, Outcome)> {
        let waiting = self.waiting.get_mut(&reply.xid)?;
        let Waiting { who, address, .. } = *waiting;
        // Own frames pass by here, too.
        if reply.op != 2 || reply.mac() != mac(who) {
            return None;
        }
        let theirs = reply.yiaddr == address;
        match (waiting.next, reply.message_type()) {
            (Next::Offer, Some(OFFER)) if theirs => {
                let select = Bootp::select(mac(who), reply.xid, address, self.server);
                waiting.frame = to_everybody(who, &select);
                (waiting.next, waiting.sent) = (Next::Ack, now);
                let _ = self.socket.send(&waiting.frame);
                return None;
            }
            // DISCOVER was sent twice.
            (Next::Ack, Some(OFFER)) if theirs => return None,
            _ => {}
        }
        let expected = waiting.next == Next::Ack;
        self.waiting.remove(&reply.xid);
        let outcome = match reply.message_type() {
            Some(ACK) if theirs && expected => Outcome::Acked,
            _ => Outcome::Nak(format!("{} of {}", reply.message_name(), reply.yiaddr)),
        };
        Some((who, outcome))
    }

    /// What the interface does not take is lost, as on any line.
    fn send(&self, frame: &[u8]) {
        let _ = self.socket.send(frame);
    }

    fn xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }

    fn begin(
        &mut self,
        now: Instant,
        (xid, who, address): (u32, Who, Ipv4Addr),
        next: Next,
        frame: Vec<u8>,
    ) {
        self.send(&frame);
        let waiting = Waiting {
            who,
            address,
            next,
            frame,
            began: now,
            sent: now,
        };
        self.waiting.insert(xid, waiting);
    }

    fn to_server(&self, who: Who, message: &Bootp) -> Vec<u8> {
        let frame = Frame::from_client(message).unicast(self.gateway, self.server);
        on_line(who, frame).build()
    }
}

fn to_everybody(who: Who, message: &Bootp) -> Vec<u8> {
    on_line(who, Frame::from_client(message)).build()
}
