//! From samples of the kernels' maps to who held what from when to when. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::history::{Entry, Held, OltAt};
use super::moment::Moment;
use crate::packet::Mac;

/// What has not ended after this time was acknowledged: what was not is given for 10 minutes at most, and what was for
/// days (`reclaim_after`).
const ACKED: Duration = Duration::from_secs(20 * 60);

/// Puts samples together. Samples of one map come in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    now: BTreeMap<(OltAt, Ipv4Addr, Mac), (Held, Moment)>,
    past: Vec<Held>,
}

impl Tracker {
    /// Takes a sample: all entries of one OLT's map, read between `began` and `ended`. An entry whose end has come
    /// before `began` is none.
    pub fn sample(&mut self, olt: OltAt, began: Moment, ended: Moment, entries: &[Entry]) {
        let alive = entries.iter().filter(|entry| entry.valid_until > began);
        let mut here: BTreeMap<(OltAt, Ipv4Addr, Mac), Moment> = BTreeMap::new();
        for entry in alive {
            let until = here.entry((olt, entry.address, entry.mac)).or_default();
            *until = entry.valid_until.max(*until);
        }
        let before: Vec<_> = self
            .now
            .range((olt, Ipv4Addr::UNSPECIFIED, [0; 6])..)
            .take_while(|((at, ..), _)| *at == olt)
            .map(|(key, (_, valid))| (*key, *valid))
            .collect();
        for (key, valid) in before {
            // One that had ended before this sample began is another one if it is there again; and so is one that is not
            // acknowledged and was: between the samples it was released and given anew.
            let expired = valid <= began;
            let lasts = valid >= ended.plus(ACKED);
            let same = here
                .get(&key)
                .is_some_and(|now| !lasts || *now >= ended.plus(ACKED));
            if (expired || !same)
                && let Some((mut held, _)) = self.now.remove(&key)
            {
                held.gone_by = Some(ended);
                held.expired = valid <= ended;
                self.past.push(held);
            }
        }
        for (key, valid) in here {
            let (_, address, mac) = key;
            let new = || Held {
                olt,
                address,
                mac,
                first: (began, ended),
                last: (began, ended),
                acked_from: None,
                gone_by: None,
                expired: false,
            };
            let (held, until) = self.now.entry(key).or_insert_with(|| (new(), valid));
            held.last = (began, ended);
            *until = valid;
            if valid >= ended.plus(ACKED) && held.acked_from.is_none() {
                held.acked_from = Some(ended);
            }
        }
    }

    /// Everything seen so far.
    #[must_use]
    pub fn finish(self) -> Vec<Held> {
        let mut all = self.past;
        all.extend(self.now.into_values().map(|(held, _)| held));
        all.sort_by_key(|held| (held.first, held.olt, held.address));
        all
    }

    /// The entries of one OLT as its last sample showed them.
    #[must_use]
    pub fn current(&self, olt: OltAt) -> Vec<Entry> {
        self.now
            .iter()
            .filter(|((at, ..), _)| *at == olt)
            .map(|((_, address, mac), (_, valid_until))| Entry {
                address: *address,
                mac: *mac,
                valid_until: *valid_until,
            })
            .collect()
    }
}

/// Whether two entries were there at the same moment for certain. Between two samples that both show an entry it was
/// there; within one sample it was there at some moment.
#[must_use]
pub fn at_once(one: &Held, other: &Held) -> bool {
    let certain = |held: &Held| (held.first.1, held.last.0);
    let meets = |a: (Moment, Moment), b: (Moment, Moment)| {
        a.0 <= a.1 && b.0 <= b.1 && a.0 <= b.1 && b.0 <= a.1
    };
    let within =
        |inner: (Moment, Moment), outer: (Moment, Moment)| outer.0 <= inner.0 && inner.1 <= outer.1;
    let seen_during = |inner: &Held, outer: &Held| {
        within(inner.first, certain(outer)) || within(inner.last, certain(outer))
    };
    meets(certain(one), certain(other)) || seen_during(one, other) || seen_during(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    fn entry(mac: Mac, until: u64) -> Entry {
        let valid_until = if until == 0 {
            Moment::NEVER
        } else {
            Moment::second(until)
        };
        Entry {
            address: Ipv4Addr::new(10, 0, 0, 1),
            mac,
            valid_until,
        }
    }

    /// Samples of a second each: (OLT, second, entries).
    fn track(samples: &[(OltAt, u64, &[Entry])]) -> Vec<Held> {
        let mut tracker = Tracker::default();
        for (olt, at, entries) in samples {
            tracker.sample(*olt, Moment::second(*at), Moment::second(at + 1), entries);
        }
        tracker.finish()
    }

    #[test]
    fn an_entry_is_one_as_long_as_samples_show_it() {
        let held = track(&[
            (0, 10, &[entry(A, 30)]),
            (0, 20, &[entry(A, 0)]),
            (0, 30, &[]),
        ]);
        let [held] = &held[..] else {
            panic!("{held:?}")
        };
        assert_eq!(held.acked_from, Some(Moment::second(21)));
        assert_eq!(held.gone_by, Some(Moment::second(31)));
        assert!(!held.expired);
    }

    #[test]
    fn an_entry_whose_end_has_come_is_none() {
        let held = track(&[(0, 10, &[entry(A, 15)]), (0, 20, &[entry(A, 15)])]);
        assert_eq!(held.len(), 1);
        assert!(held[0].expired);
        let again = track(&[(0, 10, &[entry(A, 15)]), (0, 20, &[entry(A, 30)])]);
        assert_eq!(again.len(), 2, "it ended in between");
    }

    #[test]
    fn an_entry_that_was_acknowledged_and_is_not_is_another_one() {
        let held = track(&[
            (0, 10, &[entry(A, 30)]),
            (0, 20, &[entry(A, 0)]),
            (0, 30, &[entry(A, 60)]),
            (0, 40, &[entry(A, 0)]),
        ]);
        let acked: Vec<_> = held.iter().map(|one| one.acked_from).collect();
        assert_eq!(acked, [Some(Moment::second(21)), Some(Moment::second(41))]);
        assert_eq!(held[0].gone_by, Some(Moment::second(31)));
    }

    #[test]
    fn two_entries_meet_only_if_that_is_certain() {
        // Read one after the other: the address may have moved between the two reads.
        let moved = track(&[
            (0, 10, &[entry(A, 0)]),
            (1, 12, &[entry(B, 0)]),
            (0, 14, &[]),
        ]);
        assert!(!at_once(&moved[0], &moved[1]));
        // The first map has it before and after the second one is read.
        let both = track(&[
            (0, 10, &[entry(A, 0)]),
            (1, 12, &[entry(B, 0)]),
            (0, 14, &[entry(A, 0)]),
        ]);
        assert!(at_once(&both[0], &both[1]));
        // It had ended by itself when the second one was read.
        let ended = track(&[
            (0, 10, &[entry(A, 12)]),
            (1, 13, &[entry(B, 0)]),
            (0, 15, &[entry(A, 12)]),
        ]);
        assert!(!at_once(&ended[0], &ended[1]));
    }
}
