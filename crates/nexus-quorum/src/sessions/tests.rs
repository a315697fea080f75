//! At most once, against a plain set of everything ever admitted.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(origin: u32, boot: u64, seq: u64, floor: u64) -> ProposalId {
    ProposalId {
        origin,
        boot,
        seq,
        floor,
    }
}

#[test]
fn a_proposal_is_admitted_once() {
    let mut sessions = Sessions::default();
    assert!(sessions.admit(id(1, 1, 0, 0)));
    assert!(!sessions.admit(id(1, 1, 0, 0)));
    assert!(
        sessions.admit(id(2, 1, 0, 0)),
        "another node's is another one"
    );
    assert!(
        sessions.admit(id(1, 2, 0, 0)),
        "another start's is another one"
    );
    assert!(
        !sessions.admit(id(1, 1, 1, 0)),
        "what a former start left behind is over"
    );
    assert_eq!(sessions.boot(1), Some(2));
}

#[test]
fn what_its_proposer_gave_up_on_is_over() {
    let mut sessions = Sessions::default();
    assert!(sessions.admit(id(1, 1, 7, 5)));
    assert!(!sessions.admit(id(1, 1, 4, 0)));
    assert!(
        sessions.admit(id(1, 1, 5, 0)),
        "the old floor in it changes nothing"
    );
    assert!(
        !sessions.admit(id(1, 1, u64::MAX, 5)),
        "nor does a number out of reach"
    );
}

#[test]
fn who_is_no_member_is_forgotten() {
    let mut sessions = Sessions::default();
    assert!(sessions.admit(id(1, 1, 0, 0)));
    assert!(sessions.admit(id(2, 1, 0, 0)));
    sessions.retain(|origin| origin == 2);
    assert_eq!((sessions.boot(1), sessions.boot(2)), (None, Some(1)));
}

proptest! {
    /// Proposers number upwards, give up, send again, restart; the network repeats and reorders.
    #[test]
    fn nothing_is_admitted_twice_and_the_newest_always_is(
        steps in prop::collection::vec((0..3_u32, 0..10_u8, 0..40_usize), 1..400),
    ) {
        let mut sessions = Sessions::default();
        let mut proposers: BTreeMap<u32, (u64, u64, BTreeSet<u64>)> = BTreeMap::new();
        let mut sent: Vec<ProposalId> = Vec::new();
        let mut admitted = BTreeSet::new();
        for (origin, what, pick) in steps {
            let (boot, next, open) = proposers.entry(origin).or_insert((1, 0, BTreeSet::new()));
            match what {
                0 => {
                    *boot += 1;
                    *next = 0;
                    open.clear();
                }
                1 | 2 => {
                    open.pop_first();
                }
                3..=6 => {
                    let seq = *next;
                    *next += 1;
                    open.insert(seq);
                    let floor = *open.first().unwrap();
                    let new = id(origin, *boot, seq, floor);
                    sent.push(new);
                    if pick % 2 == 0 {
                        prop_assert!(sessions.admit(new), "the newest of the newest start is always admitted: {new:?}");
                        prop_assert!(admitted.insert((origin, new.boot, seq)));
                    }
                }
                _ => {
                    if let Some(again) = sent.get(sent.len().saturating_sub(pick + 1)).copied()
                        && sessions.admit(again)
                    {
                        prop_assert!(admitted.insert((again.origin, again.boot, again.seq)), "twice: {again:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn two_copies_that_hear_the_same_agree(
        steps in prop::collection::vec((0..3_u32, 0..4_u64, 0..60_u64, 0..60_u64), 0..300),
    ) {
        let mut one = Sessions::default();
        let mut other = Sessions::default();
        for (origin, boot, seq, floor) in steps {
            let id = id(origin, boot, seq, floor);
            prop_assert_eq!(one.admit(id), other.admit(id));
            // One of them goes through a snapshot each time.
            other = crate::codec::unpack(&crate::codec::pack(&other).unwrap()).unwrap();
            prop_assert_eq!(&one, &other);
        }
    }
}
