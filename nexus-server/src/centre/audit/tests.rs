//! Tests of the audit: what is kept as the record changes against a plain look at all pairs, and the walk.

use nexus_core::resource::ResourceType;
use nexus_core::time::BootTime;
use proptest::prelude::*;

use super::overlaps::Overlaps;
use super::walk::Walk;
use super::*;
use crate::allocation::AllocationState;
use crate::allocation::tests::example;

const AT: Now = Now {
    boot: BootTime(7),
    wall: Timestamp::UNIX_EPOCH,
};

fn place(kind: ResourceType, text: &str) -> Place {
    Place {
        vrf: "default".into(),
        resource: Resource::parse(kind, text).unwrap(),
    }
}

fn put(record: &mut Record, place: &Place, state: AllocationState) -> Option<Allocation> {
    let allocation = Allocation {
        place: place.clone(),
        state,
        ..example("sub-1", "p", "10.0.0.1")
    };
    record.put(allocation, BootTime::MAX)
}

/// Every place that lies or begins in a held one before it, found by comparing all with all.
fn plainly(record: &Record) -> Vec<Place> {
    let held: Vec<&Place> = record
        .all(None)
        .filter(|known| known.state.is_held())
        .map(|known| &known.place)
        .collect();
    let met = |inner: &&&Place| {
        held.iter()
            .any(|outer| outer < *inner && contains(outer, inner))
    };
    held.iter()
        .filter(met)
        .map(|inner| (*inner).clone())
        .collect()
}

fn kept(overlaps: &Overlaps) -> Vec<Place> {
    overlaps.pairs().map(|(inner, _)| inner.clone()).collect()
}

fn walked(record: &Record, overlaps: &mut Overlaps, slice: usize) -> Walked {
    let mut walk = Walk::default();
    let most = record.count() / slice + 1;
    let through = (0..most).any(|_| walk.step(record, overlaps, &AT, slice));
    assert!(through, "not through after {most} slices of {slice}");
    walk.last().unwrap()
}

#[test]
fn what_lies_in_another_resource_of_the_same_vrf_is_found_and_nothing_else() {
    for (kind, outer, inner, is_part) in [
        (ResourceType::Ipv6, "2001:db8::/56", "2001:db8::/64", true),
        (ResourceType::Ipv6, "2001:db8::/56", "2001:db8::7/128", true),
        (
            ResourceType::Ipv6,
            "2001:db8::/56",
            "2001:db8:0:100::/56",
            false,
        ),
        (
            ResourceType::Port,
            "192.0.2.1:1024-1535",
            "192.0.2.1:1535",
            true,
        ),
        (
            ResourceType::Port,
            "192.0.2.1:1024-1535",
            "192.0.2.1:1024-2047",
            true,
        ),
        (
            ResourceType::Port,
            "192.0.2.1:1024-1535",
            "192.0.2.1:1536-2047",
            false,
        ),
        (
            ResourceType::Port,
            "192.0.2.1:1024-1535",
            "192.0.2.2:1024-1535",
            false,
        ),
        (ResourceType::Vlan, "100", "101", false),
    ] {
        let (outer, inner) = (place(kind, outer), place(kind, inner));
        assert!(outer < inner, "the record's order");
        assert_eq!(contains(&outer, &inner), is_part, "{outer} {inner}");
        let elsewhere = Place {
            vrf: "blue".into(),
            ..inner
        };
        assert!(!contains(&outer, &elsewhere));
    }
}

#[test]
fn a_walk_finds_what_was_missed_when_it_came_about_and_drops_what_was_kept_too_long() {
    let (mut record, mut overlaps) = (Record::default(), Overlaps::default());
    let wide = place(ResourceType::Ipv6, "2001:db8::/48");
    for n in 0..20 {
        let narrow = place(ResourceType::Ipv6, &format!("2001:db8:0:{n}::/64"));
        put(&mut record, &narrow, AllocationState::Active);
    }
    put(&mut record, &wide, AllocationState::Active);
    assert_eq!(kept(&overlaps), []);
    assert_eq!(walked(&record, &mut overlaps, 3).checked, 21);
    assert_eq!(kept(&overlaps).len(), 20);
    put(&mut record, &wide, AllocationState::Released);
    assert_eq!(walked(&record, &mut overlaps, 3).checked, 20);
    assert_eq!(kept(&overlaps), []);
}

#[test]
fn the_next_walk_begins_a_minute_after_the_last_one_began() {
    let (record, mut overlaps) = (Record::default(), Overlaps::default());
    let mut walk = Walk::default();
    let mut steps = |secs: u64| {
        let now = Now {
            boot: BootTime(secs * 1_000_000_000),
            ..AT
        };
        walk.step(&record, &mut overlaps, &now, 10)
    };
    assert_eq!(
        [0, 1, 59, 60, 61].map(&mut steps),
        [true, false, false, true, false]
    );
}

/// A few places that often meet.
fn any_place() -> impl Strategy<Value = Place> {
    let prefix =
        (prop::sample::select(vec![52_u8, 56, 60, 64]), 0_u16..64).prop_map(|(length, at)| {
            let bits = at << (64 - length).min(10);
            format!(
                "2001:db8:0:{:x}::/{length}",
                bits & (u16::MAX << (64 - length))
            )
        });
    let ports = (1_u16..60, 0_u16..12, 1_u8..3).prop_map(|(first, more, address)| match more {
        0 => format!("192.0.2.{address}:{first}"),
        more => format!("192.0.2.{address}:{first}-{}", first + more),
    });
    prop_oneof![
        prefix.prop_map(|text| place(ResourceType::Ipv6, &text)),
        ports.prop_map(|text| place(ResourceType::Port, &text)),
    ]
}

proptest! {
    #[test]
    fn what_is_kept_and_what_a_walk_finds_are_what_a_look_at_all_pairs_finds(
        changes in prop::collection::vec((any_place(), 0..4_u8), 1..120),
        slice in 1_usize..9,
    ) {
        let (mut record, mut overlaps) = (Record::default(), Overlaps::default());
        for (place, what) in changes {
            let before = match what {
                0 => record.remove(&place),
                1 => put(&mut record, &place, AllocationState::Released),
                _ => put(&mut record, &place, AllocationState::Active),
            };
            let was_held = before.is_some_and(|known| known.state.is_held());
            overlaps.changed(&record, &place, was_held, what > 1);
            prop_assert_eq!(kept(&overlaps), plainly(&record));
        }
        let mut found = Overlaps::default();
        walked(&record, &mut found, slice);
        prop_assert_eq!(kept(&found), plainly(&record));
        walked(&record, &mut overlaps, slice);
        prop_assert_eq!(kept(&overlaps), plainly(&record));
    }
}
