//! Servers that allocate units of the cluster's own shard, several at a time and without a look at what the
//! others do: proposals and answers are late, lost and doubled.

use std::collections::BTreeMap;

use nexus_random::Random;

use super::Bug;
use super::world::SECOND;
use crate::id::{ShardId, SubscriberId};
use crate::shard::ShardKey;
use crate::shard_table::tests::pool_id;
use crate::shard_table::{Command, ShardTable, UnitGrant};

/// How long a server waits for the answer to a proposal.
const PATIENCE: u64 = 60 * SECOND;

/// A question of a server: which unit for whom, and when it was sent.
#[derive(Clone, Debug)]
pub struct Question {
    unit: u64,
    holder: usize,
    sent: u64,
}

#[derive(Default)]
pub struct Central {
    /// Which unit each subscriber believes to have: what all servers have on record.
    believes: BTreeMap<usize, u64>,
}

fn key() -> ShardKey {
    ShardKey {
        pool: pool_id("vlans"),
        shard: ShardId(3),
    }
}

fn subscriber(number: usize) -> SubscriberId {
    SubscriberId::new(format!("sub-{number}")).unwrap()
}

impl Central {
    /// A subscriber comes or goes; whoever comes asks for a unit, free or not.
    pub fn act(&mut self, now: u64, rng: &mut Random) -> Option<(Question, Command)> {
        let holder = usize::try_from(rng.below_u64(8)).unwrap();
        if self.believes.remove(&holder).is_some() {
            return None;
        }
        let unit = rng.below_u64(4);
        let command = Command::TakeUnit {
            shard: key(),
            unit,
            holder: subscriber(holder),
            server: 0,
        };
        let sent = now;
        Some((Question { unit, holder, sent }, command))
    }

    /// Frees what was taken for somebody who does not have it, unless its answer may still be on its way.
    pub fn sweep(&self, table: &ShardTable, bug: Bug) -> Vec<Command> {
        let is_left = |holder: &SubscriberId, unit| {
            let has = |(number, theirs): (&usize, &u64)| {
                subscriber(*number) == *holder && *theirs == unit
            };
            !self.believes.iter().any(has)
        };
        let old = |since| {
            let age = u64::try_from(table.now().since(since).as_nanos()).unwrap();
            age > 2 * PATIENCE || bug == Bug::SweepsAtOnce
        };
        table
            .taken_units()
            .filter(|taken| old(taken.since) && is_left(taken.holder, taken.unit))
            .map(|taken| Command::FreeUnit {
                shard: taken.shard,
                unit: taken.unit,
                seq: taken.grant.seq,
            })
            .collect()
    }

    /// Whether the subscriber has the unit from now on.
    pub fn hear(
        &mut self,
        now: u64,
        question: &Question,
        grant: Option<UnitGrant>,
        bug: Bug,
    ) -> bool {
        let late = now - question.sent > PATIENCE && bug != Bug::BelievesLateAnswers;
        if grant.is_none() || late || self.believes.contains_key(&question.holder) {
            return false;
        }
        self.believes.insert(question.holder, question.unit);
        true
    }

    pub fn check(&self, table: &ShardTable, bug: Bug) -> Result<(), String> {
        let mut holders: BTreeMap<u64, usize> = BTreeMap::new();
        for (holder, unit) in &self.believes {
            if let Some(other) = holders.insert(*unit, *holder) {
                return Err(format!(
                    "sub-{other} and sub-{holder} both have unit {unit}"
                ));
            }
            let known = table
                .taken_unit(&key(), *unit)
                .is_some_and(|taken| *taken.holder == subscriber(*holder));
            if !known && bug == Bug::None {
                return Err(format!(
                    "sub-{holder} has unit {unit}, the table does not know"
                ));
            }
        }
        Ok(())
    }
}
