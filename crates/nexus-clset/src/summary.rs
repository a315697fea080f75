//! Block summaries: count and sum of entry hashes per few hundred keys, kept up to date with each write.
//!
//! Two replicas with equal sums hold equal entries (against accidents; peers are authenticated). The
//! sum over any range of keys is that of its blocks, which is what range-based reconciliation asks for.
//!
//! Where a block ends is decided by hashes of keys, so that replicas with the same keys have the same
//! blocks whatever their history, and compare whole blocks without reading a row.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::ranges::KeyRange;

/// One key in so many ends a block.
const MEAN_BLOCK: u64 = 256;

/// A block with more keys than this is split anywhere.
pub(crate) const MAX_BLOCK: u64 = 8 * MEAN_BLOCK;

/// Blocks with fewer keys than this are joined with the one before, unless a key ends that.
const MIN_BLOCK: u64 = MEAN_BLOCK / 4;

/// Whether a key ends a block.
fn ends_block(key: &[u8]) -> bool {
    let [a, b, ..] = *blake3::hash(key).as_bytes();
    u64::from(u16::from_be_bytes([a, b])).is_multiple_of(MEAN_BLOCK)
}

/// A block that is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Bound of the block.
    pub(crate) low: Vec<u8>,
    /// Last key of the lower part; nothing if anywhere will do.
    pub(crate) at: Option<Vec<u8>>,
}

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

    pub(crate) fn remove(&mut self, hash: u128) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(hash);
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// A block, as far as it lies in some range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounded {
    pub(crate) low: Vec<u8>,
    /// Last key that belongs to it; nothing if it is the last block.
    pub(crate) high: Option<Vec<u8>>,
    /// Whether all of it lies in the range.
    pub(crate) whole: bool,
    /// Entries of the whole block.
    pub(crate) count: u64,
    pub(crate) fingerprint: Fingerprint,
}

impl Bounded {
    fn end(&mut self, high: &[u8], range: &KeyRange) {
        self.whole =
            self.low >= range.low && range.high.as_ref().is_none_or(|end| high <= end.as_slice());
        self.high = Some(high.to_vec());
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

    /// Exchanges one entry of `key`, given by hashes; says which block is to be split because of it.
    pub(crate) fn replace(
        &mut self,
        key: &[u8],
        old: Option<u128>,
        new: Option<u128>,
    ) -> Option<Split> {
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
        if old.is_none() && new.is_some() && ends_block(key) {
            let at = Some(key.to_vec());
            return Some(Split { low, at });
        }
        if count > MAX_BLOCK {
            return Some(Split { low, at: None });
        }
        if old.is_some() && new.is_none() {
            if self.blocks.contains_key(key) {
                self.join_before(key);
            }
            if count < MIN_BLOCK && !ends_block(&low) {
                self.join_before(&low);
            }
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

    /// The blocks that a range touches.
    pub(crate) fn bounds(&self, range: &KeyRange) -> Vec<Bounded> {
        let first = match range.low.is_empty() {
            true => Vec::new(),
            // The block that keys right behind `low` belong to.
            false => self
                .blocks
                .range::<[u8], _>((Bound::Unbounded, Bound::Included(range.low.as_slice())))
                .next_back()
                .map_or_else(Vec::new, |(low, _)| low.clone()),
        };
        let mut out: Vec<Bounded> = Vec::new();
        for (low, block) in self.blocks.range(first..) {
            if range.high.as_ref().is_some_and(|high| low >= high) {
                if let Some(last) = out.last_mut() {
                    last.end(low, range);
                }
                return out;
            }
            if let Some(last) = out.last_mut() {
                last.end(low, range);
            }
            out.push(Bounded {
                low: low.clone(),
                high: None,
                // Until it is known where it ends.
                whole: *low >= range.low && range.high.is_none(),
                count: block.count,
                fingerprint: *block,
            });
        }
        out
    }

    /// The first block at or behind a bound, and its range.
    pub(crate) fn block_at(&self, low: &[u8]) -> Option<(KeyRange, Fingerprint)> {
        let mut blocks = self
            .blocks
            .range::<[u8], _>((Bound::Included(low), Bound::Unbounded));
        let (low, block) = blocks.next()?;
        let range = KeyRange {
            low: low.clone(),
            high: blocks.next().map(|(high, _)| high.clone()),
        };
        Some((range, *block))
    }

    /// Puts right what was kept of a block.
    pub(crate) fn correct(&mut self, low: &[u8], right: Fingerprint) {
        if let Some(block) = self.blocks.get_mut(low) {
            self.total.count = self.total.count.saturating_sub(block.count);
            self.total.sum = self.total.sum.wrapping_sub(block.sum);
            *block = right;
            self.total.join(right);
        }
    }

    /// Where a wanted split is to be made, if it is still needed: bound of the block and last key of
    /// its lower part.
    pub(crate) fn check(&self, split: &Split) -> Option<Split> {
        let low = split.at.as_deref().map(|at| self.block_of(at));
        let low = low.unwrap_or_else(|| split.low.clone());
        let count = self.blocks.get(&low).map_or(0, |block| block.count);
        (split.at.is_some() || count > MAX_BLOCK).then(|| Split {
            low,
            at: split.at.clone(),
        })
    }

    /// Bound of the block that `key` belongs to.
    fn block_of(&self, key: &[u8]) -> Vec<u8> {
        self.blocks
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key)))
            .next_back()
            .map_or_else(Vec::new, |(low, _)| low.clone())
    }

    /// Joins the block at `low` with the one before it, if the two are not too large together.
    fn join_before(&mut self, low: &[u8]) {
        let before = self
            .blocks
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(low)))
            .next_back()
            .map(|(before, block)| (before.clone(), block.count));
        let Some((before, count)) = before else {
            return;
        };
        let joined = self.blocks.get(low).copied().unwrap_or_default();
        if count.saturating_add(joined.count) <= MAX_BLOCK {
            self.blocks.remove(low);
            if let Some(block) = self.blocks.get_mut(&before) {
                block.join(joined);
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
        if self.block.count >= MAX_BLOCK || ends_block(key) {
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
