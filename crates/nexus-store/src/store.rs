//! The store itself: opening, reading, committing, closing.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::commit::{Commit, Slot, block_on};
use crate::engine::{Engine, EngineRows};
use crate::error::StoreError;
use crate::home::{Home, MovedAside};
use crate::row::{Kind, Row, split_raw_key, unframe};
use crate::writer::{self, Job, Poison};

/// What to do with a store that is found damaged when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Rename it to `<path>.corrupt-<n>` and start empty; for stores that are rebuilt from elsewhere.
    MoveAside,
    /// Fail with [`StoreError::Damaged`]; for the only copy of something.
    Refuse,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of pages that sled keeps in memory. Should hold the working set; much less makes sled
    /// take more memory, not less.
    pub cache_bytes: u64,
    /// Commits that may wait for the disk; who comes later waits for a place (or gets `Busy`).
    pub queue: usize,
    /// What to do with a damaged store.
    pub on_damage: OnDamage,
    /// Read every row on opening and check it, a few seconds per million rows. Without it damage is
    /// found when a row is read.
    pub verify: bool,
    /// How long sled may take to open.
    pub open_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 * 1024 * 1024,
            queue: 1024,
            on_damage: OnDamage::MoveAside,
            verify: true,
            open_limit: Duration::from_secs(300),
        }
    }
}

/// What was found when a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whether it is a new, empty store.
    pub created: bool,
    /// The damaged store that was there before, if one was moved out of the way.
    pub moved_aside: Option<MovedAside>,
    /// Rows that were read and checked; nothing if that was not asked for.
    pub verified_rows: Option<u64>,
}

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: RwLock<Option<Arc<Engine>>>,
    poison: Poison,
    home: Arc<Home>,
    opened: Opened,
    queue: usize,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the store in directory `path`, which is made if it is not there.
    ///
    /// # Errors
    /// [`NotADirectory`](StoreError::NotADirectory), [`Locked`](StoreError::Locked),
    /// [`Permission`](StoreError::Permission), [`NotAStore`](StoreError::NotAStore),
    /// [`OtherFormat`](StoreError::OtherFormat), [`Damaged`](StoreError::Damaged) (when asked to refuse),
    /// [`CannotMoveAside`](StoreError::CannotMoveAside), [`Io`](StoreError::Io).
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let home = Home::open(path)?;
        let (home, engine, opened) = match start(&home, &options) {
            Ok((engine, verified_rows)) => {
                let opened = Opened {
                    created: home.created,
                    moved_aside: None,
                    verified_rows,
                };
                (home, engine, opened)
            }
            Err(StoreError::Damaged { detail, .. }) => {
                if options.on_damage == OnDamage::Refuse {
                    return Err(StoreError::Damaged {
                        path: path.to_owned(),
                        detail,
                    });
                }
                let (home, moved) = home.move_aside(detail)?;
                tracing::error!(
                    path = %path.display(), to = %moved.to.display(), why = %moved.why,
                    "damaged store moved aside, starting empty"
                );
                let (engine, verified_rows) = start(&home, &options)?;
                let opened = Opened {
                    created: true,
                    moved_aside: Some(moved),
                    verified_rows,
                };
                (home, engine, opened)
            }
            Err(error) => return Err(error),
        };
        Self::run(home, engine, opened, options.queue.max(1))
    }

    /// What was found on opening.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.shared.opened
    }

    /// The value of one row. Sees every commit that has returned, and may see one that is about to.
    ///
    /// # Errors
    /// [`Corrupt`](StoreError::Corrupt) if it does not match its checksum, [`Poisoned`](StoreError::Poisoned),
    /// [`Closed`](StoreError::Closed).
    pub fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let engine = self.engine()?;
        let raw_key = kind.raw_key(key);
        let Some(framed) = self.watch(engine.get(&raw_key))? else {
            return Ok(None);
        };
        unframe(&raw_key, &framed).map(|value| Some(value.to_vec()))
    }

    /// All rows of a kind whose key begins with `prefix`, in the order of their keys. Not a snapshot:
    /// rows committed meanwhile may or may not be seen.
    ///
    /// # Errors
    /// [`Poisoned`](StoreError::Poisoned), [`Closed`](StoreError::Closed); each item may be an error too.
    pub fn scan(&self, kind: Kind, prefix: &[u8]) -> Result<Rows, StoreError> {
        self.rows(kind, prefix, None)
    }

    /// At most `limit` rows of a kind with `prefix`, from the first key behind `after` on (or from the
    /// start): the last key of one page is `after` of the next.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn page(
        &self,
        kind: Kind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.rows(kind, prefix, after)?.take(limit).collect()
    }

    /// Writes a batch and returns when it is on disk. Waits for a place in the queue first; the order
    /// of batches is the order in which they got their places. The batch may still be written when the
    /// future is dropped.
    ///
    /// # Errors
    /// A broken bound of the batch, or [`Poisoned`](StoreError::Poisoned), [`Closed`](StoreError::Closed).
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.reserve().await?.submit(batch)?.await
    }

    /// [`commit`](Self::commit) for a thread. May be called anywhere, but on a thread that drives async
    /// tasks it holds all of them up.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        block_on(self.commit(batch))
    }

    /// Waits for a place in the queue of commits.
    ///
    /// # Errors
    /// [`Poisoned`](StoreError::Poisoned), [`Closed`](StoreError::Closed).
    pub async fn reserve(&self) -> Result<Slot, StoreError> {
        self.shared.poison.check()?;
        let sender = self.sender()?;
        let permit = sender
            .reserve_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        Ok(Slot { permit })
    }

    /// Queues a batch at once, without waiting for a place.
    ///
    /// # Errors
    /// [`Busy`](StoreError::Busy) if the queue is full; else as [`commit`](Self::commit).
    pub fn try_submit(&self, batch: Batch) -> Result<Commit, StoreError> {
        self.shared.poison.check()?;
        let permit = self.sender()?.try_reserve_owned().map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy {
                waiting: self.shared.queue,
            },
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        Slot { permit }.submit(batch)
    }

    /// Commits that wait for the disk now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender()
            .map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }

    /// The failure after which nothing succeeds any more, if there was one.
    ///
    /// # Errors
    /// That failure.
    pub fn health(&self) -> Result<(), StoreError> {
        self.shared.poison.check()
    }

    /// Finishes what is queued, flushes and closes the store for all clones. Blocks.
    ///
    /// # Errors
    /// [`Poisoned`](StoreError::Poisoned) if something had failed: not all that was tried is on disk.
    pub fn flush_and_close(self) -> Result<(), StoreError> {
        self.shared.finish();
        let engine = self
            .shared
            .engine
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(engine) = engine else {
            return Err(StoreError::Closed);
        };
        self.shared.poison.check()?;
        engine
            .flush()
            .map_err(|e| self.shared.poison.set(&self.shared.home, &e))
    }

    fn run(home: Home, engine: Engine, opened: Opened, queue: usize) -> Result<Self, StoreError> {
        let (engine, home, poison) = (Arc::new(engine), Arc::new(home), Poison::default());
        let group = writer::last_group(&engine)?;
        let (jobs, receiver) = mpsc::channel(queue);
        let writer = {
            let (engine, home, poison) = (engine.clone(), home.clone(), poison.clone());
            thread::Builder::new()
                .name("nexus-store".to_owned())
                .spawn(move || writer::run(&engine, &home, &poison, group, receiver))
        }
        .map_err(|e| StoreError::io("start the writer of", &home.path, &e))?;
        Ok(Self {
            shared: Arc::new(Shared {
                engine: RwLock::new(Some(engine)),
                poison,
                home,
                opened,
                queue,
                jobs: Mutex::new(Some(jobs)),
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    fn rows(&self, kind: Kind, prefix: &[u8], after: Option<&[u8]>) -> Result<Rows, StoreError> {
        let engine = self.engine()?;
        let start = kind.raw_key(prefix);
        let to = end_of(&start).map_or(Bound::Unbounded, Bound::Excluded);
        let from = match after.map(|key| kind.raw_key(key)) {
            Some(key) if key >= start => Bound::Excluded(key),
            _ => Bound::Included(start),
        };
        // A cursor behind the whole prefix: sled must not see an inverted range.
        let empty = matches!((&from, &to), (Bound::Excluded(f), Bound::Excluded(t)) if f >= t);
        Ok(Rows {
            rows: (!empty).then(|| engine.range(from, to)),
            store: self.clone(),
        })
    }

    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        self.shared.poison.check()?;
        self.shared
            .engine
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(StoreError::Closed)
    }

    fn sender(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        self.shared
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(StoreError::Closed)
    }

    /// Damage that a read comes upon ends all work too: what else is wrong is not known.
    fn watch<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Damaged { .. }) = &result {
            self.shared.poison.set(&self.shared.home, error);
        }
        result
    }
}

impl Shared {
    /// Takes no more commits and waits for those that are queued.
    fn finish(&self) {
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // It answers its jobs and cannot panic outside the guarded calls.
            let _ = writer.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Rows in the order of their keys. Ends after the first error that is not one of a single row.
pub struct Rows {
    rows: Option<EngineRows>,
    store: Store,
}

impl Iterator for Rows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (raw_key, framed) = match self.store.watch(self.rows.as_mut()?.next()?) {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        Some(unframe(&raw_key, &framed).map(|value| Row {
            key: split_raw_key(&raw_key).1.to_vec(),
            value: value.to_vec(),
        }))
    }
}

/// Opens the tree of a store and checks as much of it as was asked for.
fn start(home: &Home, options: &Options) -> Result<(Engine, Option<u64>), StoreError> {
    let damaged = |detail: String| StoreError::Damaged {
        path: home.path.clone(),
        detail,
    };
    let engine = Engine::open(&home.rows(), options.cache_bytes, options.open_limit)?;
    let group = writer::last_group(&engine).map_err(|e| match e {
        StoreError::Corrupt { .. } => damaged(e.to_string()),
        other => other,
    })?;
    let high_water = home.high_water();
    if group < high_water {
        return Err(damaged(format!(
            "its last commits are missing: it holds group {group}, but group {high_water} was acknowledged"
        )));
    }
    if !options.verify {
        return Ok((engine, None));
    }
    let mut rows = 0_u64;
    for row in engine.range(Bound::Unbounded, Bound::Unbounded) {
        let (raw_key, framed) = row?;
        unframe(&raw_key, &framed).map_err(|e| damaged(e.to_string()))?;
        rows = rows.saturating_add(1);
    }
    Ok((engine, Some(rows)))
}

/// The first key behind all keys that begin with `prefix`, if there is one.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}
