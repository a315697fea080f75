//! Tests of the shard table: what each command does, and what it refuses.

use std::time::Duration;

use super::*;
use crate::id::{Epoch, Seq, SessionId};
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::ShardState;

pub(super) fn pool_id(id: &str) -> PoolId {
    PoolId::new(id).unwrap()
}

pub(super) fn olt(id: &str) -> OltId {
    OltId::new(id).unwrap()
}

pub(super) fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

fn at(secs: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(1_000_000 + secs)
}

fn residential() -> Box<PoolSpec> {
    let mut spec = PoolSpec::minimal(
        pool_id("residential-ipv4"),
        ResourceType::Ipv4,
        "100.64.0.0/10",
    );
    spec.exclusions.push("100.64.0.0/24".into());
    Box::new(spec)
}

pub(super) fn register(id: &str, of: &str) -> Register {
    Register {
        olt: olt(id),
        name: String::new(),
        region: "east".into(),
        address: String::new(),
        capacity: 2000,
        session: session(of),
        last_seq: Seq(0),
        recorded_seq: Seq(0),
    }
}

#[test]
fn the_first_olt_of_the_demo_gets_shard_0_and_the_cluster_keeps_the_highest() {
    let mut table = ShardTable::new(LeaseRule::default());
    let added = table
        .apply(
            at(0),
            Command::AddPool {
                spec: residential(),
            },
        )
        .unwrap();
    assert_eq!(added.moves.len(), 1);
    let applied = table
        .apply(at(1), Command::Register(register("olt-east-01", "s1")))
        .unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("olt-east-01")]));
    let shards = table.shards_of(&olt("olt-east-01"));
    let shards = &shards[&pool_id("residential-ipv4")];
    assert_eq!(shards.len(), 1);
    assert_eq!(shards[0].range.to_string(), "100.64.0.0/18");
    assert_eq!(
        (shards[0].epoch, shards[0].state),
        (Epoch(1), ShardState::Owned)
    );
    let kept = table.shards_of(&OltId::cluster());
    assert_eq!(kept[&pool_id("residential-ipv4")][0].shard, ShardId(255));
}
