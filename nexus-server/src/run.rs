//! Starting and stopping: store, state, listeners, and what connects them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nexus_core::cluster::{Introduction, Members};
use nexus_p2p::{ClusterKey, Hello, Link};
use nexus_quorum::Quorum;
use nexus_store::{OnDamage, Store};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::actor::{Handle, Outlets, Owner, Stopped};
use crate::clock::Now;
use crate::cluster::barrier;
use crate::cluster::courier::{self, Courier};
use crate::cluster::membership::Membership;
use crate::cluster::steward::{PROPOSAL_LIMIT, Steward};
use crate::cluster::{OwnedState, PROTOCOL_VERSIONS, PeerNetwork, channel, disk};
use crate::config::Config;
use crate::confirm::Confirm;
use crate::grants::Grants;
use crate::http::{App, Readiness};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::service::{Parts, Service};
use crate::standing::Standing;
use crate::{grpc, http, seed, state};

/// What is in the data directory, beside the identity.
const STORE: &str = "store";
/// The quorum's log and votes, in the data directory.
pub(crate) const QUORUM: &str = "quorum.redb";
const NODE_KEY: &str = "node.key";

/// Why the server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It was away for too long: its store is gone, and it must be started again to fetch everything anew.
    StartOver,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// REST, health, readiness.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Prometheus.
    pub metrics: SocketAddr,
}

struct Listeners {
    http: TcpListener,
    grpc: TcpListener,
    metrics: TcpListener,
}

type OwnerTask = JoinHandle<Result<Stopped, nexus_store::StoreError>>;

/// What runs beside the listeners.
struct Running {
    centre: Handle,
    store: Store,
    quorum: Quorum,
    link: Option<Link>,
    membership: Membership,
    service: Service,
    tasks: Vec<JoinHandle<()>>,
}

/// Runs the server until SIGTERM or SIGINT, or until its store fails.
///
/// # Errors
/// What kept it from starting or from stopping in order, for a person to read.
pub async fn run(config: Config, ready_file: Option<PathBuf>) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // The ports come first: a server that cannot listen must not touch the state of another one.
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses()?;
    let (running, mut owner) = start(&config, addresses).await?;
    let app = App {
        service: running.service.clone(),
        membership: running.membership.clone(),
        ready: Readiness::default(),
        role: config.node.role.as_str(),
    };
    let (stop, stopping) = watch::channel(false);
    let servers = listeners.serve(&app, &stopping);

    let failed = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // Before the quorum, which stops when its state is gone.
        outcome = &mut owner => Some(outcome),
        why = quorum_stopped(&running.quorum) => {
            return Err(anyhow!(why).context(
                "the quorum has stopped on this server; restart it once the cause is mended",
            ));
        }
        outcome = serve(&config, &running, &app, addresses, ready_file.as_deref()) => {
            outcome?;
            None
        }
    };
    app.ready.set(false);
    match failed {
        None => {}
        Some(Ok(Ok(Stopped::StartOver(why)))) => {
            tracing::warn!(
                why,
                "starting over: the record is fetched anew from the other servers"
            );
            running.quorum.stop().await;
            state::start_over(running.store).await?;
            return Ok(Ended::StartOver);
        }
        Some(outcome) => {
            let error = match outcome {
                Ok(Err(error)) => anyhow!(error),
                Ok(Ok(Stopped::Failed(why))) => anyhow!(why),
                Ok(Ok(_)) => anyhow!("the owner of the state has ended"),
                Err(error) => anyhow!(error),
            };
            return Err(
                error.context("nothing more can be accepted; restart once the cause is mended")
            );
        }
    }
    tracing::info!("stopping: no new requests, those in flight may finish");
    let stopped = shut_down(&config, app, stop, servers, running, owner);
    match timeout(config.graceful_shutdown.timeout.get(), stopped).await {
        Ok(outcome) => outcome.map(|()| Ended::Stopped),
        Err(_) => bail!(
            "stopping took longer than graceful_shutdown.timeout ({}); everything that was answered is durable",
            config.graceful_shutdown.timeout
        ),
    }
}

/// Waits for the end of the quorum on this server, which never comes while all is well.
async fn quorum_stopped(quorum: &Quorum) -> String {
    let mut stopped = quorum.stopped();
    match stopped.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "its task has ended".to_owned(),
    }
}

/// Founds the cluster if that is this server's part, and says when it is ready. Ends only with an error.
async fn serve(
    config: &Config,
    running: &Running,
    app: &App,
    addresses: Addresses,
    ready_file: Option<&Path>,
) -> anyhow::Result<()> {
    if config.p2p.bootstrap.is_empty() {
        running.membership.look_around().await;
        running
            .membership
            .found()
            .await
            .context("the cluster cannot be founded")?;
    }
    let keeping = tokio::spawn(running.membership.clone().keep());
    // A read replica is ready although it takes no writes.
    loop {
        let reasons = running.service.standing().reasons();
        if reasons.looked && reasons.member.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if config.p2p.bootstrap.is_empty() {
        seed::pools(config, &running.service).await?;
    }
    app.ready.set(true);
    announce(addresses, ready_file)?;
    keeping.await.context("membership is not kept any more")?;
    std::future::pending().await
}

/// Opens everything and connects it.
async fn start(config: &Config, addresses: Addresses) -> anyhow::Result<(Running, OwnerTask)> {
    let directory = config.storage.path.clone();
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut identity = Identity::load(&directory, config.node.id.as_ref())?;
    identity.check_quorum(&directory, QUORUM)?;
    tracing::info!(
        node = %identity.name, number = identity.number, role = config.node.role.as_str(),
        region = config.node.region, "starting"
    );
    let key = config.cluster_key_file();
    let key = key.as_deref().map(ClusterKey::read).transpose()?;
    let on_damage = if key.is_some() {
        OnDamage::MoveAside
    } else {
        // The record exists nowhere else.
        OnDamage::Refuse
    };
    let store = state::open(&directory.join(STORE), on_damage).await?;
    let metrics = Metrics::new()?;
    let centre = state::restore(config, &store, identity.number).await?;
    let (proposals, proposed) = mpsc::channel(PROPOSAL_LIMIT);
    let (outputs, output) = mpsc::channel(courier::OUTPUT_LIMIT);
    let (members, listed) = watch::channel(Members::default());
    let (barrier, progress) = watch::channel(barrier::Progress::default());
    let confirm = Confirm::default();
    let outlets = Outlets {
        proposals,
        outputs,
        members,
        barrier,
        confirm: confirm.clone(),
    };
    let tick = (config.olt.heartbeat_interval.get() / 2)
        .clamp(Duration::from_millis(20), Duration::from_secs(1));
    let (owner, centre) = Owner::new(centre, store.clone(), metrics.clone(), tick, outlets);
    let owner = tokio::spawn(owner.run());
    let (link, events) = match key {
        Some(key) => {
            let (link, events) = Link::start(link_options(config, &identity, key)).await?;
            tracing::info!(peer_id = link.peer_id(), addresses = ?link.addresses(), "listening for other servers");
            (Some(link), Some(events))
        }
        None => (None, None),
    };
    let quorum = Quorum::open(
        nexus_quorum::Options {
            number: identity.number,
            path: directory.join(QUORUM),
            timing: nexus_quorum::Timing::default(),
            limits: nexus_quorum::Limits::default(),
            clock: Arc::new(|| {
                Now::read().map_or(Duration::ZERO, |now| {
                    now.boot.since(nexus_core::time::BootTime::ZERO)
                })
            }),
        },
        Arc::new(OwnedState(centre.clone())),
        Arc::new(PeerNetwork(link.clone())),
    )
    .await?;
    identity.has_quorum(&directory)?;
    let grants = Grants::new(quorum.clone());
    let standing = Standing::default();
    let rule = config.lease_rule().map_err(|error| anyhow!(error))?;
    let membership = Membership {
        rule,
        introduction: introduction(config, identity, link.as_ref(), addresses),
        centre: centre.clone(),
        grants: grants.clone(),
        link: link.clone(),
        standing: standing.clone(),
        patience: config.clset.rebroadcast_interval.get() * 2 + Duration::from_secs(1),
    };
    let steward = Steward {
        centre: centre.clone(),
        grants: grants.clone(),
        link: link.clone(),
        rule,
        tick,
        evict_after: config.cluster.evict_after.get(),
        proposals: proposed,
    };
    let mut tasks = vec![
        tokio::spawn(steward.run()),
        tokio::spawn(disk::watch(
            directory,
            config.storage.min_free_bytes,
            standing.clone(),
        )),
    ];
    if let (Some(link), Some(events)) = (&link, events) {
        let courier = Courier {
            link: link.clone(),
            centre: centre.clone(),
            quorum: quorum.clone(),
            membership: membership.clone(),
            metrics: metrics.clone(),
            confirm: confirm.clone(),
            auto_admit: config.cluster.auto_admit,
            workers: usize::from(config.clset.num_workers).max(courier::MIN_WORKERS),
        };
        tasks.push(tokio::spawn(courier.run(events, output)));
        tasks.push(tokio::spawn(barrier::run(
            link.clone(),
            centre.clone(),
            progress.clone(),
        )));
        tasks.push(tokio::spawn(courier::introduce_members(
            link.clone(),
            listed,
        )));
    }
    let running = Running {
        service: Service::new(Parts {
            centre: centre.clone(),
            grants,
            standing,
            confirm,
            barrier: progress,
            metrics,
        }),
        centre,
        store,
        quorum,
        link,
        membership,
        tasks,
    };
    Ok((running, owner))
}

fn link_options(
    config: &Config,
    identity: &Identity,
    cluster_key: ClusterKey,
) -> nexus_p2p::Options {
    nexus_p2p::Options {
        hello: Hello {
            number: identity.number,
            name: identity.name.to_string(),
            role: config.node.role.as_str().to_owned(),
            versions: PROTOCOL_VERSIONS,
            extra: Vec::new(),
        },
        key_file: config.storage.path.join(NODE_KEY),
        cluster_key,
        listen: SocketAddr::new(config.p2p.listen_address, config.p2p.listen_port),
        bootstrap: config.p2p.bootstrap.clone(),
        allowed_peers: config.p2p.allowed_peers.clone(),
        topic: config.clset.topic.clone(),
        advertise: config.p2p.advertise.clone(),
        channels: vec![
            channel::CLSET,
            channel::QUORUM,
            channel::JOIN,
            channel::SEEN,
        ],
    }
}

fn introduction(
    config: &Config,
    identity: Identity,
    link: Option<&Link>,
    addresses: Addresses,
) -> Introduction {
    let host = config.advertised_host();
    Introduction {
        number: identity.number,
        name: identity.name,
        role: config.node.role,
        peer_id: link.map_or_else(|| "none".to_owned(), |link| link.peer_id().to_owned()),
        addresses: link.map(Link::addresses).unwrap_or_default(),
        http: format!("http://{host}:{}", addresses.http.port()),
        grpc: format!("{host}:{}", addresses.grpc.port()),
    }
}

async fn shut_down(
    config: &Config,
    app: App,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    running: Running,
    owner: OwnerTask,
) -> anyhow::Result<()> {
    let Running {
        centre,
        store,
        quorum,
        link,
        membership,
        service,
        tasks,
    } = running;
    let _ = stop.send(true);
    // Streams would never end by themselves.
    let _ = centre.stop_watchers().await;
    let grace = config.graceful_shutdown.grace_period.get();
    let deadline = tokio::time::Instant::now() + grace;
    for mut server in servers {
        match tokio::time::timeout_at(deadline, &mut server).await {
            Ok(ended) => ended.context("a listener has failed")??,
            Err(_) => {
                tracing::warn!(
                    "connections were still open after graceful_shutdown.grace_period ({})",
                    config.graceful_shutdown.grace_period
                );
                server.abort();
                // Its handles of the state go with it.
                let _ = server.await;
            }
        }
    }
    if link.is_some() {
        courier::hand_over(&centre, deadline).await;
    }
    quorum.clone().stop().await;
    if let Some(link) = link {
        link.stop().await;
    }
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
    centre.close();
    drop((app, service, membership, centre, quorum));
    owner.await.context("the owner of the state has failed")??;
    tokio::task::spawn_blocking(move || store.flush_and_close())
        .await
        .context("closing the store has failed")??;
    tracing::info!("stopped");
    Ok(())
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |field: &str, port: u16| {
            let address = config.listen(port);
            TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address} (server.{field}): stop what listens there, or choose another port")
            })
        };
        Ok(Self {
            http: bind("http_port", config.server.http_port).await?,
            grpc: bind("grpc_port", config.server.grpc_port).await?,
            metrics: bind("metrics_port", config.server.metrics_port).await?,
        })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            grpc: self.grpc.local_addr()?,
            metrics: self.metrics.local_addr()?,
        })
    }

    fn serve(
        self,
        app: &App,
        stopping: &watch::Receiver<bool>,
    ) -> Vec<JoinHandle<anyhow::Result<()>>> {
        let stopped = || {
            let mut stopping = stopping.clone();
            async move {
                // Fails only if the sender is gone, which means the same.
                let _ = stopping.wait_for(|stop| *stop).await;
            }
        };
        let rest = http::serve(self.http, http::router(app.clone()), stopped());
        let scrape = http::serve(self.metrics, http::metrics_router(app.clone()), stopped());
        let rpc = grpc::serve(self.grpc, app.service.clone(), stopped());
        vec![
            tokio::spawn(async move { rest.await.context("the HTTP listener failed") }),
            tokio::spawn(async move { rpc.await.context("the gRPC listener failed") }),
            tokio::spawn(async move { scrape.await.context("the metrics listener failed") }),
        ]
    }
}

/// Says where the server listens: on stderr, and in a file for scripts, which is complete once it is there.
fn announce(addresses: Addresses, ready_file: Option<&Path>) -> anyhow::Result<()> {
    tracing::info!(http = %addresses.http, grpc = %addresses.grpc, metrics = %addresses.metrics, "listening");
    let Some(path) = ready_file else {
        return Ok(());
    };
    let text = serde_json::to_string(&addresses)?;
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write --ready-file {}", path.display()))
}
