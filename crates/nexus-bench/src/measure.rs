//! Writes, a healed split and a cold start, of replicas with their entries on disk.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nexus_clset::{Fence, MemoryRows, NodeId, Replica, UnixMillis};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::resident;
use crate::station::{Pairs, Station};

/// Writes in one change, as servers batch them under load.
const BATCH: usize = 12;
/// Changes on their way at once, of one replica.
const WINDOW: usize = 64;
/// Bytes of a value: about an allocation's record.
const VALUE: usize = 96;
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(900);
const LOOK: Duration = Duration::from_millis(5);

/// What to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Plan {
    /// Entries of each replica.
    pub entries: u64,
    /// Entries of them that differ after the split; neighbours, as in whole shards.
    pub differing: u64,
    /// Where the stores shall lie.
    pub directory: std::path::PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Writes per second into the store of one replica alone, batched alike: as fast as the disk goes.
    pub alone_per_second: f64,
    /// Writes per second, of all three together, until all three have them.
    pub per_second: f64,
    /// Writes that not all three had: after half of the time, and when the last one was acknowledged.
    pub lag_half: u64,
    /// The same in the end.
    pub lag_end: u64,
    /// Seconds from the last acknowledgement until all three had everything.
    pub behind_seconds: f64,
    /// Bytes sent by all replicas for one write.
    pub bytes_per_write: f64,
    /// Of the split: seconds, bytes that the one that was alone took in and gave out, and bytes of what differed.
    pub heal: Healed,
    /// The same with one entry.
    pub heal_one: Healed,
    /// Of the cold start of a fourth one.
    #[serde(flatten)]
    pub cold: ColdReport,
}

/// How a replica came up to the others.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Healed {
    /// Seconds.
    pub seconds: f64,
    /// Bytes that it read from its peers.
    pub bytes_in: u64,
    /// Bytes that it sent to them.
    pub bytes_out: u64,
    /// Bytes of the entries that it lacked.
    pub payload: u64,
}

/// A first copy alone: how large it is, and where the stores shall lie.
#[derive(Clone, Debug, Deserialize)]
pub struct ColdPlan {
    /// Entries of the one that has them.
    pub entries: u64,
    /// Where the stores shall lie.
    pub directory: std::path::PathBuf,
}

/// What came of that.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ColdReport {
    /// Seconds, bytes in and out.
    pub bootstrap: Healed,
    /// Memory that it took, in bytes, store and replica together.
    pub bootstrap_resident: u64,
    /// Its disk, in bytes.
    pub bootstrap_disk: u64,
}

/// Carries out a plan.
pub fn run(plan: &Plan) -> Result<Report> {
    within(&plan.directory, async |directory| {
        measure(plan, directory).await
    })
}

/// One replica writes, a second one fetches all of it.
pub fn cold(plan: &ColdPlan) -> Result<ColdReport> {
    within(&plan.directory, async |directory| {
        let first = Station::start(1, directory, Vec::new()).await?;
        first.members(std::slice::from_ref(&first), 1).await?;
        write(&first, 0..plan.entries, 0).await?;
        let mut stations = vec![first];
        let peers = stations.first().map(Station::addresses).unwrap_or_default();
        cold_start(&mut stations, 2, directory, peers, plan.entries).await
    })
}

/// In a directory and a runtime of its own.
fn within<T>(place: &Path, work: impl AsyncFnOnce(&Path) -> Result<T>) -> Result<T> {
    let directory = tempfile::Builder::new()
        .prefix("replicas-")
        .tempdir_in(place)
        .context("cannot make a directory")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(work(directory.path()))
}

/// One more replica, with nothing, among those that have everything.
async fn cold_start(
    stations: &mut Vec<Station>,
    epoch: u64,
    directory: &Path,
    peers: Vec<String>,
    entries: u64,
) -> Result<ColdReport> {
    let number = u32::try_from(stations.len())?.saturating_add(1);
    let (before, began) = (resident(), Instant::now());
    stations.push(Station::start(number, directory, peers).await?);
    admit(stations, epoch).await?;
    same(stations).await?;
    let (bytes_in, bytes_out) = stations.last().map(Station::bytes).unwrap_or_default();
    Ok(ColdReport {
        bootstrap: Healed {
            seconds: began.elapsed().as_secs_f64(),
            bytes_in,
            bytes_out,
            payload: payload(entries)?,
        },
        bootstrap_resident: resident().saturating_sub(before),
        bootstrap_disk: disk(&directory.join(format!("r{number}"))),
    })
}

async fn measure(plan: &Plan, directory: &Path) -> Result<Report> {
    let mut report = Report {
        alone_per_second: alone(plan.entries.min(200_000), directory).await?,
        ..Report::default()
    };
    eprintln!("- one alone: {:.0} writes/s", report.alone_per_second);

    let mut stations = vec![Station::start(1, directory, Vec::new()).await?];
    let peers = stations.first().map(Station::addresses).unwrap_or_default();
    for number in [2, 3] {
        stations.push(Station::start(number, directory, peers.clone()).await?);
    }
    admit(&stations, 1).await?;
    until("three replicas are complete", || {
        let views: Vec<_> = stations.iter().map(Station::view).collect();
        Ok(views.iter().all(|view| view.complete && view.converged))
    })
    .await
    .with_context(|| views(&stations))?;

    load(plan.entries, &stations, &mut report).await?;
    eprintln!(
        "- three: {:.0} writes/s until all have them",
        report.per_second
    );
    report.heal = split(&stations, plan.differing, 1).await?;
    eprintln!("- healed: {:?}", report.heal);
    report.heal_one = split(&stations, 1, 2).await?;
    eprintln!("- healed of one entry: {:?}", report.heal_one);

    report.cold = cold_start(&mut stations, 2, directory, peers, plan.entries).await?;
    Ok(report)
}

async fn admit(stations: &[Station], epoch: u64) -> Result<()> {
    for station in stations {
        station.members(stations, epoch).await?;
    }
    Ok(())
}

/// One replica with no peer at all, into a store of its own.
async fn alone(entries: u64, directory: &Path) -> Result<f64> {
    let station = Station::start(9, directory, Vec::new()).await?;
    station.members(std::slice::from_ref(&station), 1).await?;
    let began = Instant::now();
    write(&station, 0..entries, 0).await?;
    Ok(as_f64(entries) / began.elapsed().as_secs_f64())
}

/// Each of the three writes a third.
async fn load(entries: u64, stations: &[Station], report: &mut Report) -> Result<()> {
    let sent_before: u64 = stations.iter().map(|station| station.bytes().1).sum();
    let count_before = stations.first().map_or(0, |station| station.view().root.0);
    let began = Instant::now();
    let least = |stations: &[Station]| {
        let counts = stations.iter().map(|station| station.view().root.0);
        counts.min().unwrap_or(0).saturating_sub(count_before)
    };
    let third = entries / 3;
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let writers = stations.iter().zip(0_u64..).map(|(station, place)| {
        let first = place * third;
        let last = if place == 2 { entries } else { first + third };
        write_counted(station, first..last, 0, &acknowledged)
    });
    let mut halfway = None;
    let watch = async {
        loop {
            let done = acknowledged.load(std::sync::atomic::Ordering::Relaxed);
            if halfway.is_none() && done >= entries / 2 {
                halfway = Some(done.saturating_sub(least(stations)));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        done = futures::future::try_join_all(writers) => done.map(drop)?,
        () = watch => {}
    }
    report.lag_half = halfway.unwrap_or(0);
    report.lag_end = entries.saturating_sub(least(stations));
    let answered = Instant::now();
    same(stations).await?;
    report.behind_seconds = answered.elapsed().as_secs_f64();
    report.per_second = as_f64(entries) / began.elapsed().as_secs_f64();
    let sent: u64 = stations.iter().map(|station| station.bytes().1).sum();
    report.bytes_per_write = as_f64(sent.saturating_sub(sent_before)) / as_f64(entries);
    Ok(())
}

/// The first replica is cut off, the second writes, the link heals.
async fn split(stations: &[Station], differing: u64, round: u8) -> Result<Healed> {
    let [first, second, third, ..] = stations else {
        bail!("three replicas are needed");
    };
    first.cut(&[second.number, third.number]).await?;
    second.cut(&[first.number]).await?;
    third.cut(&[first.number]).await?;
    write(second, 0..differing, round).await?;
    until("the two agree", || {
        Ok(second.view().root == third.view().root && second.view().root != first.view().root)
    })
    .await?;
    let (in_before, out_before) = first.bytes();
    let began = Instant::now();
    for station in [first, second, third] {
        station.cut(&[]).await?;
    }
    same(stations).await?;
    let (bytes_in, bytes_out) = first.bytes();
    Ok(Healed {
        seconds: began.elapsed().as_secs_f64(),
        bytes_in: bytes_in.saturating_sub(in_before),
        bytes_out: bytes_out.saturating_sub(out_before),
        payload: payload(differing)?,
    })
}

/// Waits until all have the same.
async fn same(stations: &[Station]) -> Result<()> {
    until("all have the same", || {
        let roots: Vec<_> = stations.iter().map(|station| station.view().root).collect();
        let one = roots.iter().all(|root| Some(root) == roots.first());
        Ok(one && stations.iter().all(|station| station.view().complete))
    })
    .await
    .with_context(|| views(stations))
}

fn views(stations: &[Station]) -> String {
    let views = stations
        .iter()
        .map(|station| format!("{:?}", station.view()));
    views.collect::<Vec<_>>().join("; ")
}

async fn until(what: &str, mut good: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !good()? {
        ensure!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn write(station: &Station, numbers: std::ops::Range<u64>, round: u8) -> Result<()> {
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    write_counted(station, numbers, round, &acknowledged).await
}

async fn write_counted(
    station: &Station,
    numbers: std::ops::Range<u64>,
    round: u8,
    acknowledged: &std::sync::atomic::AtomicU64,
) -> Result<()> {
    let mut on_their_way: VecDeque<(u64, oneshot::Receiver<()>)> = VecDeque::new();
    let mut next = numbers.start;
    while next < numbers.end || !on_their_way.is_empty() {
        if next < numbers.end && on_their_way.len() < WINDOW {
            let count = u64::try_from(BATCH)?.min(numbers.end - next);
            let pairs: Pairs = (next..next + count)
                .map(|number| pair(number, round))
                .collect();
            on_their_way.push_back((count, station.write(pairs).await?));
            next += count;
        } else if let Some((count, durable)) = on_their_way.pop_front() {
            durable
                .await
                .with_context(|| format!("a write was given up: {:?}", station.view()))?;
            acknowledged.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Key and value of an entry: neighbours in number are neighbours in the order of keys.
fn pair(number: u64, round: u8) -> (Vec<u8>, Vec<u8>) {
    let key = format!("a/default/ipv4/{number:010}").into_bytes();
    let mut value = vec![round; VALUE];
    for (place, byte) in value.iter_mut().zip(number.to_le_bytes()) {
        *place = byte;
    }
    (key, value)
}

/// Bytes of so many entries: their keys, values, versions and numbers, as they are stored.
fn payload(count: u64) -> Result<u64> {
    let rows = MemoryRows::default();
    let now = UnixMillis(1_800_000_000_000);
    let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), now)?;
    rows.apply(&boot.rows);
    let (key, value) = pair(0, 0);
    let change = replica.put(&key, &value, Fence::NONE, now)?;
    rows.apply(&change.rows);
    let entry = replica
        .get_entry(&key)?
        .context("an entry that was just made")?;
    let each = u64::try_from(key.len() + entry.encode().len())?;
    Ok(each.saturating_mul(count))
}

/// Bytes below a directory.
fn disk(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => disk(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

fn as_f64(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count
}
