//! Merge laws, encodings that take any bytes, and rows read through changes that are not written yet.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;

use nexus_clset::{
    Delta, Digest, Dot, Entry, EntryKind, Error, Fence, Fingerprint, Hlc, Incarnation,
    MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_WRITES, MemoryRows, NodeId, Origin, PullAnswer,
    PullRequest, Range, Replica, Retired, Revision, Summary, UnixMillis, Version, VersionVector,
    Write,
};
use proptest::prelude::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn origin() -> impl Strategy<Value = Origin> {
    (0..3_u32, 0..3_u32).prop_map(|(node, incarnation)| Origin {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
    })
}

/// Small fields, so that all sorts of ties come up, even versions that are equal with other values.
fn entry() -> impl Strategy<Value = Entry> {
    (
        ((0..2_u64, 0..2_u64), 1..4_u64, 0..3_u64),
        origin(),
        1..4_u64,
        prop::collection::vec(0..2_u8, 0..2),
    )
        .prop_map(
            |(((epoch, seq_of_owner), causal_length, hlc), origin, seq, value)| Entry {
                version: Version {
                    fence: Fence {
                        epoch,
                        seq: seq_of_owner,
                    },
                    causal_length,
                    hlc: Hlc(hlc),
                    origin,
                },
                seq,
                value: if causal_length % 2 == 1 {
                    value
                } else {
                    vec![]
                },
            },
        )
}

fn vector() -> impl Strategy<Value = VersionVector> {
    prop::collection::vec((origin(), 1..20_u64, 0..4_u64), 0..6).prop_map(|runs| {
        let mut vector = VersionVector::default();
        for (origin, start, more) in runs {
            vector.insert_run(origin, start, start + more);
        }
        vector
    })
}

fn delta() -> impl Strategy<Value = Delta> {
    let key = prop::collection::vec(any::<u8>(), 1..20);
    let entries = prop::collection::vec((key, entry()), 0..5);
    (vector(), any::<u64>(), entries).prop_map(|(collected, floor, entries)| Delta {
        collected,
        floor,
        entries,
        ..Delta::default()
    })
}

proptest! {
    #[test]
    fn merge_is_commutative_associative_and_idempotent(a in entry(), b in entry(), c in entry()) {
        let merge = |x: &Entry, y: &Entry| x.clone().merge(y.clone());
        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        prop_assert_eq!(merge(&a, &a), a.clone());
        prop_assert!(merge(&a, &b) == a || merge(&a, &b) == b);
    }

    #[test]
    fn versions_are_compared_field_by_field(a in entry(), b in entry()) {
        let fields = |e: &Entry| (e.version.fence.epoch, e.version.fence.seq, e.version.causal_length, e.version.hlc, e.version.origin);
        prop_assert_eq!(a.version.cmp(&b.version), fields(&a).cmp(&fields(&b)));
    }

    #[test]
    fn entries_and_messages_come_back_from_their_bytes(
        entry in entry(), delta in delta(), seen in vector(), have in vector(), asking in origin(),
        covers in prop::collection::vec((origin(), any::<u64>(), any::<u64>()), 0..4),
        after in prop::option::of((origin(), 1..u64::MAX)), complete in any::<bool>(), sum in any::<u128>(),
    ) {
        prop_assert_eq!(&Entry::decode(&entry.encode()).unwrap(), &entry);
        prop_assert_eq!(&Delta::decode(&delta.encode()).unwrap(), &delta);
        let dot = after.map(|(origin, seq)| Dot { origin, seq });
        let request = PullRequest { asking, have, after: dot };
        prop_assert_eq!(&PullRequest::decode(&request.encode()).unwrap(), &request);
        let digest = Digest {
            origin: asking,
            born: asking.incarnation,
            swept: !complete,
            retired: Retired::default(),
            seen: seen.clone(),
            collected: delta.collected.clone(),
            floor: delta.floor,
            complete,
            fingerprint: Fingerprint { count: 7, sum },
        };
        prop_assert_eq!(&Digest::decode(&digest.encode()).unwrap(), &digest);
        let covers = covers.into_iter().map(|(origin, start, end)| Range { origin, start, end }).collect();
        let answer = PullAnswer { asking, delta, covers, seen, complete, next: dot };
        prop_assert_eq!(&PullAnswer::decode(&answer.encode()).unwrap(), &answer);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message_but_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), delta in delta(), at in any::<prop::sample::Index>(),
        byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut versioned = bytes.clone();
        if let Some(first) = versioned.first_mut() {
            *first = 2;
        }
        let mut damaged = delta.encode();
        let index = at.index(damaged.len());
        damaged[index] = byte;
        for bytes in [&bytes, &versioned, &damaged] {
            let _ = (Entry::decode(bytes), Delta::decode(bytes), Digest::decode(bytes));
            let _ = (PullRequest::decode(bytes), PullAnswer::decode(bytes));
        }
        let whole = delta.encode();
        let cut = cut.index(whole.len());
        prop_assert!(Delta::decode(&whole[..cut]).is_err(), "cut at {} of {}", cut, whole.len());
        let longer = [&whole[..], b"x"].concat();
        prop_assert!(Delta::decode(&longer).is_err());
    }

    #[test]
    fn a_replica_reads_what_was_written_however_late_rows_are_written(
        steps in prop::collection::vec((0..30_u8, prop::option::of(any::<u8>()), 0..4_usize), 1..200),
        prefix in prop::option::of(0..3_u8), limit in 1..7_usize,
    ) {
        let rows = MemoryRows::default();
        let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), NOW).unwrap();
        let mut unwritten = std::collections::VecDeque::from([boot]);
        let mut model = BTreeMap::<Vec<u8>, Vec<u8>>::new();
        for (key, value, written) in steps {
            let key = vec![key % 3, key];
            let change = match value {
                Some(value) => {
                    model.insert(key.clone(), vec![value]);
                    replica.put(&key, &[value], Fence::NONE, NOW).unwrap()
                }
                None => {
                    let there = model.remove(&key).is_some();
                    let change = replica.delete(&key, Fence::NONE, NOW).unwrap();
                    prop_assert_eq!(change.rows.is_empty(), !there);
                    prop_assert_eq!(change.delta.is_some(), there);
                    change
                }
            };
            unwritten.push_back(change);
            for change in unwritten.drain(..written.min(unwritten.len())) {
                rows.apply(&change.rows);
                replica.settle(change.ticket);
            }
        }
        let prefix = prefix.map_or(vec![], |p| vec![p]);
        let mut found = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = replica.query(&prefix, after.as_deref(), limit).unwrap();
            prop_assert!(page.rows.len() <= limit);
            after = page.rows.last().map(|(key, _)| key.clone()).or(after);
            found.extend(page.rows);
            if !page.more {
                break;
            }
        }
        let expected: Vec<_> = model.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(found, expected);
        for (key, value) in &model {
            let stored = replica.get(key).unwrap();
            prop_assert_eq!(stored.as_ref(), Some(value));
        }
    }
}

/// Sums of all blocks of a summary, recomputed from the entries of a replica.
fn recomputed(
    replica: &Replica<MemoryRows>,
    keys: &[Vec<u8>],
    summary: &Summary,
) -> Vec<(Vec<u8>, Fingerprint)> {
    let bounds: Vec<_> = summary.blocks().map(|(low, _)| low.to_vec()).collect();
    let mut blocks: Vec<_> = bounds
        .iter()
        .map(|low| (low.clone(), Fingerprint::default()))
        .collect();
    for key in keys {
        let Some(entry) = replica.get_entry(key).unwrap() else {
            continue;
        };
        let index = bounds.partition_point(|low| low < key) - 1;
        let mut input = u64::try_from(key.len()).unwrap().to_be_bytes().to_vec();
        input.extend_from_slice(key);
        input.extend_from_slice(&entry.encode());
        let hash = u128::from_le_bytes(blake3::hash(&input).as_bytes()[..16].try_into().unwrap());
        let block = &mut blocks[index].1;
        block.count += 1;
        block.sum = block.sum.wrapping_add(hash);
    }
    blocks
}

#[test]
fn block_sums_stay_right_while_blocks_split_and_join() {
    let rows = MemoryRows::default();
    let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), NOW).unwrap();
    rows.apply(&boot.rows);
    replica.settle(boot.ticket);
    let mut random = 12_345_u32;
    let mut keys = std::collections::BTreeSet::new();
    let mut now = NOW;
    let check = |replica: &Replica<MemoryRows>, keys: &std::collections::BTreeSet<Vec<u8>>| {
        let keys: Vec<_> = keys.iter().cloned().collect();
        let summary = replica.summary().clone();
        let blocks: Vec<_> = summary.blocks().map(|(low, b)| (low.to_vec(), b)).collect();
        assert_eq!(blocks, recomputed(replica, &keys, &summary));
        let (count, sum) = blocks.iter().fold((0, 0_u128), |(count, sum), (_, block)| {
            assert!(block.count <= 2048);
            (count + block.count, sum.wrapping_add(block.sum))
        });
        assert_eq!(summary.total(), Fingerprint { count, sum });
        blocks.len()
    };
    for n in 0..9000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let key = (random >> 12).to_be_bytes().to_vec();
        keys.insert(key.clone());
        let change = replica
            .put(&key, &n.to_be_bytes(), Fence::NONE, now)
            .unwrap();
        rows.apply(&change.rows);
        // Some rows are read through the change while a block is split.
        if n % 3 > 0 {
            replica.settle(change.ticket);
        }
        if n % 1500 == 0 {
            check(&replica, &keys);
        }
    }
    let full = check(&replica, &keys);
    assert!(full > 20, "{full} blocks");
    // Everything is deleted and collected; hardly a block stays.
    for key in &keys {
        let change = replica.delete(key, Fence::NONE, now).unwrap();
        rows.apply(&change.rows);
        replica.settle(change.ticket);
    }
    now.0 += 2 * 24 * 60 * 60 * 1000;
    let mut rounds = 0;
    loop {
        let declared = replica.propose_collection(&[], now).unwrap();
        if declared.is_empty() {
            break;
        }
        for change in declared {
            rows.apply(&change.rows);
            replica.settle(change.ticket);
        }
        while let Some(change) = replica.collect().unwrap() {
            rows.apply(&change.rows);
            replica.settle(change.ticket);
        }
        rounds += 1;
        check(&replica, &keys);
    }
    assert!(rounds > 0);
    assert_eq!(replica.fingerprint(), Fingerprint::default());
    assert!(check(&replica, &keys) < full / 2);
    let only_bookkeeping = [
        nexus_clset::RowKind::Entry,
        nexus_clset::RowKind::Dot,
        nexus_clset::RowKind::Tombstone,
    ];
    assert!(
        only_bookkeeping
            .into_iter()
            .all(|kind| rows.all(kind).is_empty())
    );
}

fn fresh() -> Replica<MemoryRows> {
    Replica::open(MemoryRows::default(), NodeId(1), NOW)
        .unwrap()
        .0
}

#[test]
fn what_is_out_of_bounds_is_refused_and_changes_nothing() {
    let mut replica = fresh();
    let (before, revision) = (replica.digest(), replica.revision());
    let long_key = vec![0; MAX_KEY_BYTES + 1];
    let long_value = vec![0; MAX_VALUE_BYTES + 1];
    let many: Vec<_> = (0..=MAX_WRITES).map(|n| vec![n as u8]).collect();
    let many: Vec<_> = many
        .iter()
        .map(|key| Write::put(key, b"", Fence::NONE))
        .collect();
    let refused = [
        replica.put(b"", b"v", Fence::NONE, NOW).unwrap_err(),
        replica.put(&long_key, b"v", Fence::NONE, NOW).unwrap_err(),
        replica
            .put(b"k", &long_value, Fence::NONE, NOW)
            .unwrap_err(),
        replica.write(&many, NOW).unwrap_err(),
        replica
            .write(
                &[
                    Write::put(b"k", b"1", Fence::NONE),
                    Write::delete(b"k", Fence::NONE),
                ],
                NOW,
            )
            .unwrap_err(),
    ];
    assert_eq!(
        refused,
        [
            Error::KeyLength { bytes: 0 },
            Error::KeyLength { bytes: 513 },
            Error::ValueTooLong { bytes: 61_441 },
            Error::TooManyWrites { writes: 13 },
            Error::KeyTwice { key: b"k".to_vec() },
        ]
    );
    assert_eq!((replica.digest(), replica.revision()), (before, revision));
}

#[test]
fn an_older_epoch_never_overwrites_and_its_whole_set_is_refused() {
    let mut replica = fresh();
    let _ = replica
        .put(b"allocation", b"new owner", Fence::epoch(5), NOW)
        .unwrap();
    let set = [
        Write::put(b"other", b"", Fence::epoch(4)),
        Write::put(b"allocation", b"old owner", Fence::epoch(4)),
    ];
    let error = replica.write(&set, NOW).unwrap_err();
    assert_eq!(
        error,
        Error::OlderFence {
            key: b"allocation".to_vec(),
            current: Fence::epoch(5),
            given: Fence::epoch(4)
        }
    );
    assert!(error.to_string().contains("lost the shard"), "{error}");
    assert!(replica.delete(b"allocation", Fence::epoch(4), NOW).is_err());
    assert_eq!(replica.get(b"other").unwrap(), None);
    assert_eq!(replica.get(b"allocation").unwrap().unwrap(), b"new owner");
    let _ = replica.delete(b"allocation", Fence::epoch(5), NOW).unwrap();
    assert!(
        replica
            .put(b"allocation", b"old owner", Fence::epoch(4), NOW)
            .is_err()
    );
    assert_eq!(
        replica.get_entry(b"allocation").unwrap().unwrap().kind(),
        EntryKind::Tombstone
    );
}

#[test]
fn a_watcher_follows_puts_and_deletes_and_starts_over_after_a_restart() {
    let rows = MemoryRows::default();
    let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), NOW).unwrap();
    rows.apply(&boot.rows);
    let start = replica.revision();
    let write = |replica: &mut Replica<MemoryRows>, write: Write<'_>| {
        let change = replica.write(&[write], NOW).unwrap();
        rows.apply(&change.rows);
        replica.settle(change.ticket);
    };
    write(&mut replica, Write::put(b"a/1", b"1", Fence::NONE));
    write(&mut replica, Write::put(b"b/1", b"1", Fence::NONE));
    write(&mut replica, Write::delete(b"a/1", Fence::NONE));
    write(&mut replica, Write::delete(b"a/1", Fence::NONE));
    let changes = replica.changes(b"a/", start, 10).unwrap();
    let seen: Vec<_> = changes
        .events
        .iter()
        .map(|e| (e.key.to_vec(), e.value.as_deref().map(<[u8]>::to_vec)))
        .collect();
    assert_eq!(
        seen,
        [
            (b"a/1".to_vec(), Some(b"1".to_vec())),
            (b"a/1".to_vec(), None)
        ]
    );
    assert_eq!(changes.next, replica.revision());
    assert!(
        replica
            .changes(b"a/", changes.next, 10)
            .unwrap()
            .events
            .is_empty()
    );

    let (replica, _boot) = Replica::open(rows, NodeId(1), NOW).unwrap();
    let over = replica.changes(b"a/", changes.next, 10).unwrap_err();
    assert_eq!(over.revision, replica.revision());
    assert!(over.revision > changes.next);
    assert!(replica.changes(b"", Revision(0), 1).is_err());
}

#[test]
fn rows_that_were_damaged_or_swapped_are_refused_on_opening() {
    use nexus_clset::{RowKind, RowWrite};
    let damage = [
        (RowKind::Entry, &b"k"[..], &b"rubbish"[..]),
        (RowKind::Meta, b"node", b""),
        (RowKind::Meta, b"hlc", b"1234567"),
        (RowKind::Meta, b"seen/short", b""),
        (RowKind::Meta, b"collected/12345678", b"\x02"),
    ];
    for (kind, key, value) in damage {
        let rows = MemoryRows::default();
        rows.apply(&[RowWrite {
            kind,
            key: key.to_vec(),
            value: Some(value.to_vec()),
        }]);
        let refused = Replica::open(rows, NodeId(1), NOW);
        assert!(matches!(refused, Err(Error::Malformed(_))), "{kind:?}");
    }
}

#[test]
fn a_lost_tail_never_makes_a_write_number_come_twice() {
    let rows = MemoryRows::default();
    let mut dots = std::collections::BTreeSet::new();
    for boot in 0..5 {
        // The wall clock stands still, or goes back.
        let now = UnixMillis(NOW.0 - boot * 3_600_000);
        let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), now).unwrap();
        rows.apply(&boot.rows);
        for n in 0..10_u8 {
            let change = replica.put(b"k", &[n], Fence::NONE, now).unwrap();
            for (_, entry) in change.delta.unwrap().entries {
                assert!(dots.insert(entry.dot()), "{:?} again", entry.dot());
            }
            // Only the first three of each boot reach the disk.
            if n < 3 {
                rows.apply(&change.rows);
            }
        }
    }
}

#[test]
fn a_stamp_far_ahead_is_merged_and_reported_but_not_followed() {
    let mut replica = fresh();
    let _ = replica.found();
    let entry = Entry {
        version: Version {
            fence: Fence::NONE,
            causal_length: 1,
            hlc: Hlc::at(UnixMillis(NOW.0 + 60_000)),
            origin: Origin {
                node: NodeId(9),
                incarnation: Incarnation(1),
            },
        },
        seq: 1,
        value: b"from the future".to_vec(),
    };
    let delta = Delta {
        entries: vec![(b"k".to_vec(), entry)],
        ..Delta::default()
    };
    let received = replica.receive(&delta, NOW).unwrap();
    assert_eq!(
        received.too_far_ahead,
        Some(std::time::Duration::from_secs(60))
    );
    assert_eq!(replica.get(b"k").unwrap().unwrap(), b"from the future");
    let change = replica.put(b"k", b"now", Fence::NONE, NOW).unwrap();
    let (_, ours) = &change.delta.unwrap().entries[0];
    assert_eq!(ours.version.hlc.millis(), NOW);
    assert_eq!(replica.get(b"k").unwrap().unwrap(), b"now");
}

#[test]
fn of_one_owners_commands_the_newest_counts_whatever_each_server_had_seen() {
    let command = |seq| Fence { epoch: 5, seq };
    let mut one = fresh();
    let _ = one.found();
    let (mut other, _) = Replica::open(MemoryRows::default(), NodeId(2), NOW).unwrap();
    let _ = other.found();
    // The first server has seen the key come and go, the second takes the newest command and knows nothing.
    let mut deltas = Vec::new();
    for seq in 1..4 {
        let put = one.put(b"a", b"old", command(seq), NOW).unwrap();
        deltas.extend(put.delta);
        let deleted = one.delete(b"a", command(seq), NOW).unwrap();
        deltas.extend(deleted.delta);
    }
    let newest = other.put(b"a", b"new", command(9), NOW).unwrap();
    let _ = one.receive(&newest.delta.unwrap(), NOW).unwrap();
    for delta in &deltas {
        let _ = other.receive(delta, NOW).unwrap();
    }
    for replica in [&mut one, &mut other] {
        assert_eq!(replica.get(b"a").unwrap().unwrap(), b"new");
        let error = replica.delete(b"a", command(8), NOW).unwrap_err();
        assert!(error.to_string().contains("command 9"), "{error}");
    }
    assert_eq!(one.fingerprint(), other.fingerprint());
}

#[test]
fn an_entry_of_before_commands_had_numbers_is_read() {
    let mut bytes = vec![1];
    for field in [7_u64, 3, 9] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend_from_slice(&4_u64.to_be_bytes());
    bytes.extend_from_slice(b"value");
    let entry = Entry::decode(&bytes).unwrap();
    assert_eq!(entry.version.fence, Fence::epoch(7));
    assert_eq!((entry.version.causal_length, entry.seq), (3, 4));
    assert_eq!(entry.value, b"value");
    assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
}
