//! Streams of changes to OLTs: bounded queues, and a reason when one ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use nexus_core::id::OltId;
use tokio::sync::mpsc;

/// Changes that may wait for one reader; a reader that is further behind is cut off and resumes.
pub const QUEUE_LIMIT: usize = 1024;
/// Streams of one kind that one OLT may have; the oldest is ended when there is one more.
pub const MAX_FEEDS_PER_OLT: usize = 4;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The reader was too slow.
    #[error(
        "this watcher was more than {QUEUE_LIMIT} changes behind: watch again from the last revision"
    )]
    TooSlow,
    /// The OLT has opened more streams since.
    #[error("this OLT has opened {MAX_FEEDS_PER_OLT} newer streams")]
    Superseded,
    /// The session of the stream is over.
    #[error("this session is over: register again")]
    SessionOver,
    /// More has changed than can be told one by one.
    #[error("more has changed than can be told one by one: watch again")]
    StartOver,
    /// The server stops.
    #[error("the server is stopping: watch again from the last revision")]
    Stopping,
}

/// The reading end of one stream.
#[derive(Debug)]
pub struct Feed<T> {
    first: VecDeque<T>,
    queue: mpsc::Receiver<T>,
    end: Arc<OnceLock<End>>,
}

/// The writing ends of all streams of one kind.
#[derive(Debug)]
pub struct Feeds<T> {
    by_olt: BTreeMap<OltId, VecDeque<Outlet<T>>>,
    stopping: bool,
}

#[derive(Debug)]
struct Outlet<T> {
    queue: mpsc::Sender<T>,
    end: Arc<OnceLock<End>>,
}

impl<T> Feed<T> {
    /// The next change, or why there is none any more.
    ///
    /// # Errors
    /// The end of the stream.
    pub async fn next(&mut self) -> Result<T, End> {
        if let Some(first) = self.first.pop_front() {
            return Ok(first);
        }
        match self.queue.recv().await {
            Some(change) => Ok(change),
            None => Err(self.end.get().copied().unwrap_or(End::Stopping)),
        }
    }
}

impl<T> Default for Feeds<T> {
    fn default() -> Self {
        Self {
            by_olt: BTreeMap::new(),
            stopping: false,
        }
    }
}

impl<T: Clone> Feeds<T> {
    /// Opens a stream for an OLT. `first` is read before anything that is published from now on.
    pub fn open(&mut self, olt: &OltId, first: Vec<T>) -> Feed<T> {
        let (queue, receiver) = mpsc::channel(QUEUE_LIMIT);
        let end = Arc::new(OnceLock::new());
        if self.stopping {
            let _ = end.set(End::Stopping);
        } else {
            let outlets = self.by_olt.entry(olt.clone()).or_default();
            outlets.retain(|outlet| !outlet.queue.is_closed());
            if outlets.len() >= MAX_FEEDS_PER_OLT
                && let Some(oldest) = outlets.pop_front()
            {
                let _ = oldest.end.set(End::Superseded);
            }
            outlets.push_back(Outlet {
                queue,
                end: Arc::clone(&end),
            });
        }
        Feed {
            first: first.into(),
            queue: receiver,
            end,
        }
    }

    /// Hands a change to all streams of an OLT. Gives the number of streams that were too slow and have
    /// been ended.
    pub fn publish(&mut self, olt: &OltId, change: &T) -> u64 {
        let Some(outlets) = self.by_olt.get_mut(olt) else {
            return 0;
        };
        let mut cut_off = 0_u64;
        outlets.retain(|outlet| match outlet.queue.try_send(change.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let _ = outlet.end.set(End::TooSlow);
                cut_off = cut_off.saturating_add(1);
                false
            }
        });
        if outlets.is_empty() {
            self.by_olt.remove(olt);
        }
        cut_off
    }

    /// Ends all streams of an OLT.
    pub fn end(&mut self, olt: &OltId, end: End) {
        for outlet in self.by_olt.remove(olt).into_iter().flatten() {
            let _ = outlet.end.set(end);
        }
    }

    /// Ends all streams, and every one that is opened later.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.end_all(End::Stopping);
    }

    /// Ends all streams that are open now.
    pub fn end_all(&mut self, end: End) {
        for outlet in std::mem::take(&mut self.by_olt).into_values().flatten() {
            let _ = outlet.end.set(end);
        }
    }

    /// Streams that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_olt
            .values()
            .flatten()
            .filter(|outlet| !outlet.queue.is_closed())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn olt(name: &str) -> OltId {
        OltId::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_stream_starts_with_what_was_there_and_sees_every_change_of_its_olt() {
        let mut feeds = Feeds::default();
        let mut feed = feeds.open(&olt("a"), vec![1, 2]);
        feeds.publish(&olt("a"), &3);
        feeds.publish(&olt("b"), &99);
        for expected in [1, 2, 3] {
            assert_eq!(feed.next().await, Ok(expected));
        }
        feeds.end(&olt("a"), End::SessionOver);
        assert_eq!(feed.next().await, Err(End::SessionOver));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_what_was_queued_and_is_then_told_to_resume() {
        let mut feeds = Feeds::default();
        let mut feed = feeds.open(&olt("a"), vec![]);
        for n in 0..QUEUE_LIMIT {
            assert_eq!(feeds.publish(&olt("a"), &n), 0);
        }
        assert_eq!(feeds.publish(&olt("a"), &9999), 1);
        assert_eq!(feeds.count(), 0);
        for n in 0..QUEUE_LIMIT {
            assert_eq!(feed.next().await, Ok(n));
        }
        assert_eq!(feed.next().await, Err(End::TooSlow));
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_streams_is_ended() {
        let mut feeds: Feeds<u8> = Feeds::default();
        let mut oldest = feeds.open(&olt("a"), vec![]);
        let newer: Vec<_> = (0..MAX_FEEDS_PER_OLT)
            .map(|_| feeds.open(&olt("a"), vec![]))
            .collect();
        assert_eq!(oldest.next().await, Err(End::Superseded));
        assert_eq!(feeds.count(), newer.len());
    }

    #[tokio::test]
    async fn stopping_ends_open_and_later_streams() {
        let mut feeds: Feeds<u8> = Feeds::default();
        let mut open = feeds.open(&olt("a"), vec![]);
        feeds.stop();
        assert_eq!(open.next().await, Err(End::Stopping));
        assert_eq!(
            feeds.open(&olt("a"), vec![]).next().await,
            Err(End::Stopping)
        );
    }
}
