//! For `cargo xtask bench ownership`: the real edge task with a real store, without network and kernel, under many
//! requests at a time; and the machine alone, which is what the rest of it costs.
//!
//! The plan is the only argument (JSON), the report the output (JSON).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nexus_abi::{Binding, BindingKey, Outcome, Profile};
use nexus_core::edge::{
    At, Authorized, Edge, EdgeConfig, Effects, LineKey, Policies, PoolGrant, ShardGrant, Start,
    Vlans,
};
use nexus_core::id::{Epoch, OltId, PoolId, SessionId, SubscriberId};
use nexus_core::pool::{Pool, PoolSpec};
use nexus_core::resource::ResourceType;
use nexus_sidecar::binding_map::{Access, BindingMap, Interface};
use nexus_sidecar::clock::boot_now;
use nexus_sidecar::config::{Identity, XdpMode};
use nexus_sidecar::edge_handle::{AuthorizedSubscriber, EdgeHandle};
use nexus_sidecar::edge_task::{CentreEvent, EdgeTask};
use nexus_sidecar::fastpath::{FastPathError, Jiffies};
use nexus_sidecar::metrics::Metrics;
use nexus_sidecar::origin::Origin;
use nexus_sidecar::shutdown;
use nexus_store::{Options, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Bytes of one append to the bare disk: about what a flush under load writes.
const APPEND: usize = 256 * 1024;
/// How many of them.
const APPENDS: usize = 200;

/// What to do.
#[derive(Deserialize)]
struct Plan {
    /// Subscribers that get an address, each once.
    subscribers: u32,
    /// Requests that wait for an answer at a time.
    window: u32,
    /// Where the store shall lie.
    directory: PathBuf,
}

/// What came of it.
#[derive(Serialize)]
struct Report {
    /// Answers per second, each durable and in the map.
    per_second: f64,
    /// The same until the centre has acknowledged the last one, and that is durable as well.
    acked_per_second: f64,
    /// The disk alone, in the same directory: an append and `fdatasync`, in microseconds.
    disk_p50_us: f64,
    disk_p99_us: f64,
    /// From request to answer, in microseconds.
    p50_us: f64,
    p99_us: f64,
    /// With one request at a time.
    alone_p50_us: f64,
    alone_p99_us: f64,
    /// Allocations per second by the machine alone: no task, no disk, no map.
    machine_per_second: f64,
    /// Resident memory of task, machine and the slow path's copy for one binding, the centre having acknowledged all.
    memory_bytes: f64,
    /// Disk for one binding.
    disk_bytes: f64,
}

/// In the place of the kernel's map. It keeps nothing, so that it does not count as memory of the edge.
struct NoMap;

impl BindingMap for NoMap {
    fn put(&mut self, _: &BindingKey, _: &Binding) -> Result<(), FastPathError> {
        Ok(())
    }

    fn remove(&mut self, _: &BindingKey) -> Result<(), FastPathError> {
        Ok(())
    }

    fn all(&self) -> Result<Vec<(BindingKey, Binding)>, FastPathError> {
        Ok(Vec::new())
    }

    fn put_profile(&mut self, _: u16, _: &Profile) -> Result<(), FastPathError> {
        Ok(())
    }

    fn counters(&self) -> Result<Vec<(Outcome, u64)>, FastPathError> {
        Ok(Vec::new())
    }

    fn jiffies(&mut self) -> Result<Jiffies, FastPathError> {
        Ok(Jiffies {
            now: 0,
            per_sec: 250,
        })
    }

    fn switch(&mut self, _: u8, _: bool, _: &[[u8; 6]]) -> Result<(), FastPathError> {
        Ok(())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("edge_meter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    let text = std::env::args().nth(1).context("give the plan (JSON)")?;
    let plan: Plan = serde_json::from_str(&text).context("the plan cannot be read")?;
    let machine_per_second = machine(plan.subscribers)?;
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    let mut report = runtime.block_on(task(&plan))?;
    report.machine_per_second = machine_per_second;
    serde_json::to_string(&report).context("cannot write the report")
}

/// The machine alone.
fn machine(subscribers: u32) -> Result<f64> {
    let mut fx = Effects::new();
    let start = Start {
        olt: OltId::new("olt-1")?,
        boot_id: "boot".to_owned(),
        new_session: SessionId::new("session")?,
        rolled_back: false,
    };
    let now = boot_now()?;
    let mut edge = Edge::restore(now, start, Vec::new(), &mut fx);
    let lease = Duration::from_secs(86_400);
    edge.registered(now, now, lease, config(subscribers)?, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(now, &mut fx);
    let began = Instant::now();
    for number in 0..subscribers {
        let mut fx = Effects::new();
        let request = Authorized {
            subscriber: name(number)?,
            pool: None,
            named: Vec::new(),
            without: std::collections::BTreeSet::new(),
            key: LineKey {
                interface: "eth1".to_owned(),
                at: At::Line(vlans(number)),
                mac: mac(number),
            },
            metadata: BTreeMap::new(),
            timestamp: "2026-11-22T10:30:00Z".to_owned(),
            policies: Policies::default(),
        };
        let granted = edge.authorize(now, &request, &mut fx);
        granted.map_err(|denied| anyhow!("subscriber {number}: {denied}"))?;
        // As fast as a centre that answers at once.
        for action in &fx.actions {
            if let nexus_core::edge::Action::Send(outgoing) = action {
                edge.acked(now, outgoing.seq, &mut Effects::new());
            }
        }
    }
    Ok(f64::from(subscribers) / began.elapsed().as_secs_f64())
}

/// The whole task.
async fn task(plan: &Plan) -> Result<Report> {
    let folder = tempfile::Builder::new()
        .prefix("edge-")
        .tempdir_in(&plan.directory)
        .context("cannot make a directory")?;
    let store = Store::open(folder.path(), Options::default())?;
    let access = Access::new([interface()]);
    let metrics = Metrics::new()?;
    let olt = OltId::new("olt-1")?;
    let origin = Origin::default();
    let (task, edge, mut centre) =
        EdgeTask::start(olt, store, NoMap, access, &origin, metrics).await?;
    let (stopper, stopped) = shutdown::channel();
    let running = tokio::spawn(task.run(stopped));
    register(&centre.events, plan.subscribers).await?;
    // A centre that acknowledges everything at once.
    let acknowledging = tokio::spawn(async move {
        while let Some(command) = centre.commands.recv().await {
            let acked = CentreEvent::Acked(command.seq);
            if centre.events.send(acked).await.is_err() {
                return;
            }
        }
    });

    let disk = disk_alone(folder.path())?;
    let few = plan.subscribers / 100;
    let (_, alone) = ask(&edge, 0..few, 1).await?;
    let before = resident();
    let many = few..plan.subscribers;
    let began = Instant::now();
    let (seconds, latencies) = ask(&edge, many.clone(), plan.window).await?;
    acknowledged(&edge, plan.subscribers).await?;
    let until_acked = began.elapsed().as_secs_f64();
    let memory = resident().saturating_sub(before);
    stopper.stop();
    running.await??;
    acknowledging.await?;
    let count = f64::from(many.end.saturating_sub(many.start));
    Ok(Report {
        per_second: count / seconds,
        acked_per_second: count / until_acked,
        disk_p50_us: quantile(&disk, 500),
        disk_p99_us: quantile(&disk, 990),
        p50_us: quantile(&latencies, 500),
        p99_us: quantile(&latencies, 990),
        alone_p50_us: quantile(&alone, 500),
        alone_p99_us: quantile(&alone, 990),
        machine_per_second: 0.0,
        memory_bytes: as_f64(memory) / count,
        disk_bytes: as_f64(size_of(folder.path())?) / f64::from(plan.subscribers),
    })
}

async fn register(events: &mpsc::Sender<CentreEvent>, subscribers: u32) -> Result<()> {
    let registered = CentreEvent::Registered {
        sent_at: boot_now()?,
        terms: Duration::from_secs(86_400).into(),
        config: config(subscribers)?,
        endpoint: "centre:9001".to_owned(),
    };
    for event in [
        registered,
        CentreEvent::SnapshotBegin,
        CentreEvent::SnapshotEnd,
    ] {
        events
            .send(event)
            .await
            .map_err(|_| anyhow!("the task has ended"))?;
    }
    Ok(())
}

/// Lets `window` workers ask for these subscribers. Returns seconds, and the latencies in microseconds in order.
async fn ask(
    edge: &EdgeHandle,
    subscribers: std::ops::Range<u32>,
    window: u32,
) -> Result<(f64, Vec<f64>)> {
    let next = Arc::new(AtomicU64::new(u64::from(subscribers.start)));
    let all = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..window {
        let (edge, next, all) = (edge.clone(), Arc::clone(&next), Arc::clone(&all));
        let end = subscribers.end;
        workers.spawn(async move {
            let mut own = Vec::new();
            loop {
                let number = u32::try_from(next.fetch_add(1, Ordering::Relaxed))?;
                if number >= end {
                    break;
                }
                let request = subscriber(number)?;
                let asked = Instant::now();
                edge.authorize(request).await?;
                own.push(asked.elapsed().as_secs_f64() * 1e6);
            }
            let mut all = all.lock().map_err(|_| anyhow!("a worker has panicked"))?;
            all.append(&mut own);
            anyhow::Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut all = all
        .lock()
        .map_err(|_| anyhow!("a worker has panicked"))?
        .clone();
    all.sort_unstable_by(f64::total_cmp);
    Ok((seconds, all))
}

/// How long the disk takes for an append and `fdatasync`, in microseconds, in order.
fn disk_alone(folder: &std::path::Path) -> Result<Vec<f64>> {
    let mut file = tempfile::tempfile_in(folder)?;
    let block = vec![0x2a; APPEND];
    let mut all = Vec::new();
    for _ in 0..APPENDS {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        all.push(began.elapsed().as_secs_f64() * 1e6);
    }
    all.sort_unstable_by(f64::total_cmp);
    Ok(all)
}

/// Waits until the centre has acknowledged so many.
async fn acknowledged(edge: &EdgeHandle, count: u32) -> Result<()> {
    let began = Instant::now();
    while edge.status().await?.acked < u64::from(count) {
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "not all are acknowledged"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn interface() -> Interface {
    Interface {
        name: "eth1".to_owned(),
        ifindex: 3,
        number: 0,
        mac: [2, 0, 0, 0, 0, 0xee],
        mode: XdpMode::Native,
        identity: vec![Identity::Line, Identity::Mac],
        policies: Policies::default(),
        server_id: None,
        pool: None,
    }
}

/// One pool, and as many of its shards as these subscribers need and a quarter more.
fn config(subscribers: u32) -> Result<EdgeConfig> {
    let id = PoolId::new("residential-ipv4")?;
    let spec = PoolSpec::minimal(id, ResourceType::Ipv4, "10.0.0.0/8");
    let pool = Pool::new(spec.clone())?;
    let needed = u64::from(subscribers).saturating_add(u64::from(subscribers / 4));
    let mut units = 0_u64;
    let mut shards = Vec::new();
    for shard in pool.shards() {
        if units >= needed {
            break;
        }
        units = units.saturating_add(pool.allocatable_units(shard));
        shards.push(ShardGrant {
            shard,
            epoch: Epoch(1),
            draining: false,
        });
    }
    ensure!(
        units >= needed,
        "{subscribers} subscribers are too many for a /8"
    );
    Ok(EdgeConfig {
        revision: 1,
        pools: vec![PoolGrant { spec, shards }],
    })
}

fn subscriber(number: u32) -> Result<AuthorizedSubscriber> {
    let Vlans { outer, inner } = vlans(number);
    Ok(AuthorizedSubscriber {
        subscriber: name(number)?,
        interface: None,
        mac: mac(number),
        vlans: Some((outer, inner)),
        circuit_id: None,
        remote_id: None,
        pool: None,
        default_pool: None,
        pools: Vec::new(),
        elsewhere: Vec::new(),
        metadata: BTreeMap::new(),
    })
}

fn name(number: u32) -> Result<SubscriberId> {
    Ok(SubscriberId::new(format!("subscriber-{number:07}"))?)
}

fn vlans(number: u32) -> Vlans {
    let part = |value: u32| u16::try_from(value % 4000).unwrap_or_default() + 1;
    Vlans {
        outer: part(number / 4000),
        inner: part(number),
    }
}

fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0x5a, a, b, c, d]
}

fn quantile(sorted: &[f64], per_mille: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = last.saturating_mul(per_mille) / 1000;
    sorted.get(at).copied().unwrap_or_default()
}

/// Resident memory of this process in bytes; 0 if the kernel does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Bytes of all files below a folder.
fn size_of(folder: &std::path::Path) -> Result<u64> {
    let mut sum = 0_u64;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is = entry.metadata()?;
        let size = if is.is_dir() {
            size_of(&entry.path())?
        } else {
            is.len()
        };
        sum = sum.saturating_add(size);
    }
    Ok(sum)
}

fn as_f64(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count
}
