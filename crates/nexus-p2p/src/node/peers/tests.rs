//! Two tables and the streams between them, in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::options::Hello;

const ADDRESS: &str = "/ip4/192.0.2.1/tcp/4001";

fn own(number: u32, boot: u64) -> WireHello {
    let hello = Hello {
        number,
        name: format!("node-{number}"),
        role: "core".to_owned(),
        versions: 1..=2,
        extra: Vec::new(),
    };
    WireHello::new(&hello, "cluster", boot, &[])
}

/// Two peer ids, the smaller first: it elects.
fn two_ids() -> (PeerId, PeerId) {
    let (one, two) = (PeerId::random(), PeerId::random());
    (one.min(two), one.max(two))
}

fn id(of: usize) -> ConnectionId {
    ConnectionId::new_unchecked(of)
}

/// What is under way to one side.
#[derive(Debug, Clone, PartialEq)]
enum Message {
    Established { dialled: bool },
    Hello(Vec<u8>),
    Verdict(Verdict),
    Sent,
    Closed,
}

#[derive(Debug)]
struct Side {
    peers: Peers,
    established: BTreeSet<usize>,
    closed: BTreeSet<usize>,
    installed: BTreeSet<usize>,
    open: BTreeSet<usize>,
    ups: usize,
    downs: usize,
    refusals: Vec<Reason>,
}

impl Side {
    fn new(peer: PeerId, hello: WireHello) -> Self {
        Self {
            peers: Peers::new(peer, hello),
            established: BTreeSet::new(),
            closed: BTreeSet::new(),
            installed: BTreeSet::new(),
            open: BTreeSet::new(),
            ups: 0,
            downs: 0,
            refusals: Vec::new(),
        }
    }
}

/// Two nodes and what is under way between them: (to, connection, message).
#[derive(Debug)]
struct World {
    now: Instant,
    sides: [Side; 2],
    under_way: Vec<(usize, usize, Message)>,
}

impl World {
    fn new(hellos: [WireHello; 2]) -> Self {
        let (one, two) = two_ids();
        let [first, second] = hellos;
        Self {
            now: Instant::now(),
            sides: [Side::new(one, first), Side::new(two, second)],
            under_way: Vec::new(),
        }
    }

    fn dial(&mut self, by: usize, connection: usize) {
        for to in 0..2 {
            self.under_way
                .push((to, connection, Message::Established { dialled: to == by }));
        }
    }

    fn deliver(&mut self, at: usize) {
        let (to, connection, message) = self.under_way.remove(at);
        let other = self.sides[1 - to].peers.own_peer;
        let side = &mut self.sides[to];
        if side.closed.contains(&connection) {
            return;
        }
        let is_first = matches!(message, Message::Established { .. });
        if is_first {
            side.established.insert(connection);
        } else if !side.established.contains(&connection) {
            if message == Message::Closed {
                // It never saw the connection.
                side.closed.insert(connection);
            } else {
                // A stream cannot be faster than its connection: later.
                self.under_way.push((to, connection, message));
            }
            return;
        }
        let (now, connection_id) = (self.now, id(connection));
        let todo = match message {
            Message::Established { dialled } => {
                let address = ADDRESS.parse().unwrap();
                side.peers
                    .established(now, other, connection_id, address, dialled)
            }
            Message::Hello(bytes) => side.peers.heard_hello(now, connection_id, &bytes),
            Message::Verdict(verdict) => {
                side.peers
                    .heard_verdict(now, connection_id, &verdict.encode())
            }
            Message::Sent => {
                side.peers.verdict_sent(now, connection_id);
                Vec::new()
            }
            Message::Closed => {
                side.closed.insert(connection);
                side.open.remove(&connection);
                side.peers.closed(now, connection_id, "closed")
            }
        };
        self.carry_out(to, todo);
    }

    fn carry_out(&mut self, by: usize, todo: Vec<Do>) {
        for one in todo {
            let other = 1 - by;
            match one {
                Do::Greet(_, at) => {
                    let bytes = self.sides[by].peers.own().encode();
                    self.under_way
                        .push((other, number(at), Message::Hello(bytes)));
                }
                Do::Answer(_, at, verdict) => {
                    self.under_way
                        .push((other, number(at), Message::Verdict(verdict)));
                    self.under_way.push((by, number(at), Message::Sent));
                }
                Do::Install(_, at) => {
                    let side = &mut self.sides[by];
                    let live: Vec<_> = side.installed.difference(&side.closed).collect();
                    assert!(live.is_empty(), "a second connection at the gate");
                    side.installed.insert(number(at));
                }
                Do::Open(_, at) => {
                    let at = number(at);
                    assert!(self.sides[by].installed.contains(&at));
                    // Whatever is sent from now on finds the other gate installed, or the
                    // connection gone.
                    let there = &self.sides[other];
                    assert!(
                        there.installed.contains(&at)
                            || there.closed.contains(&at)
                            || there
                                .peers
                                .connection(id(at))
                                .is_none_or(|one| one.is_closing),
                        "open towards a gate that is shut"
                    );
                    self.sides[by].open.insert(at);
                }
                Do::Close(_, at) => {
                    for to in 0..2 {
                        self.under_way.push((to, number(at), Message::Closed));
                    }
                }
                Do::Up(_, at) => {
                    assert!(self.sides[by].open.contains(&number(at)));
                    self.sides[by].ups += 1;
                }
                Do::Down { .. } => self.sides[by].downs += 1,
                Do::Refused { reason, .. } => self.sides[by].refusals.push(reason),
                Do::Strike(_, what) => panic!("{what}"),
                Do::Changed(..) | Do::Duplicate => {}
            }
        }
    }

    /// Delivers everything, in the order that `choose` says.
    fn settle(&mut self, mut choose: impl FnMut(usize) -> usize) {
        for _ in 0..10_000 {
            if self.under_way.is_empty() {
                return;
            }
            let at = choose(self.under_way.len());
            self.deliver(at);
        }
        panic!("no end: {self:?}");
    }

    fn up(&self, side: usize) -> Vec<usize> {
        let open = &self.sides[side].open;
        open.iter()
            .copied()
            .filter(|at| {
                let connection = self.sides[side].peers.connection(id(*at));
                connection.is_some_and(|one| one.up_since.is_some())
            })
            .collect()
    }
}

fn number(of: ConnectionId) -> usize {
    of.to_string().parse().unwrap()
}

#[test]
fn one_connection_brings_both_up_and_its_end_brings_both_down() {
    let mut world = World::new([own(1, 10), own(2, 20)]);
    world.dial(1, 7);
    world.settle(|_| 0);
    assert_eq!((world.up(0), world.up(1)), (vec![7], vec![7]));
    assert_eq!(
        world.sides[0]
            .peers
            .number_of(&world.sides[1].peers.own_peer),
        Some(2)
    );
    for to in 0..2 {
        world.under_way.push((to, 7, Message::Closed));
    }
    world.settle(|_| 0);
    for side in &world.sides {
        assert_eq!((side.ups, side.downs), (1, 1));
    }
}

#[test]
fn a_restarted_peer_replaces_its_old_connection_at_once() {
    for elector_restarts in [true, false] {
        let restarted = usize::from(!elector_restarts);
        let mut world = World::new([own(1, 10), own(2, 20)]);
        world.dial(0, 1);
        world.settle(|_| 0);
        // Power loss: the other side has heard nothing of it.
        let (own_peer, number) = (world.sides[restarted].peers.own_peer, restarted as u32 + 1);
        world.sides[restarted] = Side::new(own_peer, own(number, 99));
        world.dial(restarted, 2);
        world.settle(|_| 0);
        assert_eq!((world.up(0), world.up(1)), (vec![2], vec![2]));
        let other = &world.sides[1 - restarted];
        assert_eq!((other.ups, other.downs), (2, 1));
    }
}

#[test]
fn without_a_common_version_both_end_the_connection() {
    let mut newer = own(2, 20);
    newer.versions = (3, 4);
    let mut world = World::new([own(1, 10), newer]);
    world.dial(0, 1);
    world.settle(|_| 0);
    // Each has refused and waits for the other to read it.
    world.now += REFUSAL_PATIENCE;
    for by in 0..2 {
        let now = world.now;
        let todo = world.sides[by].peers.tick(now);
        world.carry_out(by, todo);
    }
    world.settle(|_| 0);
    for side in &world.sides {
        assert_eq!(side.ups, 0);
        assert!(side.closed.contains(&1));
        assert!(!side.refusals.is_empty());
    }
}

#[test]
fn a_connection_without_hellos_ends_at_its_deadline_and_is_counted_once() {
    let (one, two) = two_ids();
    let mut peers = Peers::new(one, own(1, 10));
    let now = Instant::now();
    peers.established(now, two, id(1), ADDRESS.parse().unwrap(), false);
    assert!(peers.tick(now + HELLO_PATIENCE / 2).is_empty());
    let todo = peers.tick(now + HELLO_PATIENCE);
    assert!(matches!(
        todo[..],
        [
            Do::Refused {
                reason: Reason::Silent,
                ..
            },
            Do::Close(..)
        ]
    ));
    assert_eq!(
        peers.tick(now + 2 * HELLO_PATIENCE),
        [Do::Close(two, id(1))]
    );
    assert!(peers.closed(now, id(1), "").is_empty());
}

#[test]
fn who_accepts_before_it_was_accepted_or_changes_its_number_is_garbage() {
    let (one, two) = two_ids();
    let now = Instant::now();
    let accepted = Verdict::accepted().encode();
    let mut peers = Peers::new(one, own(1, 10));
    peers.established(now, two, id(1), ADDRESS.parse().unwrap(), false);
    let todo = peers.heard_verdict(now, id(1), &accepted);
    assert!(todo.contains(&Do::Strike(
        two,
        "it accepts before it was accepted".to_owned()
    )));

    let mut peers = Peers::new(one, own(1, 10));
    peers.established(now, two, id(1), ADDRESS.parse().unwrap(), false);
    peers.heard_hello(now, id(1), &own(2, 20).encode());
    let todo = peers.heard_verdict(now, id(1), &accepted);
    assert!(todo.contains(&Do::Up(two, id(1))));
    let todo = peers.heard_hello(now, id(1), &own(3, 20).encode());
    assert!(
        todo.iter().any(|one| matches!(one, Do::Strike(..))),
        "{todo:?}"
    );
}

proptest! {
    /// Both dial, several times, while everything arrives in any order: in the end both use the same
    /// connection, and no other is left.
    #[test]
    fn two_nodes_agree_on_one_connection_in_any_order(
        dials in proptest::collection::vec((0usize..2, 0u8..20), 1..5),
        order in proptest::collection::vec(any::<u16>(), 400),
        jump in any::<bool>(),
    ) {
        let mut world = World::new([own(1, 10), own(2, 20)]);
        let mut order = order.into_iter().cycle();
        for (connection, (by, deliveries)) in dials.iter().enumerate() {
            world.dial(*by, connection);
            if jump {
                world.now += SETTLED_AFTER;
            }
            for _ in 0..*deliveries {
                if !world.under_way.is_empty() {
                    let at = usize::from(order.next().unwrap()) % world.under_way.len();
                    world.deliver(at);
                }
            }
        }
        world.settle(|length| usize::from(order.next().unwrap()) % length);
        prop_assert_eq!(world.up(0).len(), 1, "{:?}", world);
        prop_assert_eq!(world.up(0), world.up(1));
        for side in &world.sides {
            prop_assert_eq!(side.peers.connections.len(), 1);
            prop_assert_eq!(side.ups, side.downs + 1);
            prop_assert!(side.refusals.is_empty());
        }
    }
}
