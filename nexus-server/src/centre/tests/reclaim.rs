//! What is on record of an OLT that was away for longer than `reclaim_after`.

use nexus_core::cluster::{Introduction, MemberCommand, Role};
use nexus_core::id::NodeName;
use nexus_core::resource::ResourceType;
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Reclaim, Step};

use super::*;
use crate::centre::central::Asker;

/// The lease, what outlives it, and every margin.
const OVER: Duration = Duration::from_secs(3700 + 7 * 87_300);

impl Bench {
    /// One server that alone is the majority, and an OLT with the allocations of `who`.
    fn with_dead_olt(who: &[u8]) -> (Self, Registered, Vec<Claim>) {
        let mut bench = Self::new();
        bench.member(MemberCommand::Found(introduction(7)));
        bench.centre.found().unwrap();
        bench.settle();
        let registered = bench.register("olt-1", "s-1");
        let claims: Vec<Claim> = (1..)
            .zip(who)
            .map(|(seq, who)| claim_of(&registered, *who, 100 + who, seq))
            .collect();
        for claim in &claims {
            bench.claim(claim.clone()).unwrap();
        }
        (bench, registered, claims)
    }

    fn member(&mut self, command: MemberCommand) {
        let command = ClusterCommand::from(command).encode().unwrap();
        let at = ClusterTime(self.now.boot.0);
        self.centre.decided(&self.now, at, &command).unwrap();
        self.settle();
    }

    fn tick(&mut self) {
        self.decide(Command::Tick).unwrap();
        let now = self.now;
        self.centre.tick(&now).unwrap();
        self.settle();
    }

    fn held_on(&self, id: &str) -> u64 {
        self.centre.record.olt_counts(&olt(id)).held()
    }

    fn try_register(&mut self, id: &str, session: &str) -> Result<Answer, Refused> {
        let now = self.now;
        let registration = registration(id, session, 1);
        let command = self.centre.prepare_register(&now, registration)?;
        self.decide(command)
    }
}

fn introduction(number: u32) -> Introduction {
    Introduction {
        number,
        name: NodeName::new(format!("n{number}")).unwrap(),
        role: Role::Core,
        peer_id: format!("12D3KooW{number}"),
        addresses: vec![format!("/ip4/192.0.2.{number}/tcp/9000")],
        http: String::new(),
        grpc: String::new(),
    }
}

#[test]
fn everything_on_a_dead_olt_is_released_once_its_time_is_over_and_not_before() {
    let (mut bench, ..) = Bench::with_dead_olt(&[1, 2, 3]);
    bench.pass(Duration::from_secs(4000));
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 3, "the lease alone takes nothing");
    let left = bench
        .centre
        .node(&olt("olt-1"))
        .unwrap()
        .reclaim_in
        .unwrap();
    assert!(left > Duration::from_secs(6 * 86_400), "{left:?}");
    bench.pass(OVER.saturating_sub(Duration::from_secs(4500)));
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 3);
    bench.pass(Duration::from_secs(4500));
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 0);
    assert!(
        bench
            .all()
            .iter()
            .all(|known| known.state == AllocationState::Released)
    );
    let node = bench.centre.node(&olt("olt-1")).unwrap();
    assert_eq!((node.reclaim_in, node.allocations), (None, 0));
    bench.tick();
    assert_eq!(
        bench.centre.table().reclaim_of(&olt("olt-1")),
        Reclaim::Done
    );
    // Nothing is left of it, so it can be forgotten without a drain.
    assert!(bench.centre.prepare_deregister(&olt("olt-1")).is_ok());
}

#[test]
fn who_owns_the_shard_next_gives_the_address_of_a_reclaimed_one_to_another_subscriber() {
    let (mut bench, _, claims) = Bench::with_dead_olt(&[1]);
    bench.pass(OVER);
    bench.tick();
    bench.tick();
    bench.register("olt-2", "s-2");
    let shard = ShardKey {
        pool: pool(),
        shard: claims[0].shard,
    };
    let owner = bench.centre.table().shard(&shard).unwrap().owner.clone();
    if owner.is_none() {
        let to = olt("olt-2");
        let steps = vec![Step::Grant { shard, to }];
        bench.decide_only(Command::Place { steps }).unwrap();
    }
    let next = bench.centre.config(&olt("olt-2")).unwrap();
    let mut owned = next.pools.iter().flat_map(|part| &part.shards);
    let owned = owned.find(|owned| owned.shard == claims[0].shard).unwrap();
    let claim = Claim {
        olt: olt("olt-2"),
        session: SessionId::new("s-2").unwrap(),
        subscriber: subscriber(9),
        epoch: owned.epoch,
        ..claims[0].clone()
    };
    bench.claim(claim).unwrap();
    let holders: Vec<_> = bench
        .all()
        .into_iter()
        .map(|known| known.subscriber)
        .collect();
    assert_eq!(holders, [subscriber(9)]);
}

#[test]
fn the_work_is_bounded_and_goes_on_where_another_server_stopped() {
    let who: Vec<u8> = (1..=150).collect();
    let (mut bench, ..) = Bench::with_dead_olt(&who);
    bench.now.boot = bench.now.boot.saturating_add(OVER);
    bench.decide(Command::Tick).unwrap();
    assert_eq!(bench.held_on("olt-1"), 150);
    // The server that led stops before it has begun; the quorum's word stands.
    bench.restart();
    let refused = bench.try_register("olt-1", "s-1").unwrap_err();
    assert!(matches!(refused, Refused::NotNow(_)), "{refused}");
    bench.tick();
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 0);
    bench.try_register("olt-1", "s-1").unwrap();
    assert_eq!(
        bench.centre.table().reclaim_of(&olt("olt-1")),
        Reclaim::Kept
    );
}

#[test]
fn a_host_that_comes_back_in_time_keeps_everything_and_a_late_one_nothing_it_says() {
    let (mut bench, _, claims) = Bench::with_dead_olt(&[1]);
    bench.pass(OVER.saturating_sub(Duration::from_secs(2000)));
    bench.tick();
    bench.try_register("olt-1", "s-1").unwrap();
    bench.pass(Duration::from_secs(4000));
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 1);
    bench.pass(OVER);
    bench.tick();
    bench.tick();
    assert_eq!(bench.held_on("olt-1"), 0);
    for refused in [
        bench.claim(claims[0].clone()).unwrap_err(),
        bench.release(release_of(&claims[0], 7)).unwrap_err(),
    ] {
        assert!(matches!(refused, Refused::SessionOver(_)), "{refused}");
    }
    let refused = bench.central(central(Some("olt-1"), 5)).unwrap_err();
    assert!(matches!(refused, Refused::UnknownOlt(_)), "{refused}");
}

#[test]
fn a_pinned_address_stays_its_subscribers_and_goes_elsewhere_with_it() {
    let (mut bench, ..) = Bench::with_dead_olt(&[]);
    let pinned = PoolId::new("pinned").unwrap();
    let mut spec = PoolSpec::minimal(pinned.clone(), ResourceType::Ipv4, "192.0.2.0/28");
    spec.pinned = true;
    let create = bench.centre.prepare_create(spec).unwrap();
    bench.decide(create).unwrap();
    let ask = |bench: &mut Bench, on: &str, session: &str| {
        let request = CentralRequest {
            pool: pinned.clone(),
            asker: Some(Asker {
                session: SessionId::new(session).unwrap(),
                last_seq: Seq(0),
            }),
            ..central(Some(on), 4)
        };
        bench.central(request).map(|(allocation, _)| allocation)
    };
    let given = ask(&mut bench, "olt-1", "s-1").unwrap();
    bench.pass(OVER);
    bench.tick();
    bench.register("olt-2", "s-2");
    let known = bench.centre.record.get(&given.place).unwrap();
    assert_eq!(
        (known.state, known.olt.is_cluster()),
        (AllocationState::Active, true)
    );
    let moved = ask(&mut bench, "olt-2", "s-2").unwrap();
    assert_eq!(moved.place.resource, given.place.resource);
    assert_eq!(moved.olt, olt("olt-2"));
    // What the old host says of it later ends nothing.
    bench.tick();
    bench.try_register("olt-1", "s-1").unwrap();
    let late = Release {
        olt: olt("olt-1"),
        session: SessionId::new("s-1").unwrap(),
        seq: Seq(9),
        acked_below: Seq(0),
        pool: pinned.clone(),
        subscriber: subscriber(4),
        resource: given.place.resource.to_string(),
        shard: given.shard,
        epoch: given.epoch,
        reason: "late".into(),
    };
    let refused = bench.release(late).unwrap_err();
    assert!(matches!(refused, Refused::OtherOlt { .. }), "{refused}");
}

#[test]
fn what_is_not_yet_on_a_majority_keeps_the_host_out() {
    let (mut bench, ..) = Bench::with_dead_olt(&[1]);
    // A second server that decides, and of which nothing is heard.
    bench.member(MemberCommand::Join {
        node: introduction(8),
        admit: true,
        replace: false,
    });
    bench.member(MemberCommand::CaughtUp { number: 8 });
    bench.pass(OVER);
    for _ in 0..5 {
        bench.tick();
    }
    assert_eq!(bench.held_on("olt-1"), 0);
    assert_eq!(
        bench.centre.table().reclaim_of(&olt("olt-1")),
        Reclaim::Running
    );
    // It is not forgotten either, however long that takes.
    bench.pass(OVER);
    bench.tick();
    assert_eq!(bench.all().len(), 1);
    let refused = bench.try_register("olt-1", "s-1").unwrap_err();
    assert!(matches!(refused, Refused::NotNow(_)), "{refused}");
}
