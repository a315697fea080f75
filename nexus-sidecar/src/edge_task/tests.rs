//! The edge task with a real store and a map in memory: restarts, order, what is answered when.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::Ordering;

use nexus_abi::BindingKey;
use nexus_core::edge::{Conflict, Policies, Policy, PoolGrant, ShardGrant};
use nexus_core::id::{Epoch, PoolId, ShardId, SubscriberId};
use nexus_core::pool::PoolSpec;
use nexus_core::resource::ResourceType;
use nexus_store::Options;
use tokio::task::JoinHandle;

use super::*;
use crate::binding_map::Interface;
use crate::binding_map::tests::MemoryMap;
use crate::config::{Identity, XdpMode};
use crate::edge_handle::{AuthorizedSubscriber, EdgeError, QUEUE_LIMIT};
use crate::shutdown::{self, Stopper};
use crate::status::Mode;

struct Running {
    edge: EdgeHandle,
    centre: CentreSide,
    stopper: Stopper,
    task: JoinHandle<Result<(), EdgeTaskError>>,
}

impl Running {
    async fn start(folder: &Path, map: MemoryMap) -> Self {
        Self::start_on(Store::open(folder, Options::default()).unwrap(), map).await
    }

    async fn start_on(store: Store, map: MemoryMap) -> Self {
        let (task, edge, centre) = open_on("olt-1", store, map).await.unwrap();
        let (stopper, shutdown) = shutdown::channel();
        Self {
            edge,
            centre,
            stopper,
            task: tokio::spawn(task.run(shutdown)),
        }
    }

    async fn registered(&self) {
        self.tell(CentreEvent::Registered {
            sent_at: boot_now().unwrap(),
            lease: Duration::from_secs(3600),
            config: config(),
            endpoint: "centre:9001".to_owned(),
        })
        .await;
        self.tell(CentreEvent::SnapshotBegin).await;
        self.tell(CentreEvent::SnapshotEnd).await;
    }

    async fn tell(&self, event: CentreEvent) {
        self.centre.events.send(event).await.unwrap();
    }

    async fn stop(self) {
        self.stopper.stop();
        self.task.await.unwrap().unwrap();
    }

    /// As kill -9 does: nothing is finished, nothing is flushed.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn open(
    olt: &str,
    folder: &Path,
    map: MemoryMap,
) -> Result<(EdgeTask<MemoryMap>, EdgeHandle, CentreSide), EdgeTaskError> {
    open_on(olt, Store::open(folder, Options::default()).unwrap(), map).await
}

async fn open_on(
    olt: &str,
    store: Store,
    map: MemoryMap,
) -> Result<(EdgeTask<MemoryMap>, EdgeHandle, CentreSide), EdgeTaskError> {
    let access = Access::new([interface(Policies::default())]);
    let olt = OltId::new(olt).unwrap();
    let metrics = Metrics::new().unwrap();
    EdgeTask::start(olt, store, map, access, metrics).await
}

fn interface(policies: Policies) -> Interface {
    Interface {
        name: "eth1".to_owned(),
        ifindex: 3,
        number: 0,
        mac: [2, 0, 0, 0, 0, 0xee],
        mode: XdpMode::Native,
        identity: vec![Identity::Line, Identity::Mac],
        policies,
        server_id: None,
        pool: None,
    }
}

fn pool() -> PoolId {
    PoolId::new("residential-ipv4").unwrap()
}

fn config() -> EdgeConfig {
    let spec = PoolSpec::minimal(pool(), ResourceType::Ipv4, "100.64.0.0/16");
    EdgeConfig {
        revision: 1,
        pools: vec![PoolGrant {
            spec,
            shards: vec![ShardGrant {
                shard: ShardId(0),
                epoch: Epoch(1),
                draining: false,
            }],
        }],
    }
}

fn subscriber(n: u8) -> AuthorizedSubscriber {
    AuthorizedSubscriber {
        subscriber: SubscriberId::new(format!("sub-{n}")).unwrap(),
        interface: None,
        mac: [2, 0, 0, 0, 0, n],
        vlans: Some((100, u16::from(n))),
        circuit_id: None,
        remote_id: None,
        pool: None,
        default_pool: None,
        metadata: BTreeMap::new(),
    }
}

fn key(n: u8) -> BindingKey {
    BindingKey::Line {
        interface: 0,
        outer_vid: 100,
        inner_vid: u16::from(n),
        mac: [2, 0, 0, 0, 0, n],
    }
}

#[tokio::test]
async fn a_grant_is_durable_and_in_the_map_and_the_centre_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut running = Running::start(folder.path(), map.clone()).await;
    assert!(matches!(
        running.edge.authorize(subscriber(1)).await,
        Err(EdgeError::NotReady(_))
    ));
    running.registered().await;
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    assert_eq!(grant.mask, Ipv4Addr::new(255, 255, 0, 0));
    assert!(
        (590..=600).contains(&grant.lease_secs),
        "not acknowledged yet"
    );
    let entry = map.entries.lock().unwrap()[&key(1)];
    assert_eq!(entry.address, grant.address.octets());
    let profile = map.profiles.lock().unwrap()[&entry.profile];
    assert_eq!(profile.gateway_mac, [2, 0, 0, 0, 0, 0xee]);
    let command = running.centre.commands.recv().await.unwrap();
    running.tell(CentreEvent::Acked(command.seq)).await;
    let again = running.edge.authorize(subscriber(1)).await.unwrap();
    assert_eq!((again.address, again.known), (grant.address, true));
    assert_eq!(again.lease_secs, 3600);
    let (binding, _) = running.edge.binding(&key(1)).unwrap();
    assert_eq!(binding.valid_until_secs, nexus_abi::NEVER_EXPIRES);
    let status = running.edge.status().await.unwrap();
    assert_eq!((status.mode, status.acked), (Mode::Connected, 1));
    assert_eq!(status.kernel_outcomes["ack"], 7);
    running.stop().await;
}

#[tokio::test]
async fn after_a_kill_everything_accepted_is_there_and_nothing_in_the_map_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    let mut grants = BTreeMap::new();
    for n in 1..=100 {
        grants.insert(n, running.edge.authorize(subscriber(n)).await.unwrap());
        let command = running.centre.commands.recv().await.unwrap();
        running.tell(CentreEvent::Acked(command.seq)).await;
    }
    running.edge.status().await.unwrap();
    let before = map.entries.lock().unwrap().clone();
    running.kill().await;
    map.entries
        .lock()
        .unwrap()
        .insert(key(200), before[&key(1)]);
    let writes = map.writes.load(Ordering::Relaxed);
    let running = Running::start(folder.path(), map.clone()).await;
    assert_eq!(*map.entries.lock().unwrap(), before);
    let written = map.writes.load(Ordering::Relaxed) - writes;
    assert_eq!(written, 1, "only the entry that nobody holds was removed");
    for (n, grant) in grants {
        let again = running.edge.authorize(subscriber(n)).await.unwrap();
        assert_eq!((again.address, again.known), (grant.address, true));
    }
    let new = running.edge.authorize(subscriber(201)).await.unwrap();
    assert!(!new.known, "the lease is still good");
    running.stop().await;
}

#[tokio::test]
async fn a_release_leaves_the_map_and_a_decline_brings_another_address() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    let first = running.edge.authorize(subscriber(1)).await.unwrap();
    let wrong = Ipv4Addr::new(100, 64, 0, 200);
    let edge = &running.edge;
    assert_eq!(edge.dhcp_decline(key(1), wrong).await.unwrap(), None);
    let second = edge
        .dhcp_decline(key(1), first.address)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(second, first.address);
    assert_eq!(
        map.entries.lock().unwrap()[&key(1)].address,
        second.octets()
    );
    assert!(!edge.dhcp_release(key(1), first.address).await.unwrap());
    assert!(edge.dhcp_release(key(1), second).await.unwrap());
    assert!(map.entries.lock().unwrap().is_empty());
    assert_eq!(edge.binding(&key(1)), None);
    assert!(edge.bindings(None).await.unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn many_at_once_get_different_addresses_and_a_full_queue_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path(), MemoryMap::default()).await;
    running.registered().await;
    running.edge.status().await.unwrap();
    // All of these are queued before the edge task gets to run: this thread is the only one.
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    for n in 0..QUEUE_LIMIT + 10 {
        let edge = running.edge.clone();
        let mut subscriber = subscriber(1);
        subscriber.subscriber = SubscriberId::new(format!("many-{n}")).unwrap();
        let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
        subscriber.mac = [2, 1, 0, 0, high, low];
        subscriber.vlans = None;
        let mut request = Box::pin(async move { edge.authorize(subscriber).await });
        match futures::poll!(&mut request) {
            std::task::Poll::Ready(answer) => answers.push(answer),
            std::task::Poll::Pending => requests.push(request),
        }
    }
    answers.extend(futures::future::join_all(requests).await);
    let busy = answers
        .iter()
        .filter(|answer| matches!(answer, Err(EdgeError::Busy)))
        .count();
    assert_eq!(busy, 10);
    let addresses: std::collections::BTreeSet<_> = answers
        .iter()
        .flatten()
        .map(|grant| grant.address)
        .collect();
    assert_eq!(addresses.len(), 254, "a /24 without network and router");
    running.stop().await;
}

#[tokio::test]
async fn commands_wait_while_the_centre_is_away_and_go_out_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path(), MemoryMap::default()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    let first = running.centre.commands.recv().await.unwrap();
    running.tell(CentreEvent::Lost(first.seq)).await;
    running.tell(CentreEvent::CutOff).await;
    running.edge.authorize(subscriber(2)).await.unwrap();
    let status = running.edge.status().await.unwrap();
    assert_eq!((status.mode, status.unacked), (Mode::CutOff, 2));
    assert!(running.centre.commands.try_recv().is_err());
    running
        .tell(CentreEvent::Renewed {
            sent_at: boot_now().unwrap(),
            lease: Duration::from_secs(3600),
            revision: 1,
        })
        .await;
    let seqs = [
        running.centre.commands.recv().await.unwrap().seq,
        running.centre.commands.recv().await.unwrap().seq,
    ];
    assert_eq!(seqs, [Seq(1), Seq(2)]);
    running.stop().await;
}

#[tokio::test]
async fn what_the_map_does_not_take_is_not_answered_and_nothing_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    map.full.store(true, Ordering::Relaxed);
    let refused = running.edge.authorize(subscriber(1)).await;
    assert!(matches!(refused, Err(EdgeError::Map(_))), "{refused:?}");
    assert!(running.edge.bindings(None).await.unwrap().is_empty());
    map.full.store(false, Ordering::Relaxed);
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    assert!(!grant.known);
    // It was accepted, so a write that fails later does not end it.
    map.full.store(true, Ordering::Relaxed);
    assert!(running.edge.authorize(subscriber(1)).await.is_err());
    assert_eq!(running.edge.bindings(None).await.unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_replaced_does_not_go_on_answering() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    map.full.store(true, Ordering::Relaxed);
    let mut other = subscriber(1);
    other.subscriber = SubscriberId::new("other").unwrap();
    assert!(running.edge.authorize(other).await.is_err());
    assert_eq!(map.entries.lock().unwrap().get(&key(1)), None);
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_could_not_be_removed_is_removed_as_soon_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    map.stuck.store(true, Ordering::Relaxed);
    let who = subscriber(1).subscriber;
    let ended = running.edge.end_session(who, "session-stop").await;
    assert_eq!(ended, Ok(true));
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    map.stuck.store(false, Ordering::Relaxed);
    running.edge.status().await.unwrap();
    running.edge.status().await.unwrap();
    assert!(map.entries.lock().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_full_map_does_not_keep_the_sidecar_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    running.stop().await;
    let map = MemoryMap::default();
    map.full.store(true, Ordering::Relaxed);
    let running = Running::start(folder.path(), map.clone()).await;
    let (binding, _) = running.edge.binding(&key(1)).unwrap();
    assert_eq!(
        binding.address,
        grant.address.octets(),
        "the slow path serves it"
    );
    map.full.store(false, Ordering::Relaxed);
    running.edge.status().await.unwrap();
    running.edge.status().await.unwrap();
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_store_of_another_olt_is_refused_and_the_map_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    running.stop().await;
    let opened = open("olt-2", folder.path(), map.clone()).await;
    let error = opened.map(drop).unwrap_err().to_string();
    assert!(error.contains("belongs to OLT olt-1"), "{error}");
    assert_eq!(map.entries.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_ending_entry_does_not_wait_for_the_disk_and_is_back_if_the_end_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let running = Running::start_on(store.clone(), map.clone()).await;
    running.registered().await;
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    tokio::task::spawn_blocking(move || store.flush_and_close())
        .await
        .unwrap()
        .unwrap();
    let who = subscriber(1).subscriber;
    let ended = running.edge.end_session(who, "session-stop").await;
    assert_eq!(ended, Err(EdgeError::Stopped));
    assert!(
        map.entries.lock().unwrap().is_empty(),
        "it rests from the decision on, so no lease may be renewed after it"
    );
    assert!(running.task.await.unwrap().is_err());
    let running = Running::start(folder.path(), map.clone()).await;
    let entry = map.entries.lock().unwrap()[&key(1)];
    assert_eq!(entry.address, grant.address.octets());
    running.stop().await;
}

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
    let (task, edge, centre) = EdgeTask::start(olt, store, map.clone(), access, metrics.clone())
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
        task.edge.acked(Seq(seq), &mut fx);
    }
    task.settle(vec![fx]).await.unwrap();
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
    let started = EdgeTask::start(olt, store, map, access, metrics).await;
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
    task.batch(Input::Request(request)).await.unwrap();
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
    task.settle(vec![fx]).await.unwrap();
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
    let (task, edge, centre) =
        EdgeTask::start(olt, store, map, Access::new([one]), Metrics::new().unwrap())
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
