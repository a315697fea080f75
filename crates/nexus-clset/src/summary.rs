//! Block summaries: count and sum of entry hashes per few hundred keys, kept up to date with each write.
//!
//! Two replicas with equal sums hold equal entries (against accidents; peers are authenticated). The
//! sum over any range of keys is that of its blocks, which is what range-based reconciliation asks for.

use std::collections::BTreeMap;

/// A block with more keys than this is split.
pub(crate) const MAX_BLOCK: u64 = 512;

/// Blocks with fewer keys than this are joined with the one before.
const MIN_BLOCK: u64 = 64;

/// How many entries there are, and the wrapping sum of their 128-bit hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Entries, tombstones among them.
    pub count: u64,
    /// Sum of their hashes.
    pub sum: u128,
}

impl Fingerprint {
    pub(crate) fn add(&mut self, hash: u128) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }

    fn remove(&mut self, hash: u128) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(hash);
    }

    fn join(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Fingerprints of a map in blocks. A block holds the keys behind its own bound up to the next one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    blocks: BTreeMap<Vec<u8>, Fingerprint>,
    total: Fingerprint,
}

impl Summary {
    /// The fingerprint of everything.
    #[must_use]
    pub const fn total(&self) -> Fingerprint {
        self.total
    }

    /// All blocks: the bound that their keys lie behind (exclusive), and their fingerprint.
    pub fn blocks(&self) -> impl Iterator<Item = (&[u8], Fingerprint)> {
        self.blocks
            .iter()
            .map(|(low, block)| (low.as_slice(), *block))
    }

    /// Sums up entries that come in the order of their keys.
    pub(crate) fn builder() -> Builder {
        Builder {
            summary: Self::default(),
            low: Vec::new(),
            block: Fingerprint::default(),
        }
    }

    /// Exchanges one entry of `key`, given by hashes; says which block has grown too large by it.
    pub(crate) fn replace(
        &mut self,
        key: &[u8],
        old: Option<u128>,
        new: Option<u128>,
    ) -> Option<Vec<u8>> {
        let low = self.block_of(key);
        let block = self.blocks.entry(low.clone()).or_default();
        if let Some(old) = old {
            block.remove(old);
            self.total.remove(old);
        }
        if let Some(new) = new {
            block.add(new);
            self.total.add(new);
        }
        let count = block.count;
        if count > MAX_BLOCK {
            return Some(low);
        }
        if count < MIN_BLOCK {
            self.shrink(&low);
        }
        None
    }

    /// Splits the block at `low`: `lower` of it stays, the rest lies behind `at`.
    pub(crate) fn split(&mut self, low: &[u8], at: Vec<u8>, lower: Fingerprint) {
        if let Some(block) = self.blocks.get_mut(low) {
            let upper = Fingerprint {
                count: block.count.saturating_sub(lower.count),
                sum: block.sum.wrapping_sub(lower.sum),
            };
            *block = lower;
            self.blocks.insert(at, upper);
        }
    }

    /// Bound of the block that `key` belongs to.
    fn block_of(&self, key: &[u8]) -> Vec<u8> {
        self.blocks
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(key)))
            .next_back()
            .map_or_else(Vec::new, |(low, _)| low.clone())
    }

    /// Joins a small block with the one before it, if the two are not too large together.
    fn shrink(&mut self, low: &[u8]) {
        let before = self
            .blocks
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Excluded(low)))
            .next_back()
            .map(|(before, block)| (before.clone(), block.count));
        let Some((before, count)) = before else {
            return;
        };
        let small = self.blocks.get(low).copied().unwrap_or_default();
        if count.saturating_add(small.count) <= MAX_BLOCK / 2 {
            self.blocks.remove(low);
            if let Some(block) = self.blocks.get_mut(&before) {
                block.join(small);
            }
        }
    }
}

/// A summary on its way.
pub(crate) struct Builder {
    summary: Summary,
    low: Vec<u8>,
    block: Fingerprint,
}

impl Builder {
    pub(crate) fn push(&mut self, key: &[u8], hash: u128) {
        self.block.add(hash);
        self.summary.total.add(hash);
        if self.block.count >= MAX_BLOCK / 2 {
            let low = std::mem::replace(&mut self.low, key.to_vec());
            self.summary
                .blocks
                .insert(low, std::mem::take(&mut self.block));
        }
    }

    pub(crate) fn finish(mut self) -> Summary {
        if self.block.count > 0 {
            self.summary.blocks.insert(self.low, self.block);
        }
        self.summary
    }
}
