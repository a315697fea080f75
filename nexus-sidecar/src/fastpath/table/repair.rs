//! Putting right what a writer left that was cut off, or what another seed has placed.

use nexus_abi::Place;

use super::Table;
use super::memory::Memory;
use super::probe::Probe;
use super::slot::{Slot, Words, overflow, overflow_of};

/// What was wrong with a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Entries that nobody could have found, or that are none.
    pub lost: u32,
    /// Entries that stood in both of their places.
    pub doubled: u32,
    /// Buckets that counted their keys elsewhere wrongly.
    pub miscounted: u32,
}

impl Repairs {
    /// Nothing was.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl<M: Memory> Table<M> {
    pub(super) fn repair(&mut self) -> Repairs {
        let mut repairs = Repairs::default();
        let mut elsewhere = vec![0_u32; self.mask as usize + 1];
        let mut used = vec![false; self.circuits.capacity() as usize];
        self.len = 0;
        for slot in Slot::all(self.mask) {
            if slot.is_free(&self.buckets) {
                continue;
            }
            let words = slot.words(&self.buckets);
            let Some((probe, place)) = self.reachable(slot, &words) else {
                slot.clear(&self.buckets);
                repairs.lost += 1;
                continue;
            };
            if self.find(&probe) != Some(slot) {
                slot.clear(&self.buckets);
                repairs.doubled += 1;
                continue;
            }
            if probe.circuit.is_some() {
                // A number is one entry's; of two interfaces, the first one's.
                match used.get_mut(words.vids() as usize) {
                    Some(used) if !*used => *used = true,
                    _ => {
                        slot.clear(&self.buckets);
                        repairs.lost += 1;
                        continue;
                    }
                }
            }
            self.len = self.len.saturating_add(1);
            if slot.bucket() != place.home
                && let Some(count) = elsewhere.get_mut(place.home as usize)
            {
                *count += 1;
            }
        }
        for (bucket, right) in (0..=self.mask).zip(elsewhere) {
            if overflow_of(&self.buckets, bucket) != right {
                overflow(&self.buckets, bucket, |_| right);
                repairs.miscounted += 1;
            }
        }
        self.circuits.restore(&used);
        repairs
    }

    /// The key of what stands in a place, and its buckets, if this is one of them.
    fn reachable(&self, slot: Slot, words: &Words) -> Option<(Probe, Place)> {
        let probe = Probe::of(self.seed, &self.circuits.key(words)?);
        let place = probe.place(self.mask);
        let here = [place.home, place.other].contains(&slot.bucket());
        here.then_some((probe, place))
    }
}
