//! Tests of the shard table: what each command does, and what it refuses.

pub(crate) mod histories;
mod leases;
mod pins;
mod plan;
mod pools;
mod reclaim;
mod recover;
mod sessions;
mod units;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::id::{Epoch, Seq, SessionId};
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::{ShardKey, ShardRef, ShardState};
pub(crate) fn pool_id(id: &str) -> PoolId {
    PoolId::new(id).unwrap()
}

pub(crate) fn olt(id: &str) -> OltId {
    OltId::new(id).unwrap()
}

pub(crate) fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

pub(crate) fn at(secs: u64) -> ClusterTime {
    ClusterTime::ZERO + Duration::from_secs(1_000_000 + secs)
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

pub(crate) fn register(id: &str, of: &str) -> Register {
    Register {
        olt: olt(id),
        name: String::new(),
        region: "east".into(),
        address: String::new(),
        capacity: 2000,
        session: session(of),
        last_seq: Seq(0),
        recorded_seq: Seq(0),
        acked_below: Seq(0),
        keeping: None,
    }
}

/// A pool of `shards` shards of ten VLANs, one of which the cluster keeps.
pub(crate) fn vlans(name: &str, shards: u16) -> Box<PoolSpec> {
    let range = format!("1-{}", shards * 10);
    let mut spec = PoolSpec::minimal(pool_id(name), ResourceType::Vlan, &range);
    spec.shard_size = Some(10);
    spec.vrf = name.into();
    Box::new(spec)
}

/// A table with one pool and one OLT `a` in session `s1`, registered at second 0.
fn table_with(spec: Box<PoolSpec>) -> ShardTable {
    let mut table = ShardTable::new(LeaseRule::default());
    let _ = table.drive(at(0), Command::AddPool { spec }).unwrap();
    let _ = table
        .drive(at(0), Command::Register(register("a", "s1")))
        .unwrap();
    table
}

fn renew(table: &ShardTable, id: &str, of: &str) -> Renew {
    Renew {
        olt: olt(id),
        session: session(of),
        config_revision: table
            .olt(&olt(id))
            .map_or(0, |view| view.row.config_revision),
        last_seq: Seq(0),
        idle: BTreeMap::new(),
        in_use: BTreeMap::new(),
        released: Vec::new(),
        acked_below: Seq(0),
        keeping: None,
    }
}

fn refs(table: &ShardTable, id: &str, pool: &str) -> Vec<ShardRef> {
    let of_pool = table
        .shards_of(&olt(id))
        .remove(&pool_id(pool))
        .unwrap_or_default();
    let to_ref = |s: OwnedShard| ShardRef {
        pool: pool_id(pool),
        shard: s.shard,
        epoch: s.epoch,
    };
    of_pool.into_iter().map(to_ref).collect()
}

/// First second at which the shards of an OLT heard at second 0 may move: 24 h, 1% and 5 s later.
const LEASE_END: u64 = 86_400 + 864 + 5;
