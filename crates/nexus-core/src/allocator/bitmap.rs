//! Which units of a shard are not to be had, so that the next one that is can be found in a few steps at any
//! fill: a bit for each unit, and above each 64 words one more that says which of them are full.

/// Bits of a word.
const WORD: u64 = 64;

/// A set of numbers below a length that is fixed when it is made.
#[derive(Clone, Debug)]
pub(super) struct Bitmap {
    /// The bits, then for each level one bit for each word of the level below that is full. The last level
    /// has one word. Bits beyond the end are set, so that they are never found.
    levels: Vec<Vec<u64>>,
    len: u64,
    ones: u64,
}

impl Bitmap {
    /// A set of all numbers below `len` that lie in one of `ranges`, which are apart.
    pub fn new(len: u64, ranges: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut words = vec![0_u64; index(len.div_ceil(WORD).max(1))];
        fill(&mut words, len, u64::MAX);
        let mut ones = 0_u64;
        for (first, last) in ranges {
            let last = last.min(len.saturating_sub(1));
            if first <= last && first < len {
                fill(&mut words, first, last);
                ones = ones.saturating_add(last.saturating_sub(first).saturating_add(1));
            }
        }
        let mut levels = vec![words];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let summarize = |words: &[u64]| {
                let bits = words.iter().enumerate();
                let absent = u64::MAX.checked_shl(u32::try_from(words.len()).unwrap_or(64));
                bits.filter(|(_, word)| **word == u64::MAX)
                    .fold(absent.unwrap_or(0), |sum, (at, _)| sum | 1 << at)
            };
            let above = below.chunks(index(WORD)).map(summarize).collect();
            levels.push(above);
        }
        Self { levels, len, ones }
    }

    /// Numbers that are not in the set.
    pub fn zeros(&self) -> u64 {
        self.len.saturating_sub(self.ones)
    }

    /// Adds a number; one beyond the end is ignored.
    pub fn set(&mut self, number: u64) {
        if number >= self.len {
            return;
        }
        let mut at = number;
        for (height, level) in self.levels.iter_mut().enumerate() {
            let (word, bit) = split(at);
            let Some(word) = level.get_mut(word) else {
                return;
            };
            if height == 0 && *word & bit == 0 {
                self.ones = self.ones.saturating_add(1);
            }
            *word |= bit;
            if *word != u64::MAX {
                return;
            }
            at /= WORD;
        }
    }

    /// Takes a number out; one beyond the end is ignored.
    pub fn clear(&mut self, number: u64) {
        if number >= self.len {
            return;
        }
        let mut at = number;
        for (height, level) in self.levels.iter_mut().enumerate() {
            let (word, bit) = split(at);
            let Some(word) = level.get_mut(word) else {
                return;
            };
            if *word & bit == 0 {
                return;
            }
            if height == 0 {
                self.ones = self.ones.saturating_sub(1);
            }
            *word &= !bit;
            at /= WORD;
        }
    }

    /// The lowest number from `from` on that is not in the set.
    pub fn next_zero(&self, from: u64) -> Option<u64> {
        let mut at = from;
        // Up to the first level on which something is found behind `at`, then down to the bit itself.
        for (height, level) in self.levels.iter().enumerate() {
            let (word, bit) = split(at);
            let behind = level.get(word)? | bit.wrapping_sub(1);
            if behind != u64::MAX {
                let word = u64::try_from(word).ok()?;
                let found = word * WORD + u64::from(behind.trailing_ones());
                return self
                    .descend(height, found)
                    .filter(|found| *found < self.len);
            }
            at = at / WORD + 1;
        }
        None
    }

    fn descend(&self, height: usize, mut at: u64) -> Option<u64> {
        for level in self.levels.iter().take(height).rev() {
            let word = level.get(index(at))?;
            at = at * WORD + u64::from(word.trailing_ones());
        }
        Some(at)
    }

    #[cfg(test)]
    pub fn contains(&self, number: u64) -> bool {
        let (word, bit) = split(number);
        self.levels[0].get(word).is_some_and(|word| word & bit != 0)
    }
}

fn split(at: u64) -> (usize, u64) {
    (index(at / WORD), 1 << (at % WORD))
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Sets the bits from `first` to `last`, as far as there are words.
fn fill(words: &mut [u64], first: u64, last: u64) {
    for (at, word) in (first / WORD..).zip(words.iter_mut().skip(index(first / WORD))) {
        if at > last / WORD {
            return;
        }
        let start = at * WORD;
        let low = first.saturating_sub(start);
        let high = last.saturating_sub(start).min(WORD - 1);
        *word |= (u64::MAX >> (WORD - 1 - high)) & (u64::MAX << low);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_bitmap_is_the_set_that_it_stands_for(
            len in prop_oneof![0_u64..200, 4000_u64..4200, 66_000_u64..66_200],
            ranges in prop::collection::vec((0_u64..70_000, 0_u64..3000), 0..3),
            steps in prop::collection::vec((any::<bool>(), any::<u64>()), 0..200),
            asked in prop::collection::vec(any::<u64>(), 20),
        ) {
            let mut apart: Vec<(u64, u64)> = Vec::new();
            for (first, more) in ranges {
                let range = (first, first + more);
                if apart.iter().all(|(low, high)| range.1 < *low || *high < range.0) {
                    apart.push(range);
                }
            }
            let mut set: BTreeSet<u64> = apart
                .iter()
                .flat_map(|(first, last)| *first..=*last)
                .filter(|n| *n < len)
                .collect();
            let mut bits = Bitmap::new(len, apart.into_iter());
            for (add, number) in steps {
                let number = number % (len + 3);
                if add {
                    bits.set(number);
                    if number < len {
                        set.insert(number);
                    }
                } else {
                    bits.clear(number);
                    set.remove(&number);
                }
            }
            prop_assert_eq!(bits.zeros(), len - set.len() as u64);
            for number in asked {
                let number = number % (len + 3);
                prop_assert_eq!(bits.contains(number) && number < len, set.contains(&number));
                let next = (number..len).find(|n| !set.contains(n));
                prop_assert_eq!(bits.next_zero(number), next);
            }
        }
    }

    #[test]
    fn the_last_free_number_of_a_million_is_found_from_the_first() {
        let mut bits = Bitmap::new(1 << 20, std::iter::once((0, (1 << 20) - 1)));
        assert_eq!((bits.zeros(), bits.next_zero(0)), (0, None));
        bits.clear((1 << 20) - 1);
        assert_eq!(bits.next_zero(0), Some((1 << 20) - 1));
        bits.clear(70_000);
        assert_eq!(bits.next_zero(1), Some(70_000));
        bits.set(70_000);
        assert_eq!(bits.next_zero(1), Some((1 << 20) - 1));
    }
}
