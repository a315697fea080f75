//! Claims from shards that have moved, and what a session is told of the ones before it.

use nexus_core::cluster::{Introduction, MemberCommand, Role};
use nexus_core::id::NodeName;
use nexus_core::shard::ShardRef;

use super::*;

/// An OLT has recorded an address and given its shard back; another one has got the shard. Gives what the first one
/// had claimed, and the second one's registration with that shard alone.
fn moved(bench: &mut Bench) -> (Claim, Registered) {
    let first = bench.register("olt-0", "s-0");
    let claim = claim_of(&first, 1, 9, 1);
    bench.claim(claim.clone()).unwrap();
    let shards = vec![ShardRef {
        pool: pool(),
        shard: claim.shard,
        epoch: claim.epoch,
    }];
    let (olt, session) = (claim.olt.clone(), claim.session.clone());
    let drained = Command::Drain { olt: olt.clone() };
    bench.decide(drained).unwrap();
    let given = Command::GiveBack {
        olt,
        session,
        shards,
    };
    bench.decide(given).unwrap();
    for number in 1..300 {
        let mut other = bench.register(&format!("olt-{number}"), &format!("s-{number}"));
        let shards = &mut other.config.pools[0].shards.clone();
        shards.retain(|owned| owned.shard == claim.shard);
        if !shards.is_empty() {
            Arc::make_mut(&mut other.config).pools[0].shards = shards.clone();
            return (claim, other);
        }
    }
    panic!("nobody got the shard");
}

#[test]
fn a_claim_that_is_repeated_after_its_shard_has_moved_is_not_confirmed() {
    let mut bench = Bench::new();
    let first = bench.register("olt-0", "s-0");
    let claim = claim_of(&first, 1, 9, 1);
    bench.claim(claim.clone()).unwrap();
    let again = bench.claim(claim.clone()).unwrap();
    assert_eq!(again.1, Outcome::Repeated);
    let shards = vec![ShardRef {
        pool: pool(),
        shard: claim.shard,
        epoch: claim.epoch,
    }];
    let given = Command::GiveBack {
        olt: claim.olt.clone(),
        session: claim.session.clone(),
        shards,
    };
    bench.decide(given).unwrap();
    let refused = bench.claim(claim).unwrap_err();
    assert!(matches!(refused, Refused::NotYourShard { .. }), "{refused}");
}

#[test]
fn what_is_on_record_stays_its_subscribers_when_the_next_owner_claims_it_for_another() {
    let mut bench = Bench::new();
    let (older, other) = moved(&mut bench);
    let newer = claim_of(&other, 2, 9, 1);
    assert_eq!(newer.resource, older.resource);
    assert!(newer.epoch > older.epoch);
    let refused = bench.claim(newer).unwrap_err();
    assert!(
        matches!(refused, Refused::ResourceTaken { .. }),
        "{refused}"
    );
    let all = bench.all();
    let on_record: Vec<_> = all.iter().map(|a| (&a.subscriber, &a.olt)).collect();
    assert_eq!(on_record, [(&older.subscriber, &older.olt)]);
}

/// A server that may vote.
pub(super) fn member(number: u32) -> Introduction {
    Introduction {
        number,
        name: NodeName::new(format!("n{number}")).unwrap(),
        role: Role::Core,
        peer_id: format!("peer-{number}"),
        addresses: Vec::new(),
        http: format!("n{number}:9000"),
        grpc: format!("n{number}:9001"),
    }
}

#[test]
fn a_subscriber_that_left_an_olt_whose_wall_clock_is_ahead_keeps_what_it_gets_elsewhere() {
    let mut bench = Bench::new();
    let ahead = bench.register("olt-1", "s-1");
    let right = bench.register("olt-2", "s-2");
    let given = |bench: &Bench, secs| Some(bench.now.wall + Duration::from_secs(secs));
    let first = Claim {
        made_at: given(&bench, 3600),
        ..claim_of(&ahead, 1, 9, 1)
    };
    let (first, _) = bench.claim(first).unwrap();
    assert_eq!(first.made_at, bench.now.wall);
    bench.now.wall += Duration::from_secs(2);
    let second = Claim {
        made_at: given(&bench, 0),
        ..claim_of(&right, 1, 9, 1)
    };
    let (second, _) = bench.claim(second).unwrap();
    assert_eq!(second.state, AllocationState::Active);
    let all = bench.all();
    let first = all.iter().find(|known| known.place == first.place).unwrap();
    assert_eq!(first.state, AllocationState::Releasing);
}

#[test]
fn what_lies_in_a_part_that_the_pool_does_not_have_any_more_can_still_be_given_back() {
    let mut bench = Bench::new();
    let registered = bench.register("olt-1", "s-1");
    let left = Claim {
        resource: "10.1.0.9".to_owned(),
        shard: nexus_core::id::ShardId(256),
        ..claim_of(&registered, 1, 9, 1)
    };
    let nowhere = bench.release(release_of(&left, 2)).unwrap_err();
    assert!(matches!(nowhere, Refused::Invalid { .. }), "{nowhere}");
    let at = crate::allocation::to_millisecond(bench.now.wall);
    let resource = nexus_core::resource::ResourceType::Ipv4;
    let resource = nexus_core::resource::Resource::parse(resource, &left.resource).unwrap();
    let asked = Allocation {
        place: Place {
            vrf: "default".into(),
            resource,
        },
        pool: pool(),
        subscriber: left.subscriber.clone(),
        olt: left.olt.clone(),
        session: Some(left.session.clone()),
        shard: left.shard,
        epoch: left.epoch,
        seq: left.seq,
        state: AllocationState::Releasing,
        made_at: at,
        changed_at: at,
        metadata: BTreeMap::new(),
    };
    let now = bench.now;
    let fence = nexus_clset::Fence::epoch(left.epoch.0);
    bench.centre.save(&now, fence, asked).unwrap();
    bench.settle();
    bench.release(release_of(&left, 3)).unwrap();
    let states: Vec<_> = bench.all().iter().map(|known| known.state).collect();
    assert_eq!(states, [AllocationState::Released]);
}

/// It is one of three.
pub(super) fn join_others(bench: &mut Bench) {
    let join = |number| MemberCommand::Join {
        node: member(number),
        admit: true,
        replace: false,
    };
    let caught_up = |number| MemberCommand::CaughtUp { number };
    let found = MemberCommand::Found(member(1));
    let members = [found, join(2), join(3), caught_up(2), caught_up(3)];
    for command in members {
        let command = ClusterCommand::from(command).encode().unwrap();
        let at = ClusterTime(bench.now.boot.0);
        let outcome = bench.centre.decided(&bench.now, at, &command).unwrap();
        decode_outcome(&outcome).unwrap().unwrap();
        bench.settle();
    }
    assert!(!bench.centre.other_voters().is_empty());
}

#[test]
fn a_reading_has_to_wait_where_other_servers_may_know_more() {
    let mut bench = Bench::new();
    assert_eq!(bench.centre.ask_majority(), 0);
    join_others(&mut bench);
    let number = bench.centre.ask_majority();
    let progress = bench.centre.take_effects().barrier.unwrap();
    assert!(progress.passed < number && number == progress.moved);
    assert!(bench.centre.ask_majority() > number);
    bench
        .centre
        .majority_had(number, &[nexus_clset::VersionVector::default()]);
    let progress = bench.centre.take_effects().barrier.unwrap();
    assert!(progress.passed == number && number < progress.moved);
}

#[test]
fn a_new_session_is_told_nothing_before_this_server_knows_what_a_majority_had_of_the_earlier_one() {
    let mut bench = Bench::new();
    join_others(&mut bench);
    bench.register("olt-1", "s-1");
    let told = bench.centre.waits_for_move(&olt("olt-1"));
    bench
        .centre
        .majority_had(told, &[nexus_clset::VersionVector::default()]);
    assert_eq!(bench.centre.waits_for_move(&olt("olt-1")), 0);
    // It is drained, so that no shard comes to the new session and the records alone are waited for.
    bench.decide(Command::Drain { olt: olt("olt-1") }).unwrap();
    bench.pass(Duration::from_secs(91));
    bench.register("olt-1", "s-1");
    assert_eq!(bench.centre.waits_for_move(&olt("olt-1")), 0);
    bench.pass(Duration::from_secs(91));
    bench.register("olt-1", "s-2");
    let waits_for = bench.centre.waits_for_move(&olt("olt-1"));
    assert!(waits_for > told, "{waits_for}");
    bench
        .centre
        .majority_had(waits_for, &[nexus_clset::VersionVector::default()]);
    assert_eq!(bench.centre.waits_for_move(&olt("olt-1")), 0);
}
