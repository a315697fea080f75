//! One log line per kind and second, however many datagrams somebody sends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(1);

/// When each kind was last logged, and how often it was not since then.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    kinds: BTreeMap<&'static str, (Instant, u64)>,
}

impl LogLimit {
    /// Whether to log now; if so, how many of this kind went unsaid before.
    pub(crate) fn pass(&mut self, now: Instant, kind: &'static str) -> Option<u64> {
        match self.kinds.get_mut(kind) {
            Some((last, unsaid)) if now < *last + PAUSE => {
                *unsaid += 1;
                None
            }
            other => {
                let unsaid = other.map_or(0, |(_, unsaid)| *unsaid);
                self.kinds.insert(kind, (now, 0));
                Some(unsaid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_second_and_the_rest_is_counted() {
        let mut log = LogLimit::default();
        let start = Instant::now();
        assert_eq!(log.pass(start, "a"), Some(0));
        assert_eq!(log.pass(start, "a"), None);
        assert_eq!(log.pass(start + PAUSE / 2, "a"), None);
        assert_eq!(log.pass(start, "b"), Some(0));
        assert_eq!(log.pass(start + PAUSE, "a"), Some(2));
        assert_eq!(log.pass(start + PAUSE * 2, "a"), Some(0));
    }
}
