//! Group commit: one thread applies what is queued and answers all of it with one flush.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use crate::batch::Operation;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::home::Home;
use crate::row::{Kind, frame, unframe};

/// Most commits that share a flush, so that the first of them does not wait for ever longer groups.
const MAX_GROUP: usize = 256;

/// No further commit joins a group of so many batches, for the same reason.
const FULL_GROUP: usize = 256;

/// Key of the row that counts groups, of kind [`Kind::OWN`].
const GROUPS: &[u8] = b"groups";

/// One commit on its way to the disk.
#[derive(Debug)]
pub(crate) struct Job {
    /// Batches with something in them, in order; each is atomic.
    pub(crate) writes: Vec<Vec<Operation>>,
    pub(crate) done: oneshot::Sender<Result<(), StoreError>>,
}

/// The first failure, once there was one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Poison(Arc<OnceLock<StoreError>>);

impl Poison {
    /// Fails if anything has failed before.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Records a failure; the first one stays.
    pub(crate) fn set(&self, home: &Home, first: &StoreError) -> StoreError {
        self.0
            .get_or_init(|| {
                tracing::error!(path = %home.path.display(), error = %first, "store failed, no write succeeds from now on");
                StoreError::Poisoned {
                    path: home.path.clone(),
                    first: first.to_string(),
                }
            })
            .clone()
    }
}

/// Number of the last group that the tree holds.
pub(crate) fn last_group(engine: &Engine) -> Result<u64, StoreError> {
    let raw_key = Kind::OWN.raw_key(GROUPS);
    let Some(framed) = engine.get(&raw_key)? else {
        return Ok(0);
    };
    let value = unframe(&raw_key, &framed)?;
    value
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| StoreError::Corrupt {
            kind: Kind::OWN,
            key: GROUPS.to_vec(),
            detail: format!("{} bytes, not 8", value.len()),
        })
}

/// Runs until every sender of jobs is gone and the queue is empty.
pub(crate) fn run(
    engine: &Engine,
    home: &Home,
    poison: &Poison,
    mut group: u64,
    mut jobs: mpsc::Receiver<Job>,
) {
    while let Some(first) = jobs.blocking_recv() {
        let mut waiting = Vec::new();
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            waiting.push(job.done);
            writes.extend(job.writes);
            next = (waiting.len() < MAX_GROUP && writes.len() < FULL_GROUP)
                .then(|| jobs.try_recv().ok())
                .flatten();
        }
        let result = poison.check().and_then(|()| {
            if writes.is_empty() {
                // A barrier: all before it was flushed by an earlier group.
                return Ok(());
            }
            group = group.saturating_add(1);
            write_group(engine, home, group, writes).map_err(|error| poison.set(home, &error))
        });
        for done in waiting {
            // Whoever asked may have gone; the write stands.
            let _ = done.send(result.clone());
        }
    }
}

fn write_group(
    engine: &Engine,
    home: &Home,
    group: u64,
    mut writes: Vec<Vec<Operation>>,
) -> Result<(), StoreError> {
    if let Some(last) = writes.last_mut() {
        let raw_key = Kind::OWN.raw_key(GROUPS);
        let framed = Some(frame(&raw_key, &group.to_le_bytes()));
        last.push(Operation { raw_key, framed });
    }
    for operations in writes {
        engine.apply(operations)?;
    }
    engine.flush()?;
    home.set_high_water(group)
}
