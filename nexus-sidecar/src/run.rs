//! `nexus-sidecar run`: starts every task in order, tells systemd, and stops them in the opposite order.
//!
//! What can fail is tried before systemd hears READY. On SIGTERM the tasks that ask the edge stop first,
//! the edge task last, so everything that was taken is answered. Maps, program and link stay: the kernel
//! goes on answering bound subscribers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nexus_abi::BindingKey;
use nexus_store::{OnDamage, Options, Store};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::binding_map::{Access, Interface};
use crate::centre::CentreClient;
use crate::config::{Identity, InterfaceSection, SidecarConfig, XdpMode};
use crate::control::ControlServer;
use crate::edge_handle::EdgeHandle;
use crate::edge_task::EdgeTask;
use crate::fastpath::{AttachMode, FastPath, FastPathConfig, InterfaceConfig, PuntLimits};
use crate::ipoe::Ipoe;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::packet_events::Hub;
use crate::radius::RadiusServer;
use crate::routes::RoutesTask;
use crate::shutdown::{self, Shutdown};
use crate::status::{Mode, StatusReport};
use crate::{host, metrics_http, slowpath};

/// Longest time that a task may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often systemd hears how the host stands, at least.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Pages of the store that stay in memory; the rows of 65,536 bindings are about half of it.
const STORE_CACHE: u64 = 64 * 1024 * 1024;

/// Runs the sidecar until SIGTERM or SIGINT.
///
/// # Errors
/// What could not be started, or the failure that ended it; the text says what to do.
pub async fn run(path: &Path) -> anyhow::Result<()> {
    let config = SidecarConfig::load(path)?;
    host::check_capabilities(config.radius.as_ref().map(|radius| radius.listen))?;
    let access = access(&config)?;
    let store = open_store(&config).await?;
    let metrics = Metrics::new()?;
    let fast_path = FastPath::open(&fast_path_config(&config))?;
    let (mut task, edge, side) = EdgeTask::start(
        config.olt.id.clone(),
        store,
        fast_path,
        access,
        &Origin::read(&config.control.socket),
        metrics.clone(),
    )
    .await?;
    attach(&mut task)?;
    let (routes, feed) = RoutesTask::new(config.routes.clone(), &metrics)?;
    task.announce(feed)?;
    let access = task.access().clone();
    let events = task.map_mut().events()?;
    let control = ControlServer::bind(&config.control.socket).await?;
    let metrics_listener = metrics_http::bind(config.metrics.listen).await?;
    let radius = match &config.radius {
        Some(radius) => Some(RadiusServer::bind(radius.check()?).await?),
        None => {
            tracing::warn!("there is no section radius: no subscriber can authenticate here");
            None
        }
    };

    let (stop_front, front) = shutdown::channel();
    let (stop_edge, edge_stop) = shutdown::channel();
    let mut tasks: JoinSet<anyhow::Result<&'static str>> = JoinSet::new();
    let mut edge_task = tokio::spawn(task.run(edge_stop));
    let names = access
        .interfaces()
        .map(|interface| (interface.number, interface.name.clone()));
    let (hub, packets) = Hub::new(events, edge.clone(), names.collect())?;
    tasks.spawn(named("packet events", hub.run(front.clone())));
    tasks.spawn(named("routes", routes.run(front.clone())));
    let centre = CentreClient::new(&config, side, metrics.clone());
    tasks.spawn(named("centre client", centre.run(front.clone())));
    tasks.spawn(named(
        "control socket",
        control.serve(edge.clone(), packets, front.clone()),
    ));
    tasks.spawn(named(
        "metrics",
        metrics_http::serve(
            metrics_listener,
            metrics.clone(),
            edge.clone(),
            front.clone(),
        ),
    ));
    let mut slow_paths = Vec::new();
    for section in &config.interfaces {
        let Some(interface) = access.interface(&section.name) else {
            continue;
        };
        let ipoe = ipoe(&config, section, radius.as_ref(), &edge, &metrics)?;
        slow_paths.push((line(interface), ipoe));
    }
    if let Some(radius) = radius {
        let serving = radius.serve(edge.clone(), metrics.clone(), front.clone());
        tasks.spawn(named("RADIUS", serving));
    }
    for (line, ipoe) in slow_paths {
        let (edge, metrics, front) = (edge.clone(), metrics.clone(), front.clone());
        tasks.spawn(slow_path(line, edge, ipoe, metrics, front));
    }
    tasks.spawn(named("systemd", tell_systemd(edge.clone(), front.clone())));
    notify(&[NotifyState::Ready]);
    tracing::info!(olt = %config.olt.id, "nexus-sidecar is ready");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut edge_task => return stopped_early(ended),
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(Ok(name)) => anyhow::anyhow!("the task `{name}` has ended by itself"),
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        }),
    };
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping; the kernel goes on answering bound subscribers"),
    ]);
    tracing::info!("stopping; the kernel goes on answering bound subscribers");
    stop_front.stop();
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, rest).await.is_err() {
        tracing::warn!("a task did not stop in time and is left behind");
        tasks.abort_all();
    }
    stop_edge.stop();
    match tokio::time::timeout(STOP_WITHIN, edge_task).await {
        Ok(Ok(result)) => result?,
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => anyhow::bail!("the edge task did not stop within {STOP_WITHIN:?}"),
    }
    ended
}

fn stopped_early(
    ended: Result<Result<(), crate::edge_task::EdgeTaskError>, tokio::task::JoinError>,
) -> anyhow::Result<()> {
    ended??;
    anyhow::bail!("the edge task has ended by itself")
}

async fn open_store(config: &SidecarConfig) -> anyhow::Result<Store> {
    let path = config.storage.path.clone();
    let options = Options {
        cache_bytes: STORE_CACHE,
        // What is lost here is at the centre: this host goes on with a new session.
        on_damage: OnDamage::MoveAside,
        ..Options::default()
    };
    let opening = path.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&opening, options))
        .await?
        .context("storage.path")?;
    if let Some(moved) = &store.opened().moved_aside {
        tracing::error!(
            to = %moved.to.display(), why = %moved.why,
            "the store was damaged and moved aside: a new session begins, the centre's record is read first"
        );
    }
    Ok(store)
}

async fn named(
    name: &'static str,
    task: impl Future<Output = ()> + Send,
) -> anyhow::Result<&'static str> {
    task.await;
    Ok(name)
}

/// The interfaces as the host has them.
fn access(config: &SidecarConfig) -> anyhow::Result<Access> {
    let mut interfaces = Vec::new();
    for (index, section) in config.interfaces.iter().enumerate() {
        let field = || format!("interfaces[{index}].name");
        let (ifindex, mac) = host::interface(&section.name).with_context(field)?;
        interfaces.push(Interface {
            name: section.name.clone(),
            ifindex,
            number: 0,
            mac,
            mode: section.mode,
            identity: section.identity.clone(),
            policies: section.policies.over(config.policies).policies(),
            server_id: section.server_id,
            pool: section.pool.clone(),
        });
    }
    Ok(Access::new(interfaces))
}

/// Attaches the program to all interfaces. The map is right by now, so it never meets a wrong one.
fn attach(task: &mut EdgeTask<FastPath>) -> anyhow::Result<()> {
    for interface in task.access().clone().interfaces() {
        let name = &interface.name;
        let mode = match interface.mode {
            XdpMode::Native => AttachMode::Native,
            XdpMode::Generic => {
                tracing::warn!(
                    interface = %name,
                    "XDP runs in generic mode, behind the driver: use it only where the driver has no native one"
                );
                AttachMode::Generic
            }
        };
        let attached = task.map_mut().attach(&InterfaceConfig {
            number: interface.number,
            name: name.clone(),
            mode,
            identity: kinds(interface),
            remote_id: remote_id(interface),
        })?;
        tracing::info!(
            interface = %name, number = interface.number, mode = interface.mode.as_str(),
            replaced = attached.replaced, "fast path attached"
        );
    }
    for pin in task.map_mut().tidy()? {
        tracing::info!(pin = %pin.display(), "removed: it is of another interface, size or version");
    }
    Ok(())
}

fn fast_path_config(config: &SidecarConfig) -> FastPathConfig {
    let section = &config.fast_path;
    let limits = section.slow_path_limits;
    let by_circuit = config
        .interfaces
        .iter()
        .flat_map(|interface| &interface.identity)
        .any(|identity| identity.kind() == BindingKey::KIND_CIRCUIT);
    FastPathConfig {
        pin_root: section.pin_path.clone(),
        max_bindings: section.max_bindings,
        max_circuits: if by_circuit { section.max_bindings } else { 0 },
        punts: PuntLimits {
            line_rate: limits.line_rate,
            line_burst: limits.line_burst,
            interface_rate: limits.interface_rate,
            interface_burst: limits.interface_burst,
        },
    }
}

fn kinds(interface: &Interface) -> Vec<u8> {
    let kinds = interface.identity.iter().map(|identity| identity.kind());
    kinds.collect()
}

fn remote_id(interface: &Interface) -> bool {
    interface.identity.contains(&Identity::CircuitIdAndRemoteId)
}

fn line(interface: &Interface) -> slowpath::Line {
    slowpath::Line {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        number: interface.number,
        kinds: kinds(interface),
        remote_id: remote_id(interface),
    }
}

/// First contacts on an interface, if they are asked about there.
fn ipoe(
    config: &SidecarConfig,
    interface: &InterfaceSection,
    radius: Option<&RadiusServer>,
    edge: &EdgeHandle,
    metrics: &Metrics,
) -> anyhow::Result<Option<Ipoe<slowpath::Received>>> {
    let Some(section) = &interface.ipoe else {
        return Ok(None);
    };
    let radius = radius.context("ipoe: there is no section radius")?;
    let settings = section
        .check()
        .map_err(|(field, problem)| anyhow::anyhow!("ipoe.{field}: {problem}"))?;
    Ok(Some(Ipoe::new(
        &interface.name,
        config.olt.id.as_str(),
        settings,
        radius.lines(),
        edge.clone(),
        metrics.clone(),
    )))
}

async fn slow_path(
    line: slowpath::Line,
    edge: EdgeHandle,
    ipoe: Option<Ipoe<slowpath::Received>>,
    metrics: Metrics,
    shutdown: Shutdown,
) -> anyhow::Result<&'static str> {
    slowpath::run(line, edge, ipoe, metrics, shutdown)
        .await
        .context("the DHCP slow path")?;
    Ok("slow path")
}

/// Tells systemd that the edge task answers, and how the host stands.
async fn tell_systemd(edge: EdgeHandle, mut shutdown: Shutdown) {
    let every =
        sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |limit| (limit / 2).min(STATUS_EVERY));
    let mut tick = tokio::time::interval(every);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        // An edge task that does not answer is one that systemd shall restart.
        if let Ok(Ok(status)) = tokio::time::timeout(every, edge.status()).await {
            notify(&[
                NotifyState::Watchdog,
                NotifyState::Status(&in_short(&status)),
            ]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The host in one line.
fn in_short(status: &StatusReport) -> String {
    let mode = match status.mode {
        Mode::Connected => "connected",
        Mode::CutOff => "cut off",
        Mode::LeaseEnded => "no lease",
    };
    let bindings = status
        .acked
        .saturating_add(status.unacked)
        .saturating_add(status.suspended);
    let left = status
        .lease_left_secs
        .map_or_else(String::new, |secs| format!(", {secs} s of lease left"));
    format!(
        "{mode}{left}; {bindings} bindings ({} not acknowledged) in {} shards",
        status.unacked.saturating_add(status.suspended),
        status.shards.len()
    )
}
