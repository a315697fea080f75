//! The edge machine, rule by rule; whole histories against a model centre are in `history`.

mod asked;
mod commands;
mod departed;
mod drift;
mod earlier;
mod further;
mod history;
mod keeping;
mod leases;
mod lifecycle;
mod lines;
mod policy;
mod pools;
mod shards;

use super::*;
use crate::id::Epoch;
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::time::ClusterTime;

pub(super) fn at(secs: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(secs)
}

pub(super) fn pool_id() -> PoolId {
    PoolId::new("p").unwrap()
}

/// Four shards of 16 addresses; the first and the last address are not given, nor the router .1.
pub(super) fn spec() -> PoolSpec {
    let mut spec = PoolSpec::minimal(pool_id(), ResourceType::Ipv4, "10.0.0.0/26");
    spec.shard_size = Some(28);
    spec
}

pub(super) fn config(revision: u64, shards: &[(u32, u64)]) -> EdgeConfig {
    let shards = shards
        .iter()
        .map(|&(shard, epoch)| ShardGrant {
            shard: ShardId(shard),
            epoch: Epoch(epoch),
            draining: false,
        })
        .collect();
    EdgeConfig {
        revision,
        pools: vec![PoolGrant {
            spec: spec(),
            shards,
        }],
    }
}

pub(super) fn start(boot: &str) -> Start {
    Start {
        olt: OltId::new("olt-1").unwrap(),
        boot_id: boot.to_owned(),
        new_session: SessionId::new("s1").unwrap(),
        rolled_back: false,
    }
}

pub(super) fn subscriber(n: u32) -> SubscriberId {
    SubscriberId::new(format!("sub-{n}")).unwrap()
}

/// 0 to 4: lines that may be shared; 5 and 6, 7 and 8: two MACs on a VLAN pair and on a circuit of one subscriber;
/// 9: a MAC alone.
pub(super) fn line(n: u16) -> LineKey {
    let vlans = |inner| Vlans { outer: 100, inner };
    let circuit = Circuit {
        circuit_id: b"0/1/5".to_vec(),
        remote_id: vec![0],
    };
    let (at, mac) = match n {
        5 | 6 => (At::Vlan(vlans(6)), n - 4),
        7 | 8 => (At::Circuit(circuit), n - 6),
        9 => (At::Mac, 1),
        _ => (At::Line(vlans(n + 1)), 1),
    };
    LineKey {
        interface: "eth1".to_owned(),
        at,
        mac: [2, 0, 0, 0, 0, u8::try_from(mac).unwrap()],
    }
}

pub(super) fn request(sub: u32, on: u16) -> Authorized {
    Authorized {
        subscriber: subscriber(sub),
        pool: None,
        named: Vec::new(),
        without: BTreeSet::new(),
        key: line(on),
        metadata: BTreeMap::new(),
        timestamp: "2026-11-22T08:00:00Z".to_owned(),
        policies: Policies::default(),
    }
}

fn address(text: &str) -> Resource {
    Resource::parse(ResourceType::Ipv4, text).unwrap()
}

/// What the centre has on record in shard 0 under epoch 1, made by itself.
fn record_on(olt: &str, sub: u32, resource: Resource, seq: u64) -> Record {
    Record {
        pool: pool_id(),
        resource,
        shard: ShardId(0),
        subscriber: subscriber(sub),
        olt: OltId::new(olt).unwrap(),
        session: None,
        epoch: Epoch(1),
        seq: Seq(seq),
    }
}

/// The same, recorded by the first session of `olt-1`.
fn recorded(sub: u32, resource: Resource, seq: u64) -> Record {
    Record {
        session: Some(SessionId::new("s1").unwrap()),
        ..record_on("olt-1", sub, resource, seq)
    }
}

/// A disk and what was done since.
#[derive(Default)]
struct Shell {
    rows: BTreeMap<RowKey, Row>,
    actions: Vec<Action>,
}

impl Shell {
    fn run(&mut self, fx: Effects) {
        apply(&mut self.rows, fx.changes);
        self.actions.extend(fx.actions);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn sent(&mut self) -> Vec<Outgoing> {
        self.take()
            .into_iter()
            .filter_map(|action| match action {
                Action::Send(outgoing) => Some(outgoing),
                _ => None,
            })
            .collect()
    }

    fn restart(&mut self, now: BootTime, boot: &str) -> Edge {
        let mut fx = Effects::new();
        let edge = Edge::restore(now, start(boot), self.rows.values().cloned(), &mut fx);
        self.run(fx);
        edge
    }
}

pub(super) fn apply(rows: &mut BTreeMap<RowKey, Row>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(row) => {
                // As it goes to disk and comes back.
                let json = serde_json::to_string(&row).unwrap();
                assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), *row);
                rows.insert(row.key(), *row)
            }
            Change::Forget(key) => rows.remove(&key),
        };
    }
}

/// A registered edge with shards 0 and 1 read, and a lease of 24 hours from second 100 on.
fn ready(shell: &mut Shell) -> Edge {
    let mut edge = shell.restart(at(100), "boot-a");
    let mut fx = Effects::new();
    edge.registered(
        at(100),
        at(100),
        Duration::from_secs(86_400),
        config(1, &[(0, 1), (1, 1)]),
        &mut fx,
    );
    edge.snapshot_begin();
    edge.snapshot_end(at(100), &mut fx);
    shell.run(fx);
    shell.take();
    edge
}

fn authorize(
    edge: &mut Edge,
    shell: &mut Shell,
    now: u64,
    sub: u32,
    on: u16,
) -> Result<Granted, Denied> {
    let mut fx = Effects::new();
    let granted = edge.authorize(at(now), &request(sub, on), &mut fx);
    shell.run(fx);
    granted.map(|grants| grants.ipv4)
}

/// Recorded at second 200, while the lease of [`ready`] is alive.
fn acked(edge: &mut Edge, shell: &mut Shell, seq: u64) {
    acked_at(edge, shell, 200, seq);
}

fn acked_at(edge: &mut Edge, shell: &mut Shell, now: u64, seq: u64) {
    let mut fx = Effects::new();
    edge.acked(at(now), Seq(seq), &mut fx);
    shell.run(fx);
}

/// One shard whose units are all taken, with one of them ended at second 1000 by `end`.
fn full_but_one(end: impl FnOnce(&mut Edge, Resource, &mut Effects)) -> (Edge, Shell) {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let mut fx = Effects::new();
    edge.configure(at(150), config(2, &[(0, 1)]), &mut fx);
    shell.run(fx);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    for n in 2..=14 {
        authorize(&mut edge, &mut shell, 200, n, n as u16).unwrap();
    }
    let mut fx = Effects::new();
    end(&mut edge, first.resource, &mut fx);
    shell.run(fx);
    (edge, shell)
}
