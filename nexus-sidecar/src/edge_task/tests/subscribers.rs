//! Subscribers: conflicts, silence, labels, and circuits that are not known.

use super::*;

#[tokio::test]
async fn labels_are_cut_to_what_the_centre_takes_so_that_no_accepted_binding_is_refused_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path(), MemoryMap::default()).await;
    running.registered().await;
    let mut many = subscriber(1);
    let labels = (0..100).map(|n| (format!("label-{n:03}"), "\u{e9}".repeat(200)));
    many.metadata = labels.collect();
    many.metadata.insert(String::new(), "x".to_owned());
    many.metadata.insert("k".repeat(257), "x".to_owned());
    running.edge.authorize(many).await.unwrap();
    let sent = running.centre.commands.recv().await.unwrap();
    let nexus_core::edge::What::Allocate { metadata, .. } = sent.command.what else {
        panic!("an allocation");
    };
    assert_eq!(metadata.len(), 64);
    assert!(metadata.keys().all(|key| (1..=256).contains(&key.len())));
    assert!(metadata.values().all(|value| value.len() <= 256));
    assert_eq!(metadata["line"], "eth1 100.1 02:00:00:00:00:01");
    running.stop().await;
}

#[tokio::test]
async fn a_refused_move_leaves_the_map_and_the_binding_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let strict = Policies {
        subscriber_moves: Policy::Refuse,
        mac_changes: Policy::Quarantine,
        ..Policies::default()
    };
    let access = Access::new([interface(strict)]);
    let metrics = Metrics::new().unwrap();
    let olt = OltId::new("olt-1").unwrap();
    let (task, edge, centre) = EdgeTask::start(
        olt,
        store,
        map.clone(),
        access,
        &Origin::default(),
        metrics.clone(),
    )
    .await
    .unwrap();
    let (stopper, shutdown) = shutdown::channel();
    let running = Running {
        edge,
        centre,
        stopper,
        task: tokio::spawn(task.run(shutdown)),
    };
    running.registered().await;
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    let elsewhere = AuthorizedSubscriber {
        vlans: Some((100, 99)),
        ..subscriber(1)
    };
    let refused = running.edge.authorize(elsewhere).await.unwrap_err();
    assert_eq!(refused, EdgeError::Conflict(Conflict::Moved));
    assert!(!refused.is_transient(), "RADIUS answers Access-Reject");
    assert!(refused.to_string().contains("policies.subscriber_moves"));
    let other_mac = AuthorizedSubscriber {
        mac: [2, 0, 0, 0, 0, 0x77],
        ..subscriber(1)
    };
    let refused = running.edge.authorize(other_mac.clone()).await;
    assert_eq!(refused, Err(EdgeError::Conflict(Conflict::MacChanged)));
    let refused = running.edge.authorize(other_mac).await.unwrap_err();
    assert!(matches!(refused, EdgeError::KeptAway(_)), "{refused}");
    let entries = map.entries.lock().unwrap().clone();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[&key(1)].address, grant.address.octets());
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    for line in [
        r#"line_conflicts_total{conflict="moved",policy="refuse"} 1"#,
        r#"line_conflicts_total{conflict="mac-changed",policy="quarantine"} 1"#,
        r#"allocations_total{result="kept-away"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_binding_that_neither_kernel_nor_slow_path_sees_ends_where_its_pool_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let (mut task, edge, _centre) = open("olt-1", folder.path(), map.clone()).await.unwrap();
    let start = boot_now().unwrap();
    let after = |secs| start + Duration::from_secs(secs);
    let mut config = config();
    config.pools[0].spec.dhcp.idle_release = Some(config.pools[0].spec.dhcp.lease_time);
    let mut fx = Effects::new();
    let day = Duration::from_secs(86_400);
    task.edge.registered(start, start, day, config, &mut fx);
    task.edge.snapshot_begin();
    task.edge.snapshot_end(start, &mut fx);
    for n in 1..=3 {
        let (reply, _) = oneshot::channel();
        let request = EdgeRequest::Authorize(Box::new(subscriber(n)), reply);
        task.request(start, request, &mut fx);
    }
    for seq in 1..=3 {
        task.edge.acked(start, Seq(seq), &mut fx);
    }
    task.gather(fx).unwrap();
    task.settle().await.unwrap();
    let seen = after(3000);
    map.entries
        .lock()
        .unwrap()
        .get_mut(&key(2))
        .unwrap()
        .last_seen_jiffies = 1000 + 3000;
    edge.seen(key(3), seen);
    let mut fx = Effects::new();
    let mut left = Vec::new();
    for now in [3590, 3640, 3651, 6590, 6651] {
        let jiffies = 1000 + u32::try_from(now).unwrap();
        map.jiffies.store(jiffies, Ordering::Relaxed);
        task.read_seen(after(now));
        task.edge.tick(after(now), &mut fx);
        left.push(task.edge.bindings(None).count());
    }
    assert_eq!(left, [3, 3, 2, 2, 0], "read at 3590, 3651, 6590 and 6651");
}

#[tokio::test]
async fn a_subscriber_whose_circuit_is_not_known_or_too_long_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let one = Interface {
        identity: vec![Identity::CircuitId],
        ..interface(Policies::default())
    };
    let olt = OltId::new("olt-1").unwrap();
    let (task, edge, centre) = EdgeTask::start(
        olt,
        store,
        map,
        Access::new([one]),
        &Origin::default(),
        Metrics::new().unwrap(),
    )
    .await
    .unwrap();
    let (stopper, shutdown) = shutdown::channel();
    let running = Running {
        edge,
        centre,
        stopper,
        task: tokio::spawn(task.run(shutdown)),
    };
    running.registered().await;
    let refused = running.edge.authorize(subscriber(1)).await.unwrap_err();
    assert!(matches!(&refused, EdgeError::BadKey(why) if why.contains("Agent-Circuit-Id")));
    let long = AuthorizedSubscriber {
        circuit_id: Some(vec![1; 127]),
        ..subscriber(1)
    };
    let refused = running.edge.authorize(long).await.unwrap_err();
    assert!(matches!(&refused, EdgeError::BadKey(why) if why.contains("127 bytes")));
    running.stop().await;
}
