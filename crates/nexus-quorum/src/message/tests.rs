//! What a peer may say, and in whose name.

use super::*;
use crate::rows::PayloadRow;

fn id(term: u64, index: u64) -> LogIdRow {
    LogIdRow {
        term,
        node: 1,
        index,
    }
}

fn append(prev: Option<LogIdRow>, ids: &[LogIdRow]) -> Append {
    Append {
        vote: VoteRow {
            term: 5,
            node: 1,
            won: true,
        },
        prev,
        entries: ids
            .iter()
            .map(|id| EntryRow {
                id: *id,
                payload: PayloadRow::Blank,
            })
            .collect(),
        committed: None,
        accepts: true,
    }
}

#[test]
fn replication_comes_from_its_leader_without_gaps_in_rising_terms() {
    assert_eq!(append(None, &[]).check(1), Ok(()));
    assert_eq!(
        append(None, &[id(0, 0), id(1, 1), id(5, 2)]).check(1),
        Ok(())
    );
    assert_eq!(
        append(Some(id(2, 7)), &[id(2, 8), id(5, 9)]).check(1),
        Ok(())
    );
    for (what, bad) in [
        ("a gap", append(Some(id(2, 7)), &[id(2, 9)])),
        ("no beginning", append(None, &[id(1, 1)])),
        ("the same twice", append(None, &[id(1, 0), id(1, 0)])),
        ("a term that sinks", append(Some(id(3, 7)), &[id(2, 8)])),
        ("a later term", append(None, &[id(6, 0)])),
        (
            "the end of numbers",
            append(Some(id(1, u64::MAX)), &[id(1, u64::MAX)]),
        ),
    ] {
        assert!(bad.check(1).is_err(), "{what}");
    }
    assert!(append(None, &[]).check(2).is_err(), "in another's name");
    let mut candidate = append(None, &[]);
    candidate.vote.won = false;
    assert!(candidate.check(1).is_err(), "before it won");
    let mut far = append(None, &[]);
    far.vote.term = MAX_TERM + 1;
    assert!(far.check(1).is_err(), "in a term that cannot be");
}

#[test]
fn a_vote_is_asked_for_by_its_candidate() {
    let vote = VoteRow {
        term: 4,
        node: 3,
        won: false,
    };
    assert_eq!(check_vote(vote, 3), Ok(()));
    assert!(check_vote(vote, 2).is_err());
    assert!(check_vote(VoteRow { won: true, ..vote }, 3).is_err());
    assert!(
        check_vote(
            VoteRow {
                term: u64::MAX,
                ..vote
            },
            3
        )
        .is_err()
    );
}
