//! Looking for a free place for a key, and for the moves that make one.

use nexus_abi::Place;

use super::Table;
use super::memory::Memory;
use super::probe::Probe;
use super::slot::Slot;

/// Most buckets that are looked at for one key. At the load that a table is made for, a free place is
/// found within a few.
const SEARCH: usize = 512;

/// A free place, or one that becomes free by these moves.
#[derive(Debug)]
pub struct Room {
    /// The place.
    pub slot: Slot,
    /// From where to where entries move first, in this order.
    pub moves: Vec<(Slot, Slot)>,
}

/// A bucket that an entry of an earlier one could move to.
struct Step {
    bucket: u32,
    /// Which of the steps before it that is, and where the entry stands.
    from: Option<(usize, Slot)>,
}

impl<M: Memory> Table<M> {
    /// Room for a key: at home, or at home once a guest has gone home itself, or in the other bucket, or
    /// by the fewest moves.
    pub(super) fn room(&self, place: Place) -> Option<Room> {
        if let Some(slot) = self.free(place.home) {
            let moves = Vec::new();
            return Some(Room { slot, moves });
        }
        for slot in Slot::of(place.home) {
            let home = self.home(&slot.words(&self.buckets))?;
            if home != place.home
                && let Some(to) = self.free(home)
            {
                let moves = vec![(slot, to)];
                return Some(Room { slot, moves });
            }
        }
        self.search(place)
    }

    fn search(&self, place: Place) -> Option<Room> {
        let first = |bucket| Step { bucket, from: None };
        let mut steps = vec![first(place.home), first(place.other)];
        for at in 0..SEARCH {
            let bucket = steps.get(at)?.bucket;
            if let Some(free) = self.free(bucket) {
                return Some(way(&steps, at, free));
            }
            for slot in Slot::of(bucket) {
                let to = self.elsewhere(slot)?;
                // A bucket that is passed twice would have been left by then.
                if steps.iter().all(|step| step.bucket != to) {
                    steps.push(Step {
                        bucket: to,
                        from: Some((at, slot)),
                    });
                }
            }
        }
        None
    }

    fn free(&self, bucket: u32) -> Option<Slot> {
        Slot::of(bucket)
            .into_iter()
            .find(|slot| slot.is_free(&self.buckets))
    }

    /// The other bucket of the entry that stands here.
    fn elsewhere(&self, slot: Slot) -> Option<u32> {
        let key = self.circuits.key(&slot.words(&self.buckets))?;
        let Place { home, other } = Probe::of(self.seed, &key).place(self.mask);
        Some(if slot.bucket() == home { other } else { home })
    }
}

/// The moves that lead to a free place, the last step's entry first.
fn way(steps: &[Step], last: usize, free: Slot) -> Room {
    let mut room = Room {
        slot: free,
        moves: Vec::new(),
    };
    let mut at = last;
    while let Some((before, slot)) = steps.get(at).and_then(|step| step.from) {
        room.moves.push((slot, room.slot));
        room.slot = slot;
        at = before;
    }
    room
}
