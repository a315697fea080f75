//! A fleet of OLTs without subscribers of their own: what registering, heartbeats and the end of one of them cost.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nexus_proto::v1;
use nexus_proto::v1::nexus_client::NexusClient;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::flood::{self, FloodPlan, FloodReport};
use super::olt::channel;

/// Registrations on their way at once.
const AT_ONCE: usize = 32;
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(300);
/// Pause before a call that failed is tried again, and between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Most subscribers of an OLT.
const CAPACITY: u32 = 2000;

/// What to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum FleetPlan {
    /// Registers OLTs, each at one of the nodes.
    Register(Fleet),
    /// All of them send heartbeats, evenly spread.
    Beat {
        /// Who.
        fleet: Fleet,
        /// Seconds between two of one OLT.
        every: f64,
        /// How long.
        seconds: f64,
    },
    /// One of two OLTs ends, and its subscribers come up at the other, whose shards are full.
    Failover {
        /// The nodes.
        nodes: Vec<Ipv4Addr>,
        /// The pool.
        pool: String,
        /// Names of the two begin so.
        name: String,
        /// Seconds between two heartbeats.
        every: f64,
    },
    /// Writes, as fast as they are taken.
    Flood(FloodPlan),
}

/// Who takes part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fleet {
    /// The nodes that they talk to, one after the other.
    pub nodes: Vec<Ipv4Addr>,
    /// How many.
    pub olts: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub enum FleetReport {
    /// Of registering or heartbeats.
    Calls(Calls),
    /// Of the end of one.
    Failover {
        /// Seconds from the last heartbeat of the one until a subscriber of it was recorded at the other, out of a
        /// shard that this one did not have before.
        seconds: f64,
    },
    /// Of writes.
    Flood(FloodReport),
}

/// How calls went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Calls {
    /// Answered.
    pub answered: usize,
    /// Not answered, or refused.
    pub failed: usize,
    /// What the first of those said.
    pub first_failure: Option<String>,
    /// From the first to the last.
    pub seconds: f64,
    /// Milliseconds until the answer.
    pub p50_ms: f64,
    /// The same of the slowest hundredth.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// Carries out a plan, in a runtime of its own.
///
/// # Errors
/// If it cannot be carried out; calls that fail are counted.
pub fn run(plan: &FleetPlan) -> Result<FleetReport> {
    if let FleetPlan::Flood(plan) = plan {
        return flood::run(plan).map(FleetReport::Flood);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(async {
        match plan {
            FleetPlan::Register(fleet) => register(fleet).await.map(FleetReport::Calls),
            FleetPlan::Beat {
                fleet,
                every,
                seconds,
            } => {
                let (every, seconds) = (
                    Duration::from_secs_f64(*every),
                    Duration::from_secs_f64(*seconds),
                );
                beat(fleet, every, seconds).await.map(FleetReport::Calls)
            }
            FleetPlan::Failover {
                nodes,
                pool,
                name,
                every,
            } => {
                let every = Duration::from_secs_f64(*every);
                failover(nodes, pool, name, every).await
            }
            FleetPlan::Flood(_) => bail!("a flood has a runtime of its own"),
        }
    })
}

/// One OLT.
struct Olt {
    id: String,
    session: String,
    client: NexusClient<Channel>,
    revision: u64,
    shards: Vec<(v1::ShardRef, String)>,
    seq: u64,
}

impl Olt {
    fn new(id: String, node: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            session: format!("{id}-session"),
            id,
            client: NexusClient::new(channel(node)?),
            revision: 0,
            shards: Vec::new(),
            seq: 0,
        })
    }

    async fn register(&mut self) -> Result<(), tonic::Status> {
        let request = v1::RegisterRequest {
            id: self.id.clone(),
            name: self.id.to_uppercase(),
            region: "east".into(),
            address: "10.98.0.1:9000".into(),
            capacity: CAPACITY,
            session: self.session.clone(),
            last_seq: self.seq,
            ..v1::RegisterRequest::default()
        };
        let answer = self.client.register(request).await?.into_inner();
        self.take(answer.config);
        Ok(())
    }

    async fn configure(&mut self) -> Result<(), tonic::Status> {
        let request = v1::ConfigRequest {
            olt_id: self.id.clone(),
            session: self.session.clone(),
        };
        let answer = self.client.get_config(request).await?.into_inner();
        self.take(answer.config);
        Ok(())
    }

    fn take(&mut self, config: Option<v1::OltConfig>) {
        let Some(config) = config else { return };
        self.revision = config.revision;
        self.shards.clear();
        for pool in config.pools {
            for grant in pool.shards {
                let shard = v1::ShardRef {
                    pool_id: pool.id.clone(),
                    shard: grant.shard,
                    epoch: grant.epoch,
                };
                self.shards.push((shard, grant.range));
            }
        }
    }

    /// A heartbeat that says of each shard that so many tenths of it are in use; fetches the configuration if there is a
    /// newer one.
    async fn heartbeat(&mut self, tenths: u64) -> Result<(), tonic::Status> {
        let fill = |(shard, range): &(v1::ShardRef, String)| {
            let units = units(range);
            let allocated = units.saturating_mul(tenths) / 10;
            v1::ShardUse {
                shard: Some(shard.clone()),
                allocated,
                available: units.saturating_sub(allocated),
            }
        };
        let request = v1::HeartbeatRequest {
            olt_id: self.id.clone(),
            session: self.session.clone(),
            active_subscribers: 1000,
            config_revision: self.revision,
            shard_use: self.shards.iter().map(fill).collect(),
            last_seq: self.seq,
            ..v1::HeartbeatRequest::default()
        };
        let answer = self.client.heartbeat(request).await?.into_inner();
        if answer.config_revision > self.revision {
            self.configure().await?;
        }
        Ok(())
    }

    /// Records an address of a shard of its own.
    async fn allocate(
        &mut self,
        subscriber: &str,
        (shard, range): &(v1::ShardRef, String),
    ) -> Result<(), tonic::Status> {
        self.seq += 1;
        let request = v1::AllocateRequest {
            pool_id: shard.pool_id.clone(),
            subscriber_id: subscriber.to_owned(),
            olt_id: self.id.clone(),
            resource: tenth(range),
            shard: shard.shard,
            epoch: shard.epoch,
            session: self.session.clone(),
            seq: self.seq,
            timestamp: "2026-11-22T10:30:00Z".into(),
            ..v1::AllocateRequest::default()
        };
        self.client.allocate(request).await.map(drop)
    }
}

/// Addresses of `100.64.0.0/18`.
fn units(range: &str) -> u64 {
    let bits = range.split('/').nth(1).and_then(|bits| bits.parse().ok());
    1_u64
        .checked_shl(32_u32.saturating_sub(bits.unwrap_or(32)))
        .unwrap_or(0)
}

/// The tenth address of it: the first ones may be a pool's own.
fn tenth(range: &str) -> String {
    let first = range.split('/').next().and_then(|first| first.parse().ok());
    let first: Ipv4Addr = first.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ipv4Addr::from_bits(first.to_bits().saturating_add(10)).to_string()
}

impl Fleet {
    fn olt(&self, number: usize) -> Result<Olt> {
        let node = self.nodes.get(number % self.nodes.len().max(1));
        let node = node.context("a fleet needs a node to talk to")?;
        Olt::new(format!("fleet-{number:05}"), *node)
    }
}

async fn register(fleet: &Fleet) -> Result<Calls> {
    let mut tally = Tally::begin();
    let mut running = JoinSet::new();
    for number in 0..fleet.olts {
        if running.len() == AT_ONCE {
            tally.note(running.join_next().await.context("nobody registers")??);
        }
        let mut olt = fleet.olt(number)?;
        running.spawn(async move {
            let began = Instant::now();
            loop {
                match olt.register().await {
                    Ok(()) => return Ok(began.elapsed()),
                    // A leader that changes, or a queue that is full.
                    Err(_) if began.elapsed() < LIMIT => tokio::time::sleep(PAUSE).await,
                    Err(status) => return Err(status.to_string()),
                }
            }
        });
    }
    while let Some(done) = running.join_next().await {
        tally.note(done?);
    }
    Ok(tally.report())
}

async fn beat(fleet: &Fleet, every: Duration, duration: Duration) -> Result<Calls> {
    let olts = u32::try_from(fleet.olts)?.max(1);
    // Connected, and with the shards that they say they have, before the first heartbeat counts.
    let mut running = JoinSet::new();
    let mut ready = Vec::new();
    for number in 0..olts {
        if running.len() == AT_ONCE {
            ready.push(running.join_next().await.context("nobody connects")???);
        }
        running.spawn(configured(fleet.olt(usize::try_from(number)?)?));
    }
    while let Some(done) = running.join_next().await {
        ready.push(done??);
    }
    let mut running = JoinSet::new();
    let mut tally = Tally::begin();
    let end = tokio::time::Instant::now() + duration;
    for (number, mut olt) in (0_u32..).zip(ready) {
        let first = tokio::time::Instant::now() + every.saturating_mul(number) / olts;
        running.spawn(async move {
            let mut own = Vec::new();
            let mut tick = tokio::time::interval_at(first, every);
            loop {
                let at = tick.tick().await;
                if at >= end {
                    return own;
                }
                let began = Instant::now();
                let done = olt.heartbeat(6).await;
                own.push(match done {
                    Ok(()) => Ok(began.elapsed()),
                    Err(status) => Err(status.to_string()),
                });
            }
        });
    }
    while let Some(done) = running.join_next().await {
        for one in done? {
            tally.note(one);
        }
    }
    Ok(tally.report())
}

/// The OLT with its configuration, as soon as a node gives it.
async fn configured(mut olt: Olt) -> Result<Olt> {
    let began = Instant::now();
    loop {
        match olt.configure().await {
            Ok(()) => return Ok(olt),
            Err(_) if began.elapsed() < LIMIT => tokio::time::sleep(PAUSE).await,
            Err(status) => bail!("{} has no configuration: {status}", olt.id),
        }
    }
}

async fn failover(
    nodes: &[Ipv4Addr],
    pool: &str,
    name: &str,
    every: Duration,
) -> Result<FleetReport> {
    let node = |at: usize| {
        nodes
            .get(at % nodes.len().max(1))
            .copied()
            .context("no node")
    };
    let mut gone = Olt::new(format!("{name}-gone"), node(0)?)?;
    let mut stays = Olt::new(format!("{name}-stays"), node(1)?)?;
    let subscriber = format!("{name}-subscriber");
    for olt in [&mut gone, &mut stays] {
        settled(olt, pool, every).await?;
    }
    let home = gone.shards.first().context("no shard")?.clone();
    gone.allocate(&subscriber, &home).await?;
    let had: BTreeSet<u32> = stays.shards.iter().map(|(shard, _)| shard.shard).collect();

    let last = Instant::now();
    gone.heartbeat(6).await?;
    drop(gone);
    let mut next = last + every;
    loop {
        ensure!(last.elapsed() < LIMIT, "nobody served the subscriber");
        if Instant::now() >= next {
            next += every;
            stays.heartbeat(10).await?;
        } else {
            stays.configure().await?;
        }
        let new = stays
            .shards
            .iter()
            .find(|(shard, _)| shard.pool_id == pool && !had.contains(&shard.shard))
            .cloned();
        if let Some(new) = new {
            stays.allocate(&subscriber, &new).await?;
            let seconds = last.elapsed().as_secs_f64();
            return Ok(FleetReport::Failover { seconds });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Registers an OLT and waits until it has shards and gets no more.
async fn settled(olt: &mut Olt, pool: &str, every: Duration) -> Result<()> {
    let began = Instant::now();
    olt.register().await?;
    let mut quiet = 0;
    while quiet < 3 {
        ensure!(
            began.elapsed() < LIMIT,
            "{} got no shards of {pool}",
            olt.id
        );
        let before = olt.shards.len();
        tokio::time::sleep(every).await;
        olt.heartbeat(6).await?;
        let same = before > 0 && olt.shards.len() == before;
        quiet = if same { quiet + 1 } else { 0 };
    }
    Ok(())
}

struct Tally {
    began: Instant,
    milliseconds: Vec<f64>,
    failed: usize,
    first_failure: Option<String>,
}

impl Tally {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            milliseconds: Vec::new(),
            failed: 0,
            first_failure: None,
        }
    }

    fn note(&mut self, call: Result<Duration, String>) {
        match call {
            Ok(time) => self.milliseconds.push(time.as_secs_f64() * 1000.0),
            Err(why) => {
                self.failed += 1;
                self.first_failure.get_or_insert(why);
            }
        }
    }

    fn report(mut self) -> Calls {
        self.milliseconds.sort_unstable_by(f64::total_cmp);
        let last = self.milliseconds.len().saturating_sub(1);
        let quantile = |per_mille: usize| {
            let at = last.saturating_mul(per_mille) / 1000;
            self.milliseconds.get(at).copied().unwrap_or_default()
        };
        Calls {
            answered: self.milliseconds.len(),
            failed: self.failed,
            seconds: self.began.elapsed().as_secs_f64(),
            p50_ms: quantile(500),
            p99_ms: quantile(990),
            max_ms: quantile(1000),
            first_failure: self.first_failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_how_many_and_where() {
        assert_eq!(units("100.64.0.0/18"), 16_384);
        assert_eq!(units("100-199"), 1, "no addresses");
        assert_eq!(tenth("100.64.64.0/18"), "100.64.64.10");
    }

    #[test]
    fn what_failed_is_counted_and_not_among_the_times() {
        let mut tally = Tally::begin();
        for ms in [3, 1, 2] {
            tally.note(Ok(Duration::from_millis(ms)));
        }
        tally.note(Err("first".to_owned()));
        tally.note(Err("second".to_owned()));
        let report = tally.report();
        assert_eq!((report.answered, report.failed), (3, 2));
        assert_eq!(report.first_failure.as_deref(), Some("first"));
        assert!((report.p50_ms - 2.0).abs() < 1e-9 && (report.max_ms - 3.0).abs() < 1e-9);
    }
}
