//! The nemesis of the servers.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::history::Kind;
use super::journal::Journal;
use super::nemesis::rest;
use super::plan::{FieldPlan, PATIENCE, ServerTrouble};
use crate::cluster::ClusterBench;
use crate::command;

/// Pause between two troubles.
const BREATH: Duration = Duration::from_secs(3);

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
            cluster.network().isolate(at)?;
            rest(Duration::from_secs(9))?;
            cluster.network().heal()?;
            one
        }
        ServerTrouble::Scatter => {
            let one = journal.begin("servers: nobody hears anybody", None, Kind::Outage);
            for each in 0..cluster.size() {
                cluster.network().isolate(each)?;
            }
            rest(Duration::from_secs(6))?;
            cluster.network().heal()?;
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
            cluster.node(at)?.clock()?.step(0)?;
            rest(Duration::from_secs(2))?;
            one
        }
        ServerTrouble::FullDisk => {
            let one = begin("its disk is full");
            cluster.node(at)?.disk()?.fill()?;
            rest(Duration::from_secs(5))?;
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
    let all: Vec<usize> = (0..cluster.size()).collect();
    cluster.wait_together(&all, PATIENCE)?;
    journal.over(one);
    Ok(())
}

/// The record, not the votes: docs/CLUSTER.md says that an old copy of it is found out.
fn old_record(cluster: &mut ClusterBench, journal: &Journal, at: usize) -> Result<usize> {
    let copy: PathBuf = cluster.directory().join("copy-record");
    let node = cluster.node_mut(at)?;
    let record = node.store().join("store");
    ensure!(record.is_dir(), "no record at {}", record.display());
    let replace = |from: &PathBuf, to: &PathBuf| -> Result<()> {
        let _ = std::fs::remove_dir_all(to);
        command::output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
    };
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
    node.kill()?;
    replace(&copy, &record)?;
    node.start()?;
    Ok(one)
}
