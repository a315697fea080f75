//! Starting and stopping: store, state, listeners, and what connects them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nexus_core::id::OltId;
use nexus_core::lease::LeaseRule;
use nexus_store::{Batch, OnDamage, Options, Store};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::actor::{Handle, Owner};
use crate::centre::Centre;
use crate::centre::effects::{META_ROWS, Write};
use crate::clock::Now;
use crate::config::Config;
use crate::http::{App, Readiness};
use crate::metrics::Metrics;
use crate::olt_config::Settings;
use crate::replica::Replica;
use crate::service::Service;
use crate::{grpc, http};

/// Meta row with the node's id, if it was not configured.
const NODE_ID_KEY: &[u8] = b"node-id";
/// Meta row with the node's number among the replicas.
const NODE_NUMBER_KEY: &[u8] = b"node-number";
/// Meta row that says that the pools of the configuration were created.
const SEEDED_KEY: &[u8] = b"seeded";

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

/// Runs the server until SIGTERM or SIGINT, or until its store fails.
///
/// # Errors
/// What kept it from starting or from stopping in order, for a person to read.
pub async fn run(config: Config, ready_file: Option<PathBuf>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // The ports come first: a server that cannot listen must not touch the state of another one.
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses()?;
    let store = open_store(&config.storage.path).await?;
    let node = identity(&config, &store).await?;
    tracing::info!(
        %node, role = config.node.role.as_str(), region = config.node.region,
        "this build runs as a single node and is its own grantor; the p2p and clset sections are kept for the cluster"
    );
    let metrics = Metrics::new()?;
    let centre = open_centre(&config, &store, addresses).await?;
    let tick = (config.olt.heartbeat_interval.get() / 2)
        .clamp(Duration::from_millis(20), Duration::from_secs(1));
    let (owner, centre) = Owner::new(centre, store.clone(), metrics.clone(), tick);
    let mut owner = tokio::spawn(owner.run());
    seed(&config, &store, &centre).await?;

    let app = App {
        service: Service::new(centre.clone(), metrics),
        ready: Readiness::default(),
        role: config.node.role.as_str(),
    };
    let (stop, stopping) = watch::channel(false);
    let servers = listeners.serve(&app, &stopping);
    app.ready.set(true);
    announce(addresses, ready_file.as_deref())?;

    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        outcome = &mut owner => Some(outcome),
    };
    app.ready.set(false);
    if let Some(outcome) = failed {
        let error = match outcome {
            Ok(Err(error)) => anyhow!(error),
            Ok(Ok(())) => anyhow!("the owner of the state has ended"),
            Err(error) => anyhow!(error),
        };
        return Err(error.context("nothing more can be accepted; restart once the cause is mended"));
    }
    tracing::info!("stopping: no new requests, those in flight may finish");
    let stopped = shut_down(&config, app, centre, stop, servers, owner, store);
    match timeout(config.graceful_shutdown.timeout.get(), stopped).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "stopping took longer than graceful_shutdown.timeout ({}); everything that was answered is durable",
            config.graceful_shutdown.timeout
        ),
    }
}

async fn shut_down(
    config: &Config,
    app: App,
    centre: Handle,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    owner: JoinHandle<Result<(), nexus_store::StoreError>>,
    store: Store,
) -> anyhow::Result<()> {
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
    drop(app);
    drop(centre);
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

async fn open_store(path: &Path) -> anyhow::Result<Store> {
    let options = Options {
        // The shard table and the allocations exist nowhere else as long as there is one node.
        on_damage: OnDamage::Refuse,
        ..Options::default()
    };
    let path = path.to_owned();
    let store = tokio::task::spawn_blocking(move || Store::open(&path, options))
        .await
        .context("opening the store has failed")??;
    Ok(store)
}

/// The node's id: configured, or made at random once and kept.
async fn identity(config: &Config, store: &Store) -> anyhow::Result<OltId> {
    if let Some(id) = &config.node.id {
        return Ok(id.clone());
    }
    if let Some(stored) = store.get(META_ROWS, NODE_ID_KEY)? {
        return Ok(OltId::new(String::from_utf8(stored)?)?);
    }
    let id = OltId::new(format!("nexus-{:08x}", rand::random::<u32>()))?;
    let mut batch = Batch::new();
    batch.put(META_ROWS, NODE_ID_KEY, id.as_str().as_bytes());
    store.commit(batch).await?;
    Ok(id)
}

/// The node's number among the replicas: made at random once and kept, whatever its id is later.
async fn number(store: &Store) -> anyhow::Result<u32> {
    if let Some(stored) = store.get(META_ROWS, NODE_NUMBER_KEY)? {
        let bytes = stored.as_slice().try_into();
        return Ok(u32::from_be_bytes(
            bytes.context("the node number in the store has not 4 bytes")?,
        ));
    }
    let number = rand::random::<u32>();
    let mut batch = Batch::new();
    batch.put(META_ROWS, NODE_NUMBER_KEY, &number.to_be_bytes());
    store.commit(batch).await?;
    Ok(number)
}

async fn open_centre(
    config: &Config,
    store: &Store,
    addresses: Addresses,
) -> anyhow::Result<Centre> {
    let now = Now::read().context("this kernel has no CLOCK_BOOTTIME")?;
    let number = number(store).await?;
    let settings = Settings {
        lease: config.lease(),
        heartbeat_interval: config.olt.heartbeat_interval.get(),
        endpoints: if config.olt.endpoints.is_empty() {
            vec![addresses.grpc.to_string()]
        } else {
            config.olt.endpoints.clone()
        },
        policies: config.olt.policies.clone(),
    };
    let rule = config.lease_rule().map_err(|error| anyhow!(error))?;
    let store = store.clone();
    let (centre, rows) =
        tokio::task::spawn_blocking(move || restore(settings, rule, &store, number, &now))
            .await
            .context("reading the store has failed")??;
    tracing::info!(rows, allocations = centre.allocations(), "state restored");
    Ok(centre)
}

fn restore(
    settings: Settings,
    rule: LeaseRule,
    store: &Store,
    number: u32,
    now: &Now,
) -> anyhow::Result<(Centre, u64)> {
    let (mut replica, (ticket, rows)) = Replica::open(Arc::new(store.clone()), number, now)?;
    store.commit_blocking(batch(rows))?;
    replica.settle(ticket);
    let mut centre = Centre::restore(settings, rule, store, replica, now)?;
    let effects = centre.take_effects();
    for rows in effects.writes {
        store.commit_blocking(batch(rows))?;
    }
    if let Some(ticket) = effects.ticket {
        centre.settle(ticket);
    }
    Ok((centre, store.opened().verified_rows.unwrap_or(0)))
}

fn batch(rows: Vec<Write>) -> Batch {
    let mut batch = Batch::new();
    for row in rows {
        match row.value {
            Some(value) => batch.put(row.kind, &row.key, &value),
            None => batch.delete(row.kind, &row.key),
        };
    }
    batch
}

/// Creates the pools of the configuration at the first start. Later the API is the place to change them.
async fn seed(config: &Config, store: &Store, centre: &Handle) -> anyhow::Result<()> {
    let specs = config.seed_pools();
    if store.get(META_ROWS, SEEDED_KEY)?.is_some() {
        let known = centre.run(|centre, _| Ok(centre.pool_specs())).await?;
        for spec in specs.iter().filter(|spec| !known.contains(spec)) {
            tracing::warn!(pool = %spec.id,
                "this pool of the configuration is not as it is in the store; pools are read from the configuration at the first start only, change them through the API");
        }
        return Ok(());
    }
    for spec in specs {
        let id = spec.id.clone();
        let known = centre.run({
            let id = id.clone();
            move |centre, _| Ok(centre.table().pool(&id).is_some())
        });
        // A crash in the middle of the first start leaves some of them.
        if known.await? {
            continue;
        }
        centre
            .call(|centre, now| Box::pin(async move { centre.create_pool(&now, spec).await }))
            .await
            .with_context(|| format!("pool {id} of the configuration cannot be created"))?;
    }
    let mut batch = Batch::new();
    batch.put(META_ROWS, SEEDED_KEY, b"1");
    store.commit(batch).await?;
    Ok(())
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
