//! Units of a pool that are never handed out, so that one look-up says how many of them lie in a part.

use super::error::PoolError;
use super::spec::PoolSpec;
use super::value;

/// Most ranges of units that a pool withholds. An exclusion of ports makes one for each public address.
pub const MAX_WITHHELD: usize = 65_536;

/// Ranges of units counted from the start of the pool: ordered, apart, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Withheld {
    ranges: Vec<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    /// Withheld units of the pool that lie below this range.
    below: u64,
}

impl Range {
    fn len(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

impl Withheld {
    /// Orders ranges and joins those that touch.
    pub fn new(spec: &PoolSpec, mut parts: Vec<(u64, u64)>) -> Result<Self, PoolError> {
        parts.sort_unstable();
        let mut ranges: Vec<Range> = Vec::with_capacity(parts.len());
        let mut below = 0_u64;
        for (first, last) in parts {
            match ranges.last_mut() {
                Some(before) if first <= before.last.saturating_add(1) => {
                    let longer = last.saturating_sub(before.last);
                    before.last = before.last.max(last);
                    below = below.saturating_add(longer);
                }
                _ => {
                    ranges.push(Range { first, last, below });
                    below = below.saturating_add(last.saturating_sub(first).saturating_add(1));
                }
            }
        }
        if ranges.len() > MAX_WITHHELD {
            let problem = format!(
                "make {} separate parts of the pool, at most {MAX_WITHHELD} are possible: narrow `range` instead of excluding ports of every address",
                ranges.len()
            );
            let count = spec.exclusions.len().saturating_add(spec.reserved.len());
            return Err(value(spec, "exclusions", &count.to_string(), problem));
        }
        Ok(Self { ranges })
    }

    /// Whether `unit` is withheld.
    pub fn contains(&self, unit: u64) -> bool {
        self.end_of(unit).is_some()
    }

    /// The last unit of the range that `unit` lies in.
    pub fn end_of(&self, unit: u64) -> Option<u64> {
        let range = self.at_or_before(unit)?;
        (unit <= range.last).then_some(range.last)
    }

    /// Withheld units below `unit`.
    pub fn below(&self, unit: u64) -> u64 {
        let Some(before) = unit.checked_sub(1).and_then(|last| self.at_or_before(last)) else {
            return 0;
        };
        let within = unit.saturating_sub(before.first).min(before.len());
        before.below.saturating_add(within)
    }

    /// The ranges that touch the units from `first` to `last`, cut to them, in order.
    pub fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + use<'_> {
        let start = self.ranges.partition_point(|range| range.last < first);
        self.ranges
            .iter()
            .skip(start)
            .take_while(move |range| range.first <= last)
            .map(move |range| (range.first.max(first), range.last.min(last)))
    }

    fn at_or_before(&self, unit: u64) -> Option<Range> {
        let after = self.ranges.partition_point(|range| range.first <= unit);
        self.ranges.get(after.checked_sub(1)?).copied()
    }
}
