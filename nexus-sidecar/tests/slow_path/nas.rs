//! A NAS that has many Access-Requests on their way at once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use nexus_radius::authenticator::{check_response_authenticator, sign_request};
use nexus_radius::password::hide;
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};
use nexus_testkit::netns::Namespace;
use nexus_testkit::olt_host::{RADIUS, SECRET};
use nexus_testkit::packet::mac_text;

use crate::bench::LIMIT;
use crate::subscriber::{PASSWORD, Subscriber};

/// After so long a silence what is not answered is asked again, as a NAS does.
const AGAIN: Duration = Duration::from_secs(3);

/// A socket in the OLT's namespace.
pub struct Nas {
    socket: UdpSocket,
    secret: Secret,
    round: u64,
}

/// An answer: the address of an Access-Accept, nothing of an Access-Reject.
pub type Answer = Option<Ipv4Addr>;

impl Nas {
    pub fn open(olt: &Namespace) -> Self {
        let socket = olt.enter(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let socket = socket.unwrap();
        socket.connect(RADIUS).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        Self {
            socket,
            secret: Secret::new(SECRET).unwrap(),
            round: 0,
        }
    }

    /// Begins anew: from now on only answers to what is sent from now on count.
    pub fn begin(&mut self) {
        self.round += 1;
    }

    /// Sends an Access-Request for each, without waiting. The first is number `first`; numbers go up to 255.
    pub fn send(&self, first: u8, subscribers: &[Subscriber]) {
        for (identifier, subscriber) in (first..=u8::MAX).zip(subscribers) {
            // Refused while no server listens, which the answers will show.
            let _ = self.socket.send(&self.request(identifier, subscriber));
        }
    }

    fn request(&self, identifier: u8, subscriber: &Subscriber) -> Vec<u8> {
        let authenticator = self.authenticator(identifier);
        let hidden = hide(PASSWORD.as_bytes(), &authenticator, &self.secret).unwrap();
        let mut attributes = Attributes::new();
        for (id, value) in [
            (AttributeId::USER_NAME, subscriber.name.as_bytes()),
            (AttributeId::USER_PASSWORD, &hidden),
            (
                AttributeId::CALLING_STATION_ID,
                mac_text(subscriber.mac).as_bytes(),
            ),
            (AttributeId::NAS_PORT_ID, subscriber.port_id().as_bytes()),
        ] {
            attributes.push(id, value).unwrap();
        }
        sign_request(
            Code::ACCESS_REQUEST,
            identifier,
            authenticator,
            &attributes,
            &self.secret,
        )
        .unwrap()
    }

    /// The next answer since [`Nas::begin`], by number of the subscriber; `None` after a silence.
    pub fn next(&self) -> Option<(usize, Answer)> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    let reply = Packet::decode(&buffer[..len]).unwrap();
                    let authenticator = self.authenticator(reply.identifier);
                    // An answer to an earlier round is one that came late.
                    if check_response_authenticator(&reply, &authenticator, &self.secret) {
                        return Some((usize::from(reply.identifier), address(&reply)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // Nobody listens: the kernel says so for each packet.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What is there already.
    pub fn rest(&self) -> Vec<(usize, Answer)> {
        self.socket.set_nonblocking(true).unwrap();
        let rest = std::iter::from_fn(|| self.next()).collect();
        self.socket.set_nonblocking(false).unwrap();
        rest
    }

    /// Asks for all, and again for those without an answer, until each has one.
    pub fn answers(&mut self, subscribers: &[Subscriber]) -> BTreeMap<String, Answer> {
        let mut answers = BTreeMap::new();
        let began = Instant::now();
        loop {
            let open: Vec<Subscriber> = subscribers
                .iter()
                .filter(|one| !answers.contains_key(&one.name))
                .take(200)
                .cloned()
                .collect();
            if open.is_empty() {
                return answers;
            }
            assert!(began.elapsed() < LIMIT, "{} without an answer", open.len());
            self.begin();
            self.send(0, &open);
            for _ in 0..open.len() {
                let Some((number, answer)) = self.next() else {
                    break;
                };
                answers.insert(open[number].name.clone(), answer);
            }
        }
    }

    /// The same for subscribers who must all be accepted.
    pub fn accepted(&mut self, subscribers: &[Subscriber]) -> BTreeMap<String, Ipv4Addr> {
        let answers = self.answers(subscribers).into_iter();
        answers
            .map(|(name, answer)| {
                let address = answer.unwrap_or_else(|| panic!("{name} was rejected"));
                (name, address)
            })
            .collect()
    }

    fn authenticator(&self, identifier: u8) -> [u8; 16] {
        let mut authenticator = [identifier; 16];
        for (to, from) in authenticator.iter_mut().zip(self.round.to_be_bytes()) {
            *to = from;
        }
        authenticator
    }
}

fn address(reply: &Packet) -> Answer {
    if reply.code == Code::ACCESS_REJECT {
        return None;
    }
    assert_eq!(reply.code, Code::ACCESS_ACCEPT);
    let octets: [u8; 4] = reply
        .attributes
        .get(AttributeId::FRAMED_IP_ADDRESS)
        .unwrap()
        .try_into()
        .unwrap();
    Some(octets.into())
}
