//! What a subscriber gets besides its IPv4 address.

use super::*;
use crate::pool::Assign;

fn pool(id: &str, kind: ResourceType, space: &str, change: impl FnOnce(&mut PoolSpec)) -> PoolSpec {
    let mut spec = PoolSpec::minimal(PoolId::new(id).unwrap(), kind, space);
    change(&mut spec);
    spec
}

/// Besides the addresses: delegated prefixes, single addresses and prefixes of links for every session; VLANs,
/// S-VLANs, ports and other prefixes if they are named.
fn pools() -> Vec<PoolSpec> {
    use ResourceType::{Ipv6, Port, Svlan, Vlan};
    vec![
        spec(),
        pool("address6", Ipv6, "2001:db8:a::/120", |spec| {
            spec.delegated_length = Some(128);
        }),
        pool("business6", Ipv6, "2001:db8:b::/52", |spec| {
            spec.assign = Some(Assign::OnRequest);
        }),
        pool("home6", Ipv6, "2001:db8:d::/52", |_| {}),
        pool("link6", Ipv6, "2001:db8:e::/60", |spec| {
            spec.delegated_length = Some(64);
        }),
        pool("port", Port, "1024-65535", |spec| {
            spec.block_size = Some(512);
        }),
        pool("svlan", Svlan, "200-299", |_| {}),
        pool("vlan", Vlan, "100-199", |_| {}),
    ]
}

fn configured(specs: Vec<PoolSpec>, revision: u64) -> EdgeConfig {
    let shards = |spec: &PoolSpec| {
        let count = crate::pool::Pool::new(spec.clone()).unwrap().shard_count();
        (0..count.min(2)).map(|shard| ShardGrant {
            shard: ShardId(shard),
            epoch: Epoch(1),
            draining: false,
        })
    };
    let pools = specs.into_iter().map(|spec| PoolGrant {
        shards: shards(&spec).collect(),
        spec,
    });
    EdgeConfig {
        revision,
        pools: pools.collect(),
    }
}

fn ready_with(shell: &mut Shell, specs: Vec<PoolSpec>) -> Edge {
    let mut edge = ready(shell);
    let mut fx = Effects::new();
    edge.configure(at(100), configured(specs, 2), &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(100), &mut fx);
    shell.run(fx);
    shell.take();
    edge
}

fn get(edge: &mut Edge, shell: &mut Shell, now: u64, request: &Authorized) -> Grants {
    let mut fx = Effects::new();
    let grants = edge.authorize(at(now), request, &mut fx).unwrap();
    shell.run(fx);
    grants
}

fn naming(sub: u32, on: u16, pools: &[&str]) -> Authorized {
    let named = pools.iter().map(|id| PoolId::new(*id).unwrap());
    Authorized {
        named: named.collect(),
        ..request(sub, on)
    }
}

fn from(grants: &Grants) -> Vec<&str> {
    grants.further.iter().map(|one| one.pool.as_str()).collect()
}

fn bound(edge: &Edge) -> Vec<(String, String)> {
    let row = |view: BindingView<'_>| (view.pool.to_string(), view.row.subscriber.to_string());
    edge.bindings(None).map(row).collect()
}

#[test]
fn an_accept_gives_one_of_each_kind_that_every_session_gets_and_those_that_are_named() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    let grants = get(&mut edge, &mut shell, 200, &request(1, 1));
    assert_eq!(from(&grants), ["address6", "link6", "home6"]);
    assert_eq!(grants.missing, []);
    let all = naming(2, 2, &["vlan", "business6", "port", "svlan"]);
    let grants = get(&mut edge, &mut shell, 200, &all);
    let expected = ["address6", "link6", "business6", "vlan", "svlan", "port"];
    assert_eq!(from(&grants), expected);
    let text: Vec<_> = grants.all().map(|one| one.resource.to_string()).collect();
    assert_eq!(text[0], "10.0.0.3");
    assert!(text[1].ends_with("/128") && text[2].ends_with("/64") && text[3].ends_with("/56"));
    assert_eq!(text[4..], ["100", "200", "1024-1535"]);
    let seqs = shell
        .rows
        .values()
        .filter(|row| matches!(row, Row::Command(_)));
    assert_eq!(seqs.count(), 4 + 7, "one command for each binding");
    // All of it again, and none of it new.
    let again = get(&mut edge, &mut shell, 300, &all);
    assert!(again.all().all(|one| one.known));
    assert_eq!(from(&again), expected);
}

#[test]
fn all_of_an_accept_is_durable_in_one_event_and_comes_back_after_a_restart() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    let mut fx = Effects::new();
    let all = naming(2, 2, &["vlan", "svlan", "port"]);
    edge.authorize(at(200), &all, &mut fx).unwrap();
    let units =
        |change: &&Change| matches!(change, Change::Put(row) if matches!(**row, Row::Unit(_)));
    assert_eq!(fx.changes.iter().filter(units).count(), 7);
    let entries = |action: &&Action| matches!(action, Action::PutBinding(_));
    assert_eq!(fx.actions.iter().filter(entries).count(), 1);
    shell.run(fx);
    let before = bound(&edge);
    let mut edge = shell.restart(at(300), "boot-a");
    assert_eq!(bound(&edge), before);
    assert!(
        get(&mut edge, &mut shell, 301, &all)
            .all()
            .all(|one| one.known)
    );
}

#[test]
fn what_cannot_be_given_is_left_out_and_said() {
    let mut shell = Shell::default();
    let mut specs = pools();
    let vlan = specs
        .iter_mut()
        .find(|spec| spec.id.as_str() == "vlan")
        .unwrap();
    vlan.range = Some("100-100".to_owned());
    let mut edge = ready_with(&mut shell, specs);
    get(&mut edge, &mut shell, 200, &naming(1, 1, &["vlan"]));
    let pools = [
        "vlan",
        "nowhere",
        "p",
        "port",
        "svlan",
        "home6",
        "business6",
    ];
    let grants = get(&mut edge, &mut shell, 200, &naming(2, 2, &pools));
    assert_eq!(
        from(&grants),
        ["address6", "link6", "home6", "svlan", "port"]
    );
    let id = |id: &str| PoolId::new(id).unwrap();
    let missing = |pool: &str, configured, why| Missing {
        pool: id(pool),
        configured,
        why,
    };
    assert_eq!(
        grants.missing,
        [
            missing("nowhere", false, Denied::UnknownPool(id("nowhere"))),
            missing("p", true, Denied::WrongType(id("p"))),
            missing(
                "business6",
                true,
                Denied::SecondOfKind(id("business6"), Kind::Ipv6Delegated)
            ),
            missing("vlan", true, Denied::Exhausted(id("vlan"))),
        ]
    );
}

#[test]
fn a_full_pool_of_every_session_is_helped_out_by_the_next_one() {
    let mut shell = Shell::default();
    let mut specs = pools();
    specs.push(pool(
        "later6",
        ResourceType::Ipv6,
        "2001:db8:f::/52",
        |_| {},
    ));
    let home = specs
        .iter_mut()
        .find(|spec| spec.id.as_str() == "home6")
        .unwrap();
    home.cidr = Some("2001:db8:d::/56".to_owned());
    let mut edge = ready_with(&mut shell, specs);
    let first = get(&mut edge, &mut shell, 200, &request(1, 1));
    assert!(from(&first).contains(&"home6"));
    let second = get(&mut edge, &mut shell, 200, &request(2, 2));
    assert!(from(&second).contains(&"later6"));
    assert_eq!(second.missing, []);
    // It stays with what it has, whatever is free meanwhile.
    let mut fx = Effects::new();
    edge.end_session(at(201), &subscriber(1), "session-stop", &mut fx);
    edge.tick(at(2000), &mut fx);
    shell.run(fx);
    let again = get(&mut edge, &mut shell, 2001, &request(2, 2));
    assert!(from(&again).contains(&"later6"));
}

#[test]
fn another_pool_of_a_kind_ends_what_was_there_and_other_kinds_stay() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    let before = get(&mut edge, &mut shell, 200, &naming(1, 1, &["vlan"]));
    let after = get(
        &mut edge,
        &mut shell,
        201,
        &naming(1, 1, &["business6", "svlan"]),
    );
    assert_eq!(from(&after), ["address6", "link6", "business6", "svlan"]);
    assert!(after.further[0].known);
    assert_eq!(before.further[0].resource, after.further[0].resource);
    let pools: Vec<String> = bound(&edge).into_iter().map(|(pool, _)| pool).collect();
    assert_eq!(pools, ["address6", "business6", "link6", "p", "svlan"]);
    // What the AAA server gives by itself is not given here.
    let without = Authorized {
        without: BTreeSet::from([Kind::Ipv6Link, Kind::Svlan]),
        ..naming(1, 1, &["svlan"])
    };
    let grants = get(&mut edge, &mut shell, 202, &without);
    assert_eq!(from(&grants), ["address6", "home6"]);
    let pools: Vec<String> = bound(&edge).into_iter().map(|(pool, _)| pool).collect();
    assert_eq!(pools, ["address6", "home6", "p"]);
}

#[test]
fn everything_moves_to_another_line_and_a_line_taken_over_is_lost_for_everything() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    get(&mut edge, &mut shell, 200, &naming(1, 1, &["vlan"]));
    get(&mut edge, &mut shell, 201, &naming(1, 2, &["vlan"]));
    let keys = |edge: &Edge, of: u32| -> Vec<Option<LineKey>> {
        let of = subscriber(of);
        edge.bindings(Some(&of))
            .map(|view| view.row.key.clone())
            .collect()
    };
    assert_eq!(keys(&edge, 1), vec![Some(line(2)); 5]);
    // The newcomer gets no VLAN, and the one before is not at the place with it either.
    get(&mut edge, &mut shell, 202, &request(2, 2));
    assert_eq!(keys(&edge, 1), vec![None; 5]);
    assert_eq!(keys(&edge, 2), vec![Some(line(2)); 4]);
    let mut fx = Effects::new();
    edge.tick(at(202) + KEYLESS_KEPT, &mut fx);
    shell.run(fx);
    assert_eq!(keys(&edge, 1), []);
}

#[test]
fn the_end_of_a_session_a_release_and_silence_end_all_of_it() {
    let mut shell = Shell::default();
    let mut specs = pools();
    specs[0].dhcp.idle_release = Some(specs[0].dhcp.lease_time);
    let mut edge = ready_with(&mut shell, specs);
    let of_each = |edge: &mut Edge, shell: &mut Shell, now| {
        get(edge, shell, now, &naming(1, 1, &["vlan", "port"]))
    };
    of_each(&mut edge, &mut shell, 200);
    let mut fx = Effects::new();
    assert!(edge.end_session(at(201), &subscriber(1), "session-stop", &mut fx));
    shell.run(fx);
    assert_eq!(bound(&edge), []);
    let grants = of_each(&mut edge, &mut shell, 202);
    let mut fx = Effects::new();
    assert!(edge.dhcp_release(at(203), &line(1).place(), grants.ipv4.resource, &mut fx));
    shell.run(fx);
    assert_eq!(bound(&edge), []);
    of_each(&mut edge, &mut shell, 204);
    for seq in 1..=edge.last_seq().0 {
        acked(&mut edge, &mut shell, seq);
    }
    let mut fx = Effects::new();
    edge.seen_all(at(204 + 3600));
    edge.tick(at(204 + 3600), &mut fx);
    shell.run(fx);
    assert_eq!(bound(&edge), []);
}

#[test]
fn a_declined_address_costs_nothing_else() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    let before = get(&mut edge, &mut shell, 200, &naming(1, 1, &["vlan"]));
    let mut fx = Effects::new();
    let place = line(1).place();
    let another = edge.dhcp_decline(
        at(201),
        &place,
        before.ipv4.resource,
        String::new(),
        &mut fx,
    );
    assert_ne!(another.unwrap().unwrap().resource, before.ipv4.resource);
    shell.run(fx);
    assert_eq!(bound(&edge).len(), 5);
}

#[test]
fn what_was_new_and_is_not_served_is_taken_back_whole() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, pools());
    let grants = get(&mut edge, &mut shell, 200, &naming(1, 1, &["vlan"]));
    let mut fx = Effects::new();
    edge.withdraw(at(200), &grants, &subscriber(1), &line(1), &mut fx);
    assert_eq!(bound(&edge), []);
    shell.run(fx);
}

#[test]
fn a_unit_of_a_pinned_pool_is_asked_for_and_bound_once_the_centre_has_recorded_it() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let mut config = config(2, &[(0, 1), (1, 1)]);
    let id = PoolId::new("pinned").unwrap();
    let pinned = pool("pinned", ResourceType::Ipv4, "192.0.2.0/28", |spec| {
        spec.pinned = true;
    });
    config.pools.push(PoolGrant {
        spec: pinned,
        shards: Vec::new(),
    });
    let mut fx = Effects::new();
    edge.configure(at(150), config, &mut fx);
    shell.run(fx);
    let named = Authorized {
        pool: Some(id.clone()),
        ..request(1, 1)
    };
    let mut fx = Effects::new();
    let denied = edge.authorize(at(200), &named, &mut fx);
    assert_eq!(denied, Err(Denied::AskCentre(id.clone())));
    let record = Record {
        pool: id,
        epoch: Epoch(0),
        ..record_on("olt-1", 1, address("192.0.2.9"), 0)
    };
    edge.record(at(201), RecordKind::Put, &record, &mut fx);
    shell.run(fx);
    // The centre's record counts whether the pool is named or not, and over a restart.
    let mut edge = shell.restart(at(202), "boot-a");
    for _ in 0..2 {
        let grants = get(&mut edge, &mut shell, 203, &request(1, 1));
        assert_eq!(grants.ipv4.resource, record.resource);
        assert_eq!(grants.ipv4.valid_until, None);
    }
    let mut fx = Effects::new();
    edge.record(at(204), RecordKind::ReleaseRequested, &record, &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 0);
    let released = |row: &&Row| matches!(row, Row::Command(row) if matches!(row.command.what, What::Deallocate { .. }));
    assert_eq!(shell.rows.values().filter(released).count(), 1);
}
