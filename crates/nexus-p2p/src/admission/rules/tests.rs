//! Who gets in, by transport and standing.

use super::*;

fn peer() -> PeerId {
    PeerId::random()
}

fn reason(result: Result<(), Denied>) -> Option<Reason> {
    match result {
        Ok(()) => None,
        Err(Denied::Refused(reason, _)) => Some(reason),
        Err(Denied::Duplicate(_)) => panic!("not asked for"),
    }
}

#[test]
fn quic_is_for_known_peers_and_tcp_for_all_with_the_key() {
    let now = Instant::now();
    let (stranger, member, named, proven) = (peer(), peer(), peer(), peer());
    let mut rules = Rules::new(Vec::new(), vec![named]);
    rules.set_members([member].into(), BTreeSet::new());
    rules.prove(proven);
    for one in [&member, &named, &proven] {
        assert_eq!(reason(rules.inbound(now, one, true)), None);
    }
    for one in [&stranger, &member] {
        assert_eq!(reason(rules.inbound(now, one, false)), None);
    }
    assert_eq!(
        reason(rules.inbound(now, &stranger, true)),
        Some(Reason::UnknownOverQuic)
    );
    assert_eq!(
        reason(rules.outbound(now, &stranger, true)),
        Some(Reason::UnknownOverQuic)
    );
    rules.set_members([member, stranger].into(), BTreeSet::new());
    assert_eq!(reason(rules.inbound(now, &stranger, true)), None);
}

#[test]
fn a_removed_peer_is_out_on_both_even_if_it_was_proven_and_allowed() {
    let now = Instant::now();
    let gone = peer();
    let mut rules = Rules::new(vec![gone], vec![gone]);
    rules.prove(gone);
    rules.set_members(BTreeSet::new(), [gone].into());
    for quic in [false, true] {
        assert_eq!(
            reason(rules.inbound(now, &gone, quic)),
            Some(Reason::Removed)
        );
        assert_eq!(
            reason(rules.outbound(now, &gone, quic)),
            Some(Reason::Removed)
        );
    }
}

#[test]
fn a_list_of_allowed_peers_binds_both_transports_and_members_too() {
    let now = Instant::now();
    let (allowed, member) = (peer(), peer());
    let mut rules = Rules::new(vec![allowed], Vec::new());
    rules.set_members([member].into(), BTreeSet::new());
    for quic in [false, true] {
        assert_eq!(reason(rules.inbound(now, &allowed, quic)), None);
        assert_eq!(
            reason(rules.inbound(now, &member, quic)),
            Some(Reason::NotAllowed)
        );
    }
}

#[test]
fn a_banned_peer_is_out_until_its_time_is_over() {
    let now = Instant::now();
    let bad = peer();
    let mut rules = Rules::default();
    let time = rules.ban(now, bad);
    assert_eq!(
        reason(rules.inbound(now, &bad, false)),
        Some(Reason::Banned)
    );
    assert_eq!(reason(rules.inbound(now + time, &bad, false)), None);
}

#[test]
fn connections_are_bounded_per_peer_and_in_all_but_members_find_room() {
    let now = Instant::now();
    let mut rules = Rules::default();
    let (one, member) = (peer(), peer());
    for id in 0..MOST_CONNECTIONS_PER_PEER {
        assert_eq!(reason(rules.inbound(now, &one, false)), None);
        rules.established(one, ConnectionId::new_unchecked(id));
    }
    assert_eq!(reason(rules.inbound(now, &one, false)), Some(Reason::Limit));
    rules.closed(&one, ConnectionId::new_unchecked(0));
    assert_eq!(reason(rules.inbound(now, &one, false)), None);
    for id in 100..100 + MOST_CONNECTIONS {
        rules.established(peer(), ConnectionId::new_unchecked(id));
    }
    assert_eq!(
        reason(rules.inbound(now, &peer(), false)),
        Some(Reason::Limit)
    );
    rules.set_members([member].into(), BTreeSet::new());
    assert_eq!(reason(rules.inbound(now, &member, false)), None);
}

#[test]
fn this_node_opens_no_second_connection_to_a_peer_that_is_up_but_takes_one() {
    let now = Instant::now();
    let one = peer();
    let mut rules = Rules::default();
    rules.set_up(one, true);
    assert_eq!(
        rules.outbound(now, &one, false),
        Err(Denied::Duplicate(one))
    );
    assert_eq!(rules.inbound(now, &one, false), Ok(()));
    rules.set_up(one, false);
    assert_eq!(rules.outbound(now, &one, false), Ok(()));
}

#[test]
fn the_memory_of_proven_peers_is_bounded() {
    let mut rules = Rules::default();
    let first = peer();
    rules.prove(first);
    for _ in 0..MOST_REMEMBERED {
        rules.prove(peer());
    }
    assert_eq!(rules.proven.len(), MOST_REMEMBERED);
    assert!(!rules.proven.contains(&first));
}
