//! The client, with the real edge task behind it, against a nexus-server that answers by script.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use nexus_core::edge::Policies;
use nexus_core::id::SubscriberId;
use nexus_proto::v1;
use nexus_proto::v1::nexus_server::{Nexus, NexusServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

use super::*;
use crate::binding_map::tests::MemoryMap;
use crate::binding_map::{Access, Interface};
use crate::clock::boot_now;
use crate::config::{Identity, XdpMode};
use crate::edge_handle::{AuthorizedSubscriber, EdgeHandle};
use crate::edge_task::EdgeTask;
use crate::origin::Origin;
use crate::shutdown::{self, Stopper};
use crate::status::{BindingReport, Mode, StatusReport};

/// What the server is told to say next; what is not scripted is answered with success.
#[derive(Default)]
struct Script {
    register: Vec<Status>,
    heartbeat: Vec<Status>,
    /// What heartbeats are answered once an allocation has been refused.
    heartbeat_after_refusal: Vec<Status>,
    allocate: Vec<Status>,
    log: Vec<String>,
    /// What heartbeats are told of another host.
    other_host: String,
    /// How fast the server's clock runs against the host's; 0: the server says nothing of clocks.
    rate: u64,
    /// What the last heartbeat said of clocks.
    told_apart: String,
    /// The allocation stream of the last watcher.
    records: Option<mpsc::Sender<Result<v1::AllocationUpdate, Status>>>,
    keep: Vec<mpsc::Sender<Result<v1::ConfigUpdate, Status>>>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Script {
    fn clock(&self) -> Option<v1::ServerClock> {
        let nanos = boot_now().unwrap().as_nanos() * self.rate;
        (self.rate > 0).then(|| v1::ServerClock {
            server: "n1".to_owned(),
            mark: "n1-1".to_owned(),
            boot_ns: nanos,
            cluster_ns: nanos,
        })
    }
}

impl Scripted {
    fn note(&self, line: String) {
        self.0.lock().unwrap().log.push(line);
    }

    fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    fn next(&self, pick: impl FnOnce(&mut Script) -> &mut Vec<Status>) -> Result<(), Status> {
        match pick(&mut self.0.lock().unwrap()).pop() {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}

fn config() -> v1::OltConfig {
    v1::OltConfig {
        olt_id: "olt-1".to_owned(),
        revision: 1,
        heartbeat_interval_ms: 50,
        pools: vec![v1::PoolConfig {
            id: "p".to_owned(),
            r#type: "ipv4".to_owned(),
            spec_json: "{\"id\": \"p\", \"type\": \"ipv4\", \"cidr\": \"10.0.0.0/16\"}".to_owned(),
            shards: vec![v1::ShardGrant {
                shard: 0,
                range: "10.0.0.0/24".to_owned(),
                epoch: 1,
                state: "owned".to_owned(),
            }],
        }],
        ..v1::OltConfig::default()
    }
}

#[tonic::async_trait]
impl Nexus for Scripted {
    type WatchConfigStream = Streamed<v1::ConfigUpdate>;
    type WatchAllocationsStream = Streamed<v1::AllocationUpdate>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("register {} {}", request.session, request.last_seq));
        self.next(|script| &mut script.register)?;
        Ok(Response::new(v1::RegisterResponse {
            config: Some(config()),
            lease_ms: 60_000,
            ..v1::RegisterResponse::default()
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.0.lock().unwrap().told_apart = request.into_inner().clocks_apart;
        self.next(|script| &mut script.heartbeat)?;
        let other_host = self.0.lock().unwrap().other_host.clone();
        let clock = self.0.lock().unwrap().clock();
        Ok(Response::new(v1::HeartbeatResponse {
            lease_ms: 60_000,
            config_revision: 1,
            state: "active".to_owned(),
            other_host,
            clock,
            keeping: Some(v1::Keeping {
                after_ms: Some(600_000),
                rule: 1,
            }),
        }))
    }

    async fn get_config(
        &self,
        _: Request<v1::ConfigRequest>,
    ) -> Result<Response<v1::ConfigResponse>, Status> {
        Ok(Response::new(v1::ConfigResponse {
            config: Some(config()),
        }))
    }

    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateResponse>, Status> {
        let request = request.into_inner();
        self.note(format!(
            "allocate {} {} seq {}",
            request.subscriber_id, request.resource, request.seq
        ));
        if let Err(refused) = self.next(|script| &mut script.allocate) {
            let mut script = self.0.lock().unwrap();
            let after = std::mem::take(&mut script.heartbeat_after_refusal);
            script.heartbeat.extend(after);
            return Err(refused);
        }
        Ok(Response::new(v1::AllocateResponse::default()))
    }

    async fn deallocate(
        &self,
        request: Request<v1::DeallocateRequest>,
    ) -> Result<Response<v1::DeallocateResponse>, Status> {
        let request = request.into_inner();
        self.note(format!(
            "deallocate {} {} {}",
            request.subscriber_id, request.resource, request.reason
        ));
        Ok(Response::new(v1::DeallocateResponse {}))
    }

    async fn get_allocation(
        &self,
        _: Request<v1::GetAllocationRequest>,
    ) -> Result<Response<v1::Allocation>, Status> {
        Err(Status::unimplemented("not asked by a sidecar"))
    }

    async fn watch_config(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        self.0.lock().unwrap().keep.push(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn watch_allocations(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchAllocationsStream>, Status> {
        let revision = request.into_inner().revision;
        self.note(format!("watch-allocations {revision}"));
        let (sender, receiver) = mpsc::channel(8);
        if revision == 0 {
            let end = v1::AllocationUpdate {
                revision: 10,
                kind: v1::allocation_update::Kind::SnapshotEnd.into(),
                allocation: None,
            };
            sender.send(Ok(end)).await.unwrap();
        }
        self.0.lock().unwrap().records = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct World {
    script: Scripted,
    edge: EdgeHandle,
    _stoppers: [Stopper; 2],
    _folder: tempfile::TempDir,
    _tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn new(script: Script) -> Self {
        let script = Scripted(Arc::new(Mutex::new(script)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = NexusServer::new(script.clone());
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        // A port that nobody listens on any more.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = closed.local_addr().unwrap();
        drop(closed);
        let folder = tempfile::tempdir().unwrap();
        let yaml = format!(
            "olt: {{id: olt-1}}\nnexus_endpoints: ['{nobody}', '{address}']\ninterfaces: [{{name: eth1}}]\n"
        );
        let path = folder.path().join("sidecar.yaml");
        std::fs::write(&path, yaml).unwrap();
        let config = SidecarConfig::load(&path).unwrap();
        let store = nexus_store::Store::open(
            &folder.path().join("store"),
            nexus_store::Options::default(),
        )
        .unwrap();
        let access = Access::new([Interface {
            name: "eth1".to_owned(),
            ifindex: 3,
            number: 0,
            mac: [2; 6],
            mode: XdpMode::Native,
            identity: vec![Identity::Line, Identity::Mac],
            policies: Policies::default(),
            server_id: None,
            pool: None,
        }]);
        let metrics = Metrics::new().unwrap();
        let (task, edge, side) = EdgeTask::start(
            config.olt.id.clone(),
            store,
            MemoryMap::default(),
            access,
            &Origin::default(),
            metrics.clone(),
        )
        .await
        .unwrap();
        let (stop_edge, edge_stop) = shutdown::channel();
        let (stop_client, client_stop) = shutdown::channel();
        let edge_task = tokio::spawn(async move { task.run(edge_stop).await.unwrap() });
        let client = CentreClient::new(&config, side, metrics);
        let client = tokio::spawn(client.run(client_stop));
        Self {
            script,
            edge,
            _stoppers: [stop_edge, stop_client],
            _folder: folder,
            _tasks: vec![server, edge_task, client],
        }
    }

    /// Waits until the status is as wanted; a test that hangs here has failed.
    async fn until(&self, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
        let wait = async {
            loop {
                let status = self.edge.status().await.unwrap();
                if wanted(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.script.log()))
    }

    async fn until_logged(&self, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.until(|_| wanted(&self.script.log())).await;
        self.script.log()
    }

    async fn ready(&self) {
        self.until(|status| status.cannot_allocate.is_none()).await;
    }

    async fn authorize(&self, name: &str, last: u8) {
        let subscriber = AuthorizedSubscriber {
            subscriber: SubscriberId::new(name).unwrap(),
            interface: None,
            mac: [2, 0, 0, 0, 0, last],
            vlans: None,
            circuit_id: None,
            remote_id: None,
            pool: None,
            default_pool: None,
            pools: Vec::new(),
            elsewhere: Vec::new(),
            metadata: BTreeMap::new(),
        };
        self.edge.authorize(subscriber).await.unwrap();
    }

    async fn bindings(&self) -> Vec<BindingReport> {
        self.edge.bindings(None).await.unwrap()
    }
}

fn registrations(log: &[String]) -> Vec<&str> {
    let sessions = log.iter().filter_map(|line| line.strip_prefix("register "));
    sessions.filter_map(|rest| rest.split(' ').next()).collect()
}

#[tokio::test]
async fn the_next_endpoint_is_tried_and_commands_are_recorded_in_order() {
    let world = World::new(Script::default()).await;
    world.ready().await;
    world.authorize("a", 1).await;
    let name = SubscriberId::new("a").unwrap();
    world.until(|status| status.acked == 1).await;
    assert!(world.edge.end_session(name, "session-stop").await.unwrap());
    let log = world
        .until_logged(|log| log.iter().any(|line| line.starts_with("deallocate")))
        .await;
    let commands: Vec<_> = log
        .iter()
        .filter(|line| line.contains("allocate a"))
        .cloned()
        .collect();
    assert_eq!(
        commands,
        [
            "allocate a 10.0.0.2 seq 1",
            "deallocate a 10.0.0.2 session-stop"
        ]
    );
    let status = world.until(|status| status.pending_releases == 0).await;
    assert_eq!(status.mode, Mode::Connected);
    assert!(status.lease_left_secs.unwrap() <= 59, "99% of the lease");
}

#[tokio::test]
async fn a_store_that_was_rolled_back_goes_on_under_a_new_session() {
    let rolled_back = Status::failed_precondition(
        "OLT olt-1 says that it has sent 0 commands, but 9 are recorded: its store was rolled back; start a new session",
    );
    let world = World::new(Script {
        register: vec![rolled_back],
        ..Script::default()
    })
    .await;
    world.ready().await;
    let log = world.script.log();
    let sessions = registrations(&log);
    assert_eq!(sessions.len(), 2);
    assert_ne!(sessions[0], sessions[1]);
}

#[tokio::test]
async fn a_host_whose_clock_runs_apart_from_the_centres_stops_says_so_and_goes_on_by_itself() {
    let world = World::new(Script {
        rate: 2,
        ..Script::default()
    })
    .await;
    // The first connection is given up for one to another server, if there is one.
    let stopped = world.until(|status| status.clock.stops).await;
    assert_eq!(stopped.lease_left_secs, None);
    let why = stopped.cannot_allocate.unwrap();
    assert!(why.contains("clocks run too far apart"), "{why}");
    let apart = stopped.clock.apart.unwrap();
    assert!(
        apart.contains("slow against the clock of server n1"),
        "{apart}"
    );
    let told = || world.script.0.lock().unwrap().told_apart.clone();
    world.until(|_| told().contains("server n1")).await;
    let registered = |log: &[String]| {
        log.iter()
            .filter(|line| line.starts_with("register"))
            .count()
    };
    world.until_logged(|log| registered(log) >= 2).await;
    world.script.0.lock().unwrap().rate = 1;
    world.ready().await;
    world.until(|status| status.clock.apart.is_none()).await;
    world.until(|_| told().is_empty()).await;
}

#[tokio::test]
async fn the_second_host_with_an_id_says_so_and_the_first_is_told_of_it() {
    let taken = || Status::already_exists("session x of OLT olt-1 was heard from 1 s ago");
    let world = World::new(Script {
        register: vec![taken(), taken()],
        ..Script::default()
    })
    .await;
    let refused = world.until(|status| status.second_host.is_some()).await;
    assert!(refused.second_host.unwrap().contains("session x"));
    let why = refused.cannot_allocate.unwrap();
    assert!(why.contains("another host with this olt.id"), "{why}");
    // The other one has gone, and this is the first now.
    world.ready().await;
    world.script.0.lock().unwrap().other_host = "10.0.0.9 tried to register".to_owned();
    let told = world.until(|status| status.other_host.is_some()).await;
    assert_eq!(told.second_host, None);
    assert!(told.other_host.unwrap().contains("10.0.0.9"));
    world.script.0.lock().unwrap().other_host.clear();
    world.until(|status| status.other_host.is_none()).await;
}

#[tokio::test]
async fn another_refusal_does_not_cost_the_session() {
    let world = World::new(Script {
        register: vec![
            Status::already_exists("session x of OLT olt-1 was heard from 1 s ago"),
            Status::failed_precondition("the table of OLTs is full"),
        ],
        ..Script::default()
    })
    .await;
    world.ready().await;
    let log = world.script.log();
    let sessions = registrations(&log);
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().all(|session| *session == sessions[0]));
}

#[tokio::test]
async fn a_session_that_is_over_is_registered_again_and_the_command_is_sent_again() {
    let over = || Status::failed_precondition("session s of OLT olt-1 is not registered");
    let world = World::new(Script::default()).await;
    world.ready().await;
    {
        let mut script = world.script.0.lock().unwrap();
        script.allocate.push(over());
        script.heartbeat_after_refusal.push(over());
    }
    world.authorize("a", 1).await;
    world.until(|status| status.acked == 1).await;
    let log = world.script.log();
    assert!(registrations(&log).len() >= 2, "{log:?}");
    assert_eq!(world.bindings().await.len(), 1);
}

#[tokio::test]
async fn a_refusal_of_a_living_session_ends_the_binding_and_one_without_answer_does_not() {
    let world = World::new(Script::default()).await;
    world.ready().await;
    world.script.0.lock().unwrap().allocate = vec![
        Status::failed_precondition("shard 0 of pool p is not owned under epoch 1"),
        Status::unavailable("try again"),
    ];
    world.authorize("a", 1).await;
    // Lost first and sent again; then refused.
    world
        .until(|status| status.acked + status.unacked + status.suspended == 0)
        .await;
    let log = world.script.log();
    let sent = log.iter().filter(|line| line.starts_with("allocate a"));
    assert_eq!(sent.count(), 2, "{log:?}");
    world.authorize("b", 2).await;
    world.until(|status| status.acked == 1).await;
}

#[tokio::test]
async fn a_stream_that_ends_is_resumed_and_the_centre_can_ask_for_a_release() {
    let world = World::new(Script::default()).await;
    world.ready().await;
    world.authorize("a", 1).await;
    world.until(|status| status.acked == 1).await;
    let records = world.script.0.lock().unwrap().records.take().unwrap();
    records
        .send(Err(Status::aborted("too slow")))
        .await
        .unwrap();
    let resumed = |log: &[String]| log.iter().any(|line| line == "watch-allocations 10");
    world.until_logged(resumed).await;
    let records = world.script.0.lock().unwrap().records.take().unwrap();
    let release = v1::AllocationUpdate {
        revision: 11,
        kind: v1::allocation_update::Kind::ReleaseRequested.into(),
        allocation: Some(v1::Allocation {
            pool_id: "p".to_owned(),
            subscriber_id: "a".to_owned(),
            resource: "10.0.0.2".to_owned(),
            olt_id: "olt-1".to_owned(),
            r#type: "ipv4".to_owned(),
            epoch: 1,
            seq: 1,
            state: "releasing".to_owned(),
            ..v1::Allocation::default()
        }),
    };
    records.send(Ok(release)).await.unwrap();
    let released = |log: &[String]| {
        log.iter()
            .any(|line| line == "deallocate a 10.0.0.2 operator")
    };
    world.until_logged(released).await;
    assert!(world.bindings().await.is_empty());
}

#[test]
fn the_pause_grows_to_half_a_minute_or_a_heartbeat_and_is_never_nothing() {
    let short = Duration::from_secs(3);
    for (longest, most) in [
        (PAUSE.1 * 2, PAUSE.1),
        (short, short),
        (Duration::ZERO, PAUSE.0),
    ] {
        for attempt in 0..40 {
            let pause = pause(attempt, longest);
            assert!(
                pause >= PAUSE.0 / 2 && pause <= most,
                "{attempt}, {longest:?}: {pause:?}"
            );
        }
        assert!(pause(20, longest) >= most / 2);
    }
}
