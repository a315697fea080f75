//! Whether a majority of the servers that decide has a write: only then may an OLT count on it.
//!
//! An OLT's lease and the moves of its shards are decided by a majority. A write that a majority has is known
//! to at least one server of every majority that moves a shard later, so that the new owner of the shard
//! learns of it before it allocates ([`crate::cluster::barrier`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nexus_clset::{Dot, VersionVector};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::refused::Refused;

/// How long an OLT is left waiting; it repeats its command then.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the other servers that decide have, as each said itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// How many of them must have a write, so that it is on a majority together with this server.
    pub needed: usize,
    /// What each of them has for good.
    pub seen: Vec<VersionVector>,
}

/// Shared by the owner, who knows, and by those who wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Confirm {
    waiting: Arc<AtomicUsize>,
    acks: Arc<watch::Sender<Acks>>,
}

/// Somebody waits as long as this is there.
struct Waits<'a>(&'a AtomicUsize);

impl Acks {
    /// Whether a majority has this write.
    #[must_use]
    pub fn cover(&self, dot: Dot) -> bool {
        let having = self.seen.iter().filter(|seen| seen.contains(dot)).count();
        having >= self.needed
    }
}

impl Default for Confirm {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
            // Until the members are known nothing is confirmed.
            acks: Arc::new(
                watch::channel(Acks {
                    needed: usize::MAX,
                    seen: Vec::new(),
                })
                .0,
            ),
        }
    }
}

impl Confirm {
    /// Whether anybody waits, so that the others are asked more often.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Notes what the others have.
    pub fn note(&self, acks: Acks) {
        self.acks.send_if_modified(|known| {
            let news = *known != acks;
            *known = acks;
            news
        });
    }

    /// Waits until a majority has this write, which is durable here.
    ///
    /// # Errors
    /// [`Refused::NotNow`] if it does not within a few seconds.
    pub async fn wait(&self, dot: Dot) -> Result<(), Refused> {
        let mut acks = self.acks.subscribe();
        if acks.borrow_and_update().cover(dot) {
            return Ok(());
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waits = Waits(&self.waiting);
        match timeout(PATIENCE, acks.wait_for(|acks| acks.cover(dot))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Refused::Stopping),
            Err(_) => Err(Refused::NotNow(
                "it has this on its own disk, but no majority of the servers has confirmed it: repeat the command"
                    .to_owned(),
            )),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use nexus_clset::{Incarnation, NodeId, Origin};

    use super::*;

    fn dot(seq: u64) -> Dot {
        Dot {
            origin: Origin {
                node: NodeId(1),
                incarnation: Incarnation(1),
            },
            seq,
        }
    }

    fn seen(upto: u64) -> VersionVector {
        let mut seen = VersionVector::default();
        seen.insert_run(dot(1).origin, 1, upto);
        seen
    }

    #[test]
    fn a_majority_counts_this_server_and_those_that_said_so() {
        let acks = |needed, upto: &[u64]| Acks {
            needed,
            seen: upto.iter().map(|upto| seen(*upto)).collect(),
        };
        assert!(acks(0, &[]).cover(dot(5)), "alone");
        assert!(acks(1, &[5, 0]).cover(dot(5)));
        assert!(!acks(1, &[4, 4]).cover(dot(5)));
        assert!(!acks(2, &[5, 4, 4, 4]).cover(dot(5)), "two of five others");
        assert!(acks(2, &[5, 4, 4, 6]).cover(dot(5)));
    }

    #[tokio::test]
    async fn who_waits_is_told_when_a_majority_has_it_and_not_before() {
        let confirm = Confirm::default();
        let waiting = tokio::spawn({
            let confirm = confirm.clone();
            async move { confirm.wait(dot(5)).await }
        });
        tokio::task::yield_now().await;
        assert!(confirm.is_awaited());
        confirm.note(Acks {
            needed: 1,
            seen: vec![seen(4)],
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        confirm.note(Acks {
            needed: 1,
            seen: vec![seen(5)],
        });
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert!(!confirm.is_awaited());
        assert!(matches!(
            confirm.wait(dot(6)).await,
            Err(Refused::NotNow(_))
        ));
    }
}
