//! How the subscribers of one OLT reach it, and questions that wait for their answers: for tests that do one thing after
//! the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::history::{Outcome, Who};
use super::plan::PATIENCE;
use super::station::Station;
use super::subscribers::account;
use crate::interrupt::check;
use crate::nas::{Nas, Reply};

/// Pause between two looks.
const NAP: Duration = Duration::from_millis(2);
/// Pause before who was refused asks again.
const BREATH: Duration = Duration::from_millis(200);

/// Where one OLT is reached.
#[derive(Debug)]
pub struct Doors {
    /// Its RADIUS.
    pub nas: Nas,
    /// Its line.
    pub station: Station,
}

impl Doors {
    /// Asks for all of them at once, and waits until each is answered or given up.
    ///
    /// # Errors
    /// If a request cannot be written, or somebody wants this process to end.
    pub fn authenticate(
        &mut self,
        all: impl IntoIterator<Item = Who>,
    ) -> Result<BTreeMap<Who, Reply>> {
        let mut open: Vec<Who> = all.into_iter().collect();
        let asked: BTreeSet<Who> = open.iter().copied().collect();
        let mut answers = BTreeMap::new();
        while answers.len() < asked.len() {
            check()?;
            let now = Instant::now();
            while let Some(who) = open.pop() {
                if !self.nas.ask(now, u64::from(who), &account(who))? {
                    open.push(who);
                    break;
                }
            }
            for (ticket, reply) in self.nas.poll(now) {
                let who = Who::try_from(ticket).unwrap_or(Who::MAX);
                // An answer to an earlier question may come late.
                if asked.contains(&who) {
                    answers.insert(who, reply);
                }
            }
            std::thread::sleep(NAP);
        }
        Ok(answers)
    }

    /// Asks until each is accepted or rejected: on a busy machine answers come too late.
    ///
    /// # Errors
    /// As [`Doors::authenticate`], and if somebody is not answered within [`PATIENCE`].
    pub fn answers(&mut self, all: impl IntoIterator<Item = Who>) -> Result<BTreeMap<Who, Reply>> {
        self.insist(all, |reply| {
            (*reply != Reply::Nothing).then(|| reply.clone())
        })
    }

    /// Asks until each has an address: an OLT whose heartbeats come late may have to be renewed first.
    ///
    /// # Errors
    /// As [`Doors::authenticate`], and if somebody gets none within [`PATIENCE`].
    pub fn addresses(
        &mut self,
        all: impl IntoIterator<Item = Who>,
    ) -> Result<BTreeMap<Who, Ipv4Addr>> {
        self.insist(all, |reply| match reply {
            Reply::Accept(address) => *address,
            Reply::Reject(_) | Reply::Nothing => None,
        })
    }

    fn insist<T>(
        &mut self,
        all: impl IntoIterator<Item = Who>,
        wanted: impl Fn(&Reply) -> Option<T>,
    ) -> Result<BTreeMap<Who, T>> {
        let mut open: BTreeSet<Who> = all.into_iter().collect();
        let mut done = BTreeMap::new();
        let end = Instant::now() + PATIENCE;
        loop {
            for (who, reply) in self.authenticate(open.iter().copied())? {
                if let Some(value) = wanted(&reply) {
                    open.remove(&who);
                    done.insert(who, value);
                } else if Instant::now() >= end {
                    bail!("subscriber {who} was answered {reply:?} for {PATIENCE:?}");
                }
            }
            if open.is_empty() {
                return Ok(done);
            }
            std::thread::sleep(BREATH);
        }
    }

    /// Renews all of these at once, and waits until each is answered.
    ///
    /// # Errors
    /// If one is not answered, or refused.
    pub fn renew(&mut self, all: &BTreeMap<Who, Ipv4Addr>) -> Result<()> {
        let now = Instant::now();
        for (who, address) in all {
            self.station.renew(now, *who, *address);
        }
        let mut left = all.len();
        while left > 0 {
            check()?;
            for (who, outcome) in self.station.poll(Instant::now()) {
                if outcome != Outcome::Acked {
                    bail!("the renewal of subscriber {who} ended with {outcome:?}");
                }
                left -= 1;
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }
}
