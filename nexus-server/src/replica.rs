//! This server's replica of the CLSet over the rows of its store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nexus_clset::{
    Change, Changes, Delta, Dot, Error, Fence, Input, NodeId, Notice, Options, Origin, Output,
    Revision, RowWrite, StartOver, Ticket, UnixMillis, VersionVector,
};
use nexus_store::{ReadRows, ReplicaRows, StoreError};

use crate::centre::effects::Write;
use crate::clock::Now;

/// Entries that are read at once.
const PAGE: usize = 1024;

/// Why the replica cannot do what it should; nothing has changed then.
pub type ReplicaError = Error<StoreError>;

/// The replica, and what brings it together with the others. What it gives to write must be written in that
/// order, each change in one batch.
pub struct Replica {
    map: nexus_clset::Replica<ReplicaRows>,
    sync: nexus_clset::Sync,
    settled: Ticket,
    /// Own changes, for the others once they are durable. As many as the store's queue holds.
    unsent: VecDeque<(Ticket, Delta)>,
}

/// The next rows to be removed of a replica that must start over, in one batch; none when it is done.
///
/// # Errors
/// Whatever the store says.
pub fn wipe(rows: Arc<dyn ReadRows>) -> Result<Vec<Write>, StoreError> {
    let rows = nexus_clset::wipe(&ReplicaRows::new(rows))?;
    Ok(rows.into_iter().map(Write::from).collect())
}

/// Rows that belong into one batch, and the ticket to settle when they are durable.
pub type Written = (Ticket, Vec<Write>);

impl Replica {
    /// Boots the replica of node `number`. The rows must be durable before anything else is done with it.
    ///
    /// # Errors
    /// Rows that cannot be read, or that belong to another node.
    pub fn open(
        rows: Arc<dyn ReadRows>,
        number: u32,
        options: Options,
        now: &Now,
    ) -> Result<(Self, Written), ReplicaError> {
        let (map, boot) =
            nexus_clset::Replica::open(ReplicaRows::new(rows), NodeId(number), millis(now))?;
        let sync = nexus_clset::Sync::new(options, &map, clocks(now));
        let mut replica = Self {
            map,
            sync,
            settled: Ticket(0),
            unsent: VecDeque::new(),
        };
        let boot = replica.written(boot);
        Ok((replica, boot))
    }

    /// Binds a key to a value. `fence` is epoch and command for allocations, else [`Fence::NONE`].
    ///
    /// # Errors
    /// See [`nexus_clset::Replica::write`].
    pub fn put(
        &mut self,
        now: &Now,
        key: &str,
        fence: Fence,
        value: &[u8],
    ) -> Result<Written, ReplicaError> {
        let change = self.map.put(key.as_bytes(), value, fence, millis(now))?;
        Ok(self.written(change))
    }

    /// Deletes a key under the fence that it was written with.
    ///
    /// # Errors
    /// See [`nexus_clset::Replica::write`].
    pub fn delete(&mut self, now: &Now, key: &str) -> Result<Written, ReplicaError> {
        let fence = self.fence(key)?;
        let change = self.map.delete(key.as_bytes(), fence, millis(now))?;
        Ok(self.written(change))
    }

    /// The fence of what stands under a key.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn fence(&self, key: &str) -> Result<Fence, ReplicaError> {
        let stands = self.map.get_entry(key.as_bytes())?;
        Ok(stands.map_or(Fence::NONE, |entry| entry.version.fence))
    }

    /// Makes this the first replica of a cluster.
    pub fn found(&mut self) -> Written {
        let change = self.map.found();
        self.written(change)
    }

    /// Whether it has had all entries of another replica once, or is the first.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.map.is_complete()
    }

    /// The write that stands under a key.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn dot(&self, key: &str) -> Result<Option<Dot>, ReplicaError> {
        let stands = self.map.get_entry(key.as_bytes())?;
        Ok(stands.map(|entry| entry.dot()))
    }

    /// Whether all writes of an origin are superseded or collected everywhere, so that nobody counts them.
    #[must_use]
    pub fn is_retired(&self, origin: Origin) -> bool {
        self.map.retired().contains(origin)
    }

    /// Whether all these writes were seen.
    #[must_use]
    pub fn has_seen(&self, writes: &VersionVector) -> bool {
        self.map.seen().covers(writes)
    }

    /// What was seen, as bytes.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        self.map.digest().encode()
    }

    /// The point in history of now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.map.revision()
    }

    /// At most `limit` changes behind a revision.
    ///
    /// # Errors
    /// If they are not remembered any more.
    pub fn changes(&self, after: Revision, limit: usize) -> Result<Changes, StartOver> {
        self.map.changes(b"", after, limit)
    }

    /// Everything up to this ticket is durable. Says whether that is news.
    pub fn settle(&mut self, ticket: Ticket) -> bool {
        if ticket <= self.settled {
            return false;
        }
        self.settled = ticket;
        self.map.settle(ticket);
        true
    }

    /// The next own change that is durable and was not told to the others yet.
    pub fn next_durable(&mut self) -> Option<Delta> {
        let settled = self.settled;
        let (_, delta) = self.unsent.pop_front_if(|(ticket, _)| *ticket <= settled)?;
        Some(delta)
    }

    /// Has the machine that brings replicas together take one input.
    ///
    /// # Errors
    /// Rows that cannot be read: then the replica is of no use any more.
    pub fn step(&mut self, now: &Now, input: Input<'_>) -> Result<Vec<Output>, ReplicaError> {
        self.sync.step(&mut self.map, clocks(now), input)
    }

    /// The machine that brings replicas together, for what it knows.
    #[must_use]
    pub fn sync(&self) -> &nexus_clset::Sync {
        &self.sync
    }

    /// Rows of changes that are not durable yet.
    #[must_use]
    pub fn unsettled_rows(&self) -> usize {
        self.map.unsettled_rows()
    }

    /// Who writes here until the next boot.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.map.origin()
    }

    /// Own writes, of this boot and earlier ones, that another replica has not confirmed.
    #[must_use]
    pub fn unconfirmed_by(&self, node: NodeId) -> u64 {
        let confirmed = self.sync.acknowledged_by(node);
        let own = self.map.seen().origins();
        own.filter(|origin| origin.node == self.map.origin().node)
            .map(|origin| {
                let made = self.map.seen().upto(origin);
                made.saturating_sub(confirmed.upto(origin))
            })
            .sum()
    }

    /// Why this replica takes and gives nothing any more, if it does not.
    #[must_use]
    pub fn stopped(&self) -> Option<&Notice> {
        self.sync.stopped()
    }

    /// The rows of a change, with its delta kept for the others.
    pub fn written(&mut self, change: Change) -> Written {
        if let Some(delta) = change.delta {
            self.unsent.push_back((change.ticket, delta));
        }
        let rows = change.rows.into_iter().map(Write::from);
        (change.ticket, rows.collect())
    }

    /// Hands every key with `prefix` and its value to `each`.
    ///
    /// # Errors
    /// Rows that cannot be read, or the first error of `each`.
    pub fn each<E: From<ReplicaError>>(
        &self,
        prefix: &str,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.map.query(prefix.as_bytes(), after.as_deref(), PAGE)?;
            for (key, value) in &page.rows {
                each(key, value)?;
            }
            if !page.more {
                return Ok(());
            }
            after = page.rows.into_iter().next_back().map(|(key, _)| key);
        }
    }
}

impl From<RowWrite> for Write {
    fn from(row: RowWrite) -> Self {
        Self {
            kind: row.kind.into(),
            key: row.key,
            value: row.value,
        }
    }
}

fn clocks(now: &Now) -> nexus_clset::Now {
    nexus_clset::Now {
        boot: Duration::from_nanos(now.boot.0),
        wall: millis(now),
    }
}

fn millis(now: &Now) -> UnixMillis {
    UnixMillis(u64::try_from(now.wall.as_millisecond()).unwrap_or(0))
}
