//! The nemesis of the OLT hosts: what it does to each, one after the other in each of two lanes. Each trouble goes on
//! until it is seen that the product has felt it.

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
use super::plan::{FieldPlan, LONG, OltTrouble, PATIENCE, Trouble};
use super::workload::Board;
use crate::cluster::{Client, GRPC_PORT};
use crate::interrupt::{check, wait_until};

/// Addresses that must be free at an OLT that is cut off, so that it is expected to serve everybody.
const PLENTY: u64 = 150;
/// Pause between two troubles.
const BREATH: Duration = Duration::from_secs(2);
/// A little: times are read in whole seconds, and a lease is checked before an answer is on its way.
const SLACK: Duration = Duration::from_secs(2);
/// Pause between two looks at a log or at a server.
const LOOK: Duration = Duration::from_millis(100);
/// What a host says that is not taken in because of another one with its id.
const REFUSED: &str = "another host";
/// What it says when its store is not its newest.
const OLDER: &str = "an older image was put back";
/// What it says when its wall clock was stepped ahead.
const RAN_AHEAD: &str = "the wall clock has run ahead of the boot clock";
/// Its `mode` without a lease.
const ENDED: &str = "lease-ended";

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
        let felt = match trouble {
            OltTrouble::ShortCut => self.cut(place, Duration::from_secs(6), &["cut-off", ENDED]),
            OltTrouble::LongCut => self.cut(place, LONG, &[ENDED]),
            OltTrouble::HalfCut => self.half_cut(place, random),
            OltTrouble::Hang => self.hang(place),
            OltTrouble::Kill => self.kill(place, random),
            OltTrouble::FullDisk => self.full_disk(place),
            OltTrouble::OldCopy => self.old_copy(place),
            OltTrouble::Twin => self.second_host(place),
            OltTrouble::Drain => self.drain(place),
            OltTrouble::Clock => self.step_clock(place, random),
        }?;
        if felt {
            self.journal.took_effect(Trouble::Olt(trouble));
        }
        Ok(())
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

    /// `modes`: what its status must come to say before it is healed.
    fn cut(&mut self, place: usize, time: Duration, modes: &[&str]) -> Result<bool> {
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
        let (_, host) = self.host(place)?;
        host.wait("it notices the cut", |status| {
            let mode = status.get("mode").and_then(Value::as_str);
            mode.is_some_and(|mode| modes.contains(&mode))
        })?;
        host.heal()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(true)
    }

    fn half_cut(&mut self, place: usize, random: &mut StdRng) -> Result<bool> {
        self.recovered(place)?;
        let status = self.host(place)?.1.status()?;
        let endpoint = |server: &Ipv4Addr| format!("{server}:{GRPC_PORT}");
        let used = |status: &Value, server: &Ipv4Addr| {
            status.get("endpoint").and_then(Value::as_str) == Some(&endpoint(server))
        };
        // It has to find the one that is left.
        let mut left = self.servers.clone();
        left.retain(|server| !used(&status, server));
        let kept = left.get(random.random_range(0..left.len().max(1)));
        let kept = *kept.context("there is one server only")?;
        let one = self.begin(place, &format!("cut off from all servers but {kept}"))?;
        let mut servers = self.servers.clone();
        servers.retain(|server| *server != kept);
        let (_, host) = self.host(place)?;
        host.cut(&servers)?;
        rest(Duration::from_secs(10))?;
        host.wait("it has found the server that is left", |status| {
            may_allocate(status) && used(status, &kept)
        })?;
        host.heal()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(true)
    }

    fn hang(&mut self, place: usize) -> Result<bool> {
        let secs = LONG.as_secs();
        let one = self.begin(place, &format!("SIGSTOP for {secs} s"))?;
        let (_, host) = self.host(place)?;
        let id = host.id().to_owned();
        host.pause(true)?;
        rest(LONG)?;
        self.until_state(&id, "offline", |state| state == "offline")?;
        self.host(place)?.1.pause(false)?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(true)
    }

    fn kill(&mut self, place: usize, random: &mut StdRng) -> Result<bool> {
        let one = self.begin(place, "kill -9")?;
        let (_, host) = self.host(place)?;
        let ran = host.is_running()?;
        host.kill();
        rest(Duration::from_millis(random.random_range(0..3000)))?;
        self.host(place)?.1.launch()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(ran)
    }

    fn full_disk(&mut self, place: usize) -> Result<bool> {
        let one = self.begin(place, "its disk is full")?;
        self.host(place)?.1.disk().fill()?;
        let began = Instant::now();
        let mut ends = 0;
        // As systemd would: started again whenever it ends, which it does when it cannot write.
        while began.elapsed() < Duration::from_secs(6) || ends == 0 {
            ensure!(began.elapsed() < PATIENCE, "it goes on with a full disk");
            rest(Duration::from_millis(500))?;
            ends += self.started_again(place)?;
        }
        self.host(place)?.1.disk().empty()?;
        ends += self.started_again(place)?;
        self.journal.tell(&format!("  it ended {ends} times"));
        self.keep_alive(place)?;
        self.journal.over(one);
        Ok(true)
    }

    /// Starts it if it has ended. Returns how often.
    fn started_again(&mut self, place: usize) -> Result<u32> {
        let (_, host) = self.host(place)?;
        if host.is_running()? {
            return Ok(0);
        }
        host.kill();
        host.launch()?;
        Ok(1)
    }

    /// Waits until it has recovered, and starts it again if it ends meanwhile.
    fn keep_alive(&mut self, place: usize) -> Result<()> {
        let (at, _) = self.host(place)?;
        wait_until(&format!("OLT {at} has recovered"), PATIENCE, || {
            self.started_again(place)?;
            std::thread::sleep(LOOK);
            let status = self.host(place)?.1.status();
            Ok(status.ok().filter(may_allocate).map(drop))
        })
    }

    fn old_copy(&mut self, place: usize) -> Result<bool> {
        let copy = self.directory.join(format!("copy-{}", self.number));
        let (_, host) = self.host(place)?;
        host.copy_store(&copy)?;
        let mut mark = host.mark()?;
        rest(Duration::from_secs(6))?;
        // One flush may have been on its way when the copy was taken.
        let mut flushes = 0;
        wait_until("it has written more than the copy has", PATIENCE, || {
            std::thread::sleep(LOOK);
            let now = host.mark()?;
            flushes += u32::from(now != mark);
            mark = now;
            Ok((flushes >= 2).then_some(()))
        })?;
        let one = self.begin(place, "its store becomes what it was 6 s ago")?;
        self.journal.is(one, Kind::Restored);
        let (_, host) = self.host(place)?;
        let before = host.said(OLDER);
        host.kill();
        host.replace_store(&copy)?;
        host.launch()?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(self.host(place)?.1.said(OLDER) > before)
    }

    fn second_host(&mut self, place: usize) -> Result<bool> {
        // One that has been refused stands no chance as long as the first one is heard.
        self.recovered(place)?;
        let one = self.begin(place, "another host comes up with its id")?;
        let before = self.twin.said(REFUSED);
        self.twin.launch()?;
        says(self.twin, REFUSED, before)?;
        rest(Duration::from_secs(2))?;
        let allocates = self.twin.status().is_ok_and(|status| may_allocate(&status));
        self.twin.kill();
        std::fs::remove_dir_all(self.twin.store()).context("cannot remove the store")?;
        ensure!(!allocates, "two hosts with one id allocate");
        self.recovered(place)?;
        self.journal.over(one);
        Ok(true)
    }

    fn drain(&mut self, place: usize) -> Result<bool> {
        let one = self.begin(place, "drained")?;
        let (at, host) = self.host(place)?;
        let id = host.id().to_owned();
        self.board.avoid(at, true);
        let node = format!("/api/v1/nodes/{id}");
        self.ask(|client| client.post(&format!("{node}/drain"), &Value::Null))?;
        self.until_state(&id, "draining", |state| state != "active")?;
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
        Ok(true)
    }

    fn step_clock(&mut self, place: usize, random: &mut StdRng) -> Result<bool> {
        // It compares its clocks since its lease was renewed.
        self.recovered(place)?;
        let step = if random.random_bool(0.5) { 10 } else { 3600 };
        let what = format!("its wall clock is stepped by {step} s, and back");
        let one = self.begin(place, &what)?;
        self.journal.is(one, Kind::Ahead);
        let (_, host) = self.host(place)?;
        let before = host.said(RAN_AHEAD);
        host.clock()?.step(step)?;
        says(host, RAN_AHEAD, before)?;
        rest(Duration::from_secs(4))?;
        host.clock()?.step(0)?;
        rest(Duration::from_secs(2))?;
        self.recovered(place)?;
        self.journal.over(one);
        Ok(true)
    }

    /// Waits until a server says so of an OLT.
    fn until_state(&self, id: &str, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let path = format!("/api/v1/nodes/{id}");
        self.ask(|client| {
            let answer = client.get(&path)?;
            let state = answer.body.get("state").and_then(Value::as_str);
            ensure!(state.is_some_and(&wanted), "{id} is not {what}: {state:?}");
            Ok(answer)
        })
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

/// Waits until a host has written these words once more.
fn says(host: &Host, words: &str, before: usize) -> Result<()> {
    wait_until(&format!("it says \"{words}\""), PATIENCE, || {
        std::thread::sleep(LOOK);
        Ok((host.said(words) > before).then_some(()))
    })
}
