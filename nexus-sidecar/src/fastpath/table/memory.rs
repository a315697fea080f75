//! Memory that two sides look at: 64-bit words, each read and written at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words that this process writes, and somebody else reads.
pub trait Memory {
    /// How many there are.
    fn words(&self) -> usize;
    /// One of them; 0 beyond the last.
    fn load(&self, at: usize) -> u64;
    /// Writes one, after all that was written before; nothing beyond the last.
    fn store(&self, at: usize, word: u64);
    /// Changes one that the other side may write too.
    fn update(&self, at: usize, change: impl Fn(u64) -> u64);
}

impl Memory for [AtomicU64] {
    fn words(&self) -> usize {
        self.len()
    }

    fn load(&self, at: usize) -> u64 {
        self.get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: usize, word: u64) {
        if let Some(there) = self.get(at) {
            there.store(word, Ordering::Release);
        }
    }

    fn update(&self, at: usize, change: impl Fn(u64) -> u64) {
        if let Some(there) = self.get(at) {
            // The closure never gives up, so this cannot fail.
            let _ = there.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                Some(change(word))
            });
        }
    }
}
