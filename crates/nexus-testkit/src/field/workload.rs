//! What subscribers do: come up, renew, roam, release; and what an operator does to some of them. One thread drives all
//! of them, so that operations of one subscriber never overlap, and writes down what came of each.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::doors::Doors;
use super::history::{Action, OltAt, Op, Outcome, Who};
use super::moment::Moment;
use super::plan::OLTS;
use super::subscribers::{account, home, id};
use crate::cluster::Client;
use crate::nas::Reply;

/// Most stops that wait for the operator.
pub const STOPS: usize = 16;
/// Most operations of one OLT on their way: what hangs shall not take everybody along.
const IN_FLIGHT: usize = 200;
/// How long a subscriber does nothing after the end of its session.
const REST: Duration = Duration::from_secs(3);
/// How long the workload sleeps when nothing has come.
const NAP: Duration = Duration::from_millis(2);

/// What the run tells the workload, and the workload the run.
#[derive(Debug, Default)]
pub struct Board {
    /// Subscribers leave and avoid these OLTs; a bit each.
    pub avoided: AtomicU64,
    /// Nothing new begins.
    pub resting: AtomicBool,
    /// Nothing else begins: who has an address asks for it once more.
    pub closing: AtomicBool,
    /// Everybody has asked once more.
    pub closed: AtomicBool,
    /// End.
    pub stop: AtomicBool,
    /// Everybody has asked for an address once.
    pub up: AtomicBool,
    /// DHCP exchanges that nobody answered.
    pub unanswered: AtomicU64,
    /// Access-Requests that an OLT has rejected.
    pub rejected: [AtomicU64; OLTS],
}

impl Board {
    /// From now on an OLT is avoided, or not.
    pub fn avoid(&self, olt: OltAt, avoid: bool) {
        let bit = 1 << (olt % 64);
        if avoid {
            self.avoided.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.avoided.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn is_avoided(&self, olt: OltAt) -> bool {
        self.avoided.load(Ordering::Relaxed) & (1 << (olt % 64)) != 0
    }
}

#[derive(Clone, Debug)]
struct State {
    olt: OltAt,
    address: Option<Ipv4Addr>,
    /// What it is about, and since when.
    busy: Option<(OltAt, Action, Moment)>,
    /// It has asked again since [`Board::closing`].
    confirmed: bool,
    /// It does nothing before: what it has asked for comes another way than its next question.
    rests_until: Option<Instant>,
}

/// The workload.
#[derive(Debug)]
pub struct Workload<'a> {
    doors: Vec<Doors>,
    board: &'a Board,
    states: Vec<State>,
    /// Who has not asked for anything yet: from here on.
    new: usize,
    /// Operations on their way by OLT.
    open: Vec<usize>,
    random: StdRng,
    per_second: f64,
    stops: SyncSender<Who>,
    stopped: Receiver<(Who, Outcome)>,
    ops: Vec<Op>,
}

impl<'a> Workload<'a> {
    /// So many subscribers, who begin so many operations in a second. Stops go to an [`operator`].
    #[must_use]
    pub fn new(
        doors: Vec<Doors>,
        board: &'a Board,
        subscribers: Who,
        (seed, per_second): (u64, f64),
        stops: SyncSender<Who>,
        stopped: Receiver<(Who, Outcome)>,
    ) -> Self {
        let olts = doors.len();
        let state = |who| State {
            olt: home(who, olts),
            address: None,
            busy: None,
            confirmed: false,
            rests_until: None,
        };
        Self {
            open: vec![0; olts],
            doors,
            board,
            states: (0..subscribers).map(state).collect(),
            new: 0,
            random: StdRng::seed_from_u64(seed),
            per_second,
            stops,
            stopped,
            ops: Vec::new(),
        }
    }

    /// Goes on until [`Board::stop`]. Returns what was done.
    ///
    /// # Errors
    /// If a request cannot be written.
    pub fn run(mut self) -> Result<Vec<Op>> {
        let began = Instant::now();
        let mut begun = 0_u64;
        while !self.board.stop.load(Ordering::Relaxed) {
            let closing = self.board.closing.load(Ordering::Relaxed);
            let now = Instant::now();
            let mut idle = self.collect(now) == 0;
            if closing {
                idle &= !self.confirm(now)?;
            } else if !self.board.resting.load(Ordering::Relaxed) {
                // What could not begin in time is left out, so that a stall is not followed by a storm.
                let due =
                    (now.saturating_duration_since(began).as_secs_f64() * self.per_second) as u64;
                if due > begun + 100 {
                    begun = due - 100;
                }
                while begun < due {
                    begun += 1;
                    idle = false;
                    if !self.come_up(now)? {
                        self.begin(now)?;
                    }
                }
            }
            if idle {
                std::thread::sleep(NAP);
            }
        }
        Ok(self.ops)
    }

    /// Takes what has come of operations. Returns of how many.
    fn collect(&mut self, now: Instant) -> usize {
        let mut done: Vec<(Who, Outcome)> = self.stopped.try_iter().collect();
        for doors in &mut self.doors {
            for (ticket, reply) in doors.nas.poll(now) {
                let outcome = match reply {
                    Reply::Accept(Some(address)) => Outcome::Accepted(address),
                    Reply::Accept(None) => {
                        Outcome::Rejected("an Accept without an address".to_owned())
                    }
                    Reply::Reject(why) => Outcome::Rejected(why),
                    Reply::Nothing => Outcome::Silent,
                };
                done.push((Who::try_from(ticket).unwrap_or(Who::MAX), outcome));
            }
            done.extend(doors.station.poll(now));
        }
        let count = done.len();
        for (who, outcome) in done {
            self.finish(who, outcome);
        }
        count
    }

    fn finish(&mut self, who: Who, outcome: Outcome) {
        let Some(state) = self
            .states
            .get_mut(usize::try_from(who).unwrap_or(usize::MAX))
        else {
            return;
        };
        let Some((olt, action, began)) = state.busy.take() else {
            return;
        };
        match (&action, &outcome) {
            (Action::Authenticate, Outcome::Accepted(address)) => {
                (state.olt, state.address) = (olt, Some(*address));
                state.confirmed = self.board.closing.load(Ordering::Relaxed);
            }
            // What it has had elsewhere may be gone; here it may have something and not know it.
            (Action::Authenticate, _) if olt != state.olt => {
                (state.olt, state.address) = (olt, None);
            }
            (Action::Release(_) | Action::Stop, _) => {
                state.address = None;
                state.rests_until = Some(Instant::now() + REST);
            }
            _ => {}
        }
        if let Some(open) = self.open.get_mut(olt) {
            *open = open.saturating_sub(1);
        }
        let counted = match &outcome {
            Outcome::Rejected(_) => self.board.rejected.get(olt),
            Outcome::Silent if action.leased().is_some() => Some(&self.board.unanswered),
            _ => None,
        };
        if let Some(counted) = counted {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        self.ops.push(Op {
            who,
            olt,
            action,
            began,
            ended: Moment::now(),
            outcome,
        });
    }

    /// The next one who has never asked for an address does. Returns whether somebody did.
    fn come_up(&mut self, now: Instant) -> Result<bool> {
        let Some(state) = self.states.get(self.new) else {
            self.board.up.store(true, Ordering::Relaxed);
            return Ok(false);
        };
        if state.busy.is_none() && state.address.is_none() {
            self.authenticate(now, self.new, state.olt)?;
        }
        let asked = self
            .states
            .get(self.new)
            .is_some_and(|state| state.busy.is_some() || state.address.is_some());
        self.new += usize::from(asked);
        Ok(asked)
    }

    /// Somebody does something.
    fn begin(&mut self, now: Instant) -> Result<()> {
        let who = self.random.random_range(0..self.states.len().max(1));
        let may = |state: &&State| {
            state.busy.is_none() && state.rests_until.is_none_or(|until| until <= now)
        };
        let Some(state) = self.states.get(who).filter(may) else {
            return Ok(());
        };
        let (at, address) = (state.olt, state.address);
        let dice = self.random.random_range(0..100);
        let leaves = self.board.is_avoided(at);
        match address {
            Some(_) if leaves || dice < 8 => self.authenticate(now, who, self.elsewhere(at, dice)),
            Some(address) if dice < 60 => {
                let action = match dice {
                    ..36 => Action::Renew(address),
                    36..50 => Action::Discover(address),
                    _ => Action::Reboot(address),
                };
                self.exchange(now, who, at, action);
                Ok(())
            }
            Some(_) if dice < 86 => self.authenticate(now, who, at),
            Some(address) if dice < 98 => {
                self.exchange(now, who, at, Action::Release(address));
                Ok(())
            }
            Some(_) => {
                self.stop(who, at);
                Ok(())
            }
            None if leaves || dice < 30 => self.authenticate(now, who, self.elsewhere(at, dice)),
            None => self.authenticate(now, who, at),
        }
    }

    /// Another OLT that is not avoided, if there is one.
    fn elsewhere(&self, at: OltAt, dice: usize) -> OltAt {
        let count = self.doors.len();
        let others = (1..count).map(|step| (at + 1 + (dice + step) % (count - 1)) % count);
        others
            .filter(|olt| !self.board.is_avoided(*olt))
            .last()
            .unwrap_or(at)
    }

    /// Who has an address asks for it once more where it is. Returns whether anybody began.
    fn confirm(&mut self, now: Instant) -> Result<bool> {
        let open: Vec<(usize, OltAt)> = self
            .states
            .iter()
            .enumerate()
            .filter(|(_, state)| {
                state.busy.is_none() && state.address.is_some() && !state.confirmed
            })
            .map(|(who, state)| (who, state.olt))
            .take(32)
            .collect();
        let waits = self.states.iter().any(|state| state.busy.is_some());
        if open.is_empty() && !waits {
            self.board.closed.store(true, Ordering::Relaxed);
        }
        let mut any = false;
        for (who, olt) in open {
            any |= self.open.get(olt).is_some_and(|open| *open < 32);
            if self.open.get(olt).is_some_and(|open| *open < 32) {
                self.authenticate(now, who, olt)?;
            }
        }
        Ok(any)
    }

    fn authenticate(&mut self, now: Instant, who: usize, olt: OltAt) -> Result<()> {
        let number = Who::try_from(who).unwrap_or(Who::MAX);
        if self.open.get(olt).is_none_or(|open| *open >= IN_FLIGHT) {
            return Ok(());
        }
        let doors = self.doors.get_mut(olt).context("no such OLT")?;
        let began = Moment::now();
        if doors.nas.ask(now, u64::from(number), &account(number))? {
            self.busy(who, (olt, Action::Authenticate, began));
        }
        Ok(())
    }

    fn exchange(&mut self, now: Instant, who: usize, olt: OltAt, action: Action) {
        let number = Who::try_from(who).unwrap_or(Who::MAX);
        let Some(doors) = self.doors.get_mut(olt) else {
            return;
        };
        let began = Moment::now();
        match action {
            Action::Renew(address) => doors.station.renew(now, number, address),
            Action::Discover(address) => doors.station.discover(now, number, address),
            Action::Reboot(address) => doors.station.reboot(now, number, address),
            Action::Release(address) => doors.station.release(number, address),
            Action::Authenticate | Action::Stop => return,
        }
        self.busy(who, (olt, action, began));
        if matches!(action, Action::Release(_)) {
            self.finish(number, Outcome::Sent);
        }
    }

    fn stop(&mut self, who: usize, olt: OltAt) {
        let number = Who::try_from(who).unwrap_or(Who::MAX);
        let began = Moment::now();
        if self.stops.try_send(number).is_ok() {
            self.busy(who, (olt, Action::Stop, began));
        }
    }

    fn busy(&mut self, who: usize, what: (OltAt, Action, Moment)) {
        if let Some(open) = self.open.get_mut(what.0) {
            *open += 1;
        }
        if let Some(state) = self.states.get_mut(who) {
            state.busy = Some(what);
        }
    }
}

/// Ends sessions over REST, on one server after the other, until nobody can ask for it any more.
pub fn operator(asked: &Receiver<Who>, told: &SyncSender<(Who, Outcome)>, servers: &[Client]) {
    let mut turn = 0;
    while let Ok(who) = asked.recv() {
        turn += 1;
        let Some(server) = servers.get(turn % servers.len().max(1)) else {
            return;
        };
        let answer = server.delete(&format!("/api/v1/allocate/{}", id(who)));
        let outcome = match answer {
            Ok(answer) if answer.status < 300 => Outcome::Done,
            Ok(answer) if answer.status == 404 => Outcome::Refused(answer.problem().to_owned()),
            // Whether it was done nobody knows.
            Ok(_) | Err(_) => Outcome::Silent,
        };
        if told.send((who, outcome)).is_err() {
            return;
        }
    }
}
