//! Comparing ranges: it finds whatever differs, and costs little more than what differs.

use proptest::prelude::*;

use super::*;
use crate::{Entry, Hlc, Origin, RowWrite, Version, VersionVector};

/// Keys as allocations have them: a thousand in each shard.
fn key(n: u64) -> Vec<u8> {
    format!("alloc/pool-7/{:06}/{:03}", n / 1000, n % 1000).into_bytes()
}

fn entry(n: u64, generation: u64) -> Entry {
    let host = 1 + (generation % 2) as u32;
    Entry {
        version: Version {
            fence: Fence {
                epoch: 3,
                seq: n + generation,
            },
            causal_length: 1,
            hlc: Hlc::at(UnixMillis(START + n % 5000 + generation * 10_000)),
            origin: Origin {
                node: NodeId(host),
                incarnation: crate::Incarnation(7),
            },
        },
        seq: n + 1 + generation * 10_000_000,
        value: vec![n as u8; 96],
    }
}

/// Rows of a replica that has seen everything, of which it holds these.
fn rows(entries: impl Iterator<Item = (Vec<u8>, Entry)>, largest: u64) -> MemoryRows {
    let rows = MemoryRows::default();
    let mut seen = VersionVector::default();
    for node in 1..=2 {
        let origin = Origin {
            node: NodeId(node),
            incarnation: crate::Incarnation(7),
        };
        seen.insert_run(origin, 1, largest);
        let key = [&b"seen/"[..], &node.to_be_bytes(), &7_u32.to_be_bytes()].concat();
        put(
            &rows,
            RowKind::Meta,
            key,
            seen.seen(origin).unwrap().encode(),
        );
    }
    put(&rows, RowKind::Meta, b"complete".to_vec(), vec![1]);
    for (key, entry) in entries {
        let dot = [
            &entry.version.origin.node.0.to_be_bytes()[..],
            &entry.version.origin.incarnation.0.to_be_bytes(),
            &entry.seq.to_be_bytes(),
        ];
        put(&rows, RowKind::Dot, dot.concat(), key.clone());
        put(&rows, RowKind::Entry, key, entry.encode());
    }
    rows
}

fn put(rows: &MemoryRows, kind: RowKind, key: Vec<u8>, value: Vec<u8>) {
    let value = Some(value);
    rows.apply(&[RowWrite { kind, key, value }]);
}

/// Lets the first compare ranges with the second; says how many bytes that took.
fn repair(one: MemoryRows, other: MemoryRows) -> (Net, u64) {
    let mut net = Net::apart(2);
    net.options.scrub = None;
    net.replace(0, NodeId(1), one, 0);
    net.replace(1, NodeId(2), other, 0);
    net.connect_all();
    net.run(Duration::from_millis(100));
    net.hosts[0].sync.compare_ranges_with(NodeId(2));
    net.run_until("compared", Duration::from_secs(3600), |net| {
        net.hosts[0]
            .notices
            .iter()
            .any(|n| matches!(n, Notice::Repaired { .. }))
            && net.hosts.iter().all(|h| h.disk.is_empty())
    });
    let bytes = net.hosts[0].sync.report().traffic.repair_bytes;
    assert_eq!(
        net.hosts[0].replica.fingerprint(),
        net.hosts[1].replica.fingerprint()
    );
    assert!(net.hosts.iter().all(|h| h.misbehaved.is_empty()));
    (net, bytes)
}

fn of_all(entries: u64, differs: impl Fn(u64) -> bool) -> (MemoryRows, MemoryRows, u64) {
    let largest = 30_000_000;
    let mut weight = 0;
    for n in (0..entries).filter(|n| differs(*n)) {
        weight += (key(n).len() + entry(n, 1).encode().len() + 8) as u64;
    }
    let one = rows(
        (0..entries).map(|n| (key(n), entry(n, u64::from(differs(n) && n % 2 == 0)))),
        largest,
    );
    let other = rows(
        (0..entries).map(|n| (key(n), entry(n, u64::from(differs(n) && n % 2 == 1)))),
        largest,
    );
    (one, other, weight)
}

fn one_differing_entry(entries: u64) {
    let odd = entries * 2 / 3;
    let (one, other, _) = of_all(entries, |n| n == odd);
    let (net, bytes) = repair(one, other);
    println!("one of {entries} differs: {bytes} bytes");
    assert!(bytes <= 10 * 1024, "{bytes} bytes");
    let expected = entry(odd, 1).encode();
    for host in &net.hosts {
        let stands = host.replica.get_entry(&key(odd)).unwrap().unwrap();
        assert_eq!(stands.encode(), expected);
    }
}

fn whole_shards_differ(entries: u64) {
    // A tenth, in shards that lie side by side; half of them newer here, half there.
    let differs = |n: u64| (n / 1000).is_multiple_of(10);
    let (one, other, weight) = of_all(entries, differs);
    let (_, bytes) = repair(one, other);
    let ratio = bytes as f64 / weight as f64;
    println!(
        "{} of {entries} differ in whole shards: {bytes} bytes for {weight}, {ratio:.3}",
        entries / 10
    );
    assert!(bytes * 2 <= weight * 3, "{bytes} bytes for {weight}");
}

fn whole_shards_are_missing(entries: u64) {
    let missing = |n: u64| (n / 1000).is_multiple_of(10);
    let all = rows((0..entries).map(|n| (key(n), entry(n, 0))), 30_000_000);
    let some = rows(
        (0..entries)
            .filter(|n| !missing(*n))
            .map(|n| (key(n), entry(n, 0))),
        30_000_000,
    );
    let weight: u64 = (0..entries)
        .filter(|n| missing(*n))
        .map(|n| (key(n).len() + entry(n, 0).encode().len() + 8) as u64)
        .sum();
    let (_, bytes) = repair(all.image(), some.image());
    println!(
        "{} of {entries} are missing there: {bytes} bytes for {weight}",
        entries / 10
    );
    assert!(bytes * 10 <= weight * 13, "{bytes} bytes for {weight}");
    let (_, bytes) = repair(some, all);
    println!(
        "{} of {entries} are missing here: {bytes} bytes for {weight}",
        entries / 10
    );
    assert!(bytes * 10 <= weight * 13, "{bytes} bytes for {weight}");
}

/// How many entries are compared; `NEXUS_RANGE_ENTRIES=1000000` takes a minute and a half in a release build.
fn entries() -> u64 {
    std::env::var("NEXUS_RANGE_ENTRIES").map_or(40_000, |text| text.parse().unwrap())
}

#[test]
fn one_differing_entry_costs_less_than_10_kib() {
    one_differing_entry(entries());
}

#[test]
fn differing_shards_cost_little_more_than_their_entries() {
    whole_shards_differ(entries());
}

#[test]
fn missing_shards_cost_little_more_than_their_entries() {
    whole_shards_are_missing(entries());
}

#[test]
fn equal_replicas_are_compared_with_one_question() {
    let all = rows((0..5000).map(|n| (key(n), entry(n, 0))), 30_000_000);
    let (net, bytes) = repair(all.image(), all);
    assert!(bytes < 2000, "{bytes} bytes");
    assert_eq!(net.hosts[0].sync.report().traffic.pulled_entries, 0);
}

#[test]
fn a_damaged_row_is_found_by_scrubbing_and_brought_back_by_a_peer() {
    let mut net = Net::apart(2);
    net.options.scrub = Some(Duration::from_secs(60));
    let all = rows((0..3000).map(|n| (key(n), entry(n, 0))), 30_000_000);
    net.replace(0, NodeId(1), all.image(), 0);
    net.replace(1, NodeId(2), all, 0);
    net.connect_all();
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    // Behind the back of a running replica, whose sums still say that all is well.
    let gone = RowWrite {
        kind: RowKind::Entry,
        key: key(1234),
        value: None,
    };
    net.hosts[1].rows.apply(&[gone]);
    assert!(net.converged());
    let found = |net: &Net| {
        net.hosts[1]
            .notices
            .iter()
            .any(|n| matches!(n, Notice::RowsDamaged { .. }))
    };
    net.run_until("found", Duration::from_secs(200), found);
    assert!(!net.hosts[1].sync.report().converged);
    net.run_until("repaired", Duration::from_secs(120), Net::converged);
    assert!(
        net.hosts[1]
            .replica
            .get_entry(&key(1234))
            .unwrap()
            .is_some()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_differs_is_made_alike_and_the_greater_entry_stands(
        here in prop::collection::btree_map(0..3000_u64, 0..4_u64, 0..600),
        there in prop::collection::btree_map(0..3000_u64, 0..4_u64, 0..600),
        common in 0..3000_u64,
    ) {
        let with = |own: &BTreeMap<u64, u64>| {
            let mut all: BTreeMap<u64, u64> = (0..common).map(|n| (n, 0)).collect();
            all.extend(own.iter().map(|(n, g)| (*n, *g)));
            all
        };
        let (here, there) = (with(&here), with(&there));
        let of = |all: &BTreeMap<u64, u64>| {
            let all = all.clone();
            rows(all.into_iter().map(|(n, g)| (key(n), entry(n, g))), 90_000_000)
        };
        let (net, _) = repair(of(&here), of(&there));
        let mut greatest = here.clone();
        for (n, g) in &there {
            let stands = greatest.entry(*n).or_insert(*g);
            *stands = (*stands).max(*g);
        }
        prop_assert_eq!(net.hosts[0].replica.fingerprint().count, greatest.len() as u64);
        for (n, g) in &greatest {
            let stands = net.hosts[1].replica.get_entry(&key(*n)).unwrap().unwrap();
            prop_assert_eq!(stands, entry(*n, *g));
        }
        net.check_summaries();
    }

    #[test]
    fn replicas_with_the_same_keys_have_the_same_blocks_whatever_their_history(
        keys in prop::collection::btree_set(0..20_000_u64, 0..3000), gone in prop::collection::btree_set(0..20_000_u64, 0..500),
    ) {
        let bounds = |replica: &Replica<MemoryRows>| {
            let blocks = replica.summary().blocks().filter(|(_, block)| block.count > 0);
            blocks.map(|(low, block)| (low.to_vec(), block)).collect::<Vec<_>>()
        };
        let now = UnixMillis(START);
        // One in order, the other backwards with keys that come and go again.
        let source = rows(keys.iter().map(|n| (key(*n), entry(*n, 0))), 30_000_000);
        let (straight, _) = Replica::open(source, NodeId(3), now).unwrap();
        let (mut crooked, _) = Replica::open(MemoryRows::default(), NodeId(3), now).unwrap();
        let delta = |n: &u64| crate::Delta { entries: vec![(key(*n), entry(*n, 0))], ..crate::Delta::default() };
        let _ = crooked.found();
        for n in keys.iter().rev() {
            let _ = crooked.receive(&delta(n), now).unwrap();
        }
        for n in gone.iter().filter(|n| !keys.contains(n)) {
            let _ = crooked.receive(&delta(n), now).unwrap();
        }
        crooked.set_tombstone_age(Duration::ZERO);
        for n in gone.iter().filter(|n| !keys.contains(n)) {
            let _ = crooked.delete(&key(*n), Fence { epoch: 9, seq: 0 }, now).unwrap();
        }
        let later = UnixMillis(START + 100_000);
        while !crooked.propose_collection(&[], later).unwrap().is_empty() {}
        while crooked.collect().unwrap().is_some() {}
        prop_assert_eq!(crooked.fingerprint(), straight.fingerprint());
        prop_assert_eq!(bounds(&crooked), bounds(&straight));
    }
}
