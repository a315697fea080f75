//! Tests of changes of a pool in use.

use proptest::prelude::*;

use super::space::any_pool;
use super::{pool, with};
use crate::pool::{Change, Pool};
use crate::resource::{Resource, ResourceType};

fn change(before: &str, after: &str) -> Result<Change, String> {
    let named = |text: &str| pool(&format!("id: p\n{text}")).unwrap();
    named(before)
        .change_to(&named(after))
        .map_err(|error| error.to_string())
}

#[test]
fn a_pool_grows_and_shrinks_at_its_end_by_whole_shards() {
    for (before, after, expected) in [
        (
            "type: ipv4\ncidr: 10.0.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/15\nshard_size: 24",
            Change::Grown { shards: 256 },
        ),
        (
            "type: ipv4\ncidr: 10.0.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/17\nshard_size: 24",
            Change::Shrunk { shards: 128 },
        ),
        (
            "type: ipv6\ncidr: 2001:db8::/40",
            "type: ipv6\ncidr: 2001:db8::/36\nshard_size: 52",
            Change::Grown {
                shards: 65536 - 4096,
            },
        ),
        (
            "type: vlan\nrange: 1-50",
            "type: vlan\nrange: 1-90",
            Change::Grown { shards: 0 },
        ),
        (
            "type: vlan\nrange: 1-250",
            "type: vlan\nrange: 1-120",
            Change::Shrunk { shards: 1 },
        ),
        (
            "type: port\nrange: 1024-2047",
            "type: port\nrange: 1024-65535",
            Change::Grown { shards: 62 },
        ),
        (
            "type: port\nrange: 1024-2047\naddresses: 192.0.2.0/30",
            "type: port\nrange: 1024-2047\naddresses: 192.0.2.0/28",
            Change::Grown { shards: 12 },
        ),
        (
            "type: ipv4\ncidr: 10.0.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/16\nexclusions: [10.0.7.0/24]\nassign: on-request",
            Change::Same,
        ),
    ] {
        assert_eq!(change(before, after), Ok(expected), "{after}");
    }
}

#[test]
fn what_would_move_a_unit_is_refused_with_what_to_write() {
    for (before, after, expected) in [
        (
            "type: ipv4\ncidr: 10.0.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/15",
            &["from /24 to /23", "`shard_size: 24`"][..],
        ),
        (
            "type: ipv4\ncidr: 10.1.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/15\nshard_size: 24",
            &["10.1.0.0/16", "10.0.0.0/15", "at its end"],
        ),
        (
            "type: ipv4\ncidr: 10.0.0.0/16\nshard_size: 20",
            "type: ipv4\ncidr: 10.0.0.0/24",
            &["10.0.0.0/24", "less than one of its shards, /20"],
        ),
        (
            "type: ipv4\ncidr: 10.0.0.0/16",
            "type: ipv4\ncidr: 10.0.0.0/16\nvrf: blue",
            &["vrf cannot change from `default` to `blue`"],
        ),
        (
            "type: vlan\nrange: 1-50",
            "type: vlan\nrange: 1-50\npinned: true",
            &["pinned cannot change from `false` to `true`"],
        ),
        (
            "type: vlan\nrange: 1-50",
            "type: svlan\nrange: 1-50",
            &["type cannot change from `vlan` to `svlan`"],
        ),
        (
            "type: vlan\nrange: 1-50\nshard_size: 10",
            "type: vlan\nrange: 1-90",
            &["from 10 numbers to 100 numbers", "`shard_size: 10`"],
        ),
        (
            "type: ipv6\ncidr: 2001:db8::/40",
            "type: ipv6\ncidr: 2001:db8::/40\ndelegated_length: 60",
            &["delegated_length cannot change from `56` to `60`"],
        ),
        (
            "type: port\nrange: 1024-2047\nblock_size: 64",
            "type: port\nrange: 1024-2047\nblock_size: 32",
            &["block_size cannot change from `64` to `32`"],
        ),
        (
            "type: port\nrange: 1024-2047\naddresses: 192.0.2.0/30",
            "type: port\nrange: 1024-4095\naddresses: 192.0.2.0/30",
            &["range cannot change from `1024-2047`"],
        ),
        (
            "type: port\nrange: 1024-2047\nblock_size: 64",
            "type: port\nrange: 1024-2047\nblock_size: 64\naddresses: 192.0.2.0/30",
            &["addresses cannot change from `none` to `some`"],
        ),
    ] {
        let error = change(before, after).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }
}

#[test]
fn what_is_taken_away_is_named_in_ranges() {
    let before = with("exclusions: [100.64.3.0/28]").unwrap();
    let after =
        with("exclusions: [100.64.3.0/24, 100.64.9.9]\ndhcp: {router: 100.64.0.2}").unwrap();
    let ranges = |before: &Pool, after: &Pool| -> Vec<String> {
        before
            .withdrawn(after)
            .map(|(first, last)| format!("{first}-{last}"))
            .collect()
    };
    assert_eq!(
        ranges(&before, &after),
        [
            "100.64.0.2-100.64.0.2",
            "100.64.3.16-100.64.3.255",
            "100.64.9.9-100.64.9.9"
        ]
    );
    assert_eq!(before.withdrawn_count(&after), 242);
    assert_eq!(ranges(&before, &before), Vec::<String>::new());
    let shrunk = pool("id: p4\ntype: ipv4\ncidr: 100.64.0.0/11\nshard_size: 18").unwrap();
    assert_eq!(
        ranges(&before, &shrunk),
        [
            "100.95.255.255-100.95.255.255",
            "100.96.0.0-100.127.255.254"
        ]
    );
}

proptest! {
    #[test]
    fn withdrawn_is_exactly_what_was_allocatable_and_is_not_any_more(
        before in any_pool(),
        more in proptest::collection::vec((any::<u64>(), 0u64..30), 0..4),
        shrink in any::<bool>(),
    ) {
        prop_assume!(before.shard_count() <= 64 && before.units(crate::id::ShardId(0)) <= 1024);
        let mut spec = before.spec().clone();
        let units: Vec<Resource> = before
            .shards()
            .flat_map(|shard| (0..before.units(shard)).map(move |unit| (shard, unit)))
            .filter_map(|(shard, unit)| before.resource(shard, unit))
            .collect();
        for (start, len) in more {
            let first = (start % units.len() as u64) as usize;
            let last = (first + len as usize).min(units.len() - 1);
            let text = match (units[first], units[last]) {
                (Resource::Ipv4(first), Resource::Ipv4(last)) => format!("{first}-{last}"),
                (first, _) => first.to_string(),
            };
            spec.exclusions.push(text);
        }
        if shrink && before.kind() == ResourceType::Ipv4 {
            let net: ipnet::Ipv4Net = spec.cidr.clone().unwrap().parse().unwrap();
            let smaller = ipnet::Ipv4Net::new(net.addr(), (net.prefix_len() + 1).min(30)).unwrap();
            spec.cidr = Some(smaller.to_string());
            spec.exclusions.clear();
        }
        let Ok(after) = Pool::new(spec) else {
            return Ok(());
        };
        let Ok(change) = before.change_to(&after) else {
            return Ok(());
        };
        let ranges: Vec<_> = before.withdrawn(&after).collect();
        let mut count = 0;
        for unit in &units {
            let gone = before.is_allocatable(unit) && !after.is_allocatable(unit);
            let named = ranges.iter().any(|(first, last)| first <= unit && unit <= last);
            prop_assert_eq!(gone, named, "{} {:?}", unit, ranges);
            count += u64::from(gone);
            if let Some(place) = after.locate(unit) {
                prop_assert_eq!(Some(place), before.locate(unit), "a unit has moved by {:?}", change);
            }
        }
        prop_assert_eq!(before.withdrawn_count(&after), count);
    }
}
