//! OLTs that write as fast as they are told or as the servers can, and watchers that note when each write is to be
//! seen on which node. It runs as a process of its own (`examples/cluster_load.rs`), so that it is optimised.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use nexus_proto::v1;
use nexus_proto::v1::allocation_update::Kind;
use nexus_proto::v1::nexus_client::NexusClient;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::olt::{OltClient, Place, channel};

/// How long registering may take, for each OLT.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the last writes may take to be seen everywhere.
const LAST_SEEN: Duration = Duration::from_secs(60);
/// How long one write may take.
const ONE_WRITE: Duration = Duration::from_secs(30);
/// How often writes that are due are sent.
const TICK: Duration = Duration::from_millis(1);

/// One run, as it is written down (JSON) for the process.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FloodPlan {
    /// Nodes that are written to; OLTs are spread over them.
    pub nodes: Vec<Ipv4Addr>,
    /// Nodes on which it is noted when writes are to be seen; may be none.
    pub watched: Vec<Ipv4Addr>,
    /// Pool, with shards that are large enough.
    pub pool: String,
    /// OLTs.
    pub olts: usize,
    /// Begins the ids of OLTs and subscribers.
    pub name: String,
    /// Writes of all OLTs on their way at once.
    pub window: usize,
    /// Writes per second of all OLTs; `None`: the next one as soon as fewer than `window` are on their way.
    pub per_second: Option<f64>,
    /// Writes of all OLTs after which it ends.
    pub writes: usize,
    /// Seconds after which it ends, if it has not.
    pub seconds: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct FloodReport {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were refused or not answered.
    pub failed: usize,
    /// Why the first of them was.
    pub first_failure: Option<String>,
    /// Seconds from the first write sent to the last answer.
    pub seconds: f64,
    /// From sending to the answer.
    pub answered: Spread,
    /// From the answer until the write was seen on the last of the watched nodes; zero if it was seen before.
    pub seen: Option<Spread>,
    /// Acknowledged writes that were not seen everywhere within a minute after the end.
    pub unseen: usize,
}

/// How long something took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Spread {
    /// Median.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl FloodReport {
    /// Acknowledged writes per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = self.acknowledged as f64;
        count / self.seconds.max(1e-9)
    }
}

/// Carries out a plan, in the namespace of this process.
///
/// # Errors
/// If OLTs cannot enrol or watch.
pub fn run(plan: &FloodPlan) -> Result<FloodReport> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(flood(plan))
}

/// When each of an OLT's writes was acknowledged, and seen on each watched node, by its number.
#[derive(Default)]
struct Times {
    answered: Vec<Option<Instant>>,
    seen: Vec<Vec<Option<Instant>>>,
}

fn note(list: &mut Vec<Option<Instant>>, seq: u64) {
    let Ok(index) = usize::try_from(seq) else {
        return;
    };
    if list.len() <= index {
        list.resize(index + 1, None);
    }
    if let Some(entry) = list.get_mut(index) {
        entry.get_or_insert_with(Instant::now);
    }
}

type Noted = Arc<Mutex<Times>>;

struct Writer {
    olt: OltClient,
    client: NexusClient<Channel>,
    places: Vec<Place>,
    next: usize,
    noted: Noted,
}

async fn flood(plan: &FloodPlan) -> Result<FloodReport> {
    let nodes: Vec<(usize, Ipv4Addr)> = plan.nodes.iter().copied().enumerate().collect();
    let mut writers = Vec::new();
    let mut watchers = JoinSet::new();
    for number in 0..plan.olts {
        let mut own = nodes.clone();
        own.rotate_left(number % nodes.len().max(1));
        let id = format!("{}-{number}", plan.name);
        let mut olt = OltClient::new(&id, &plan.pool, &own, PATIENCE)?;
        olt.register().await?;
        let noted = Noted::default();
        let places = olt.places(usize::MAX);
        ensure!(!places.is_empty(), "{id} has an empty shard");
        writers.push(Writer {
            client: olt.client()?,
            places,
            next: 0,
            noted: Arc::clone(&noted),
            olt,
        });
        lock(&noted).seen = vec![Vec::new(); plan.watched.len()];
        for (place, address) in plan.watched.iter().enumerate() {
            let mut client = NexusClient::new(channel(*address)?);
            let session = format!("{id}-session");
            let revision = snapshot(&mut client, &id, &session).await?;
            let (noted, id) = (Arc::clone(&noted), id.clone());
            watchers.spawn(async move {
                watch(client, &id, &session, revision, |seq| {
                    if let Some(list) = lock(&noted).seen.get_mut(place) {
                        note(list, seq);
                    }
                })
                .await;
            });
        }
    }
    let report = write_all(plan, &mut writers).await?;
    let mut report = settle(plan, &writers, report).await?;
    watchers.abort_all();
    if plan.watched.is_empty() {
        report.seen = None;
    }
    Ok(report)
}

fn lock(noted: &Noted) -> std::sync::MutexGuard<'_, Times> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Written {
    failed: usize,
    first_failure: Option<String>,
    took: Duration,
    answered: Histogram<u64>,
}

async fn write_all(plan: &FloodPlan, writers: &mut [Writer]) -> Result<Written> {
    let began = Instant::now();
    let limit = Duration::from_secs_f64(plan.seconds);
    let mut calls: JoinSet<Result<Duration, String>> = JoinSet::new();
    let mut written = Written {
        failed: 0,
        first_failure: None,
        took: Duration::ZERO,
        answered: histogram()?,
    };
    let mut begun = 0;
    while begun < plan.writes && began.elapsed() < limit {
        let due = plan.per_second.map_or(plan.writes, |per_second| {
            let due = per_second * began.elapsed().as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a small positive number"
            )]
            let due = due as usize;
            due.min(plan.writes)
        });
        while begun < due && calls.len() < plan.window {
            let count = writers.len().max(1);
            if let Some(writer) = writers.get_mut(begun % count) {
                calls.spawn(writer.next_call());
            }
            begun += 1;
        }
        if plan.per_second.is_some() && calls.len() < plan.window {
            tokio::time::sleep(TICK).await;
            while let Some(done) = calls.try_join_next() {
                written.take(done.map_err(|error| error.to_string()).flatten());
            }
        } else if let Some(done) = calls.join_next().await {
            written.take(done.map_err(|error| error.to_string()).flatten());
        }
    }
    while let Some(done) = calls.join_next().await {
        written.take(done.map_err(|error| error.to_string()).flatten());
    }
    written.took = began.elapsed();
    Ok(written)
}

impl Writer {
    /// The next claim, on its way.
    fn next_call(&mut self) -> impl Future<Output = Result<Duration, String>> + Send + 'static {
        let place = self.places.get(self.next % self.places.len().max(1));
        let place = place.cloned().unwrap_or_else(|| Place {
            resource: String::new(),
            shard: 0,
            epoch: 0,
        });
        let subscriber = format!("{}-{}", self.olt.id(), place.resource);
        self.next += 1;
        let claim = self.olt.claim(&subscriber, &place);
        let (mut client, noted) = (self.client.clone(), Arc::clone(&self.noted));
        async move {
            let (began, seq) = (Instant::now(), claim.seq);
            match tokio::time::timeout(ONE_WRITE, client.allocate(claim)).await {
                Ok(Ok(_)) => {
                    note(&mut lock(&noted).answered, seq);
                    Ok(began.elapsed())
                }
                Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
                Err(_) => Err("no answer".to_owned()),
            }
        }
    }
}

impl Written {
    fn take(&mut self, done: Result<Duration, String>) {
        match done {
            Ok(took) => self.answered.saturating_record(micros(took)),
            Err(why) => {
                self.failed += 1;
                self.first_failure.get_or_insert(why);
            }
        }
    }
}

/// Waits until everything acknowledged is seen everywhere, or for as long as that may take.
async fn settle(plan: &FloodPlan, writers: &[Writer], written: Written) -> Result<FloodReport> {
    let deadline = Instant::now() + LAST_SEEN;
    let mut unseen = usize::MAX;
    while unseen > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        unseen = writers
            .iter()
            .map(|writer| lock(&writer.noted).unseen())
            .sum();
    }
    let mut seen = histogram()?;
    for writer in writers {
        for late in lock(&writer.noted).delays() {
            seen.saturating_record(micros(late));
        }
    }
    Ok(FloodReport {
        acknowledged: usize::try_from(written.answered.len()).unwrap_or(usize::MAX),
        failed: written.failed,
        first_failure: written.first_failure,
        seconds: written.took.as_secs_f64(),
        answered: Spread::of(&written.answered),
        seen: (!plan.watched.is_empty()).then(|| Spread::of(&seen)),
        unseen,
    })
}

impl Times {
    /// For each acknowledged write that was seen everywhere: how long after the answer that was.
    fn delays(&self) -> Vec<Duration> {
        let answered = self.answered.iter().enumerate();
        answered
            .filter_map(|(seq, answered)| {
                let last = self.last_seen(seq)?;
                Some(last.saturating_duration_since((*answered)?))
            })
            .collect()
    }

    fn last_seen(&self, seq: usize) -> Option<Instant> {
        let all = self
            .seen
            .iter()
            .map(|list| list.get(seq).copied().flatten());
        all.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn unseen(&self) -> usize {
        if self.seen.is_empty() {
            return 0;
        }
        let answered = self.answered.iter().enumerate();
        answered
            .filter(|(seq, answered)| answered.is_some() && self.last_seen(*seq).is_none())
            .count()
    }
}

impl Spread {
    fn of(times: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            p50: ms(times.value_at_quantile(0.5)),
            p99: ms(times.value_at_quantile(0.99)),
            max: ms(times.max()),
        }
    }
}

/// Microseconds up to two minutes, three digits; what is longer counts as that.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 120_000_000, 3).context("cannot make a histogram")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Reads what an OLT has already; returns the revision up to which that is.
async fn snapshot(client: &mut NexusClient<Channel>, id: &str, session: &str) -> Result<u64> {
    let request = v1::WatchRequest {
        olt_id: id.to_owned(),
        revision: 0,
        session: session.to_owned(),
        ..v1::WatchRequest::default()
    };
    let deadline = Instant::now() + PATIENCE;
    // A node may hear of the OLT a moment later than the one at which it enrolled.
    let mut stream = loop {
        match client.watch_allocations(request.clone()).await {
            Ok(stream) => break stream.into_inner(),
            Err(status) if Instant::now() >= deadline => {
                return Err(status).with_context(|| format!("{id} cannot watch"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    loop {
        let update = stream.message().await.context("a watch ended")?;
        let update = update.context("a watch ended before its snapshot did")?;
        if update.kind() == Kind::SnapshotEnd {
            return Ok(update.revision);
        }
    }
}

/// Follows an OLT's records from a revision on, again and again if the stream ends; never returns.
async fn watch(
    mut client: NexusClient<Channel>,
    id: &str,
    session: &str,
    mut revision: u64,
    mut each: impl FnMut(u64) + Send,
) {
    loop {
        let request = v1::WatchRequest {
            olt_id: id.to_owned(),
            revision,
            session: session.to_owned(),
            ..v1::WatchRequest::default()
        };
        if let Ok(stream) = client.watch_allocations(request).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(update)) = stream.message().await {
                revision = update.revision;
                if let (Kind::Put, Some(allocation)) = (update.kind(), update.allocation) {
                    each(allocation.seq);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_as_seen_when_the_last_node_shows_it() {
        let now = Instant::now();
        let at = |ms: u64| Some(now + Duration::from_millis(ms));
        let times = Times {
            answered: vec![None, at(10), at(20), at(30)],
            seen: vec![vec![None, at(5), at(25), at(31)], vec![None, at(8), at(40)]],
        };
        assert_eq!(times.unseen(), 1);
        let delays = times.delays();
        assert_eq!(delays, [Duration::ZERO, Duration::from_millis(20)]);
    }

    #[test]
    fn long_times_are_not_cut_short() {
        let mut times = histogram().unwrap();
        times.saturating_record(micros(Duration::from_secs(3)));
        assert!((Spread::of(&times).p50 - 3000.0).abs() < 3.0);
    }

    #[test]
    fn what_is_noted_twice_counts_from_the_first_time() {
        let mut list = Vec::new();
        note(&mut list, 2);
        let first = list[2];
        note(&mut list, 2);
        assert_eq!((list.len(), list[2]), (3, first));
        assert!(list[0].is_none());
    }
}
