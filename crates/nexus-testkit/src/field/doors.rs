//! How the subscribers of one OLT reach it, and questions that wait for their answers: for tests that do one thing after
//! the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::history::{Outcome, Who};
use super::station::Station;
use super::subscribers::account;
use crate::interrupt::check;
use crate::nas::{Nas, Reply};

/// Pause between two looks.
const NAP: Duration = Duration::from_millis(2);

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

    /// The same for subscribers who must all get an address.
    ///
    /// # Errors
    /// If one does not.
    pub fn addresses(
        &mut self,
        all: impl IntoIterator<Item = Who>,
    ) -> Result<BTreeMap<Who, Ipv4Addr>> {
        let mut addresses = BTreeMap::new();
        for (who, reply) in self.authenticate(all)? {
            match reply {
                Reply::Accept(Some(address)) => addresses.insert(who, address),
                other => bail!("subscriber {who} got no address: {other:?}"),
            };
        }
        Ok(addresses)
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
