//! Waiting for durability: a place in the queue, and the future of one commit.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::error::StoreError;
use crate::writer::Job;

/// Most batches in one commit, so that a full queue has a bound in bytes too.
pub const MAX_COMMIT_BATCHES: usize = 64;

/// A place in the queue of commits, taken before the caller changes its own state, so that the order
/// of those changes is the order of their batches.
#[derive(Debug)]
pub struct Slot {
    pub(crate) permit: mpsc::OwnedPermit<Job>,
}

impl Slot {
    /// Queues `batch` now and returns the future of its durability. The batch is written even if
    /// that future is dropped.
    ///
    /// # Errors
    /// A batch that breaks a bound is refused and nothing is queued.
    pub fn submit(self, batch: Batch) -> Result<Commit, StoreError> {
        self.submit_all(vec![batch])
    }

    /// Queues `batches` as one commit: each of them is written whole or not at all, in this order, and one
    /// flush covers all. A crash may leave the first of them without the others.
    ///
    /// # Errors
    /// Batches that break a bound, or more than [`MAX_COMMIT_BATCHES`], are refused and nothing is queued.
    pub fn submit_all(self, batches: Vec<Batch>) -> Result<Commit, StoreError> {
        if batches.len() > MAX_COMMIT_BATCHES {
            return Err(StoreError::TooManyBatches {
                batches: batches.len(),
            });
        }
        let mut writes = Vec::with_capacity(batches.len());
        for batch in batches {
            let operations = batch.into_operations()?;
            if !operations.is_empty() {
                writes.push(operations);
            }
        }
        let (done, receiver) = oneshot::channel();
        self.permit.send(Job { writes, done });
        Ok(Commit { receiver })
    }
}

/// Resolves when the batch is on disk, or when it is certain that success must not be answered.
#[derive(Debug)]
#[must_use = "a commit is durable only when this has resolved"]
pub struct Commit {
    receiver: oneshot::Receiver<Result<(), StoreError>>,
}

impl Commit {
    /// Blocks the thread until the batch is durable.
    ///
    /// # Errors
    /// The failure of the write or flush that covered this batch.
    pub fn wait(self) -> Result<(), StoreError> {
        block_on(self)
    }
}

impl Future for Commit {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(StoreError::Closed)))
    }
}

/// Runs a future on this thread by parking it. Unlike the runtime's own blocking calls this does
/// not panic on a thread that drives a runtime; without tokio's cooperative budget, because there a
/// future that has used it up is woken only when the runtime runs again, which it cannot.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
