//! openraft's state machine: what of the log counts, at what time, and in which order it reaches the [`Machine`].

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::config::MAX_APPLY;
use crate::error::{MachineError, QuorumError};
use crate::machine::{ClusterTime, Entry, Machine};
use crate::quorum::Applied;
use crate::rows::{LogIdRow, StoredMembershipRow};
use crate::sessions::Sessions;
use crate::shared::Shared;
use crate::store::Store;
use crate::types::{
    Batch, Image, LogId, Outcome, RaftEntry, SnapshotMeta, StorageError, StoredMembership, Types,
};

/// The replicated state of this crate, beside the machine's.
#[derive(Clone, Debug, Default)]
struct Head {
    last: Option<LogId>,
    membership: StoredMembership,
    greatest: u64,
    ordinal: u64,
    sessions: Sessions,
}

/// How [`Head`] stands at the front of a snapshot.
#[derive(Serialize, Deserialize)]
struct HeadRow {
    last: Option<LogIdRow>,
    membership: StoredMembershipRow,
    greatest: u64,
    ordinal: u64,
    sessions: Sessions,
}

/// The machine and what is known about it.
pub struct State {
    head: Head,
    machine: Arc<dyn Machine>,
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// Commands on their way into the machine, and which of this node's proposals each one is.
    waiting: Vec<(Entry, Option<u64>)>,
    snapshots: u64,
}

impl State {
    /// Begin with the snapshot in the file, if there is one.
    pub async fn open(
        machine: Arc<dyn Machine>,
        store: Arc<Store>,
        shared: Arc<Shared>,
    ) -> Result<Self, QuorumError> {
        let stopped = |why: String| QuorumError::Stopped(why);
        let mut state = Self {
            head: Head::default(),
            machine,
            store,
            shared,
            waiting: Vec::new(),
            snapshots: 0,
        };
        let found = state.store.run(Store::snapshot).await;
        let found = found.map_err(|error| state.store.named(error))?;
        if let Some((meta, bytes)) = found {
            state
                .become_snapshot(&meta, &bytes)
                .await
                .map_err(|error| stopped(error.0))?;
        }
        Ok(state)
    }

    async fn become_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: &[u8],
    ) -> Result<(), MachineError> {
        let (head, bytes) = split(image)
            .map_err(|why| MachineError(format!("snapshot {}: {why}", meta.snapshot_id)))?;
        if head.last != meta.last_log_id {
            return Err(MachineError(format!(
                "snapshot {} is another than it says",
                meta.snapshot_id
            )));
        }
        if head
            .sessions
            .boot(self.shared.number)
            .is_some_and(|boot| boot > self.shared.boot)
        {
            return Err(self.rolled_back());
        }
        self.machine
            .install(bytes.to_vec())
            .await
            .map_err(|error| {
                MachineError(format!(
                    "the machine did not take snapshot {}: {error}",
                    meta.snapshot_id
                ))
            })?;
        self.head = head;
        self.shared
            .set_applied(self.head.greatest, self.head.ordinal);
        Ok(())
    }

    fn rolled_back(&self) -> MachineError {
        MachineError(format!(
            "the cluster has seen later proposals of node {} than its quorum file knows: an old copy of the file was put \
             back, and with it a vote may be forgotten; remove this node, empty its data directory and let it join anew",
            self.shared.number
        ))
    }

    async fn apply_entry(&mut self, entry: RaftEntry) -> Result<Outcome, MachineError> {
        let id = entry.log_id;
        let outcome = match entry.payload {
            EntryPayload::Blank => Outcome::Nothing,
            EntryPayload::Membership(membership) => {
                self.head
                    .sessions
                    .retain(|origin| membership.get_node(&origin).is_some());
                self.head.membership = StoredMembership::new(Some(id), membership);
                Outcome::Nothing
            }
            EntryPayload::Normal(batch)
                if (batch.term, batch.leader) != (id.leader_id.term, id.leader_id.node_id) =>
            {
                Outcome::Void
            }
            EntryPayload::Normal(batch) => {
                self.count(id.index, batch).await?;
                Outcome::Counted
            }
        };
        self.head.last = Some(id);
        Ok(outcome)
    }

    /// Take the commands of a batch that are here for the first time.
    async fn count(&mut self, index: u64, batch: Batch) -> Result<(), MachineError> {
        // The leader sees to it that stamps rise; should one ever not, all nodes mend it alike.
        self.head.greatest = self.head.greatest.max(batch.at);
        let at = ClusterTime::from_nanos(self.head.greatest);
        for command in batch.commands {
            let id = command.id;
            if !self.shared.may_have_proposed(id) {
                return Err(self.rolled_back());
            }
            let is_member = self
                .head
                .membership
                .membership()
                .get_node(&id.origin)
                .is_some();
            if !is_member || !self.head.sessions.admit(id) {
                continue;
            }
            self.head.ordinal += 1;
            let ours =
                (id.origin == self.shared.number && id.boot == self.shared.boot).then_some(id.seq);
            let entry = Entry {
                index,
                ordinal: self.head.ordinal,
                at,
                command: command.bytes,
            };
            self.waiting.push((entry, ours));
            if self.waiting.len() >= MAX_APPLY {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Hand the waiting commands to the machine and the answers to who proposed them here.
    async fn flush(&mut self) -> Result<(), MachineError> {
        let (entries, whose): (Vec<Entry>, Vec<_>) = self
            .waiting
            .drain(..)
            .map(|(entry, ours)| {
                let place = (entry.index, entry.ordinal, ours);
                (entry, place)
            })
            .unzip();
        if !entries.is_empty() {
            let answers = self.machine.apply(entries).await?;
            if answers.len() != whose.len() {
                return Err(MachineError(format!(
                    "the machine gave {} answers to {} commands",
                    answers.len(),
                    whose.len()
                )));
            }
            for (answer, (index, ordinal, ours)) in answers.into_iter().zip(whose) {
                if let Some(seq) = ours {
                    self.shared.complete(
                        seq,
                        Applied {
                            index,
                            ordinal,
                            answer,
                        },
                    );
                }
            }
        }
        self.shared
            .set_applied(self.head.greatest, self.head.ordinal);
        Ok(())
    }

    async fn apply_all(
        &mut self,
        entries: impl Iterator<Item = RaftEntry>,
    ) -> Result<Vec<Outcome>, MachineError> {
        let mut outcomes = Vec::new();
        for entry in entries {
            outcomes.push(self.apply_entry(entry).await?);
        }
        self.flush().await?;
        Ok(outcomes)
    }

    fn fatal(&self, error: &MachineError) -> StorageError {
        self.shared.stop(&format!("state machine: {error}"));
        StorageIOError::write_state_machine(AnyError::new(error)).into()
    }
}

impl RaftStateMachine<Types> for State {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.head.last, self.head.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        match self.apply_all(entries.into_iter()).await {
            Ok(outcomes) => Ok(outcomes),
            Err(error) => Err(self.fatal(&error)),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshots += 1;
        // Taken here and not in the builder, which runs beside later commands.
        let image = match self.machine.snapshot().await {
            Ok(bytes) => join(&self.head, &bytes),
            Err(error) => Err(format!("the machine gave no snapshot: {error}")),
        };
        let (term, index) = self
            .head
            .last
            .map_or((0, 0), |last| (last.leader_id.term, last.index));
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.head.last,
                last_membership: self.head.membership.clone(),
                snapshot_id: format!(
                    "{term}-{index}-{}-{}-{}",
                    self.shared.number, self.shared.boot, self.snapshots
                ),
            },
            image,
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Image>,
    ) -> Result<(), StorageError> {
        if let Err(error) = self.become_snapshot(meta, &snapshot.0).await {
            return Err(self.fatal(&error));
        }
        let meta = meta.clone();
        self.store
            .run(move |store| store.save_snapshot(&meta, &snapshot.0))
            .await
            .map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let found = self
            .store
            .run(Store::snapshot)
            .await
            .map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        Ok(found.map(|(meta, bytes)| Snapshot {
            meta,
            snapshot: Box::new(Image(bytes)),
        }))
    }
}

/// A snapshot that is taken but not yet in the file.
pub struct Builder {
    meta: SnapshotMeta,
    image: Result<Vec<u8>, String>,
    store: Arc<Store>,
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let image = match std::mem::replace(
            &mut self.image,
            Err("the snapshot was already built".to_owned()),
        ) {
            Ok(image) => image,
            Err(why) => {
                self.shared.stop(&format!("state machine: {why}"));
                return Err(StorageIOError::write_snapshot(None, AnyError::error(why)).into());
            }
        };
        let meta = self.meta.clone();
        let image = self
            .store
            .run(move |store| store.save_snapshot(&meta, &image).map(|()| image))
            .await
            .map_err(|error| StorageIOError::write_snapshot(None, AnyError::new(&error)))?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Image(image)),
        })
    }
}

/// Length of the head, head, bytes of the machine.
fn join(head: &Head, machine: &[u8]) -> Result<Vec<u8>, String> {
    let row = HeadRow {
        last: head.last.map(Into::into),
        membership: (&head.membership).into(),
        greatest: head.greatest,
        ordinal: head.ordinal,
        sessions: head.sessions.clone(),
    };
    let head = codec::pack(&row).map_err(|error| error.to_string())?;
    let length =
        u32::try_from(head.len()).map_err(|_| "the snapshot's head is too long".to_owned())?;
    Ok([&length.to_le_bytes(), head.as_slice(), machine].concat())
}

fn split(image: &[u8]) -> Result<(Head, &[u8]), String> {
    let short = || "it is too short".to_owned();
    let (length, rest) = image.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short())?;
    let (head, machine) = rest.split_at_checked(length).ok_or_else(short)?;
    let row: HeadRow = codec::unpack(head).map_err(|error| error.to_string())?;
    let head = Head {
        last: row.last.map(Into::into),
        membership: row
            .membership
            .try_into()
            .map_err(|error: codec::CodecError| error.to_string())?,
        greatest: row.greatest,
        ordinal: row.ordinal,
        sessions: row.sessions,
    };
    Ok((head, machine))
}

#[cfg(test)]
mod tests;
