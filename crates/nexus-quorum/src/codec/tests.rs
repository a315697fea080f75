//! Any bytes go in; a value or an error comes out.

use proptest::prelude::*;

use super::*;
use crate::message::{Append, Canvass, Change, Chunk, Envelope, Question, Reply};
use crate::rows::{
    EntryRow, LogIdRow, MembershipRow, MetaRow, PayloadRow, StoredMembershipRow, VoteRow,
};
use crate::types::{Batch, Command, ProposalId};

fn id(index: u64) -> LogIdRow {
    LogIdRow {
        term: 3,
        node: 1,
        index,
    }
}

/// One question of each kind.
fn questions() -> Vec<Envelope> {
    let vote = VoteRow {
        term: 3,
        node: 1,
        won: true,
    };
    let membership = MembershipRow {
        voters: vec![[1, 2].into(), [2, 3].into()],
        members: [1, 2, 3, 9].into(),
    };
    let command = Command {
        id: ProposalId {
            origin: 1,
            boot: 2,
            seq: 3,
            floor: 1,
        },
        bytes: b"a command".to_vec(),
    };
    let batch = Batch {
        term: 3,
        leader: 1,
        at: 77,
        commands: vec![command.clone(), command.clone()],
    };
    let entries = vec![
        EntryRow {
            id: id(5),
            payload: PayloadRow::Blank,
        },
        EntryRow {
            id: id(6),
            payload: PayloadRow::Membership(membership.clone()),
        },
        EntryRow {
            id: id(7),
            payload: PayloadRow::Batch(batch),
        },
    ];
    let meta = MetaRow {
        last: id(7),
        membership: StoredMembershipRow {
            log_id: Some(id(6)),
            membership,
        },
        id: "3-7-1".to_owned(),
    };
    [
        Question::Append(Append {
            vote,
            prev: Some(id(4)),
            entries,
            committed: Some(id(4)),
            accepts: true,
        }),
        Question::Vote(VoteRow { won: false, ..vote }, None),
        Question::Chunk(Chunk {
            vote,
            meta,
            total: 9,
            crc: 1,
            offset: 0,
            bytes: vec![1, 2, 3],
        }),
        Question::Propose(command, 500),
        Question::Change(Change::Promote(9)),
        Question::Canvass(Canvass {
            last: Some(id(7)),
            membership: None,
        }),
    ]
    .into_iter()
    .map(|question| Envelope {
        cluster: Some(u128::MAX / 3),
        question,
    })
    .collect()
}

#[test]
fn every_question_comes_back_as_it_was() {
    for question in questions() {
        let bytes = encode(&question).unwrap();
        assert_eq!(decode::<Envelope>(&bytes).unwrap(), question);
    }
}

#[test]
fn another_version_bytes_too_many_and_too_few_are_told_apart() {
    for question in questions() {
        let bytes = encode(&question).unwrap();
        let mut later = bytes.clone();
        later[0] = VERSION + 1;
        assert_eq!(
            decode::<Envelope>(&later),
            Err(CodecError::Version { found: VERSION + 1 })
        );
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(
            decode::<Envelope>(&longer),
            Err(CodecError::Malformed(_))
        ));
        for end in 0..bytes.len() {
            assert!(
                matches!(
                    decode::<Envelope>(&bytes[..end]),
                    Err(CodecError::Malformed(_))
                ),
                "{end} bytes"
            );
        }
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let long = vec![VERSION; MAX_MESSAGE + 1];
    assert_eq!(
        decode::<Envelope>(&long),
        Err(CodecError::TooLong(MAX_MESSAGE + 1))
    );
    assert!(matches!(
        encode(&vec![0_u8; MAX_MESSAGE]),
        Err(CodecError::TooLong(_))
    ));
}

#[test]
fn a_length_that_the_bytes_do_not_have_allocates_nothing_like_it() {
    // A propose whose command says that it has 2^60 bytes.
    let mut bytes = vec![VERSION, 0, 3, 1, 2, 3, 1];
    bytes.extend([0x80; 8]);
    bytes.push(0x10);
    assert!(matches!(
        decode::<Envelope>(&bytes),
        Err(CodecError::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300), versioned: bool) {
        if let (true, Some(first)) = (versioned, bytes.first_mut()) {
            *first = VERSION;
        }
        let _ = decode::<Envelope>(&bytes);
        let _ = decode::<Reply>(&bytes);
    }

    #[test]
    fn flipped_messages_are_messages_or_errors(
        which in 0..6_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..6),
    ) {
        let mut bytes = encode(&questions()[which]).unwrap();
        for (place, flip) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        }
        if let Ok(Envelope { question: Question::Append(append), .. }) = decode::<Envelope>(&bytes)
            && append.check(1).is_ok()
        {
            let first = append.prev.map_or(0, |prev| prev.index + 1);
            for (index, entry) in (first..).zip(&append.entries) {
                prop_assert_eq!(entry.id.index, index);
            }
        }
    }
}
