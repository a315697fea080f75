//! How large and how slow the state of a large network is. Run by hand:
//! `cargo test --release -p nexus-core cluster::tests::size -- --ignored --nocapture`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::node;
use crate::cluster::{ClusterCommand, ClusterState, MemberCommand, Role};
use crate::id::{Seq, ShardId, SubscriberId};
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::ShardKey;
use crate::shard_table::tests::{at, olt, pool_id, register, session};
use crate::shard_table::{Command, Renew};

/// 2,000 OLTs and a pool of 16,384 shards of 256 addresses, 20 units of which are taken.
fn large() -> ClusterState {
    let mut state = ClusterState::new();
    let mut apply = |command: ClusterCommand| state.drive(at(0), command).map(drop).unwrap();
    apply(MemberCommand::Found(node(1, "a", Role::Core)).into());
    for i in 0..2000 {
        let name = format!("olt-{i:04}");
        let of = format!("0123456789abcdef-{i:08}");
        apply(Command::Register(register(&name, &of)).into());
    }
    let mut spec = PoolSpec::minimal(pool_id("residential"), ResourceType::Ipv4, "100.64.0.0/10");
    spec.shard_size = Some(24);
    apply(
        Command::AddPool {
            spec: Box::new(spec),
        }
        .into(),
    );
    for unit in 0..20 {
        let shard = ShardKey {
            pool: pool_id("residential"),
            shard: ShardId(16_383),
        };
        let holder = SubscriberId::new(format!("sub-{unit}")).unwrap();
        apply(
            Command::TakeUnit {
                shard,
                unit,
                holder,
                server: 1,
            }
            .into(),
        );
    }
    state
}

fn beat(state: &ClusterState, i: usize, in_use: u64) -> ClusterCommand {
    let name = format!("olt-{i:04}");
    let revision = state.table().olt(&olt(&name)).unwrap().row.config_revision;
    Command::Renew(Renew {
        olt: olt(&name),
        session: session(&format!("0123456789abcdef-{i:08}")),
        config_revision: revision,
        last_seq: Seq(1),
        idle: BTreeMap::new(),
        in_use: BTreeMap::from([(pool_id("residential"), in_use)]),
        released: Vec::new(),
        acked_below: Seq(1),
        keeping: Some(1),
    })
    .into()
}

/// Prints figures as well: `cargo test --release -p nexus-core cluster::tests::size -- --nocapture`.
#[test]
fn a_snapshot_of_two_thousand_olts_and_sixteen_thousand_shards_is_small_and_exact() {
    let start = Instant::now();
    let mut state = large();
    println!("built in {:?}", start.elapsed());
    let rows = state.table().shards(&pool_id("residential")).count();
    let start = Instant::now();
    let bytes = state.snapshot().unwrap();
    println!(
        "snapshot: {} bytes, {rows} shards, {:?}",
        bytes.len(),
        start.elapsed()
    );
    let start = Instant::now();
    let again = ClusterState::restore(&bytes).unwrap();
    println!("restore: {:?}", start.elapsed());
    assert_eq!(again, state);
    assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    let command = beat(&state, 3, 1500);
    let json = serde_json::to_vec(&command).unwrap().len();
    println!(
        "a heartbeat: {} bytes, {json} as JSON",
        command.encode().unwrap().len()
    );
    for (what, in_use) in [("with other figures", 7), ("without news", 7)] {
        let start = Instant::now();
        for i in 0..20 {
            let command = beat(&state, i, in_use);
            let _ = state.apply(at(1), command).unwrap();
        }
        println!("a heartbeat {what}: {:?}", start.elapsed() / 20);
    }
    for what in ["a tick after them", "a tick after nothing"] {
        let start = Instant::now();
        let _ = state.drive(at(2), Command::Tick.into()).unwrap();
        println!("{what}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    for i in 0..20 {
        let name = olt(&format!("olt-{i:04}"));
        assert!(!state.table().shards_of(&name).is_empty());
    }
    println!("the shards of one OLT: {:?}", start.elapsed() / 20);
}
