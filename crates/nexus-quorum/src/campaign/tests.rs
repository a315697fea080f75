//! Who may stand, and who votes for whom.

use std::collections::BTreeSet;

use super::{is_majority, would_vote};
use crate::rows::LogIdRow;

fn at(term: u64, index: u64) -> Option<LogIdRow> {
    Some(LogIdRow {
        term,
        node: 1,
        index,
    })
}

#[test]
fn nobody_is_voted_for_while_a_leader_is_heard() {
    assert!(!would_vote(true, at(1, 5), at(9, 9)));
    assert!(would_vote(false, at(1, 5), at(9, 9)));
}

#[test]
fn nobody_is_voted_for_who_lacks_something() {
    assert!(would_vote(false, at(2, 5), at(2, 5)));
    assert!(would_vote(false, None, None));
    assert!(!would_vote(false, at(2, 5), at(2, 4)));
    assert!(
        !would_vote(false, at(2, 5), at(1, 900)),
        "a longer log of an older term lacks something"
    );
    assert!(!would_vote(false, at(1, 0), None));
}

#[test]
fn a_majority_is_one_of_each_set() {
    let set = |numbers: &[u32]| numbers.iter().copied().collect::<BTreeSet<u32>>();
    assert!(is_majority(&[set(&[1, 2, 3])], &set(&[1, 3])));
    assert!(!is_majority(&[set(&[1, 2, 3])], &set(&[3])));
    assert!(
        !is_majority(&[set(&[1, 2, 3, 4])], &set(&[1, 2])),
        "half is not more than half"
    );
    assert!(
        !is_majority(&[set(&[1, 2, 3])], &set(&[1, 8, 9])),
        "others do not count"
    );
    assert!(!is_majority(
        &[set(&[1, 2, 3]), set(&[3, 4, 5])],
        &set(&[1, 2, 3])
    ));
    assert!(is_majority(
        &[set(&[1, 2, 3]), set(&[3, 4, 5])],
        &set(&[1, 3, 5])
    ));
    assert!(!is_majority(&[], &set(&[1])));
}
