//! A fast NAS: many Access-Requests on their way at once over one socket, repeated until answered or given up.
//!
//! A request takes one of the 256 identifiers of its socket (RFC 2865 section 3); when none is free, no more is taken.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_radius::authenticator::{check_response_authenticator, sign_request};
use nexus_radius::password::hide;
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};

use crate::netns::Namespace;
use crate::packet::{Mac, mac_text};

/// Identifiers of a socket.
const SLOTS: u8 = u8::MAX;
/// Most octets of an answer.
const ANSWER: usize = 4096;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User-Name.
    pub user: String,
    /// User-Password (PAP).
    pub password: String,
    /// Calling-Station-Id.
    pub mac: Mac,
    /// NAS-Port-Id.
    pub port_id: String,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Access-Accept, with Framed-IP-Address if there is one.
    Accept(Option<Ipv4Addr>),
    /// Access-Reject, with its Reply-Message.
    Reject(String),
    /// Nothing, however often it was asked.
    Nothing,
}

/// How often and for how long it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time between two tries.
    pub again: Duration,
    /// Time until it is given up.
    pub give_up: Duration,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    authenticator: [u8; 16],
    datagram: Vec<u8>,
    began: Instant,
    sent: Instant,
}

/// The NAS.
#[derive(Debug)]
pub struct Nas {
    socket: UdpSocket,
    secret: Secret,
    patience: Patience,
    slots: Vec<Option<Waiting>>,
    next: u8,
    round: u64,
}

impl Nas {
    /// Opens a socket in that namespace.
    ///
    /// # Errors
    /// If the namespace is gone, or the secret empty.
    pub fn open(
        namespace: &Namespace,
        server: SocketAddr,
        secret: &str,
        patience: Patience,
    ) -> Result<Self> {
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = namespace
            .enter(|| UdpSocket::bind(local))?
            .context("cannot open a UDP socket")?;
        socket
            .connect(server)
            .and_then(|()| socket.set_nonblocking(true))
            .with_context(|| format!("cannot reach {server}"))?;
        let mut slots = Vec::new();
        slots.resize_with(usize::from(SLOTS), || None);
        Ok(Self {
            socket,
            secret: Secret::new(secret).context("an empty RADIUS secret")?,
            patience,
            slots,
            next: 0,
            round: rand::random(),
        })
    }

    /// Requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Sends a request; `false`: every identifier is taken, nothing was sent.
    ///
    /// # Errors
    /// If an attribute does not fit.
    pub fn ask(&mut self, now: Instant, ticket: u64, account: &Account) -> Result<bool> {
        let Some(identifier) = self.free() else {
            return Ok(false);
        };
        self.round = self.round.wrapping_add(1);
        let mut authenticator = [identifier; 16];
        for (to, from) in authenticator.iter_mut().zip(self.round.to_be_bytes()) {
            *to = from;
        }
        let hidden = hide(account.password.as_bytes(), &authenticator, &self.secret)?;
        let station = mac_text(account.mac);
        let mut attributes = Attributes::new();
        for (id, value) in [
            (AttributeId::USER_NAME, account.user.as_bytes()),
            (AttributeId::USER_PASSWORD, &hidden),
            (AttributeId::CALLING_STATION_ID, station.as_bytes()),
            (AttributeId::NAS_PORT_ID, account.port_id.as_bytes()),
        ] {
            attributes.push(id, value)?;
        }
        let code = Code::ACCESS_REQUEST;
        let datagram = sign_request(code, identifier, authenticator, &attributes, &self.secret)?;
        // Refused while no server listens, which the missing answer shows.
        let _ = self.socket.send(&datagram);
        if let Some(slot) = self.slots.get_mut(usize::from(identifier)) {
            *slot = Some(Waiting {
                ticket,
                authenticator,
                datagram,
                began: now,
                sent: now,
            });
        }
        Ok(true)
    }

    /// Takes what has come, repeats what is due, gives up what has waited too long. Returns what is decided.
    pub fn poll(&mut self, now: Instant) -> Vec<(u64, Reply)> {
        let mut done = Vec::new();
        let mut buffer = [0; ANSWER];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => done.extend(self.take(buffer.get(..len).unwrap_or_default())),
                // Nobody listens: the kernel says so for each packet.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => break,
            }
        }
        for slot in &mut self.slots {
            let Some(waiting) = slot else { continue };
            if now.saturating_duration_since(waiting.began) >= self.patience.give_up {
                done.push((waiting.ticket, Reply::Nothing));
                *slot = None;
            } else if now.saturating_duration_since(waiting.sent) >= self.patience.again {
                waiting.sent = now;
                let _ = self.socket.send(&waiting.datagram);
            }
        }
        done
    }

    fn free(&mut self) -> Option<u8> {
        for _ in 0..SLOTS {
            let identifier = self.next;
            self.next = if identifier + 1 == SLOTS {
                0
            } else {
                identifier + 1
            };
            if matches!(self.slots.get(usize::from(identifier)), Some(None)) {
                return Some(identifier);
            }
        }
        None
    }

    fn take(&mut self, datagram: &[u8]) -> Option<(u64, Reply)> {
        let reply = Packet::decode(datagram).ok()?;
        let slot = self.slots.get_mut(usize::from(reply.identifier))?;
        let waiting = slot.as_ref()?;
        if !check_response_authenticator(&reply, &waiting.authenticator, &self.secret) {
            return None;
        }
        let ticket = waiting.ticket;
        *slot = None;
        let said = match reply.code {
            Code::ACCESS_ACCEPT => {
                let octets = reply.attributes.get(AttributeId::FRAMED_IP_ADDRESS);
                let octets: Option<[u8; 4]> = octets.and_then(|octets| octets.try_into().ok());
                Reply::Accept(octets.map(Ipv4Addr::from))
            }
            _ => {
                let message = reply.attributes.text(AttributeId::REPLY_MESSAGE);
                Reply::Reject(message.unwrap_or_default().to_owned())
            }
        };
        Some((ticket, said))
    }
}

#[cfg(test)]
mod tests {
    use nexus_radius::authenticator::sign_reply;

    use super::*;
    use crate::netns::unique_prefix;

    #[test]
    #[ignore = "needs root: makes a network namespace"]
    fn answers_find_their_requests_and_what_is_not_answered_is_given_up() {
        let namespace = Namespace::create(&unique_prefix("nas"), "x").unwrap();
        let there = namespace
            .enter(|| UdpSocket::bind("127.0.0.1:0").unwrap())
            .unwrap();
        let secret = Secret::new("s").unwrap();
        let patience = Patience {
            again: Duration::from_millis(20),
            give_up: Duration::from_millis(200),
        };
        let at = there.local_addr().unwrap();
        let mut nas = Nas::open(&namespace, at, "s", patience).unwrap();
        let account = Account {
            user: "u".to_owned(),
            password: "p".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            port_id: "x".to_owned(),
        };
        for ticket in 0..300 {
            assert_eq!(
                nas.ask(Instant::now(), ticket, &account).unwrap(),
                ticket < 255
            );
        }
        // The first is accepted, with its address, the second rejected; nobody answers the others.
        let mut buffer = [0; ANSWER];
        for number in 0..2_u8 {
            let len = there.recv(&mut buffer).unwrap();
            let request = Packet::decode(&buffer[..len]).unwrap();
            let mut attributes = Attributes::new();
            let address = Ipv4Addr::new(10, 0, 0, number);
            attributes
                .push_ipv4(AttributeId::FRAMED_IP_ADDRESS, address)
                .unwrap();
            let code = if number == 0 {
                Code::ACCESS_ACCEPT
            } else {
                Code::ACCESS_REJECT
            };
            let (id, of) = (request.identifier, request.authenticator);
            let reply = sign_reply(code, id, &of, &attributes, &secret).unwrap();
            let from = nas.socket.local_addr().unwrap();
            there.send_to(&reply, from).unwrap();
        }
        let mut replies = Vec::new();
        while replies.len() < 255 {
            replies.extend(nas.poll(Instant::now()));
        }
        let given = Reply::Accept(Some(Ipv4Addr::new(10, 0, 0, 0)));
        assert!(replies.contains(&(0, given)), "{replies:?}");
        assert!(replies.contains(&(1, Reply::Reject(String::new()))));
        let nothing = replies.iter().filter(|(_, reply)| *reply == Reply::Nothing);
        assert_eq!((nothing.count(), nas.in_flight()), (253, 0));
    }
}
