//! Connections, their Hellos, and which connection of each peer is used.
//!
//! Pure: what happens comes in with its time, what is to be done comes out, in order.
//!
//! Of each pair of nodes the one with the smaller peer id elects: it picks the connection, lets its
//! gates take streams there, and accepts the other's Hello. The other, having judged the elector's Hello,
//! opens its gates and accepts too; on this the elector opens its own. So nobody speaks before both
//! have accepted, whoever speaks is heard, and two nodes that dial each other at the same time keep
//! the same one of two connections.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::Reason;
use crate::limits::HELLO_PATIENCE;
use crate::wire::{Verdict, WireHello, common_version};

/// A peer that opens a second connection after this time has lost the first.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How long the other side may take to read a refusal.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// What the node is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Do {
    /// Send our Hello.
    Greet(PeerId, ConnectionId),
    Answer(PeerId, ConnectionId, Verdict),
    /// The gates take streams, and do not read them.
    Install(PeerId, ConnectionId),
    /// The gates read and write.
    Open(PeerId, ConnectionId),
    Close(PeerId, ConnectionId),
    Up(PeerId, ConnectionId),
    Changed(PeerId, ConnectionId),
    Down {
        peer: PeerId,
        number: u32,
        why: String,
    },
    Refused {
        peer: PeerId,
        address: Multiaddr,
        reason: Reason,
        why: String,
    },
    /// Garbage: ban it.
    Strike(PeerId, String),
    /// One of two connections is closed.
    Duplicate,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) dialled: bool,
    deadline: Instant,
    /// Their Hello, judged and found good, and the version that both use.
    pub(crate) theirs: Option<(WireHello, u16)>,
    /// They have accepted ours.
    is_accepted: bool,
    pub(crate) up_since: Option<Instant>,
    is_closing: bool,
    /// It takes the place of the elected connection when that has ended.
    is_next: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Peers {
    own_peer: PeerId,
    own: WireHello,
    connections: BTreeMap<ConnectionId, Connection>,
    elected: BTreeMap<PeerId, ConnectionId>,
    /// Numbers of members, as the owner knows them.
    numbers: BTreeMap<u32, PeerId>,
}

impl Peers {
    pub(crate) fn new(own_peer: PeerId, own: WireHello) -> Self {
        Self {
            own_peer,
            own,
            connections: BTreeMap::new(),
            elected: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    pub(crate) fn own(&self) -> &WireHello {
        &self.own
    }

    /// The connection of a peer that is up.
    pub(crate) fn up(&self, peer: &PeerId) -> Option<&Connection> {
        let connection = self.connections.get(self.elected.get(peer)?)?;
        connection.up_since.map(|_| connection)
    }

    /// All peers that are up, with their numbers.
    pub(crate) fn all_up(&self) -> impl Iterator<Item = (PeerId, u32)> + '_ {
        self.elected.values().filter_map(|id| {
            let connection = self.connections.get(id)?;
            connection.up_since?;
            let (hello, _) = connection.theirs.as_ref()?;
            Some((connection.peer, hello.number))
        })
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.connections.values().map(|connection| connection.peer)
    }

    pub(crate) fn set_numbers(&mut self, numbers: BTreeMap<u32, PeerId>) {
        self.numbers = numbers;
    }

    /// The number of a peer that is up or a member.
    pub(crate) fn number_of(&self, peer: &PeerId) -> Option<u32> {
        let up = self
            .up(peer)
            .and_then(|connection| connection.theirs.as_ref());
        up.map(|(hello, _)| hello.number).or_else(|| {
            let member = self.numbers.iter().find(|(_, member)| *member == peer);
            member.map(|(number, _)| *number)
        })
    }

    /// The peer of this number, if it is up or a member.
    pub(crate) fn peer_of(&self, number: u32) -> Option<PeerId> {
        let up = self.all_up().find(|(_, other)| *other == number);
        up.map(|(peer, _)| peer)
            .or_else(|| self.numbers.get(&number).copied())
    }

    /// Our Hello is another from now on.
    pub(crate) fn set_own(&mut self, own: WireHello) -> Vec<Do> {
        if self.own == own {
            return Vec::new();
        }
        self.own = own;
        self.connections
            .iter()
            .filter(|(_, connection)| !connection.is_closing)
            .map(|(id, connection)| Do::Greet(connection.peer, *id))
            .collect()
    }

    pub(crate) fn established(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: ConnectionId,
        address: Multiaddr,
        dialled: bool,
    ) -> Vec<Do> {
        let connection = Connection {
            peer,
            address,
            dialled,
            deadline: now + HELLO_PATIENCE,
            theirs: None,
            is_accepted: false,
            up_since: None,
            is_closing: false,
            is_next: false,
        };
        self.connections.insert(id, connection);
        vec![Do::Greet(peer, id)]
    }

    /// Their Hello came.
    pub(crate) fn heard_hello(&mut self, now: Instant, id: ConnectionId, bytes: &[u8]) -> Vec<Do> {
        let Some(connection) = self.connections.get(&id).filter(|one| !one.is_closing) else {
            return Vec::new();
        };
        let peer = connection.peer;
        let judged = WireHello::decode(bytes)
            .map_err(|what| (Reason::Garbage, format!("its Hello cannot be read: {what}")))
            .and_then(|hello| Ok((self.judge(&peer, &hello)?, hello)));
        let (version, hello) = match judged {
            Ok(judged) => judged,
            Err((Reason::Garbage, why)) => return self.garbage(id, &why),
            Err((reason, why)) => return self.refuse(id, reason, why),
        };
        let is_first = connection.theirs.is_none();
        let renumbered = connection
            .theirs
            .as_ref()
            .is_some_and(|(old, _)| (old.number, old.boot) != (hello.number, hello.boot));
        if renumbered {
            return self.garbage(id, "it changed its number without a restart");
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        connection.theirs = Some((hello, version));
        if connection.up_since.is_some() {
            vec![
                Do::Answer(peer, id, Verdict::accepted()),
                Do::Changed(peer, id),
            ]
        } else if !is_first {
            // They changed it before we were through. Who has its verdict already gets another one.
            if self.elected.get(&peer) == Some(&id) {
                vec![Do::Answer(peer, id, Verdict::accepted())]
            } else {
                Vec::new()
            }
        } else if self.is_elector(&peer) {
            self.elect(now, id)
        } else {
            self.follow(now, id)
        }
    }

    /// Their verdict on our Hello came.
    pub(crate) fn heard_verdict(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: &[u8],
    ) -> Vec<Do> {
        let Some(connection) = self.connections.get_mut(&id).filter(|one| !one.is_closing) else {
            return Vec::new();
        };
        let peer = connection.peer;
        let verdict = match Verdict::decode(bytes) {
            Ok(verdict) => verdict,
            Err(what) => return self.garbage(id, &format!("its verdict cannot be read: {what}")),
        };
        if !verdict.accepted {
            connection.is_closing = true;
            let refused = Do::Refused {
                peer,
                address: connection.address.clone(),
                reason: Reason::TheyRefuse,
                why: format!("it refuses this node: {}", verdict.why),
            };
            return vec![refused, Do::Close(peer, id)];
        }
        if connection.up_since.is_some() {
            return Vec::new();
        }
        connection.is_accepted = true;
        if !self.is_elector(&peer) {
            return self.follow(now, id);
        }
        if self.elected.get(&peer) != Some(&id) {
            return self.garbage(id, "it accepts before it was accepted");
        }
        self.rise(now, id, vec![Do::Open(peer, id)])
    }

    /// A frame that is too long, or an exchange that failed.
    pub(crate) fn garbage(&mut self, id: ConnectionId, why: &str) -> Vec<Do> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        let peer = connection.peer;
        let mut todo = vec![
            Do::Refused {
                peer,
                address: connection.address.clone(),
                reason: Reason::Garbage,
                why: why.to_owned(),
            },
            Do::Strike(peer, why.to_owned()),
        ];
        if !std::mem::replace(&mut connection.is_closing, true) {
            todo.push(Do::Close(peer, id));
        }
        todo
    }

    /// Our Hello found no verdict.
    pub(crate) fn failed(&mut self, id: ConnectionId, what: &str) -> Vec<Do> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        if std::mem::replace(&mut connection.is_closing, true) {
            return Vec::new();
        }
        let peer = connection.peer;
        let mut todo = Vec::new();
        if connection.up_since.is_none() {
            todo.push(Do::Refused {
                peer,
                address: connection.address.clone(),
                reason: Reason::Silent,
                why: format!("it does not take this node's Hello: {what}"),
            });
        }
        // A change that was not delivered is delivered on the next connection.
        todo.push(Do::Close(peer, id));
        todo
    }

    /// Our verdict has left. If it was a refusal, the other side ends the connection when it has read
    /// it; if this side did, the refusal could be lost on the way.
    pub(crate) fn verdict_sent(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.is_closing
        {
            connection.deadline = now + REFUSAL_PATIENCE;
        }
    }

    pub(crate) fn closed(&mut self, now: Instant, id: ConnectionId, why: &str) -> Vec<Do> {
        let Some(connection) = self.connections.remove(&id) else {
            return Vec::new();
        };
        let peer = connection.peer;
        if self.elected.get(&peer) != Some(&id) {
            return Vec::new();
        }
        self.elected.remove(&peer);
        let mut todo = Vec::new();
        if let (Some(_), Some((hello, _))) = (connection.up_since, connection.theirs) {
            let why = why.to_owned();
            todo.push(Do::Down {
                peer,
                number: hello.number,
                why,
            });
        }
        let next = self
            .connections
            .iter()
            .find(|(_, other)| other.peer == peer && other.is_next && !other.is_closing)
            .map(|(next, _)| *next);
        if let Some(next) = next {
            todo.extend(if self.is_elector(&peer) {
                self.elect(now, next)
            } else {
                self.follow(now, next)
            });
        }
        todo
    }

    /// Ends connections on which the Hellos take too long.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Do> {
        let mut todo = VecDeque::new();
        for (id, connection) in &mut self.connections {
            let is_well = connection.up_since.is_some() && !connection.is_closing;
            if is_well || now < connection.deadline {
                continue;
            }
            if !std::mem::replace(&mut connection.is_closing, true) {
                todo.push_back(Do::Refused {
                    peer: connection.peer,
                    address: connection.address.clone(),
                    reason: Reason::Silent,
                    why: "the Hellos were not through in time".to_owned(),
                });
            }
            todo.push_back(Do::Close(connection.peer, *id));
            connection.deadline = now + HELLO_PATIENCE;
        }
        todo.into()
    }

    fn is_elector(&self, peer: &PeerId) -> bool {
        self.own_peer < *peer
    }

    fn judge(&self, peer: &PeerId, hello: &WireHello) -> Result<u16, (Reason, String)> {
        if hello.cluster != self.own.cluster {
            let why = "it belongs to another cluster".to_owned();
            return Err((Reason::Cluster, why));
        }
        let (ours, theirs) = (self.own.versions(), hello.versions());
        let version = common_version(&ours, &theirs).ok_or_else(|| {
            let why = format!(
                "no common protocol version: {} speaks {} to {}, {} speaks {} to {}; upgrade the \
                 older one by way of a version that both know",
                self.own.name,
                ours.start(),
                ours.end(),
                hello.name,
                theirs.start(),
                theirs.end(),
            );
            (Reason::Version, why)
        })?;
        if hello.number == self.own.number {
            let why = format!(
                "{} and {} both have number {}; one of them runs on a copy of the other's store: \
                 stop it, empty its store and let it join anew",
                self.own.name, hello.name, hello.number
            );
            return Err((Reason::OwnNumber, why));
        }
        let holder = self
            .elected
            .iter()
            .filter(|(other, _)| *other != peer)
            .find(|(_, id)| {
                let theirs = self.connections.get(id).and_then(|one| one.theirs.as_ref());
                theirs.is_some_and(|(other, _)| other.number == hello.number)
            })
            .map(|(other, _)| *other)
            .or_else(|| {
                let member = self.numbers.get(&hello.number);
                member.copied().filter(|member| member != peer)
            });
        if let Some(holder) = holder {
            let why = format!(
                "{} ({peer}) has number {}, which belongs to {holder}; if its key was lost, remove \
                 the old node, empty the store of the new one and let it join anew",
                hello.name, hello.number
            );
            return Err((Reason::NumberTaken, why));
        }
        Ok(version)
    }

    fn refuse(&mut self, id: ConnectionId, reason: Reason, why: String) -> Vec<Do> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        connection.is_closing = true;
        let peer = connection.peer;
        let answer = Do::Answer(peer, id, Verdict::refused(&why));
        let address = connection.address.clone();
        vec![
            answer,
            Do::Refused {
                peer,
                address,
                reason,
                why,
            },
        ]
    }

    /// The elector has a good Hello on this connection.
    fn elect(&mut self, now: Instant, id: ConnectionId) -> Vec<Do> {
        let Some(connection) = self.connections.get(&id) else {
            return Vec::new();
        };
        let peer = connection.peer;
        let Some(holder) = self.elected.get(&peer).copied() else {
            self.elected.insert(peer, id);
            return vec![
                Do::Install(peer, id),
                Do::Answer(peer, id, Verdict::accepted()),
            ];
        };
        let boot = |one: &Connection| one.theirs.as_ref().map(|(hello, _)| hello.boot);
        let is_lost = self.connections.get(&holder).is_none_or(|old| {
            let is_settled = old
                .up_since
                .is_some_and(|since| now >= since + SETTLED_AFTER);
            old.is_closing || is_settled || boot(old) != boot(connection)
        });
        if is_lost {
            self.replace(holder, id)
        } else {
            self.close_second(id)
        }
    }

    /// The other side elects; it has accepted us, or we have its Hello, or both.
    fn follow(&mut self, now: Instant, id: ConnectionId) -> Vec<Do> {
        let Some(connection) = self.connections.get(&id) else {
            return Vec::new();
        };
        let peer = connection.peer;
        let Some((hello, _)) = connection
            .theirs
            .as_ref()
            .filter(|_| connection.is_accepted)
        else {
            return Vec::new();
        };
        // Meanwhile another peer may have come up with the same number.
        if let Err((reason, why)) = self.judge(&peer, hello) {
            return self.refuse(id, reason, why);
        }
        if let Some(holder) = self.elected.get(&peer).copied() {
            return self.replace(holder, id);
        }
        self.elected.insert(peer, id);
        let first = vec![
            Do::Install(peer, id),
            Do::Open(peer, id),
            Do::Answer(peer, id, Verdict::accepted()),
        ];
        self.rise(now, id, first)
    }

    fn rise(&mut self, now: Instant, id: ConnectionId, mut todo: Vec<Do>) -> Vec<Do> {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.up_since = Some(now);
            todo.push(Do::Up(connection.peer, id));
        }
        todo
    }

    /// `id` takes the place of `holder` as soon as that has ended; whoever waited for it is too late.
    fn replace(&mut self, holder: ConnectionId, id: ConnectionId) -> Vec<Do> {
        let mut late = vec![holder];
        let peer = self.connections.get(&id).map(|connection| connection.peer);
        for (other, connection) in &mut self.connections {
            if *other == id {
                connection.is_next = true;
            } else if connection.is_next && Some(connection.peer) == peer {
                late.push(*other);
            }
        }
        late.into_iter()
            .flat_map(|id| self.close_second(id))
            .collect()
    }

    fn close_second(&mut self, id: ConnectionId) -> Vec<Do> {
        match self.connections.get_mut(&id) {
            Some(second) if !second.is_closing => {
                second.is_closing = true;
                vec![Do::Duplicate, Do::Close(second.peer, id)]
            }
            _ => Vec::new(),
        }
    }
}
