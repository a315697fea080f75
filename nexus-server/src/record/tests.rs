//! Tests of the record: its indexes, ranges and cool-down.

use nexus_core::resource::ResourceType;

use super::*;
use crate::allocation::tests::example;

fn ipv4(text: &str) -> Resource {
    Resource::parse(ResourceType::Ipv4, text).unwrap()
}

#[test]
fn indexes_follow_every_change() {
    let mut record = Record::default();
    let mut one = example("sub-1", "p", "10.0.0.1");
    assert_eq!(record.put(one.clone(), BootTime::ZERO), None);
    record.put(example("sub-2", "p", "10.0.0.2"), BootTime::ZERO);
    record.put(example("sub-1", "q", "10.1.0.1"), BootTime::ZERO);
    assert_eq!(record.of_subscriber(&one.subscriber).count(), 2);
    assert_eq!(record.of_olt(&one.olt, None).count(), 3);
    assert_eq!(record.counts(&one.pool).active, 2);

    one.state = AllocationState::Released;
    one.olt = OltId::new("olt-2").unwrap();
    assert!(record.put(one.clone(), BootTime(5)).is_some());
    assert_eq!(record.active(&one.subscriber, &one.pool), None);
    assert_eq!(record.of_olt(&one.olt, None).count(), 1);
    assert_eq!(record.olt_counts(&one.olt).held(), 0);
    assert_eq!(record.olt_counts(&one.olt).all(), 1);
    assert_eq!(
        record.counts(&one.pool),
        Counts {
            active: 1,
            releasing: 0,
            released: 1
        }
    );

    record.remove(&one.place);
    assert_eq!(record.of_olt(&one.olt, None).count(), 0);
    assert_eq!(record.cooled(BootTime::MAX, 10), vec![]);
    assert_eq!(record.count(), 2);
}

#[test]
fn released_resources_come_back_in_the_order_in_which_they_cooled() {
    let mut record = Record::default();
    for (address, until) in [("10.0.0.1", 30), ("10.0.0.2", 10), ("10.0.0.3", 20)] {
        let mut released = example("sub-1", "p", address);
        released.state = AllocationState::Released;
        record.put(released, BootTime(until));
    }
    let cooled = |record: &Record, now| -> Vec<String> {
        let places = record.cooled(BootTime(now), 10);
        places.iter().map(|p| p.resource.to_string()).collect()
    };
    assert_eq!(cooled(&record, 9), Vec::<String>::new());
    assert_eq!(cooled(&record, 25), ["10.0.0.2", "10.0.0.3"]);
    let place = example("x", "p", "10.0.0.2").place;
    record.cool_longer(&place, BootTime(40));
    // A pool whose lease time was made shorter does not end a longer rest: the client has the old one.
    record.cool_longer(&place, BootTime(1));
    assert_eq!(cooled(&record, 39), ["10.0.0.3", "10.0.0.1"]);
    assert_eq!(cooled(&record, 40), ["10.0.0.3", "10.0.0.1", "10.0.0.2"]);
    record.put(example("sub-9", "p", "10.0.0.2"), BootTime(1));
    assert_eq!(cooled(&record, 90), ["10.0.0.3", "10.0.0.1"]);
}

#[test]
fn a_range_holds_its_ends_and_nothing_of_another_vrf() {
    let mut record = Record::default();
    for last in 1..=5 {
        record.put(example("s", "p", &format!("10.0.0.{last}")), BootTime::ZERO);
    }
    let mut other = example("s", "p", "10.0.0.3");
    other.place.vrf = "other".into();
    record.put(other, BootTime::ZERO);
    let found: Vec<_> = record
        .between("default", ipv4("10.0.0.2"), ipv4("10.0.0.4"))
        .map(|a| a.place.resource.to_string())
        .collect();
    assert_eq!(found, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    assert_eq!(
        record
            .between("default", ipv4("10.0.0.4"), ipv4("10.0.0.2"))
            .count(),
        0
    );
    let after = example("s", "p", "10.0.0.4").place;
    assert_eq!(record.all(Some(&after)).count(), 2);
}
