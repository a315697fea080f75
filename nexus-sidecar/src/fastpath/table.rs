//! The only writer of `BINDINGS` and `CIRCUITS`: a cuckoo table in memory that the kernel reads meanwhile.
//!
//! [`nexus_abi::Bucket`] and its module say how the table lies in memory and in which order it is
//! written; here it is done. Each 64-bit word is stored at once and later than all stores before it
//! (`Release`), which on x86-64 is all that the kernel's plain loads need: that processor lets nobody
//! see stores, or make loads, out of order. Another architecture would need the kernel's side of it.
//!
//! Keys are placed by the hash of a seed that nobody outside knows. A key whose home bucket is full
//! stands in its other one; where that is full too, entries move to their own other buckets, along
//! the shortest way to a free place. At half of its places or less, which is all that is asked of it,
//! a table of this kind takes every key.
//!
//! What is cut off in the middle of a write leaves a table that is safe to read; [`Table::open`] puts
//! it right.

mod circuits;
mod memory;
mod probe;
mod repair;
mod room;
mod slot;

use nexus_abi::{Binding, BindingKey};

use circuits::Circuits;
pub use memory::Memory;
use probe::Probe;
pub use repair::Repairs;
use slot::{Slot, Words};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the kernel reads BINDINGS without barriers, which only x86-64 allows");

/// Least buckets of a table. In a smaller one a handful of keys with the same two buckets would be too
/// likely.
const FEWEST_BUCKETS: u32 = 256;

/// Buckets of a table for `bindings` of them: so many that half of the places stay free.
///
/// `None`: more than an array of the kernel can have.
#[must_use]
pub const fn buckets_for(bindings: u32) -> Option<u32> {
    let least = if bindings < FEWEST_BUCKETS {
        FEWEST_BUCKETS
    } else {
        bindings
    };
    least.checked_next_power_of_two()
}

/// Entries of `CIRCUITS` for `circuits` of them.
///
/// `None`: more than an array of the kernel can have.
#[must_use]
pub const fn circuits_for(circuits: u32) -> Option<u32> {
    let least = if circuits < 2 { 2 } else { circuits };
    least.checked_next_power_of_two()
}

/// What a table does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many bindings as it may have: that many.
    Bindings(u32),
    /// As many circuits as there is room for: that many.
    Circuits(u32),
    /// The places of this key and all that are near; of so many bindings.
    Crowded(u32),
}

/// The table.
#[derive(Debug)]
pub struct Table<M> {
    buckets: M,
    circuits: Circuits<M>,
    seed: u64,
    mask: u32,
    limit: u32,
    len: u32,
}

impl<M: Memory> Table<M> {
    /// A table in `buckets`, whose number is a power of two, with its circuits in `circuits`, of which
    /// there are a power of two as well; with whatever stands there, put right. All keys are placed by
    /// `seed`; what was placed by another is lost. It takes `limit` bindings, at most one per bucket.
    pub fn open(buckets: M, circuits: M, seed: u64, limit: u32) -> (Self, Repairs) {
        let mask = slot::buckets_in(&buckets).saturating_sub(1);
        let mut table = Self {
            circuits: Circuits::new(circuits),
            buckets,
            seed,
            mask,
            limit: limit.min(mask.saturating_add(1)),
            len: 0,
        };
        let repairs = table.repair();
        (table, repairs)
    }

    /// Writes a binding, in place of one under the same key: then the time when the client was last
    /// seen stays as it is. One that ends at 0 is none.
    ///
    /// # Errors
    /// If there is no room; nothing has changed then.
    pub fn put(&mut self, key: &BindingKey, binding: &Binding) -> Result<(), Full> {
        if binding.valid_until_secs == 0 {
            self.remove(key);
            return Ok(());
        }
        let probe = Probe::of(self.seed, key);
        match self.find(&probe) {
            Some(slot) => {
                self.update(slot, &probe, binding);
                Ok(())
            }
            None => self.insert(&probe, binding),
        }
    }

    /// Removes a binding; `false`: there was none.
    pub fn remove(&mut self, key: &BindingKey) -> bool {
        let probe = Probe::of(self.seed, key);
        let Some(slot) = self.find(&probe) else {
            return false;
        };
        let number = slot.words(&self.buckets).vids();
        slot.clear(&self.buckets);
        self.left(slot, probe.place(self.mask).home);
        if probe.circuit.is_some() {
            self.circuits.free(number);
        }
        self.len = self.len.saturating_sub(1);
        true
    }

    /// The binding under a key.
    #[must_use]
    pub fn get(&self, key: &BindingKey) -> Option<Binding> {
        let slot = self.find(&Probe::of(self.seed, key))?;
        slot.words(&self.buckets).binding()
    }

    /// All bindings, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<(BindingKey, Binding)> {
        let mut all = Vec::with_capacity(self.len as usize);
        for slot in Slot::all(self.mask) {
            let words = slot.words(&self.buckets);
            all.extend(self.circuits.key(&words).zip(words.binding()));
        }
        all
    }

    fn find(&self, probe: &Probe) -> Option<Slot> {
        let place = probe.place(self.mask);
        [place.home, place.other]
            .into_iter()
            .flat_map(Slot::of)
            .find(|slot| self.circuits.matches(probe, &slot.words(&self.buckets)))
    }

    fn update(&mut self, slot: Slot, probe: &Probe, binding: &Binding) {
        let there = slot.words(&self.buckets);
        let new = Words::new(probe, there.vids(), binding, 0);
        if (there.identity, there.rest) != (new.identity, new.rest) {
            slot.clear(&self.buckets);
            slot.describe(&self.buckets, &new);
        }
        if slot.words(&self.buckets).held != new.held {
            slot.hold(&self.buckets, new.held);
        }
    }

    fn insert(&mut self, probe: &Probe, binding: &Binding) -> Result<(), Full> {
        if self.len >= self.limit {
            return Err(Full::Bindings(self.len));
        }
        let place = probe.place(self.mask);
        let Some(room) = self.room(place) else {
            return Err(Full::Crowded(self.len));
        };
        let vids = match &probe.circuit {
            Some(circuit) => self.circuits.take(circuit)?,
            None => probe.vids,
        };
        for (from, to) in room.moves {
            self.shift(from, to);
        }
        let words = Words::new(probe, vids, binding, binding.last_seen_jiffies);
        self.enter(room.slot, place.home, &words);
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Moves an entry to a free place in the other one of its buckets.
    fn shift(&mut self, from: Slot, to: Slot) {
        let words = from.words(&self.buckets);
        let Some(home) = self.home(&words) else {
            return;
        };
        self.enter(to, home, &words);
        from.clear(&self.buckets);
        self.left(from, home);
    }

    /// Writes an entry whose home is `home` to a free place.
    fn enter(&self, slot: Slot, home: u32, words: &Words) {
        if slot.bucket() != home {
            slot::overflow(&self.buckets, home, |count| count.saturating_add(1));
        }
        slot.describe(&self.buckets, words);
        slot.see(&self.buckets, words.last_seen);
        slot.hold(&self.buckets, words.held);
    }

    /// An entry whose home is `home` has left its place.
    fn left(&self, slot: Slot, home: u32) {
        if slot.bucket() != home {
            slot::overflow(&self.buckets, home, |count| count.saturating_sub(1));
        }
    }

    fn home(&self, words: &Words) -> Option<u32> {
        let probe = Probe::of(self.seed, &self.circuits.key(words)?);
        Some(probe.place(self.mask).home)
    }
}

#[cfg(test)]
mod tests;
