//! The nemesis of the OLT hosts: what it does to each, one after the other in each of two lanes.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;

use super::bench::may_allocate;
use super::history::{Kind, OltAt};
use super::host::Host;
use super::journal::Journal;
use super::moment::Moment;
use super::plan::{FieldPlan, LONG, OltTrouble, PATIENCE};
use super::workload::Board;
use crate::cluster::Client;
use crate::interrupt::{check, wait_until};

/// Addresses that must be free at an OLT that is cut off, so that it is expected to serve everybody.
const PLENTY: u64 = 150;
/// Pause between two troubles.
const BREATH: Duration = Duration::from_secs(2);
/// A little: times are read in whole seconds, and a lease is checked before an answer is on its way.
const SLACK: Duration = Duration::from_secs(2);

/// One lane: some hosts, and one that stands by with the id of the last of them.
pub struct Lane<'a> {
    /// Number of the lane.
    pub number: usize,
    /// The hosts with their places in the run.
    pub hosts: Vec<(OltAt, &'a mut Host)>,
    /// It has the id of the last of them.
    pub twin: &'a mut Host,
    /// What is told.
    pub journal: &'a Journal,
    /// Where subscribers are told to leave.
    pub board: &'a Board,
    /// All servers.
    pub clients: Vec<Client>,
    /// All servers' addresses.
    pub servers: Vec<Ipv4Addr>,
    /// For copies of stores.
    pub directory: &'a Path,
}

impl Lane<'_> {
    /// Goes through all troubles of the plan's rounds until its time is over; at least through one round.
    ///
    /// # Errors
    /// If something could not be done, or an OLT does not recover.
    pub fn run(mut self, plan: &FieldPlan) -> Result<()> {
        let began = Instant::now();
        for round in 0.. {
            let mut random = plan.random(1000 + 2 * round + self.number as u64);
            for trouble in plan.olt_troubles(self.number, round) {
                if round > 0 && began.elapsed() >= plan.length {
                    return Ok(());
                }
                let last = self.hosts.len().saturating_sub(1);
                let place = match trouble {
                    OltTrouble::Twin => last,
                    _ => random.random_range(0..=last),
                };
                self.once(trouble, place, &mut random).with_context(|| {
                    format!("{trouble:?} of host {place} in lane {}", self.number)
                })?;
                rest(BREATH)?;
            }
            if began.elapsed() >= plan.length {
                return Ok(());
            }
        }
        Ok(())
    }

    fn once(&mut self, trouble: OltTrouble, place: usize, random: &mut StdRng) -> Result<()> {
        match trouble {
            OltTrouble::ShortCut => self.cut(place, Duration::from_secs(6)),
            OltTrouble::LongCut => self.cut(place, LONG),
            OltTrouble::HalfCut => self.half_cut(place, random),
            OltTrouble::Hang => self.hang(place),
            OltTrouble::Kill => self.kill(place, random),
            OltTrouble::FullDisk => self.full_disk(place),
            OltTrouble::OldCopy => self.old_copy(place),
            OltTrouble::Twin => self.second_host(place),
            OltTrouble::Drain => self.drain(place),
        }
    }

    fn host(&mut self, place: usize) -> Result<(OltAt, &mut Host)> {
        let (at, host) = self.hosts.get_mut(place).context("no such host")?;
        Ok((*at, &mut **host))
    }

    fn begin(&self, place: usize, what: &str) -> Result<usize> {
        let (at, host) = self.hosts.get(place).context("no such host")?;
        let what = format!("OLT {at} ({}): {what}", host.id());
        Ok(self.journal.begin(&what, Some(*at), Kind::Outage))
    }

    fn recovered(&mut self, place: usize) -> Result<()> {
        self.host(place)?.1.wait("recovered", may_allocate)
    }

    fn cut(&mut self, place: usize, time: Duration) -> Result<()> {
        self.recovered(place)?;
        let secs = time.as_secs();
        let one = self.begin(place, &format!("cut off from all servers for {secs} s"))?;
        let servers = self.servers.clone();
        let (_, host) = self.host(place)?;
        host.cut(&servers)?;
        // What is left of the lease can only get less from now on, and it is asked for later than this.
        let asked = Moment::now();
        let status = host.status()?;
        let left = status.get("lease_left_secs").and_then(Value::as_u64);
        let free = free(&status);
        if let Some(left) = left
            && free >= PLENTY
        {
            let left = Duration::from_secs(left).saturating_sub(SLACK).min(time);
            let served_until = asked.plus(left);
            self.journal.is(one, Kind::CutOff { served_until });
        }
        self.journal
            .tell(&format!("  lease left {left:?} s, {free} addresses free"));
        rest(time)?;
        self.host(place)?.1.heal()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn half_cut(&mut self, place: usize, random: &mut StdRng) -> Result<()> {
        let keeps = random.random_range(0..self.servers.len().max(1));
        let one = self.begin(place, &format!("cut off from all servers but {keeps}"))?;
        let mut servers = self.servers.clone();
        servers.remove(keeps.min(servers.len().saturating_sub(1)));
        self.host(place)?.1.cut(&servers)?;
        rest(Duration::from_secs(10))?;
        self.host(place)?.1.heal()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn hang(&mut self, place: usize) -> Result<()> {
        let secs = LONG.as_secs();
        let one = self.begin(place, &format!("SIGSTOP for {secs} s"))?;
        self.host(place)?.1.pause(true)?;
        rest(LONG)?;
        self.host(place)?.1.pause(false)?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn kill(&mut self, place: usize, random: &mut StdRng) -> Result<()> {
        let one = self.begin(place, "kill -9")?;
        self.host(place)?.1.kill();
        rest(Duration::from_millis(random.random_range(0..3000)))?;
        self.host(place)?.1.launch()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn full_disk(&mut self, place: usize) -> Result<()> {
        let one = self.begin(place, "its disk is full")?;
        self.host(place)?.1.disk().fill()?;
        let end = Instant::now() + Duration::from_secs(6);
        let mut ends = 0;
        // As systemd would: started again whenever it ends.
        while Instant::now() < end {
            rest(Duration::from_millis(500))?;
            let (_, host) = self.host(place)?;
            if !host.is_running()? {
                ends += 1;
                host.kill();
                host.launch()?;
            }
        }
        let (_, host) = self.host(place)?;
        host.disk().empty()?;
        if !host.is_running()? {
            ends += 1;
            host.kill();
            host.launch()?;
        }
        self.journal.tell(&format!("  it ended {ends} times"));
        self.keep_alive(place)?;
        self.journal.over(one);
        Ok(())
    }

    /// Waits until it has recovered, and starts it again if it ends meanwhile.
    fn keep_alive(&mut self, place: usize) -> Result<()> {
        let (at, host) = self.host(place)?;
        wait_until(&format!("OLT {at} has recovered"), PATIENCE, || {
            if !host.is_running()? {
                host.kill();
                host.launch()?;
            }
            std::thread::sleep(Duration::from_millis(100));
            Ok(host.status().ok().filter(may_allocate).map(drop))
        })
    }

    fn old_copy(&mut self, place: usize) -> Result<()> {
        let copy = self.directory.join(format!("copy-{}", self.number));
        self.host(place)?.1.copy_store(&copy)?;
        rest(Duration::from_secs(6))?;
        let one = self.begin(place, "its store becomes what it was 6 s ago")?;
        self.journal.is(one, Kind::Restored);
        let (_, host) = self.host(place)?;
        host.kill();
        host.replace_store(&copy)?;
        host.launch()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn second_host(&mut self, place: usize) -> Result<()> {
        // One that has been refused stands no chance as long as the first one is heard.
        self.recovered(place)?;
        let one = self.begin(place, "another host comes up with its id")?;
        let before = refusals(self.twin);
        self.twin.launch()?;
        wait_until("the second host is refused", PATIENCE, || {
            Ok((refusals(self.twin) > before).then_some(()))
        })?;
        rest(Duration::from_secs(2))?;
        let allocates = self.twin.status().is_ok_and(|status| may_allocate(&status));
        self.twin.kill();
        std::fs::remove_dir_all(self.twin.store()).context("cannot remove the store")?;
        ensure!(!allocates, "two hosts with one id allocate");
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    fn drain(&mut self, place: usize) -> Result<()> {
        let one = self.begin(place, "drained")?;
        let (at, host) = self.host(place)?;
        let id = host.id().to_owned();
        self.board.avoid(at, true);
        let node = format!("/api/v1/nodes/{id}");
        self.ask(|client| client.post(&format!("{node}/drain"), &Value::Null))?;
        rest(Duration::from_secs(10))?;
        // Back to work; where the servers know no way back, it is forgotten once it is empty, and comes back by itself.
        self.ask(|client| {
            // An answer may have been lost.
            let now = client.get(&node)?;
            if now.body.get("state").and_then(Value::as_str) == Some("active") {
                return Ok(now);
            }
            let back = client.post(&format!("{node}/activate"), &Value::Null)?;
            if back.status == 404 {
                return client.delete(&node);
            }
            Ok(back)
        })?;
        self.board.avoid(at, false);
        self.recovered(place)?;
        self.journal.over(one);
        Ok(())
    }

    /// Asks servers in turn until one does it.
    fn ask(&self, question: impl Fn(&Client) -> Result<crate::cluster::Answer>) -> Result<()> {
        let mut turn = 0;
        let mut last = String::new();
        let done = wait_until("an answer of a server", PATIENCE, || {
            let client = self.clients.get(turn % self.clients.len().max(1));
            turn += 1;
            let answer = question(client.context("no servers")?);
            let good = answer
                .as_ref()
                .is_ok_and(|answer| (200..300).contains(&answer.status));
            last = format!("{answer:?}");
            if !good {
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(good.then_some(()))
        });
        done.with_context(|| format!("the last one: {last}"))
    }
}

/// Sleeps, and ends early with an error if somebody wants this process to end.
///
/// # Errors
/// "interrupted".
pub fn rest(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        check()?;
        std::thread::sleep(
            Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())),
        );
    }
    Ok(())
}

/// Addresses that an OLT could give now.
fn free(status: &Value) -> u64 {
    let shards = status.get("shards").and_then(Value::as_array);
    let each = shards.into_iter().flatten();
    each.filter_map(|shard| shard.get("available")?.as_u64())
        .sum()
}

/// How often a host was told that another one has its id.
fn refusals(host: &Host) -> usize {
    host.log().matches("another host").count()
}
