//! The grantor as its hosts see it: a log of commands, leaders that stamp them one after another, and nodes
//! that restart from a snapshot and the rest of the log.

use std::time::Duration;

use nexus_random::Random;

use super::Bug;
use super::world::Clock;
use crate::cluster::{self, ClusterCommand, ClusterState};
use crate::lease::LeaseRule;
use crate::shard_table::{Applied, Command, MAX_STEPS, Refusal, ShardTable};
use crate::time::{BootTime, ClusterTime};

/// Commands between two snapshots.
const SNAPSHOT_EVERY: usize = 64;

pub struct Grantor {
    bug: Bug,
    clocks: Vec<Clock>,
    leader: Option<usize>,
    /// What the leader's clock and cluster time showed when it took office.
    office: (BootTime, ClusterTime),
    state: ClusterState,
    snapshot: Vec<u8>,
    /// What was applied after the snapshot.
    log: Vec<(ClusterTime, Vec<u8>)>,
}

impl Grantor {
    pub fn new(rng: &mut Random, bug: Bug, rule: LeaseRule) -> Self {
        let mut grantor = Self {
            bug,
            clocks: (0..3).map(|_| Clock::new(rng)).collect(),
            leader: None,
            office: (BootTime::ZERO, ClusterTime::ZERO),
            state: ClusterState::new(),
            snapshot: ClusterState::new().snapshot().unwrap(),
            log: Vec::new(),
        };
        grantor.elect(rng);
        let set = Command::SetRule { rule };
        let _ = grantor.carry_out(set).unwrap().unwrap();
        grantor
    }

    pub fn table(&self) -> &ShardTable {
        self.state.table()
    }

    pub fn advance(&mut self, true_nanos: u64) {
        for clock in &mut self.clocks {
            clock.advance(true_nanos);
        }
    }

    /// True time until the table has something to do; `None` if it has not, or nobody leads.
    pub fn until_deadline(&self) -> Option<u64> {
        let clock = &self.clocks[self.leader?];
        let deadline = self.table().next_deadline()?;
        Some(clock.until(self.office.0 + deadline.since(self.office.1)))
    }

    /// Has a command carried out; `None` if nobody leads.
    pub fn carry_out(&mut self, mut command: Command) -> Option<Result<Applied, Refusal>> {
        if let Command::Renew(renew) = &mut command
            && renew.config_revision == u64::MAX
        {
            // Planted: whatever the host has, it says that it is the newest.
            let known = self.table().olt(&renew.olt);
            renew.config_revision = known.map_or(0, |olt| olt.row.config_revision);
        }
        let clock = &self.clocks[self.leader?];
        let now = self.office.1 + clock.now().since(self.office.0);
        let bytes = ClusterCommand::from(command).encode().unwrap();
        let command = ClusterCommand::decode(&bytes).unwrap();
        let may_wait = matches!(command, ClusterCommand::Table(Command::Renew(_)));
        let mut outcome = self.state.apply(now, command);
        self.log.push((now, bytes));
        if !may_wait {
            self.place(now, &mut outcome);
        }
        if self.log.len() >= SNAPSHOT_EVERY {
            self.snapshot = self.state.snapshot().unwrap();
            self.log.clear();
        }
        Some(match outcome {
            Ok(applied) => Ok(applied.table),
            Err(cluster::Refusal::Table(refusal)) => Err(refusal),
            Err(other) => panic!("{other}"),
        })
    }

    /// What the leader proposes by itself after each command.
    fn place(
        &mut self,
        now: ClusterTime,
        outcome: &mut Result<cluster::Applied, cluster::Refusal>,
    ) {
        for steps in self.state.steps().chunks(MAX_STEPS) {
            let steps = steps.to_vec();
            let command = ClusterCommand::from(Command::Place { steps });
            self.log.push((now, command.encode().unwrap()));
            let placed = self.state.apply(now, command).unwrap();
            if let Ok(applied) = outcome {
                applied.table.followed_by(placed.table);
            }
        }
    }

    pub fn lose_leader(&mut self) {
        self.leader = None;
    }

    /// Another node takes office, or the same again.
    pub fn elect(&mut self, rng: &mut Random) {
        let node = usize::try_from(rng.below_u64(self.clocks.len() as u64)).unwrap();
        let clock = &self.clocks[node];
        let base = if self.bug == Bug::LeaderCountsFromItsOwnBoot {
            ClusterTime(clock.now().0)
        } else {
            self.state.now()
        };
        (self.leader, self.office) = (Some(node), (clock.now(), base));
    }

    /// Every process starts again, some on a machine that starts again too: from the snapshot and the rest
    /// of the log.
    pub fn restart(&mut self, rng: &mut Random) {
        for clock in &mut self.clocks {
            if rng.one_in(3) {
                clock.reboot();
            }
        }
        let mut again = ClusterState::restore(&self.snapshot).unwrap();
        for (at, bytes) in &self.log {
            let _ = again.apply(*at, ClusterCommand::decode(bytes).unwrap());
        }
        assert_eq!(again.snapshot(), self.state.snapshot());
        self.state = again;
    }
}

/// Longest time without a leader.
pub const LEADERLESS: Duration = Duration::from_secs(900);
