//! Several interfaces: their numbers, pools and profiles.

use super::*;

/// A task on eth1 and the interfaces that come with it.
async fn on_interfaces(
    folder: &Path,
    map: MemoryMap,
    names: &[&str],
) -> (EdgeTask<MemoryMap>, EdgeHandle) {
    let interfaces = names.iter().zip(3..).map(|(name, ifindex)| Interface {
        name: (*name).to_owned(),
        ifindex,
        mac: [2, 0, 0, 0, 1, u8::try_from(ifindex).unwrap()],
        server_id: (*name == "eth2").then_some(Ipv4Addr::new(192, 0, 2, 1)),
        pool: (*name == "eth2").then(|| PoolId::new("business").unwrap()),
        ..interface(Policies::default())
    });
    let store = Store::open(folder, Options::default()).unwrap();
    let olt = OltId::new("olt-1").unwrap();
    let metrics = Metrics::new().unwrap();
    let access = Access::new(interfaces);
    let started = EdgeTask::start(olt, store, map, access, &Origin::default(), metrics).await;
    let (task, edge, _) = started.unwrap();
    (task, edge)
}

fn numbers<M: BindingMap>(task: &EdgeTask<M>) -> Vec<(&str, u8)> {
    let interfaces = task.access().interfaces();
    interfaces
        .map(|one| (one.name.as_str(), one.number))
        .collect()
}

/// The pool that a subscriber on an interface gets an address of, and its profile.
async fn bound_on(
    task: &mut EdgeTask<MemoryMap>,
    n: u8,
    name: &str,
) -> (PoolId, nexus_abi::Profile) {
    let (reply, answer) = oneshot::channel();
    let subscriber = AuthorizedSubscriber {
        interface: Some(name.to_owned()),
        default_pool: Some(pool()),
        ..subscriber(n)
    };
    let request = EdgeRequest::Authorize(Box::new(subscriber), reply);
    task.take(Input::Request(request)).unwrap();
    task.settle().await.unwrap();
    let grant = answer.await.unwrap().unwrap();
    let profile = task.map.profiles.lock().unwrap()[&grant.profile_id];
    (grant.pool, profile)
}

#[tokio::test]
async fn each_interface_has_its_own_number_pool_and_profile_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let (task, _) = on_interfaces(folder.path(), map.clone(), &["eth2"]).await;
    assert_eq!(numbers(&task), [("eth2", 0)]);
    drop(task);
    let (mut task, _) = on_interfaces(folder.path(), map.clone(), &["eth1", "eth2"]).await;
    assert_eq!(numbers(&task), [("eth1", 1), ("eth2", 0)]);
    let now = boot_now().unwrap();
    let mut config = config();
    let business = PoolId::new("business").unwrap();
    let spec = PoolSpec::minimal(business.clone(), ResourceType::Ipv4, "10.9.0.0/16");
    let shards = config.pools[0].shards.clone();
    config.pools.push(PoolGrant { spec, shards });
    let mut fx = Effects::new();
    let day = Duration::from_secs(86_400);
    task.edge.registered(now, now, day, config, &mut fx);
    task.edge.snapshot_begin();
    task.edge.snapshot_end(now, &mut fx);
    task.gather(fx).unwrap();
    task.settle().await.unwrap();
    let (first, on_eth1) = bound_on(&mut task, 1, "eth1").await;
    assert_eq!(first, pool());
    assert_eq!(on_eth1.server_id, [100, 64, 0, 1]);
    assert_eq!(on_eth1.gateway_mac, [2, 0, 0, 0, 1, 3]);
    let (second, on_eth2) = bound_on(&mut task, 2, "eth2").await;
    assert_eq!(second, business);
    assert_eq!(on_eth2.server_id, [192, 0, 2, 1]);
    assert_eq!(on_eth2.gateway_mac, [2, 0, 0, 0, 1, 4]);
    assert_eq!(
        map.profiles.lock().unwrap().len(),
        2,
        "what is not used has none"
    );
    let before = map.entries.lock().unwrap().clone();
    drop(task);
    // What was on an interface that is not configured any more leaves the map and stays on disk.
    let (task, edge) = on_interfaces(folder.path(), map.clone(), &["eth1"]).await;
    assert_eq!(numbers(&task), [("eth1", 1)]);
    assert_eq!(task.edge.bindings(None).count(), 2);
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    drop((task, edge));
    let (task, _) = on_interfaces(folder.path(), map.clone(), &["eth1", "eth2"]).await;
    assert_eq!(numbers(&task), [("eth1", 1), ("eth2", 0)]);
    assert_eq!(map.entries.lock().unwrap().len(), before.len());
}
