//! What is announced, for hosts as their rows describe them.

use std::time::Duration;

use nexus_core::edge::{
    At, BindingRow, EdgeRow, Effects, Kept, LeaseRow, LineKey, Row, ShardRow, Start, UnitRow,
    UnitState,
};
use nexus_core::id::{Epoch, OltId, Seq, SessionId, SubscriberId};
use nexus_core::pool::PoolSpec;
use nexus_core::resource::ResourceType;

use super::*;

const BOOT: &str = "this-boot";

fn after(secs: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(secs)
}

/// A host with a lease until 1000 s after its boot.
struct Host {
    rows: Vec<Row>,
}

impl Host {
    fn new() -> Self {
        let session = SessionId::new("s".to_owned()).unwrap();
        let lease = LeaseRow {
            sent_at: BootTime::ZERO,
            until: after(1000),
        };
        let mut host = Self {
            rows: vec![Row::Edge(EdgeRow {
                olt: OltId::new("olt-1").unwrap(),
                session,
                boot_id: BOOT.to_owned(),
                last_seq: Seq(0),
                revision: 1,
                lease: Some(lease),
                unconfirmed: false,
                unread: false,
                earlier: nexus_core::edge::Earlier::default(),
                rests: nexus_core::edge::Rests::default(),
                kept: Kept::default(),
            })],
        };
        host.pool(
            "p4",
            ResourceType::Ipv4,
            "100.64.0.0/16",
            "default",
            |spec| {
                spec.shard_size = Some(22);
            },
        );
        host.pool(
            "p6",
            ResourceType::Ipv6,
            "2001:db8::/40",
            "default",
            |spec| {
                spec.delegated_length = Some(56);
                spec.shard_size = Some(48);
            },
        );
        host.pool("b4", ResourceType::Ipv4, "10.0.0.0/24", "business", |_| {});
        host.pool("vlan", ResourceType::Vlan, "100-199", "default", |_| {});
        host
    }

    fn pool(
        &mut self,
        id: &str,
        kind: ResourceType,
        space: &str,
        vrf: &str,
        change: impl FnOnce(&mut PoolSpec),
    ) {
        let mut spec = PoolSpec::minimal(pool(id), kind, space);
        spec.vrf = vrf.to_owned();
        change(&mut spec);
        self.rows.push(Row::Pool(spec));
    }

    fn owns(&mut self, id: &str, shard: u32, draining: bool) {
        self.rows.push(Row::Shard(ShardRow {
            pool: pool(id),
            shard: ShardId(shard),
            epoch: Epoch(1),
            draining,
            synced: true,
            given_back: false,
            fresh: 0,
        }));
    }

    fn bound(&mut self, id: &str, resource: &str, shard: u32, acked: bool, interface: &str) {
        let kind = match id {
            "p6" => ResourceType::Ipv6,
            "vlan" => ResourceType::Vlan,
            _ => ResourceType::Ipv4,
        };
        let seq = Seq(u64::try_from(self.rows.len()).unwrap());
        let key = LineKey {
            interface: interface.to_owned(),
            at: At::Mac,
            mac: [2, 0, 0, 0, 0, u8::try_from(self.rows.len()).unwrap()],
        };
        self.rows.push(Row::Unit(UnitRow {
            pool: pool(id),
            resource: Resource::parse(kind, resource).unwrap(),
            state: UnitState::Bound(BindingRow {
                subscriber: SubscriberId::new(format!("sub-{}", seq.0)).unwrap(),
                shard: ShardId(shard),
                epoch: Epoch(1),
                since: seq,
                seq,
                acked,
                key: Some(key),
                metadata: BTreeMap::new(),
                timestamp: "2026-11-22T00:00:00Z".to_owned(),
            }),
        }));
    }

    /// `179 100.64.0.0/22` and `179 100.64.9.1/32 eth1`, in order.
    fn announces(&self, now: u64, section: &RoutesSection) -> Vec<String> {
        let all = self.wanted(now, section);
        let shown = |(key, target): (&RouteKey, &Target)| match target {
            Target::Aggregate => format!("{} {}", key.table, key.prefix),
            Target::Host(interface) => format!("{} {} {interface}", key.table, key.prefix),
        };
        all.routes.iter().map(shown).collect()
    }

    fn wanted(&self, now: u64, section: &RoutesSection) -> Wanted {
        let start = Start {
            olt: OltId::new("olt-1").unwrap(),
            boot_id: BOOT.to_owned(),
            new_session: SessionId::new("new".to_owned()).unwrap(),
            rolled_back: false,
        };
        let mut fx = Effects::new();
        let edge = Edge::restore(after(1), start, self.rows.clone(), &mut fx);
        let interfaces = BTreeSet::from([Arc::from("eth1"), Arc::from("eth2")]);
        wanted(&edge, after(now), section, &interfaces)
    }
}

fn pool(id: &str) -> PoolId {
    PoolId::new(id).unwrap()
}

fn section() -> RoutesSection {
    RoutesSection::default()
}

fn all_hosts() -> RoutesSection {
    RoutesSection {
        host_routes: HostRoutes::All,
        ..section()
    }
}

#[test]
fn each_shard_of_addresses_or_prefixes_is_one_aggregate_draining_or_not() {
    let mut host = Host::new();
    host.owns("p4", 0, false);
    host.owns("p4", 2, true);
    host.owns("p6", 1, false);
    host.owns("vlan", 0, false);
    assert_eq!(
        host.announces(10, &section()),
        [
            "179 100.64.0.0/22",
            "179 100.64.8.0/22",
            "179 2001:db8:1::/48"
        ]
    );
}

#[test]
fn a_binding_under_an_aggregate_needs_no_route_of_its_own() {
    let mut host = Host::new();
    host.owns("p4", 0, false);
    host.bound("p4", "100.64.0.9", 0, true, "eth1");
    assert_eq!(host.announces(10, &section()), ["179 100.64.0.0/22"]);
    assert_eq!(
        host.announces(10, &all_hosts()),
        ["179 100.64.0.0/22", "179 100.64.0.9/32 eth1"]
    );
}

#[test]
fn a_pinned_or_roamed_address_or_prefix_has_one_by_the_interface_of_its_line() {
    let mut host = Host::new();
    host.owns("p4", 0, false);
    host.bound("p4", "100.64.200.7", 50, true, "eth2");
    host.bound("p6", "2001:db8:7:100::/56", 7, true, "eth1");
    host.bound("vlan", "150", 0, true, "eth1");
    assert_eq!(
        host.announces(10, &section()),
        [
            "179 100.64.0.0/22",
            "179 100.64.200.7/32 eth2",
            "179 2001:db8:7:100::/56 eth1",
        ]
    );
}

#[test]
fn without_a_lease_there_is_a_route_for_each_served_binding_and_no_aggregate() {
    let mut host = Host::new();
    host.owns("p4", 0, false);
    host.bound("p4", "100.64.0.9", 0, true, "eth1");
    host.bound("p4", "100.64.0.10", 0, false, "eth1");
    assert_eq!(host.announces(999, &section()), ["179 100.64.0.0/22"]);
    // The one that the centre knows goes on; the other has ended with the lease.
    assert_eq!(host.announces(1000, &section()), ["179 100.64.0.9/32 eth1"]);
}

#[test]
fn a_line_on_an_interface_that_is_not_served_has_no_route() {
    let mut host = Host::new();
    host.bound("p4", "100.64.200.7", 50, true, "eth9");
    assert!(host.announces(10, &section()).is_empty());
}

#[test]
fn a_vrf_has_its_own_table_or_none() {
    let mut host = Host::new();
    host.owns("p4", 0, false);
    host.owns("b4", 0, false);
    host.bound("b4", "10.0.0.7", 0, true, "eth1");
    let all = host.wanted(10, &all_hosts());
    assert_eq!((all.routes.len(), all.without_table), (1, 2));
    let named = RoutesSection {
        vrfs: BTreeMap::from([("business".to_owned(), 180)]),
        ..all_hosts()
    };
    assert_eq!(
        host.announces(10, &named),
        [
            "179 100.64.0.0/22",
            "180 10.0.0.0/28",
            "180 10.0.0.7/32 eth1"
        ]
    );
}

#[test]
fn what_is_beyond_the_limit_is_counted() {
    let mut all = Wanted::default();
    for n in 0..u32::try_from(LIMIT).unwrap() + 3 {
        let prefix = IpNet::from(Ipv4Net::from(std::net::Ipv4Addr::from(n)));
        let key = RouteKey { table: 179, prefix };
        all.put(key, Target::Aggregate);
        all.put(key, Target::Aggregate);
    }
    assert_eq!(all.routes.len(), LIMIT);
    assert_eq!(all.left_out, 6);
}
