//! The file: what it keeps, what it refuses, and that it never panics on damage.

use std::path::Path;

use openraft::EntryPayload;
use openraft::{CommittedLeaderId, EmptyNode, Membership, StoredMembership};
use proptest::prelude::*;

use super::*;
use crate::types::{Batch, Command, ProposalId};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64) -> RaftEntry {
    let command = Command {
        id: ProposalId {
            origin: 1,
            boot: 1,
            seq: index,
            floor: 0,
        },
        bytes: vec![7; 100],
    };
    RaftEntry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Batch {
            term,
            leader: 1,
            at: index,
            commands: vec![command],
        }),
    }
}

fn meta(term: u64, index: u64) -> SnapshotMeta {
    let membership = Membership::<u32, EmptyNode>::new(vec![[1].into()], ());
    SnapshotMeta {
        last_log_id: Some(id(term, index)),
        last_membership: StoredMembership::new(Some(id(1, 0)), membership),
        snapshot_id: format!("{term}-{index}"),
    }
}

/// A file with a bit of everything in it.
fn filled(path: &Path) -> Store {
    let store = Store::open(path, 1).unwrap();
    store
        .join(Cluster {
            name: 99,
            own: true,
        })
        .unwrap();
    store.save_vote(Vote::new_committed(3, 1)).unwrap();
    store
        .append((0..50).map(|index| entry(1, index)).collect())
        .unwrap();
    store
        .save_snapshot(&meta(1, 30), &vec![5; 700_000])
        .unwrap();
    store.purge(id(1, 20)).unwrap();
    store.note_committed(Some(id(1, 49)));
    store
}

#[test]
fn what_was_written_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.redb");
    let store = filled(&path);
    assert_eq!(store.boot(), 1);
    store.close().unwrap();
    assert!(matches!(
        store.save_vote(Vote::new(9, 9)),
        Err(StoreError::Closed)
    ));
    let store = Store::open(&path, 1).unwrap();
    assert_eq!(store.boot(), 2);
    assert_eq!(
        store.cluster(),
        Some(Cluster {
            name: 99,
            own: true
        })
    );
    assert_eq!(store.vote(), Some(Vote::new_committed(3, 1)));
    assert_eq!(store.log_ends(), (Some(id(1, 20)), Some(id(1, 49))));
    assert_eq!(store.committed(), Some(id(1, 49)), "closing wrote it");
    assert_eq!(
        store.read(0, 100, usize::MAX).unwrap(),
        (21..50).map(|index| entry(1, index)).collect::<Vec<_>>()
    );
    assert_eq!(
        store.read(40, 50, 1).unwrap(),
        [entry(1, 40)],
        "at least one, whatever the limit"
    );
    let (found, bytes) = store.snapshot().unwrap().unwrap();
    assert_eq!((found, bytes), (meta(1, 30), vec![5; 700_000]));
}

#[test]
fn bytes_of_the_log_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.redb");
    let store = Store::open(&path, 1).unwrap();
    store.save_vote(Vote::new(1, 1)).unwrap();
    store
        .append((0..10).map(|index| entry(1, index)).collect())
        .unwrap();
    let ten = store.log_bytes();
    assert!(ten > 1000, "{ten}");
    store.truncate(id(1, 5)).unwrap();
    assert_eq!(store.log_bytes(), ten / 2);
    assert_eq!(store.log_ends(), (None, Some(id(1, 4))));
    store.append(vec![entry(2, 5)]).unwrap();
    store.save_snapshot(&meta(1, 3), &[1]).unwrap();
    store.purge(id(1, 3)).unwrap();
    assert_eq!(store.log_bytes(), ten / 10 * 2);
    drop(store);
    assert_eq!(Store::open(&path, 1).unwrap().log_bytes(), ten / 10 * 2);
}

#[test]
fn an_append_leaves_no_gap_and_replaces_what_stands_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("q.redb"), 1).unwrap();
    assert!(store.append(vec![entry(1, 1)]).is_err());
    store
        .append((0..5).map(|index| entry(1, index)).collect())
        .unwrap();
    store.append(vec![entry(2, 2)]).unwrap();
    assert_eq!(
        store.read(0, 9, usize::MAX).unwrap(),
        [entry(1, 0), entry(1, 1), entry(2, 2)]
    );
}

#[test]
fn a_snapshot_beyond_another_leaders_log_takes_all_of_that_log_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.redb");
    let store = Store::open(&path, 1).unwrap();
    store.save_vote(Vote::new(2, 1)).unwrap();
    store
        .append((0..30).map(|index| entry(1, index)).collect())
        .unwrap();
    store.save_snapshot(&meta(2, 10), &[1]).unwrap();
    store.purge(id(2, 10)).unwrap();
    assert_eq!(store.log_ends(), (Some(id(2, 10)), Some(id(2, 10))));
    assert!(store.read(0, 99, usize::MAX).unwrap().is_empty());
    store.append(vec![entry(2, 11)]).unwrap();
    drop(store);
    assert_eq!(Store::open(&path, 1).unwrap().log_ends().1, Some(id(2, 11)));
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("q.redb"), 1).unwrap();
    store.save_snapshot(&meta(2, 10), b"new").unwrap();
    store.save_snapshot(&meta(1, 9), b"old").unwrap();
    assert_eq!(store.snapshot().unwrap().unwrap().1, b"new");
}

#[test]
fn another_nodes_file_a_file_in_use_and_another_format_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.redb");
    let store = filled(&path);
    assert!(matches!(
        Store::open(&path, 1),
        Err(QuorumError::InUse { .. })
    ));
    store.write(|tx| put_meta(tx, "format", &77_u32)).unwrap();
    store.close().unwrap();
    let refused = Store::open(&path, 1).unwrap_err();
    assert!(
        matches!(
            refused,
            QuorumError::OtherFormat {
                found: 77,
                known: 1,
                ..
            }
        ),
        "{refused}"
    );

    let path = directory.path().join("other.redb");
    filled(&path).close().unwrap();
    let refused = Store::open(&path, 2).unwrap_err();
    assert!(
        matches!(
            refused,
            QuorumError::OtherNode {
                found: 1,
                expected: 2,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("belongs to node 1"),
        "{refused}"
    );
}

#[test]
fn empty_short_foreign_and_truncated_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.redb");
    filled(&path).close().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let foreign = vec![b'x'; 100_000];
    for bytes in [
        &[][..],
        &whole[..100],
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 4096],
        &foreign[..],
    ] {
        std::fs::write(&path, bytes).unwrap();
        let refused = Store::open(&path, 1).unwrap_err();
        assert!(
            matches!(refused, QuorumError::Corrupt { .. }),
            "{} bytes: {refused}",
            bytes.len()
        );
        assert!(
            refused.to_string().contains("let it join anew"),
            "{refused}"
        );
    }
}

#[test]
fn a_row_that_is_not_what_was_written_is_found() {
    let directory = tempfile::tempdir().unwrap();
    for damage in ["vote", "log", "moved", "gap", "snapshot", "no vote"] {
        let path = directory.path().join(format!("{damage}.redb"));
        let store = filled(&path);
        store
            .write(|tx| {
                let mut meta = tx.open_table(META).map_err(fits)?;
                let mut log = tx.open_table(LOG).map_err(fits)?;
                let row = log.get(33).map_err(fits)?.unwrap().value().to_vec();
                match damage {
                    "vote" => drop(meta.insert("vote", &[0_u8; 9][..]).map_err(fits)?),
                    "no vote" => drop(meta.remove("vote").map_err(fits)?),
                    "log" => {
                        let mut bad = row.clone();
                        *bad.last_mut().unwrap() ^= 1;
                        drop(log.insert(33, bad.as_slice()).map_err(fits)?);
                    }
                    "moved" => drop(log.insert(34, row.as_slice()).map_err(fits)?),
                    "gap" => drop(log.remove(33).map_err(fits)?),
                    _ => drop(meta.remove("snapshot").map_err(fits)?),
                }
                Ok(())
            })
            .unwrap();
        store.close().unwrap();
        let refused = Store::open(&path, 1).unwrap_err();
        assert!(
            matches!(refused, QuorumError::Corrupt { .. }),
            "{damage}: {refused}"
        );
    }
}

#[test]
fn a_damaged_snapshot_is_not_handed_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("q.redb"));
    store
        .write(|tx| {
            let mut table = tx.open_table(SNAPSHOT).map_err(fits)?;
            table.insert(1, &[6_u8; PIECE][..]).map_err(fits)?;
            Ok(())
        })
        .unwrap();
    assert!(matches!(store.snapshot(), Err(StoreError::Corrupt(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64), ..ProptestConfig::default() })]
    /// Whatever is done to the bytes: refused, or all of it is as it was. Never a panic, never other contents.
    #[test]
    fn flipped_bytes_are_found_or_do_not_matter(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.redb");
        filled(&path).close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, flip) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
        }
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(&path, 1) {
            Ok(store) => {
                prop_assert_eq!(store.vote(), Some(Vote::new_committed(3, 1)));
                prop_assert_eq!(store.log_ends(), (Some(id(1, 20)), Some(id(1, 49))));
                let read = store.read(0, 100, usize::MAX).unwrap();
                prop_assert_eq!(read, (21..50).map(|index| entry(1, index)).collect::<Vec<_>>());
                match store.snapshot() {
                    Ok(found) => prop_assert_eq!(found.unwrap(), (meta(1, 30), vec![5; 700_000])),
                    Err(error) => prop_assert!(matches!(error, StoreError::Corrupt(_)), "{}", error),
                }
            }
            Err(error) => prop_assert!(
                matches!(error, QuorumError::Corrupt { .. } | QuorumError::OtherFormat { .. } | QuorumError::Io { .. }),
                "{}", error
            ),
        }
    }
}
