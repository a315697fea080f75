//! Pinned pools: what a subscriber has moves with it, and is on one OLT at a time.

use nexus_core::pool::StaticEntry;
use nexus_core::resource::{Resource, ResourceType};

use super::*;
use crate::centre::central::Asker;
use crate::olt_config::OltConfig;

fn pinned_pool() -> PoolId {
    PoolId::new("pinned").unwrap()
}

fn resource(text: &str) -> Resource {
    Resource::parse(ResourceType::Ipv4, text).unwrap()
}

impl Bench {
    /// With a pinned pool in which `sub-7` has an address of its own, and two OLTs.
    fn pinned() -> Self {
        let mut bench = Self::new();
        let create = bench.centre.prepare_create(spec()).unwrap();
        bench.decide(create).unwrap();
        bench.register("olt-1", "s-1");
        bench.register("olt-2", "s-2");
        bench
    }

    fn ask(&mut self, on: &str, who: u8, last_seq: u64) -> Result<Arc<Allocation>, Refused> {
        let request = request(Some(on), who, Some(last_seq));
        self.central(request).map(|(allocation, _)| allocation)
    }

    fn end(&mut self, of: &Allocation, seq: u64) -> Result<(), Refused> {
        self.release(Release {
            olt: of.olt.clone(),
            session: session_of(of.olt.as_str()),
            seq: Seq(seq),
            acked_below: Seq(0),
            pool: pinned_pool(),
            subscriber: of.subscriber.clone(),
            resource: of.place.resource.to_string(),
            shard: of.shard,
            epoch: of.epoch,
            reason: "test".into(),
        })
    }

    fn state(&self, of: &Allocation) -> AllocationState {
        self.centre.record.get(&of.place).unwrap().state
    }
}

fn spec() -> PoolSpec {
    let mut spec = PoolSpec::minimal(pinned_pool(), ResourceType::Ipv4, "192.0.2.0/28");
    spec.pinned = true;
    spec.fixed = vec![StaticEntry {
        subscriber: subscriber(7),
        resource: "192.0.2.2".into(),
    }];
    spec
}

fn session_of(olt: &str) -> SessionId {
    SessionId::new(olt.replace("olt", "s")).unwrap()
}

fn request(on: Option<&str>, who: u8, last_seq: Option<u64>) -> CentralRequest {
    let asker = on.zip(last_seq).map(|(olt, last_seq)| Asker {
        session: session_of(olt),
        last_seq: Seq(last_seq),
    });
    CentralRequest {
        pool: pinned_pool(),
        asker,
        ..central(on, who)
    }
}

#[test]
fn every_olt_of_the_region_works_with_the_pool_and_owns_nothing_of_it() {
    let mut bench = Bench::pinned();
    let parts = |config: OltConfig| -> Vec<(PoolId, usize)> {
        let pools = config.pools.into_iter();
        pools
            .map(|part| (part.spec.id, part.shards.len()))
            .collect()
    };
    let config = bench.centre.config(&olt("olt-1")).unwrap();
    assert!(parts(config.clone()).contains(&(pinned_pool(), 0)));
    assert!(!config.routes.iter().any(|route| route.contains("192.0.2")));
    let mut west = spec();
    west.metadata.insert("region".into(), "west".into());
    let change = bench
        .centre
        .prepare_update(&pinned_pool(), west, None)
        .unwrap();
    bench.decide(change.command).unwrap();
    let later = bench.centre.config(&olt("olt-1")).unwrap();
    assert!(later.pools.iter().all(|part| part.spec.id == pool()));
    let refused = bench.ask("olt-1", 1, 0).unwrap_err();
    assert!(refused.to_string().contains("west"), "{refused}");
}

#[test]
fn a_subscriber_gets_its_own_address_and_nobody_else_does() {
    let mut bench = Bench::pinned();
    // 13 host addresses beside the router's, one of them kept.
    for who in 20..32 {
        let given = bench.ask("olt-1", who, 0).unwrap();
        assert_ne!(given.place.resource, resource("192.0.2.2"));
    }
    let none = bench.ask("olt-1", 32, 0).unwrap_err();
    assert!(matches!(none, Refused::Exhausted { .. }), "{none}");
    let own = bench.ask("olt-1", 7, 0).unwrap();
    assert_eq!(own.place.resource, resource("192.0.2.2"));
    let again = bench.central(request(Some("olt-1"), 7, None)).unwrap();
    assert_eq!((again.0.seq, again.1), (own.seq, Outcome::Repeated));
}

#[test]
fn an_address_moves_only_after_the_old_olt_has_released_it() {
    let mut bench = Bench::pinned();
    let first = bench.ask("olt-1", 1, 0).unwrap();
    for _ in 0..2 {
        let refused = bench.ask("olt-2", 1, 0).unwrap_err();
        assert!(matches!(refused, Refused::BeingMoved(_)), "{refused}");
        assert!(refused.to_string().contains("OLT olt-1"), "{refused}");
    }
    bench.settle();
    assert_eq!(bench.state(&first), AllocationState::Releasing);
    let asked = bench.events.iter().any(|event| {
        matches!(event, Event::Allocation(of, change)
            if *of == olt("olt-1") && change.kind == ChangeKind::ReleaseRequested)
    });
    assert!(asked);
    bench.end(&first, 1).unwrap();
    let moved = bench.ask("olt-2", 1, 0).unwrap();
    assert_eq!(moved.place, first.place);
    assert_eq!(
        (moved.olt.as_str(), moved.state),
        ("olt-2", AllocationState::Active)
    );
    assert!(moved.seq > first.seq);
    bench.end(&first, 2).unwrap_err();
    assert_eq!(
        bench.state(&moved),
        AllocationState::Active,
        "it is not olt-1's any more"
    );
}

#[test]
fn an_olt_that_is_cut_off_keeps_what_it_serves_until_it_is_fenced() {
    let mut bench = Bench::pinned();
    let rule = bench.centre.table().rule().reclaiming_after(None).unwrap();
    bench.decide(Command::SetRule { rule }).unwrap();
    // They are told with the next renewal.
    bench.register("olt-1", "s-1");
    bench.register("olt-2", "s-2");
    let first = bench.ask("olt-1", 1, 0).unwrap();
    bench.pass(Duration::from_secs(30 * 86_400));
    bench.register("olt-2", "s-2");
    let refused = bench.ask("olt-2", 1, 0).unwrap_err();
    assert!(matches!(refused, Refused::BeingMoved(_)), "{refused}");
    // Nor does the record alone free it: whoever has not heard of it asks the table.
    let elsewhere = Command::PinUnit(nexus_core::shard_table::PinUnit {
        shard: ShardKey {
            pool: pinned_pool(),
            shard: first.shard,
        },
        unit: 3,
        holder: subscriber(1),
        server: 9,
        at: None,
    });
    let refused = bench.decide(elsewhere).unwrap_err();
    assert!(matches!(refused, Refused::BeingMoved(_)), "{refused}");
    let gone = bench.centre.prepare_deregister(&olt("olt-1"));
    assert!(gone.is_err());
    let direct = bench.decide(Command::Deregister { olt: olt("olt-1") });
    assert!(direct.is_err(), "not even if the record does not know");
    bench
        .decide(Command::Fence {
            olt: olt("olt-1"),
            reason: "burnt down".into(),
        })
        .unwrap();
    let moved = bench.ask("olt-2", 1, 0).unwrap();
    assert_eq!(
        (moved.place.clone(), moved.olt.as_str()),
        (first.place.clone(), "olt-2")
    );
}

#[test]
fn a_release_that_was_sent_before_the_address_came_back_does_not_count() {
    let mut bench = Bench::pinned();
    let first = bench.ask("olt-1", 1, 4).unwrap();
    // Sent under number 5, and held up on its way while the address goes to olt-2 and back.
    bench.end(&first, 6).unwrap();
    let moved = bench.ask("olt-2", 1, 0).unwrap();
    bench.end(&moved, 1).unwrap();
    let back = bench.ask("olt-1", 1, 6).unwrap();
    assert_eq!(back.place, first.place);
    bench.end(&back, 5).unwrap();
    assert_eq!(bench.state(&back), AllocationState::Active);
    let refused = bench.ask("olt-2", 1, 1).unwrap_err();
    assert!(matches!(refused, Refused::BeingMoved(_)), "{refused}");
    bench.end(&back, 7).unwrap();
    assert!(bench.ask("olt-2", 1, 1).is_ok());
}

#[test]
fn an_olt_that_asks_again_gets_the_same_under_a_number_after_its_own() {
    let mut bench = Bench::pinned();
    let first = bench.ask("olt-1", 1, 4).unwrap();
    let same = bench.ask("olt-1", 1, 4).unwrap();
    assert_eq!(same.seq, first.seq, "nothing has happened since");
    let again = bench.ask("olt-1", 1, 5).unwrap();
    assert_eq!(again.place, first.place);
    assert!(again.seq > first.seq);
    bench.end(&again, 5).unwrap();
    assert_eq!(bench.state(&again), AllocationState::Active);
}

#[test]
fn a_released_address_rests_for_its_subscriber_and_is_free_after_that() {
    let mut bench = Bench::pinned();
    let first = bench.ask("olt-1", 1, 0).unwrap();
    bench.end(&first, 1).unwrap();
    assert_eq!(bench.centre.table().units_taken(), 1, "others have to wait");
    assert_eq!(bench.ask("olt-2", 1, 0).unwrap().place, first.place);
    let second = bench.ask("olt-2", 2, 0).unwrap();
    bench.end(&second, 1).unwrap();
    bench.pass(Duration::from_secs(2 * 3600));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.centre.table().units_taken(), 1);
}

#[test]
fn what_a_server_took_and_did_not_come_to_record_is_recorded_by_it_later() {
    let mut bench = Bench::pinned();
    // The first server of a cluster knows all that there is.
    let (ticket, _) = bench.centre.replica.found();
    bench.centre.replica.settle(ticket);
    let first = bench.ask("olt-1", 1, 0).unwrap();
    let now = bench.now;
    let Prepared::Take(unit) = bench
        .centre
        .prepare_central(&now, &request(Some("olt-1"), 1, Some(9)))
        .unwrap()
    else {
        panic!("nothing to take");
    };
    bench.decide(unit.command(&subscriber(1), 7)).unwrap();
    let refused = bench.end(&first, 10).unwrap_err();
    assert!(matches!(refused, Refused::NotNow(_)), "{refused}");
    bench.pass(Duration::from_secs(61));
    bench.pass(Duration::from_secs(61));
    assert!(bench.centre.record.get(&first.place).unwrap().seq > first.seq);
    bench.end(&first, 10).unwrap();
    assert_eq!(bench.state(&first), AllocationState::Released);
}
