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
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap()
    }
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
    /// Every command this start was told, in order: ordinal, stamp, index.
    pub told: Mutex<Vec<(u64, u64, u64)>>,
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
        self.told
            .lock()
            .unwrap()
            .push((entry.ordinal, entry.at.as_nanos(), entry.index));
        let op: Op = postcard::from_bytes(&entry.command)
            .map_err(|error| MachineError(error.to_string()))?;
        let answer = match op {
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
        };
        Ok(postcard::to_allocvec(&answer).unwrap())
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
