//! DECLINE: the address is nobody's for a while, and its subscriber has another at once (RFC 2131 4.3.3).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::access_node::Line;
use nexus_testkit::packet::Frame;

use crate::bench::{Bench, POOL, SMALL_POOL, SMALL_SERVER, WRONG};
use crate::subscriber::Subscriber;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_declined_address_rests_and_the_subscriber_has_another_everywhere() {
    let line = |number: u16| Line::QinQ {
        s_vlan: 200,
        c_vlan: number,
    };
    // More than the small pool has addresses.
    let many: Vec<_> = (1..=80)
        .map(|number| Subscriber::new(number, line(number), SMALL_POOL))
        .collect();
    let [declining, other, ..] = many.as_slice() else {
        unreachable!()
    };
    let known = Subscriber::new(200, Line::Vlan(100), POOL);
    let accounts = [&many[..], std::slice::from_ref(&known)].concat();
    let mut bench = Bench::start("decline", &[], &accounts);
    let free = available(&bench);
    let first = [declining.clone(), other.clone(), known.clone()];
    let addresses = bench.connect(&first);
    let declined = addresses[&declining.name];
    let of_other = addresses[&other.name];
    let before = bench.kernel();

    // To another server, of another address, of none, and on another line.
    let elsewhere = Frame {
        tags: other.tags(),
        ..declining.decline(4, declined, SMALL_SERVER)
    };
    let wrong = [
        declining.decline(1, declined, WRONG),
        declining.decline(2, of_other, SMALL_SERVER),
        declining.decline(3, WRONG, SMALL_SERVER),
        elsewhere,
    ];
    bench.assert_silence(&wrong.map(|frame| frame.build()), &known);
    assert_eq!(bench.kernel(), before);
    bench.wait_recorded(declining, &[(declined, "active")]);
    assert_eq!(bench.counts().slow(Outcome::SlowMessage), 0);

    let decline = declining.decline(5, declined, SMALL_SERVER);
    bench.assert_silence(&[decline.build()], &known);
    assert_eq!(bench.counts().slow(Outcome::SlowMessage), 1);
    let instead = bench.bound(declining).unwrap();
    assert!(instead != declined && instead != of_other, "{instead}");
    assert_eq!(bench.bound(other), Some(of_other));

    // The next DISCOVER, RADIUS and the record say the new one.
    let answered = bench.counts().answers();
    let offer = bench.ask_and_read(&declining.discover(6));
    assert_eq!(offer.message.yiaddr, instead);
    assert_eq!(bench.counts().answers(), (answered.0 + 1, answered.1));
    let again = bench.nas.accepted(std::slice::from_ref(declining));
    assert_eq!(again[&declining.name], instead);
    bench.wait_synced();
    bench.wait_recorded(declining, &[(declined, "released"), (instead, "active")]);

    // Declined once more, now the address that it does not have any more: nothing changes.
    let late = declining.decline(7, declined, SMALL_SERVER);
    bench.assert_silence(&[late.build()], &known);
    assert_eq!(bench.bound(declining), Some(instead));

    // Everything else is given away, after a crash too; the declined one is not.
    bench.host.kill().unwrap();
    bench.start_sidecar();
    let answers = bench.nas.answers(&many);
    let given: Vec<Ipv4Addr> = answers.values().copied().flatten().collect();
    let distinct: BTreeSet<Ipv4Addr> = given.iter().copied().collect();
    assert_eq!(given.len(), distinct.len(), "no address twice");
    assert!(!distinct.contains(&declined), "{declined} was given again");
    assert_eq!(given.len() + 1, free, "all but the declined one");
    assert_eq!(answers[&declining.name], Some(instead));
    assert_eq!(available(&bench), 0);
}

/// Addresses of the small pool that the host could give.
fn available(bench: &Bench) -> usize {
    let status = bench.host.status().unwrap();
    let shards = status["shards"].as_array().unwrap();
    let of_pool = shards.iter().filter(|shard| shard["pool"] == SMALL_POOL);
    let available: u64 = of_pool
        .map(|shard| shard["available"].as_u64().unwrap())
        .sum();
    usize::try_from(available).unwrap()
}
