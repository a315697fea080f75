//! The edge task with a real store and a map in memory: restarts, order, what is answered when.

mod further;
mod interfaces;
mod lost;
mod map;
mod overlap;
mod subscribers;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::Ordering;

use nexus_abi::BindingKey;
use nexus_core::edge::{Conflict, EdgeConfig, Effects, Policies, Policy, PoolGrant, ShardGrant};
use nexus_core::id::{Epoch, Seq, ShardId};
use nexus_core::pool::PoolSpec;
use nexus_core::resource::ResourceType;
use nexus_store::Options;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::binding_map::Interface;
use crate::binding_map::tests::MemoryMap;
use crate::config::{Identity, XdpMode};
use crate::edge_handle::{AuthorizedSubscriber, EdgeError, EdgeHandle, QUEUE_LIMIT};
use crate::origin::Origin;
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
            terms: Duration::from_secs(3600).into(),
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
    EdgeTask::start(olt, store, map, access, &Origin::default(), metrics).await
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
        pools: Vec::new(),
        elsewhere: Vec::new(),
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
            terms: Duration::from_secs(3600).into(),
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
