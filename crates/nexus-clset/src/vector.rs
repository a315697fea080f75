//! Which writes a replica has seen: for each origin, those up to a number, and some behind gaps.

use std::collections::BTreeMap;

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::message::Range;
use crate::version::{Dot, Origin};

/// Most runs behind gaps that are remembered of one origin. A write behind one more gap is not
/// noted as seen, which is safe: it is asked for again.
const MAX_RUNS: usize = 256;

/// First byte of an encoded vector.
const FORMAT: u8 = 1;

/// Writes that were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector {
    origins: BTreeMap<Origin, Seen>,
}

/// Of one origin: 1..=`upto`, and runs `start..=end` that lie behind gaps, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    upto: u64,
    runs: BTreeMap<u64, u64>,
}

impl VersionVector {
    /// Whether this write was seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.origins.get(&dot.origin).is_some_and(|seen| {
            dot.seq <= seen.upto
                || seen
                    .runs
                    .range(..=dot.seq)
                    .next_back()
                    .is_some_and(|(_, end)| dot.seq <= *end)
        })
    }

    /// Notes one write. Says whether it is noted now.
    pub fn insert(&mut self, dot: Dot) -> bool {
        self.insert_run(dot.origin, dot.seq, dot.seq)
    }

    /// Notes the writes `start..=end` of one origin. Says whether they are noted now.
    pub fn insert_run(&mut self, origin: Origin, start: u64, end: u64) -> bool {
        if start == 0 || end < start {
            return false;
        }
        let seen = self.origins.entry(origin).or_default();
        let noted = seen.insert(start, end);
        if seen.upto == 0 && seen.runs.is_empty() {
            self.origins.remove(&origin);
        }
        noted
    }

    /// All writes of `origin` up to this one were seen.
    #[must_use]
    pub fn upto(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |seen| seen.upto)
    }

    /// The last write of `origin` that was seen.
    #[must_use]
    pub fn top(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |seen| {
            seen.runs.values().next_back().map_or(seen.upto, |end| *end)
        })
    }

    /// Origins of which anything was seen.
    pub fn origins(&self) -> impl Iterator<Item = Origin> + '_ {
        self.origins.keys().copied()
    }

    /// Runs of writes that were seen, in the order of origins and numbers.
    pub fn runs(&self) -> impl Iterator<Item = (Origin, u64, u64)> + '_ {
        self.origins.iter().flat_map(|(origin, seen)| {
            let first = (seen.upto > 0).then_some((1, seen.upto));
            let behind = seen.runs.iter().map(|(start, end)| (*start, *end));
            first
                .into_iter()
                .chain(behind)
                .map(|(start, end)| (*origin, start, end))
        })
    }

    /// Notes all that the other has seen.
    pub fn join(&mut self, other: &Self) {
        for (origin, start, end) in other.runs() {
            self.insert_run(origin, start, end);
        }
    }

    /// Whether all that the other has seen was seen here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.runs().all(|(origin, start, end)| {
            self.origins.get(&origin).is_some_and(|seen| {
                end <= seen.upto
                    || seen
                        .runs
                        .range(..=start.max(seen.upto.saturating_add(1)))
                        .next_back()
                        .is_some_and(|(from, upto)| {
                            *from <= start.max(seen.upto.saturating_add(1)) && end <= *upto
                        })
            })
        })
    }

    /// What was seen here and not by the other, in the order of origins and numbers.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Vec<Range> {
        let mut out = Vec::new();
        for (origin, start, end) in self.runs() {
            let mut start = start;
            let seen = other.origins.get(&origin);
            let first = seen.map(|seen| (1, seen.upto));
            let behind = seen.into_iter().flat_map(|seen| &seen.runs);
            for (from, upto) in first.into_iter().chain(behind.map(|(f, u)| (*f, *u))) {
                if upto < start {
                    continue;
                }
                if from > end {
                    break;
                }
                if from > start {
                    let end = from.saturating_sub(1);
                    out.push(Range { origin, start, end });
                }
                start = upto.saturating_add(1);
            }
            if start <= end {
                out.push(Range { origin, start, end });
            }
        }
        out
    }

    /// How many writes were seen here and not by the other.
    #[must_use]
    pub fn ahead_of(&self, other: &Self) -> u64 {
        self.minus(other).iter().fold(0, |sum, range| {
            let writes = range.end.saturating_sub(range.start).saturating_add(1);
            sum.saturating_add(writes)
        })
    }

    /// Whether nothing lies behind a gap of this origin.
    pub(crate) fn is_gapless(&self, origin: Origin) -> bool {
        self.origins
            .get(&origin)
            .is_none_or(|seen| seen.runs.is_empty())
    }

    /// Forgets origins for which `gone` says so; says which.
    pub(crate) fn forget(&mut self, gone: impl Fn(Origin) -> bool) -> Vec<Origin> {
        let gone: Vec<_> = self.origins().filter(|origin| gone(*origin)).collect();
        for origin in &gone {
            self.origins.remove(origin);
        }
        gone
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    pub(crate) fn seen(&self, origin: Origin) -> Option<&Seen> {
        self.origins.get(&origin)
    }

    pub(crate) fn set(&mut self, origin: Origin, seen: Seen) {
        self.origins.insert(origin, seen);
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.origins.len());
        for (origin, seen) in &self.origins {
            out.origin(*origin);
            seen.write(out);
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut vector = Self::default();
        for _ in 0..bytes.count(20)? {
            let origin = bytes.origin()?;
            let seen = Seen::read(bytes)?;
            if vector.origins.insert(origin, seen).is_some() {
                return Err(bytes.wrong(format!("origin {origin} stands twice")));
            }
        }
        Ok(vector)
    }
}

impl Seen {
    fn insert(&mut self, start: u64, end: u64) -> bool {
        if end <= self.upto {
            return true;
        }
        if start <= self.upto.saturating_add(1) {
            self.upto = end;
        } else {
            let (mut low, mut high) = (start, end);
            // What overlaps or touches becomes one run.
            let touching: Vec<u64> = self
                .runs
                .range(..=end.saturating_add(1))
                .rev()
                .take_while(|(_, upto)| upto.saturating_add(1) >= start)
                .map(|(from, _)| *from)
                .collect();
            if touching.is_empty() && self.runs.len() >= MAX_RUNS {
                return false;
            }
            for from in touching {
                if let Some(upto) = self.runs.remove(&from) {
                    low = low.min(from);
                    high = high.max(upto);
                }
            }
            self.runs.insert(low, high);
        }
        while let Some((from, upto)) = self.runs.first_key_value().map(|(f, u)| (*f, *u)) {
            if from > self.upto.saturating_add(1) {
                break;
            }
            self.upto = self.upto.max(upto);
            self.runs.remove(&from);
        }
        true
    }

    fn write(&self, out: &mut Writer) {
        out.u64(self.upto);
        out.count(self.runs.len());
        for (start, end) in &self.runs {
            out.u64(*start);
            out.u64(*end);
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut seen = Self {
            upto: bytes.u64()?,
            runs: BTreeMap::new(),
        };
        let mut floor = seen.upto;
        for _ in 0..bytes.count(16)? {
            let (start, end) = (bytes.u64()?, bytes.u64()?);
            if start <= floor.saturating_add(1) || end < start {
                return Err(bytes.wrong(format!("run {start}..={end} behind {floor}")));
            }
            seen.runs.insert(start, end);
            floor = end;
        }
        if seen.runs.len() > MAX_RUNS {
            return Err(bytes.wrong(format!("{} runs", seen.runs.len())));
        }
        if seen.upto == 0 && seen.runs.is_empty() {
            return Err(bytes.wrong("nothing was seen of an origin"));
        }
        Ok(seen)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        self.write(&mut out);
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader::new("row of the version vector", bytes);
        bytes.format(FORMAT)?;
        let seen = Self::read(&mut bytes)?;
        bytes.end()?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::version::{Incarnation, NodeId};

    const ORIGIN: Origin = Origin {
        node: NodeId(1),
        incarnation: Incarnation(2),
    };

    fn dot(seq: u64) -> Dot {
        Dot {
            origin: ORIGIN,
            seq,
        }
    }

    proptest! {
        #[test]
        fn a_vector_is_a_set_of_writes(
            runs in prop::collection::vec((1_u64..60, 0_u64..6), 0..20),
            others in prop::collection::vec((1_u64..60, 0_u64..6), 0..5),
        ) {
            let build = |runs: &[(u64, u64)]| {
                let (mut vector, mut set) = (VersionVector::default(), BTreeSet::new());
                for (start, more) in runs {
                    prop_assert!(vector.insert_run(ORIGIN, *start, start + more));
                    set.extend(*start..=start + more);
                }
                Ok((vector, set))
            };
            let (mut vector, mut set) = build(&runs)?;
            let (other, other_set) = build(&others)?;
            for seq in 1..80 {
                prop_assert_eq!(vector.contains(dot(seq)), set.contains(&seq));
            }
            prop_assert_eq!(vector.covers(&other), other_set.is_subset(&set));
            let more: Vec<u64> = vector.minus(&other).iter().flat_map(|r| r.start..=r.end).collect();
            prop_assert_eq!(&more, &set.difference(&other_set).copied().collect::<Vec<_>>());
            prop_assert_eq!(vector.ahead_of(&other), more.len() as u64);
            let upto = (1..).take_while(|seq| set.contains(seq)).count() as u64;
            prop_assert_eq!(vector.upto(ORIGIN), upto);
            prop_assert_eq!(vector.top(ORIGIN), set.last().copied().unwrap_or(0));

            let mut out = Writer::new();
            vector.write(&mut out);
            let bytes = out.finish();
            prop_assert_eq!(VersionVector::read(&mut Reader::new("test", &bytes)).unwrap(), vector.clone());

            vector.join(&other);
            set.extend(other_set);
            let (same, _) = build(&set.iter().map(|seq| (*seq, 0)).collect::<Vec<_>>())?;
            prop_assert_eq!(vector, same, "one set has one form");
        }
    }

    #[test]
    fn gaps_are_bounded_and_what_is_not_noted_is_not_claimed() {
        let mut vector = VersionVector::default();
        for n in 1..=1000 {
            vector.insert(dot(n * 2));
        }
        assert_eq!(vector.runs().count(), MAX_RUNS);
        assert!(vector.contains(dot(512)) && !vector.contains(dot(514)));
        assert!(vector.insert_run(ORIGIN, 1, 2000));
        assert_eq!(vector.upto(ORIGIN), 2000);
        assert!(!vector.insert(dot(0)));
    }
}
