//! The nemesis of the servers. Each trouble goes on until it is seen that the product has felt it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;

use super::history::Kind;
use super::journal::Journal;
use super::nemesis::rest;
use super::plan::{FieldPlan, PATIENCE, ServerTrouble, Trouble};
use crate::cluster::{ClusterBench, Node};
use crate::command;
use crate::interrupt::wait_until;

/// Pause between two troubles.
const BREATH: Duration = Duration::from_secs(3);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Tries with copies of a record before it counts as a fault that none is found out.
const OLD_RECORDS: usize = 5;

/// Goes through all troubles of the plan's rounds until its time is over; at least through one round.
///
/// # Errors
/// If something could not be done, or the servers do not recover.
pub fn run(cluster: &mut ClusterBench, journal: &Journal, plan: &FieldPlan) -> Result<()> {
    let began = Instant::now();
    for round in 0.. {
        let mut random = plan.random(2000 + round);
        for trouble in plan.server_troubles(round) {
            if round > 0 && began.elapsed() >= plan.length {
                return Ok(());
            }
            let at = random.random_range(0..cluster.size().max(1));
            once(cluster, journal, (trouble, at), &mut random)
                .with_context(|| format!("{trouble:?} of server {at}"))?;
            rest(BREATH)?;
        }
        if began.elapsed() >= plan.length {
            return Ok(());
        }
    }
    Ok(())
}

fn once(
    cluster: &mut ClusterBench,
    journal: &Journal,
    (trouble, at): (ServerTrouble, usize),
    random: &mut StdRng,
) -> Result<()> {
    let name = cluster.node(at)?.name().to_owned();
    let begin = |what: &str| journal.begin(&format!("server {name}: {what}"), None, Kind::Outage);
    let one = match trouble {
        ServerTrouble::Isolate => {
            let one = begin("cut off from the other servers");
            cut(cluster, &[at], Duration::from_secs(9))?;
            one
        }
        ServerTrouble::Scatter => {
            let one = journal.begin("servers: nobody hears anybody", None, Kind::Outage);
            let all: Vec<usize> = (0..cluster.size()).collect();
            cut(cluster, &all, Duration::from_secs(6))?;
            one
        }
        ServerTrouble::Kill => {
            let one = begin("kill -9");
            cluster.node_mut(at)?.kill()?;
            rest(Duration::from_millis(random.random_range(500..4000)))?;
            cluster.node_mut(at)?.start()?;
            one
        }
        ServerTrouble::Hang => {
            let one = begin("SIGSTOP for 7 s");
            cluster.node_mut(at)?.pause()?;
            let client = cluster.client(at)?.patience(Duration::from_secs(1));
            felt("it does not answer", || Ok(client.get("/health").is_err()))?;
            rest(Duration::from_secs(7))?;
            cluster.node_mut(at)?.resume()?;
            one
        }
        ServerTrouble::Clock => {
            let step = *[-3600, -5, 5, 3600]
                .get(random.random_range(0..4))
                .unwrap_or(&5);
            let one = begin(&format!("its wall clock is stepped by {step} s"));
            cluster.node(at)?.clock()?.step(step)?;
            rest(Duration::from_secs(7))?;
            felt("it knows that its clock is off", || {
                let off = view(cluster, at, "/clock/off_ms").and_then(|off| off.as_i64());
                Ok(off.is_some_and(|off| (off - step * 1000).abs() < step.abs() * 500))
            })?;
            cluster.node(at)?.clock()?.step(0)?;
            rest(Duration::from_secs(2))?;
            one
        }
        ServerTrouble::FullDisk => {
            let one = begin("its disk is full");
            cluster.node(at)?.disk()?.fill()?;
            rest(Duration::from_secs(5))?;
            felt("it takes no writes, or has ended", || {
                let writes = view(cluster, at, "/writes");
                let says = writes.is_some_and(|text| text.to_string().contains("disk"));
                Ok(says || !cluster.node_mut(at)?.is_running()?)
            })?;
            cluster.node(at)?.disk()?.empty()?;
            let node = cluster.node_mut(at)?;
            if !node.is_running()? {
                journal.tell("  it has ended");
                node.stop_or_ended()?;
                node.start()?;
            }
            one
        }
        ServerTrouble::OldRecord => old_record(cluster, journal, at)?,
    };
    journal.took_effect(Trouble::Server(trouble));
    let all: Vec<usize> = (0..cluster.size()).collect();
    cluster.wait_together(&all, PATIENCE)?;
    journal.over(one);
    Ok(())
}

/// Goes on until it is seen that the product has felt it.
fn felt(what: &str, mut seen: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_until(what, PATIENCE, || {
        let seen = seen()?;
        if !seen {
            std::thread::sleep(LOOK);
        }
        Ok(seen.then_some(()))
    })
}

/// A field of what a server says of the cluster, if it answers.
fn view(cluster: &ClusterBench, at: usize, pointer: &str) -> Option<Value> {
    let client = cluster.client(at).ok()?.patience(Duration::from_secs(1));
    let answer = client.get("/api/v1/cluster").ok()?;
    answer.body.pointer(pointer).cloned()
}

/// Cuts each of these off from all other servers for a time, and until each has missed something by it.
fn cut(cluster: &ClusterBench, which: &[usize], time: Duration) -> Result<()> {
    let network = cluster.network();
    let lost = |at: &usize| network.lost_packets(*at);
    let before: Vec<u64> = which.iter().map(lost).collect::<Result<_>>()?;
    for at in which {
        network.isolate(*at)?;
    }
    rest(time)?;
    felt("packets are lost", || {
        let now: Vec<u64> = which.iter().map(lost).collect::<Result<_>>()?;
        Ok(now.iter().zip(&before).all(|(now, before)| now > before))
    })?;
    network.heal()
}

/// The record, not the votes: docs/CLUSTER.md says that an old copy of it is found out, if the others have been told more.
fn old_record(cluster: &mut ClusterBench, journal: &Journal, at: usize) -> Result<usize> {
    let copy: PathBuf = cluster.directory().join("copy-record");
    let node = cluster.node_mut(at)?;
    let record = node.store().join("store");
    ensure!(record.is_dir(), "no record at {}", record.display());
    let replace = |from: &PathBuf, to: &PathBuf| -> Result<()> {
        let _ = std::fs::remove_dir_all(to);
        command::output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
    };
    for _ in 0..OLD_RECORDS {
        node.pause()?;
        let copied = replace(&record, &copy);
        node.resume()?;
        copied?;
        rest(Duration::from_secs(4))?;
        let what = format!(
            "server {}: its record becomes what it was 4 s ago",
            node.name()
        );
        let one = journal.begin(&what, None, Kind::Outage);
        let found_out = |node: &Node| node.log().matches("this replica must start over").count();
        let before = found_out(node);
        node.kill()?;
        replace(&copy, &record)?;
        node.start()?;
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if found_out(node) > before {
                return Ok(one);
            }
            rest(LOOK)?;
        }
        journal.tell("  the others had not been told of more");
        journal.over(one);
    }
    bail!("an old copy of its record was never found out")
}
