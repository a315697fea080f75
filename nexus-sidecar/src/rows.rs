//! The machine's rows in the store: where each stands and how it is written.

use std::collections::{BTreeMap, VecDeque};

use nexus_core::edge::{Change, Row, RowKey};
use nexus_core::id::PoolId;
use nexus_store::{
    Batch, Commit, Kind, MAX_BATCH_OPERATIONS, MAX_COMMIT_BATCHES, Store, StoreError,
};
use serde::Deserialize;

use crate::interfaces::NumberChange;
use crate::origin::OriginRow;

const EDGE: Kind = Kind(b'e');
const POOL: Kind = Kind(b'p');
const SHARD: Kind = Kind(b's');
const UNIT: Kind = Kind(b'u');
const COMMAND: Kind = Kind(b'c');
const PROFILE: Kind = Kind(b'f');
const INTERFACE: Kind = Kind(b'i');
const ORIGIN: Kind = Kind(b'o');

/// Kinds of rows that the machine is restored from.
const MACHINE: [Kind; 5] = [EDGE, POOL, SHARD, UNIT, COMMAND];

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that this version does not understand.
    #[error(
        "a row of the store cannot be read ({problem}): it was written by another version; use that one, or move the store away and let this host start a new session"
    )]
    Row {
        /// What is wrong.
        problem: serde_json::Error,
    },
    /// A row that cannot be written.
    #[error("a row cannot be written: {0}")]
    Encode(serde_json::Error),
}

/// All rows of the machine.
///
/// # Errors
/// A row that cannot be read.
pub fn load(store: &Store) -> Result<Vec<Row>, RowsError> {
    let mut rows = Vec::new();
    for kind in MACHINE {
        for row in store.scan(kind, &[])? {
            let row = serde_json::from_slice(&row?.value)
                .map_err(|problem| RowsError::Row { problem })?;
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The profile id of each pool on each interface.
///
/// # Errors
/// A row that cannot be read.
pub fn load_profiles(store: &Store) -> Result<BTreeMap<PoolOn, u16>, RowsError> {
    let mut profiles = BTreeMap::new();
    for row in store.scan(PROFILE, &[])? {
        let row: ProfileRow =
            serde_json::from_slice(&row?.value).map_err(|problem| RowsError::Row { problem })?;
        if let ProfileRow::OnInterface(pool, id, interface) = row {
            profiles.insert(PoolOn { pool, interface }, id);
        }
    }
    Ok(profiles)
}

/// The number of each interface.
///
/// # Errors
/// A row that cannot be read.
pub fn load_interfaces(store: &Store) -> Result<BTreeMap<String, u8>, RowsError> {
    let mut interfaces = BTreeMap::new();
    for row in store.scan(INTERFACE, &[])? {
        let (name, number): (String, u8) =
            serde_json::from_slice(&row?.value).map_err(|problem| RowsError::Row { problem })?;
        interfaces.insert(name, number);
    }
    Ok(interfaces)
}

/// What the store says of itself; nothing, if it is new or of an older version.
///
/// # Errors
/// A row that cannot be read.
pub fn load_origin(store: &Store) -> Result<Option<OriginRow>, RowsError> {
    let mut rows = store.scan(ORIGIN, &[])?;
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    let read = serde_json::from_slice(&row?.value);
    read.map(Some).map_err(|problem| RowsError::Row { problem })
}

/// A pool on an interface: what a profile is made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolOn {
    /// The pool.
    pub pool: PoolId,
    /// Name of the interface.
    pub interface: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ProfileRow {
    OnInterface(PoolId, u16, String),
    /// Of a version with one interface and another kernel map, whose ids mean nothing in this one.
    #[expect(dead_code, reason = "read and passed over")]
    OfOneInterface(PoolId, u16),
}

/// What becomes of a profile id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileChange {
    /// The pool gets this id on this interface.
    Assign(PoolOn, u16),
    /// It needs none there any more.
    Drop(PoolOn),
}

/// Where a row stands, and its value or nothing.
type Operation = (Place, Option<Vec<u8>>);
type Place = (Kind, Vec<u8>);

/// Gathers the changes of several events: each event whole, in order, as few batches as possible.
#[derive(Debug, Default)]
pub struct Writer {
    /// Of two changes of one row in a batch the later counts.
    batch: BTreeMap<Place, Option<Vec<u8>>>,
    full: Vec<Batch>,
}

impl Writer {
    /// Adds the changes of one event. They stay together unless they are too many for any batch; then
    /// they are written in order.
    ///
    /// # Errors
    /// A row that cannot be encoded.
    pub fn event(&mut self, changes: &[Change]) -> Result<(), RowsError> {
        let mut operations = Vec::with_capacity(changes.len());
        for change in changes {
            operations.push(match change {
                Change::Put(row) => {
                    let value = serde_json::to_vec(row).map_err(RowsError::Encode)?;
                    (place(&row.key()), Some(value))
                }
                Change::Forget(key) => (place(key), None),
            });
        }
        self.add(operations);
        Ok(())
    }

    /// Adds the row that says which flush this is.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn origin(&mut self, row: &OriginRow) -> Result<(), RowsError> {
        let value = serde_json::to_vec(row).map_err(RowsError::Encode)?;
        self.add(vec![((ORIGIN, Vec::new()), Some(value))]);
        Ok(())
    }

    /// Adds changes of profile ids.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn profiles(&mut self, changes: &[ProfileChange]) -> Result<(), RowsError> {
        let mut operations = Vec::with_capacity(changes.len());
        for change in changes {
            operations.push(match change {
                ProfileChange::Assign(on, id) => {
                    let row = (&on.pool, id, &on.interface);
                    let value = serde_json::to_vec(&row).map_err(RowsError::Encode)?;
                    (profile_place(on), Some(value))
                }
                ProfileChange::Drop(on) => (profile_place(on), None),
            });
        }
        self.add(operations);
        Ok(())
    }

    /// Adds changes of the interfaces' numbers.
    ///
    /// # Errors
    /// As [`Writer::event`].
    pub fn interfaces(&mut self, changes: &[NumberChange]) -> Result<(), RowsError> {
        let mut operations = Vec::with_capacity(changes.len());
        for change in changes {
            operations.push(match change {
                NumberChange::Assign(name, number) => {
                    let value = serde_json::to_vec(&(name, number)).map_err(RowsError::Encode)?;
                    ((INTERFACE, name.as_bytes().to_vec()), Some(value))
                }
                NumberChange::Drop(name) => ((INTERFACE, name.as_bytes().to_vec()), None),
            });
        }
        self.add(operations);
        Ok(())
    }

    /// Queues everything, for one flush unless it is very much. All of it is durable when the last of these
    /// commits is.
    ///
    /// # Errors
    /// A store that takes no more.
    pub async fn submit(mut self, store: &Store) -> Result<VecDeque<Commit>, RowsError> {
        self.close_batch();
        let mut commits = VecDeque::new();
        let mut full = self.full.into_iter().peekable();
        while full.peek().is_some() {
            let batches = full.by_ref().take(MAX_COMMIT_BATCHES).collect();
            commits.push_back(store.reserve().await?.submit_all(batches)?);
        }
        Ok(commits)
    }

    fn add(&mut self, operations: Vec<Operation>) {
        if self.batch.len().saturating_add(operations.len()) > MAX_BATCH_OPERATIONS {
            self.close_batch();
        }
        for (place, value) in operations {
            if self.batch.len() >= MAX_BATCH_OPERATIONS {
                self.close_batch();
            }
            self.batch.insert(place, value);
        }
    }

    fn close_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for ((kind, key), value) in std::mem::take(&mut self.batch) {
            match value {
                Some(value) => batch.put(kind, &key, &value),
                None => batch.delete(kind, &key),
            };
        }
        self.full.push(batch);
    }
}

/// Neither part has a slash in it.
fn profile_place(on: &PoolOn) -> Place {
    let PoolOn { pool, interface } = on;
    (PROFILE, format!("{pool}/{interface}").into_bytes())
}

fn place(key: &RowKey) -> Place {
    match key {
        RowKey::Edge => (EDGE, Vec::new()),
        RowKey::Pool(pool) => (POOL, pool.as_str().as_bytes().to_vec()),
        RowKey::Shard(pool, shard) => (SHARD, format!("{pool}/{shard:010}").into_bytes()),
        RowKey::Unit(pool, resource) => (UNIT, format!("{pool}/{resource}").into_bytes()),
        RowKey::Command(seq) => (COMMAND, seq.0.to_be_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use nexus_core::edge::{Command, CommandRow, What};
    use nexus_core::id::{Epoch, Seq, ShardId, SubscriberId};
    use nexus_core::resource::{Resource, ResourceType};
    use nexus_store::Options;

    use super::*;

    fn command(seq: u64) -> Change {
        Change::Put(Box::new(Row::Command(CommandRow {
            seq: Seq(seq),
            command: Command {
                what: What::Deallocate {
                    reason: "session-stop".to_owned(),
                },
                pool: PoolId::new("p").unwrap(),
                subscriber: SubscriberId::new("s").unwrap(),
                resource: Resource::parse(ResourceType::Ipv4, "10.0.0.2").unwrap(),
                shard: ShardId(0),
                epoch: Epoch(1),
            },
        })))
    }

    #[tokio::test]
    async fn rows_come_back_as_they_were_written_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let mut writer = Writer::default();
        let many: Vec<_> = (1..=200).map(command).collect();
        writer.event(&many).unwrap();
        writer
            .event(&[command(500), Change::Forget(RowKey::Command(Seq(7)))])
            .unwrap();
        let on = |interface: &str| PoolOn {
            pool: PoolId::new("p").unwrap(),
            interface: interface.to_owned(),
        };
        let assign = |interface, id| ProfileChange::Assign(on(interface), id);
        let drop = ProfileChange::Drop(on("eth2"));
        writer
            .profiles(&[assign("eth1", 3), assign("eth2", 4), drop])
            .unwrap();
        let number = |name: &str, number| NumberChange::Assign(name.to_owned(), number);
        let drop = NumberChange::Drop("eth2".to_owned());
        writer
            .interfaces(&[number("eth1", 7), number("eth2", 1), drop])
            .unwrap();
        for commit in writer.submit(&store).await.unwrap() {
            commit.await.unwrap();
        }
        store.flush_and_close().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let rows = load(&store).unwrap();
        assert_eq!(rows.len(), 200);
        assert!(!rows.iter().any(|row| row.key() == RowKey::Command(Seq(7))));
        let profiles = load_profiles(&store).unwrap();
        assert_eq!(profiles, BTreeMap::from([(on("eth1"), 3)]));
        let interfaces = load_interfaces(&store).unwrap();
        assert_eq!(interfaces, BTreeMap::from([("eth1".to_owned(), 7)]));
    }

    #[tokio::test]
    async fn profile_ids_of_the_version_with_one_interface_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(PROFILE, b"p", b"[\"p\",3]");
        store.commit(batch).await.unwrap();
        assert!(load_profiles(&store).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_row_of_another_version_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(EDGE, b"", b"{\"row\":\"future\"}");
        store.commit(batch).await.unwrap();
        let error = load(&store).unwrap_err();
        assert!(error.to_string().contains("new session"), "{error}");
    }
}
