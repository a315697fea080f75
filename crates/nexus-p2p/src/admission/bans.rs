//! How long a peer that sends garbage is out: one second, then twice as long each time, at most ten
//! minutes; forgotten after ten minutes without a fault.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::limits::MOST_REMEMBERED;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Record {
    strikes: u32,
    until: Instant,
}

/// Peers with a fault, at most [`MOST_REMEMBERED`]: the one whose ban ends first makes room.
#[derive(Debug, Default)]
pub(super) struct Bans(BTreeMap<PeerId, Record>);

impl Bans {
    /// Bans a peer from now on; returns for how long.
    pub(super) fn strike(&mut self, now: Instant, peer: PeerId) -> Duration {
        self.0
            .retain(|_, record| now < record.until + FORGOTTEN_AFTER);
        if self.0.len() >= MOST_REMEMBERED && !self.0.contains_key(&peer) {
            let first = self.0.iter().min_by_key(|(_, record)| record.until);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.0.remove(&first);
            }
        }
        let record = self.0.entry(peer).or_insert(Record {
            strikes: 0,
            until: now,
        });
        let time = FIRST
            .saturating_mul(1 << record.strikes.min(10))
            .min(LONGEST);
        record.strikes = record.strikes.saturating_add(1);
        record.until = now + time;
        time
    }

    pub(super) fn is_banned(&self, now: Instant, peer: &PeerId) -> bool {
        self.0.get(peer).is_some_and(|record| now < record.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_grow_from_a_second_to_ten_minutes_and_no_further() {
        let mut bans = Bans::default();
        let peer = PeerId::random();
        let mut now = Instant::now();
        let times: Vec<u64> = (0..12)
            .map(|_| {
                let time = bans.strike(now, peer);
                assert!(bans.is_banned(now, &peer));
                now += time;
                assert!(!bans.is_banned(now, &peer));
                time.as_secs()
            })
            .collect();
        assert_eq!(times, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn a_peer_that_behaves_for_ten_minutes_starts_anew() {
        let mut bans = Bans::default();
        let peer = PeerId::random();
        let now = Instant::now();
        bans.strike(now, peer);
        bans.strike(now, peer);
        let later = now + Duration::from_secs(2) + FORGOTTEN_AFTER;
        assert_eq!(bans.strike(later, peer), FIRST);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut bans = Bans::default();
        let now = Instant::now();
        for _ in 0..2 * MOST_REMEMBERED {
            bans.strike(now, PeerId::random());
        }
        assert_eq!(bans.0.len(), MOST_REMEMBERED);
    }
}
