//! Rounds, pauses, and the name that leads to this node too.

use super::*;

fn place(text: &str) -> Place {
    Place::parse(text).unwrap()
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

const ONE: &str = "/ip4/192.0.2.1/tcp/4001";
const TWO: &str = "/ip4/192.0.2.2/tcp/4001";

fn dials(todo: &[Do]) -> Vec<Multiaddr> {
    todo.iter()
        .map(|one| match one {
            Do::Dial { address, .. } => address.clone(),
            Do::Resolve { .. } => panic!("{one:?}"),
        })
        .collect()
}

#[test]
fn pauses_grow_to_fifteen_seconds_and_the_target_is_never_given_up() {
    let mut now = Instant::now();
    let none = BTreeSet::new();
    let target = Target::Bootstrap(0);
    let mut dialler = Dialler::new(now, vec![place(ONE)]);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let begun = now;
        while dialler.due(now, &none).is_empty() {
            now += Duration::from_millis(50);
        }
        pauses.push(now - begun);
        let todo = dialler.resolved(now, target, vec![(None, address(ONE))], true, &none, 1.0);
        assert_eq!(dials(&todo), [address(ONE)]);
        dialler.ended(now, target, &address(ONE), Outcome::Failed, &none, 1.0);
    }
    assert!(
        pauses.windows(2).all(|pair| pair[0] <= pair[1]),
        "{pauses:?}"
    );
    assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
}

#[test]
fn behind_a_name_this_node_and_connected_peers_are_left_out() {
    let mut now = Instant::now();
    let peer = PeerId::random();
    let mut connected = BTreeSet::new();
    let target = Target::Bootstrap(0);
    let mut dialler = Dialler::new(now, vec![place("/dns/nexus/tcp/4001")]);
    let found = || vec![(None, address(ONE)), (None, address(TWO))];
    assert_eq!(dialler.due(now, &connected).len(), 1);
    let todo = dialler.resolved(now, target, found(), true, &connected, 0.5);
    assert_eq!(dials(&todo).len(), 2);
    dialler.ended(now, target, &address(ONE), Outcome::Myself, &connected, 0.5);
    dialler.ended(
        now,
        target,
        &address(TWO),
        Outcome::Reached(peer),
        &connected,
        0.5,
    );
    connected.insert(peer);
    now += LONGEST_PAUSE;
    assert_eq!(
        dialler.due(now, &connected).len(),
        1,
        "the name is resolved anew"
    );
    assert!(
        dialler
            .resolved(now, target, found(), true, &connected, 0.5)
            .is_empty()
    );
    // The peer is lost: it is dialled again soon, this node is not.
    connected.clear();
    dialler.down(now, &peer, 0.5);
    now += FIRST_PAUSE;
    assert_eq!(dialler.due(now, &connected).len(), 1);
    let todo = dialler.resolved(now, target, found(), true, &connected, 0.5);
    assert_eq!(dials(&todo), [address(TWO)]);
    dialler.ended(now, target, &address(TWO), Outcome::Failed, &connected, 0.5);
    // After a minute somebody else may have this node's old address.
    now += SELF_REMEMBERED;
    dialler.due(now, &connected);
    let todo = dialler.resolved(now, target, found(), true, &connected, 0.5);
    assert_eq!(dials(&todo).len(), 2);
}

#[test]
fn a_members_addresses_are_tried_one_after_the_other_until_it_is_reached() {
    let now = Instant::now();
    let peer = PeerId::random();
    let none = BTreeSet::new();
    let target = Target::Member(peer);
    let mut dialler = Dialler::new(now, Vec::new());
    dialler.set_members(now, BTreeMap::from([(peer, vec![place(ONE), place(TWO)])]));
    assert_eq!(dialler.due(now, &none).len(), 1);
    assert!(dialler.due(now, &none).is_empty(), "not twice at a time");
    let found = vec![(None, address(ONE)), (None, address(TWO))];
    let todo = dialler.resolved(now, target, found, true, &none, 0.5);
    assert_eq!(dials(&todo), [address(ONE)]);
    let todo = dialler.ended(now, target, &address(ONE), Outcome::Failed, &none, 0.5);
    assert_eq!(dials(&todo), [address(TWO)]);
    let todo = dialler.ended(
        now,
        target,
        &address(TWO),
        Outcome::Reached(peer),
        &none,
        0.5,
    );
    assert!(todo.is_empty());
}

#[test]
fn a_connected_member_is_not_dialled_and_one_that_left_is_forgotten() {
    let now = Instant::now();
    let peer = PeerId::random();
    let mut dialler = Dialler::new(now, Vec::new());
    dialler.set_members(now, BTreeMap::from([(peer, vec![place(ONE)])]));
    assert!(dialler.due(now, &BTreeSet::from([peer])).is_empty());
    dialler.set_members(now, BTreeMap::new());
    assert!(
        dialler
            .due(now + LONGEST_PAUSE, &BTreeSet::new())
            .is_empty()
    );
    let found = vec![(None, address(ONE))];
    let late = dialler.resolved(
        now,
        Target::Member(peer),
        found,
        true,
        &BTreeSet::new(),
        0.5,
    );
    assert!(late.is_empty(), "a late answer of the resolver");
}

#[test]
fn a_member_with_a_new_address_is_dialled_at_once() {
    let now = Instant::now();
    let peer = PeerId::random();
    let none = BTreeSet::new();
    let target = Target::Member(peer);
    let mut dialler = Dialler::new(now, Vec::new());
    dialler.set_members(now, BTreeMap::from([(peer, vec![place(ONE)])]));
    dialler.due(now, &none);
    dialler.resolved(now, target, vec![(None, address(ONE))], true, &none, 0.5);
    dialler.ended(now, target, &address(ONE), Outcome::Failed, &none, 0.5);
    assert!(dialler.due(now, &none).is_empty());
    dialler.set_members(now, BTreeMap::from([(peer, vec![place(TWO)])]));
    assert_eq!(dialler.due(now, &none).len(), 1);
}

#[test]
fn what_is_learned_of_addresses_is_bounded() {
    let now = Instant::now();
    let mut dialler = Dialler::new(now, Vec::new());
    for port in 1..=1000u16 {
        let address = address(&format!("/ip4/192.0.2.1/tcp/{port}"));
        dialler.learn(now, &address, None);
    }
    assert_eq!(dialler.learned.len(), MOST_LEARNED);
}
