//! Numbers that look random and come out of a seed alone: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
//!
//! For tests and simulations. The same seed gives the same numbers on every machine and in every version of the
//! program, so that a seed that found a fault is a test from then on: what is here must not change.

use std::time::Duration;

/// A row of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The row of a seed; those of neighbouring seeds are far apart.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self::at(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The row that goes on behind this state.
    #[must_use]
    pub const fn at(state: u64) -> Self {
        Self(state)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is at least 1.
    pub fn below_u64(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }

    /// Below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.below_u64(limit)).unwrap_or(0)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.below_u64(span))
    }

    /// From `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// True so many times out of a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below_u64(1000) < per_mille
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below_u64(n) == 0
    }

    /// One of them; `None` if there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.below(from.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_are_the_published_ones_and_stay() {
        // The reference implementation's first numbers behind state 0.
        let mut zero = Random::at(0);
        assert_eq!(zero.number(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(zero.number(), 0x6e78_9e6a_a1b9_65f4);
        let mut one = Random::new(1);
        let mut again = Random::at(0x2545_f491_4f6c_dd1d ^ 0x5851_f42d_4c95_7f2d);
        assert_eq!(one.number(), again.number());
        assert!((0..1000).all(|_| (3..=9).contains(&one.between(3, 9)) && one.below(7) < 7));
        assert_eq!(one.pick::<u8>(&[]), None);
    }
}
