//! A watcher that never gives up, and checks what it is told: every change once, in the order of revisions, across all
//! the times that its stream ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use nexus_proto::v1;
use nexus_proto::v1::allocation_update::Kind;
use nexus_proto::v1::nexus_client::NexusClient;

use super::ClusterBench;
use super::olt::channel;
use super::rest;

/// Pause before a stream that ended is opened again.
const PAUSE: Duration = Duration::from_millis(50);
/// How soon it sees that it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// What a watcher has been told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Resource -> subscriber, of what is held.
    pub held: BTreeMap<String, String>,
    /// Revision of the last change.
    pub revision: u64,
    /// Changes told one by one.
    pub changes: u64,
    /// Times that it was told to start over.
    pub snapshots: u64,
    /// Times that a stream was opened.
    pub streams: u64,
    /// What should not have been told.
    pub wrong: Option<String>,
}

/// The watcher of one OLT's records on one node. Dropped, it ends.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    followed: Arc<Mutex<Followed>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    /// Begins to follow what the node at `place` says of `olt`, one of a load's.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn start(bench: &ClusterBench, place: usize, olt: &str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let followed = Arc::new(Mutex::new(Followed::default()));
        let thread = {
            let (stop, followed) = (Arc::clone(&stop), Arc::clone(&followed));
            let (namespace, address) =
                (bench.network().switch_path(), bench.node(place)?.address());
            let olt = olt.to_owned();
            std::thread::spawn(move || follow(namespace, address, &olt, &stop, &followed))
        };
        Ok(Self {
            stop,
            followed,
            thread: Some(thread),
        })
    }

    /// What it has been told so far.
    #[must_use]
    pub fn now(&self) -> Followed {
        self.followed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until it was told of exactly these, and ends it.
    ///
    /// # Errors
    /// If that does not happen within `timeout`, or it was told something that should not have been.
    pub fn finish(
        mut self,
        held: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<Followed> {
        let waited = crate::interrupt::wait_until("a watcher has seen everything", timeout, || {
            let now = self.now();
            ensure!(now.wrong.is_none(), "{}", now.wrong.unwrap_or_default());
            Ok((now.held == *held).then_some(now))
        });
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("a watcher panicked"))??;
        }
        waited.with_context(|| {
            let now = self.now();
            let lacks = held.iter().filter(|(key, _)| !now.held.contains_key(*key));
            let more = now.held.iter().filter(|(key, _)| !held.contains_key(*key));
            format!(
                "it lacks {:?} and has {:?} too many, of {}",
                lacks.take(5).collect::<Vec<_>>(),
                more.take(5).collect::<Vec<_>>(),
                held.len()
            )
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(
    namespace: PathBuf,
    address: Ipv4Addr,
    olt: &str,
    stop: &AtomicBool,
    followed: &Mutex<Followed>,
) -> Result<()> {
    rest::enter(&namespace)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(async {
        let mut client = NexusClient::new(channel(address)?);
        while !stop.load(Ordering::Relaxed) {
            let revision = followed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .revision;
            let request = v1::WatchRequest {
                olt_id: olt.to_owned(),
                revision,
                session: format!("{olt}-session"),
                ..v1::WatchRequest::default()
            };
            let opened =
                tokio::time::timeout(Duration::from_secs(5), client.watch_allocations(request));
            if let Ok(Ok(stream)) = opened.await {
                read(stream.into_inner(), revision, stop, followed).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    })
}

/// One stream, until it ends.
async fn read(
    mut stream: tonic::Streaming<v1::AllocationUpdate>,
    from: u64,
    stop: &AtomicBool,
    followed: &Mutex<Followed>,
) {
    let mut reader = Reader::resumed(from);
    followed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .streams += 1;
    while !stop.load(Ordering::Relaxed) {
        match tokio::time::timeout(LOOK, stream.message()).await {
            Err(_) => {}
            Ok(Ok(Some(update))) => {
                let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
                reader.take(&update, &mut followed);
            }
            Ok(_) => break,
        }
    }
    let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    reader.end(&mut followed);
}

/// Reads one stream. The beginning of a first one is a snapshot; that of a later one may be, which only its end tells.
struct Reader {
    /// What came before the end of a snapshot, if it may be one still.
    snapshot: Option<BTreeMap<String, String>>,
    /// Whether anything counts before a snapshot has ended.
    resumed: bool,
    /// What was told already, which is right only if a snapshot is under way.
    again: Option<String>,
}

impl Reader {
    fn resumed(from: u64) -> Self {
        Self {
            snapshot: Some(BTreeMap::new()),
            resumed: from > 0,
            again: None,
        }
    }

    fn take(&mut self, update: &v1::AllocationUpdate, followed: &mut Followed) {
        if update.kind() == Kind::SnapshotEnd {
            if let Some(snapshot) = self.snapshot.take() {
                self.again = None;
                followed.held = snapshot;
                followed.snapshots += 1;
                followed.revision = update.revision;
                self.resumed = true;
            } else {
                followed
                    .wrong
                    .get_or_insert_with(|| "a second end of a snapshot in one stream".to_owned());
            }
            return;
        }
        if let Some(snapshot) = &mut self.snapshot {
            apply(update, snapshot);
        }
        // Later than everything told so far: a change. A snapshot brings what may be older.
        if self.resumed && update.revision > followed.revision {
            apply(update, &mut followed.held);
            followed.revision = update.revision;
            followed.changes += 1;
        } else if self.resumed {
            let revision = followed.revision;
            self.again
                .get_or_insert_with(|| format!("after revision {revision} came {update:?}"));
            if self.snapshot.is_none() {
                self.end(followed);
            }
        }
    }

    /// The stream is over, or no snapshot can explain any more what was told twice.
    fn end(&mut self, followed: &mut Followed) {
        if let Some(again) = self.again.take() {
            followed.wrong.get_or_insert(again);
        }
    }
}

fn apply(update: &v1::AllocationUpdate, held: &mut BTreeMap<String, String>) {
    let Some(allocation) = &update.allocation else {
        return;
    };
    let is_held = allocation.state == "active" || allocation.state == "releasing";
    match update.kind() {
        Kind::Put if is_held => {
            held.insert(
                allocation.resource.clone(),
                allocation.subscriber_id.clone(),
            );
        }
        Kind::Put | Kind::Deleted => {
            held.remove(&allocation.resource);
        }
        Kind::ReleaseRequested | Kind::SnapshotEnd | Kind::Unspecified => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(kind: Kind, revision: u64, resource: &str, state: &str) -> v1::AllocationUpdate {
        v1::AllocationUpdate {
            revision,
            kind: kind.into(),
            allocation: Some(v1::Allocation {
                resource: resource.to_owned(),
                subscriber_id: format!("of-{resource}"),
                state: state.to_owned(),
                ..v1::Allocation::default()
            }),
        }
    }

    #[test]
    fn a_snapshot_then_changes_in_order() {
        let (mut reader, mut followed) = (Reader::resumed(0), Followed::default());
        reader.take(&update(Kind::Put, 4, "a", "active"), &mut followed);
        reader.take(&update(Kind::SnapshotEnd, 7, "", ""), &mut followed);
        reader.take(&update(Kind::Put, 8, "b", "active"), &mut followed);
        reader.take(&update(Kind::Put, 9, "a", "released"), &mut followed);
        assert_eq!(followed.held.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!((followed.changes, followed.snapshots), (2, 1));
        assert_eq!(followed.wrong, None);
        reader.take(&update(Kind::Put, 9, "b", "active"), &mut followed);
        assert!(followed.wrong.unwrap().contains("revision 9"), "told twice");
    }

    #[test]
    fn a_resumed_stream_goes_on_or_starts_over() {
        let mut followed = Followed {
            revision: 7,
            held: BTreeMap::from([("a".to_owned(), "of-a".to_owned())]),
            ..Followed::default()
        };
        Reader::resumed(7).take(&update(Kind::Put, 8, "b", "active"), &mut followed);
        assert_eq!((followed.held.len(), followed.changes), (2, 1));
        let mut repeated = Reader::resumed(8);
        repeated.take(&update(Kind::Put, 8, "b", "active"), &mut followed);
        assert_eq!(followed.wrong, None, "it may be a snapshot");
        repeated.end(&mut followed);
        assert!(followed.wrong.take().unwrap().contains("revision 8"));
        // The node began a new life, with revisions of its own.
        let mut over = Reader::resumed(8);
        over.take(&update(Kind::Put, 2, "c", "active"), &mut followed);
        over.take(&update(Kind::SnapshotEnd, 3, "", ""), &mut followed);
        assert_eq!(followed.held.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!((followed.revision, &followed.wrong), (3, &None));
    }
}
