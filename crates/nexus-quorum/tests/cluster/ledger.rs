//! A small machine to test with: counters, compare-and-set, and a notebook of all it was told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use nexus_quorum::{BoxFuture, Entry, Machine, MachineError};
use serde::{Deserialize, Serialize};

/// What the machine can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Add to a counter; answers its new value.
    Add(String, i64),
    /// Set a counter if it has the value; answers whether, and the value now.
    Swap(String, i64, i64),
    /// Keep bytes under a name.
    Keep(String, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The machine breaks on every node that applies this.
    Break,
}

impl Op {
    /// A command with no name of its own.
    pub fn bytes(&self) -> Vec<u8> {
        self.tagged(0)
    }

    /// A command that a test recognises again.
    pub fn tagged(&self, tag: u64) -> Vec<u8> {
        postcard::to_allocvec(&(tag, self)).unwrap()
    }
}

/// A command as a machine was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub ordinal: u64,
    pub index: u64,
    pub at: u64,
    pub tag: u64,
    pub op: Op,
}

/// An answer: whether it was done, and the counter's value.
pub fn read(answer: &[u8]) -> (bool, i64) {
    postcard::from_bytes(answer).unwrap()
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub counters: BTreeMap<String, i64>,
    pub kept: BTreeMap<String, Vec<u8>>,
    pub ordinal: u64,
    pub at: u64,
}

/// One node's copy.
#[derive(Default)]
pub struct Ledger {
    pub state: Mutex<State>,
    /// Every command this start was told, in order.
    pub told: Mutex<Vec<Told>>,
    pub installed: Mutex<u32>,
}

impl Ledger {
    pub fn counter(&self, name: &str) -> i64 {
        self.state
            .lock()
            .unwrap()
            .counters
            .get(name)
            .copied()
            .unwrap_or(0)
    }

    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(&*self.state.lock().unwrap()).unwrap()
    }

    fn apply_one(&self, entry: &Entry) -> Result<Vec<u8>, MachineError> {
        let mut state = self.state.lock().unwrap();
        // Exactly once and in order, checked at every single command of every test.
        if entry.ordinal != state.ordinal + 1 {
            return Err(MachineError(format!(
                "command {} after {}",
                entry.ordinal, state.ordinal
            )));
        }
        if entry.at.as_nanos() < state.at {
            return Err(MachineError(format!(
                "stamp {} after {}",
                entry.at.as_nanos(),
                state.at
            )));
        }
        state.ordinal = entry.ordinal;
        state.at = entry.at.as_nanos();
        let (tag, op): (u64, Op) = postcard::from_bytes(&entry.command)
            .map_err(|error| MachineError(error.to_string()))?;
        let answer = state.carry_out(&op)?;
        self.told.lock().unwrap().push(Told {
            ordinal: entry.ordinal,
            index: entry.index,
            at: entry.at.as_nanos(),
            tag,
            op,
        });
        Ok(postcard::to_allocvec(&answer).unwrap())
    }
}

impl State {
    /// What one command does, and its answer.
    pub fn carry_out(&mut self, op: &Op) -> Result<(bool, i64), MachineError> {
        let state = self;
        Ok(match op.clone() {
            Op::Add(name, by) => {
                let counter = state.counters.entry(name).or_insert(0);
                *counter += by;
                (true, *counter)
            }
            Op::Swap(name, from, to) => {
                let counter = state.counters.entry(name).or_insert(0);
                let hit = *counter == from;
                if hit {
                    *counter = to;
                }
                (hit, *counter)
            }
            Op::Keep(name, bytes) => {
                state.kept.insert(name, bytes);
                (true, 0)
            }
            Op::Break => return Err(MachineError("broken on purpose".to_owned())),
        })
    }
}

impl Machine for Ledger {
    fn apply(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Vec<u8>>, MachineError>> {
        let answers = entries.iter().map(|entry| self.apply_one(entry)).collect();
        Box::pin(std::future::ready(answers))
    }

    fn snapshot(&self) -> BoxFuture<Result<Vec<u8>, MachineError>> {
        let bytes = self.bytes();
        Box::pin(std::future::ready(Ok(bytes)))
    }

    fn install(&self, snapshot: Vec<u8>) -> BoxFuture<Result<(), MachineError>> {
        let installed = postcard::from_bytes(&snapshot)
            .map(|state| *self.state.lock().unwrap() = state)
            .map_err(|error| MachineError(error.to_string()));
        *self.installed.lock().unwrap() += 1;
        Box::pin(std::future::ready(installed))
    }
}
