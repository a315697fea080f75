//! What a subscriber gets besides its address: all of it durable before the answer, and shown.

use nexus_core::edge::Kind;

use super::*;
use crate::edge_handle::{Delivered, Elsewhere};

/// With delivered prefixes for every session, and blocks of ports where they are named.
async fn running(folder: &Path, map: MemoryMap) -> Running {
    let running = Running::start(folder, map).await;
    let mut config = config();
    let shards = config.pools[0].shards.clone();
    let pool =
        |id: &str, kind, space: &str| PoolSpec::minimal(PoolId::new(id).unwrap(), kind, space);
    let mut link = pool("link6", ResourceType::Ipv6, "2001:db8:1::/60");
    link.delegated_length = Some(60);
    link.metadata = BTreeMap::from([("framed".to_owned(), "true".to_owned())]);
    let mut ports = pool("ports", ResourceType::Port, "1024-2047");
    ports.block_size = Some(512);
    ports.addresses = Some("203.0.113.7/32".to_owned());
    for spec in [link, ports] {
        let shards = shards.clone();
        config.pools.push(PoolGrant { spec, shards });
    }
    running
        .tell(CentreEvent::Registered {
            sent_at: boot_now().unwrap(),
            terms: Duration::from_secs(3600).into(),
            config,
            endpoint: "centre:9001".to_owned(),
        })
        .await;
    running.tell(CentreEvent::SnapshotBegin).await;
    running.tell(CentreEvent::SnapshotEnd).await;
    running
}

fn named(n: u8) -> AuthorizedSubscriber {
    AuthorizedSubscriber {
        pools: ["ports", "nowhere"]
            .map(|id| PoolId::new(id).unwrap())
            .to_vec(),
        ..subscriber(n)
    }
}

fn text(further: &[Delivered]) -> Vec<(String, bool)> {
    let row = |one: &Delivered| (one.resource.to_string(), one.framed);
    further.iter().map(row).collect()
}

#[tokio::test]
async fn everything_of_an_accept_outlives_a_kill_and_ends_with_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let first = running(folder.path(), map.clone()).await;
    let grant = first.edge.authorize(named(1)).await.unwrap();
    let expected = [
        ("2001:db8:1::/60".to_owned(), true),
        ("203.0.113.7:1024-1535".to_owned(), false),
    ];
    assert_eq!(text(&grant.further), expected);
    first.kill().await;
    let running = Running::start(folder.path(), map).await;
    let bindings = running.edge.bindings(None).await.unwrap();
    let shown: Vec<_> = bindings
        .iter()
        .map(|one| (one.kind.as_str(), one.address.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("ipv6", "2001:db8:1::/60"),
            ("port", "203.0.113.7:1024-1535"),
            ("ipv4", "100.64.0.2"),
        ]
    );
    let name = SubscriberId::new("sub-1").unwrap();
    assert!(
        running
            .edge
            .end_session(name, "session-stop")
            .await
            .unwrap()
    );
    assert_eq!(running.edge.bindings(None).await.unwrap(), []);
    running.stop().await;
}

#[tokio::test]
async fn what_a_subscriber_goes_without_is_counted_by_pool() {
    let folder = tempfile::tempdir().unwrap();
    let access = Access::new([interface(Policies::default())]);
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let metrics = Metrics::new().unwrap();
    let olt = OltId::new("olt-1").unwrap();
    let map = MemoryMap::default();
    let (task, edge, centre) =
        EdgeTask::start(olt, store, map, access, &Origin::default(), metrics.clone())
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
    let grant = running.edge.authorize(named(1)).await.unwrap();
    assert_eq!(text(&grant.further), []);
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    // Neither is in this configuration, and names from elsewhere are no labels.
    let row = "nexus_sidecar_resources_missing_total{pool_id=\"unknown\"} 2";
    assert!(text.contains(row), "{text}");
    running.stop().await;
}

#[tokio::test]
async fn what_the_aaa_server_gives_is_not_given_and_may_not_lie_in_a_pool() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(folder.path(), MemoryMap::default()).await;
    let given = |prefix: &str| AuthorizedSubscriber {
        elsewhere: vec![Elsewhere {
            kind: Kind::Ipv6Delegated,
            prefix: Some(prefix.parse().unwrap()),
        }],
        ..subscriber(1)
    };
    for inside in ["2001:db8:1::/64", "2001:db8::/32"] {
        let refused = running.edge.authorize(given(inside)).await.unwrap_err();
        assert!(refused.to_string().contains("pool link6"), "{refused}");
        assert!(!refused.is_transient());
    }
    assert_eq!(running.edge.bindings(None).await.unwrap(), []);
    let grant = running
        .edge
        .authorize(given("2001:db8:9::/60"))
        .await
        .unwrap();
    assert_eq!(text(&grant.further), []);
    running.stop().await;
}

#[tokio::test]
async fn what_the_map_does_not_take_takes_everything_else_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = running(folder.path(), map.clone()).await;
    map.full.store(true, Ordering::Relaxed);
    let refused = running.edge.authorize(named(1)).await.unwrap_err();
    assert!(matches!(refused, EdgeError::Map(_)), "{refused}");
    assert_eq!(running.edge.bindings(None).await.unwrap(), []);
    running.stop().await;
}
