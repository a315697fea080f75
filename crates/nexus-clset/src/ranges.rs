//! What replicas ask each other to find out in which ranges of keys they differ, and to make these alike.
//!
//! Range-based set reconciliation (Meyer, SRDS 2023): the asking side goes down from the whole map,
//! sixteen parts at a time, to where fingerprints differ. A range is all keys behind `low` (exclusive) up
//! to `high` (inclusive, or to the end). Keys are written as what differs from the one before.

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::hlc::Hlc;
use crate::message::Delta;
use crate::summary::Fingerprint;
use crate::vector::VersionVector;
use crate::version::{Fence, Incarnation, NodeId, Origin, Version};

/// Parts that a range is divided into.
pub(crate) const FAN_OUT: usize = 16;

/// A range with at most so many entries is listed.
pub(crate) const MAX_LIST: u64 = 32;

/// Most ranges in one question.
pub(crate) const MAX_RANGES: usize = 64;

/// Most keys in one question.
pub(crate) const MAX_KEYS: usize = 1024;

/// About how many bytes one answer may have.
pub(crate) const MAX_ANSWER: usize = 224 * 1024;

/// Keys behind `low` up to `high`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyRange {
    /// Exclusive; empty is the start.
    pub(crate) low: Vec<u8>,
    /// Inclusive; nothing is the end.
    pub(crate) high: Option<Vec<u8>>,
}

/// "What stands in these ranges?"
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expand {
    pub(crate) ranges: Vec<KeyRange>,
}

/// What stands in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// In each of its parts, given by their highs; the last one ends where the range does.
    Split(Vec<(Option<Vec<u8>>, Fingerprint)>),
    /// Entry by entry.
    List(Vec<Item>),
}

/// An entry without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) version: Version,
    /// 64 bits of the fingerprint: two entries of one version are the same, unless one is damaged.
    pub(crate) check: u64,
}

/// Answers to the first ranges of a question, as many as fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The facts that go before.
    pub(crate) facts: Delta,
    /// What the answering replica had seen.
    pub(crate) seen: VersionVector,
    pub(crate) complete: bool,
    pub(crate) parts: Vec<Part>,
}

/// "Give me these entries."
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// Of one range, from its start.
    pub(crate) range: Option<KeyRange>,
    /// Of these keys.
    pub(crate) keys: Vec<Vec<u8>>,
}

/// As many as fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) delta: Delta,
    /// The range is answered up to this key; nothing if it is all answered.
    pub(crate) upto: Option<Vec<u8>>,
    /// How many of the keys are answered.
    pub(crate) keys: u32,
}

/// What a comparison of one range came to.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Ranges to go on with.
    pub(crate) deeper: Vec<KeyRange>,
    /// Ranges of which nothing is here.
    pub(crate) want_ranges: Vec<KeyRange>,
    /// Ranges of which nothing is there.
    pub(crate) give_ranges: Vec<KeyRange>,
    /// Entries that are greater there.
    pub(crate) want: Vec<Vec<u8>>,
    /// Entries that are greater here.
    pub(crate) give: Vec<Vec<u8>>,
}

impl KeyRange {
    fn write(&self, before: &[u8], out: &mut Writer) {
        out.key_behind(before, &self.low);
        match &self.high {
            Some(high) => {
                out.u8(1);
                out.key_behind(&self.low, high);
            }
            None => out.u8(0),
        }
    }

    fn read(before: &[u8], bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let low = bytes.key_behind(before)?;
        let high = match bytes.flag()? {
            true => Some(bytes.key_behind(&low)?),
            false => None,
        };
        if high.as_ref().is_some_and(|high| *high <= low) {
            return Err(bytes.wrong("a range that ends before it begins"));
        }
        Ok(Self { low, high })
    }
}

fn count(out: &mut Writer, count: usize) {
    out.varint(u64::try_from(count).unwrap_or(u64::MAX));
}

fn counted(bytes: &mut Reader<'_>, most: usize) -> Result<usize, Malformed> {
    let count = usize::try_from(bytes.varint()?).unwrap_or(usize::MAX);
    if count > most {
        return Err(bytes.wrong(format!("{count} things, at most {most} are allowed")));
    }
    Ok(count)
}

impl Expand {
    pub(crate) fn write(&self, out: &mut Writer) {
        count(out, self.ranges.len());
        let mut before: &[u8] = &[];
        for range in &self.ranges {
            range.write(before, out);
            before = &range.low;
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut ranges: Vec<KeyRange> = Vec::new();
        for _ in 0..counted(bytes, MAX_RANGES)? {
            let before = ranges.last().map_or(&[][..], |range| &range.low);
            let range = KeyRange::read(before, bytes)?;
            ranges.push(range);
        }
        Ok(Self { ranges })
    }
}

impl Part {
    fn write(&self, out: &mut Writer) {
        let mut before: &[u8] = &[];
        match self {
            Self::Split(parts) => {
                out.u8(1);
                count(out, parts.len());
                for (high, fingerprint) in parts {
                    out.varint(fingerprint.count);
                    out.raw(&fingerprint.sum.to_be_bytes());
                    out.u8(high.is_some().into());
                    if let Some(high) = high {
                        out.key_behind(before, high);
                        before = high;
                    }
                }
            }
            Self::List(items) => {
                out.u8(2);
                count(out, items.len());
                for item in items {
                    out.key_behind(before, &item.key);
                    write_version(&item.version, out);
                    out.u64(item.check);
                    before = &item.key;
                }
            }
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut before = Vec::new();
        let [kind] = bytes.array()?;
        match kind {
            1 => {
                let mut parts = Vec::new();
                for _ in 0..counted(bytes, FAN_OUT)? {
                    let fingerprint = Fingerprint {
                        count: bytes.varint()?,
                        sum: u128::from_be_bytes(bytes.array()?),
                    };
                    let high = match bytes.flag()? {
                        true => {
                            let high = bytes.key_behind(&before)?;
                            before.clone_from(&high);
                            Some(high)
                        }
                        false => None,
                    };
                    parts.push((high, fingerprint));
                }
                Ok(Self::Split(parts))
            }
            2 => {
                let mut items = Vec::new();
                for _ in 0..counted(bytes, usize::try_from(MAX_LIST).unwrap_or(0))? {
                    let key = bytes.key_behind(&before)?;
                    if key <= before {
                        return Err(bytes.wrong("keys out of order"));
                    }
                    let version = read_version(bytes)?;
                    let check = bytes.u64()?;
                    before.clone_from(&key);
                    items.push(Item {
                        key,
                        version,
                        check,
                    });
                }
                Ok(Self::List(items))
            }
            other => Err(bytes.wrong(format!("a part of kind {other}"))),
        }
    }

    /// Whether this can be the answer for a range: bounds in order and inside.
    pub(crate) fn fits(&self, range: &KeyRange) -> bool {
        let inside =
            |key: &Vec<u8>| *key > range.low && range.high.as_ref().is_none_or(|high| key <= high);
        match self {
            Self::Split(parts) => {
                let highs: Vec<_> = parts.iter().filter_map(|(high, _)| high.as_ref()).collect();
                parts.last().is_some_and(|(high, _)| high.is_none())
                    && highs.len().saturating_add(1) == parts.len()
                    && highs.iter().all(|high| inside(high))
                    && highs.is_sorted_by(|a, b| a < b)
                    && highs
                        .last()
                        .is_none_or(|last| range.high.as_ref() != Some(*last))
            }
            // In order they are, or they could not be read.
            Self::List(items) => items.iter().all(|item| inside(&item.key)),
        }
    }

    /// Bytes of this part, at most.
    pub(crate) fn bytes(&self) -> usize {
        let mut out = Writer::new();
        self.write(&mut out);
        out.len()
    }
}

fn write_version(version: &Version, out: &mut Writer) {
    out.varint(version.fence.epoch);
    out.varint(version.fence.seq);
    out.varint(version.causal_length);
    out.u64(version.hlc.0);
    out.varint(version.origin.node.0.into());
    out.varint(version.origin.incarnation.0.into());
}

fn read_version(bytes: &mut Reader<'_>) -> Result<Version, Malformed> {
    let short = |bytes: &mut Reader<'_>| -> Result<u32, Malformed> {
        let number = bytes.varint()?;
        u32::try_from(number).map_err(|_| bytes.wrong(format!("{number} for 32 bits")))
    };
    Ok(Version {
        fence: Fence {
            epoch: bytes.varint()?,
            seq: bytes.varint()?,
        },
        causal_length: bytes.varint()?,
        hlc: Hlc(bytes.u64()?),
        origin: Origin {
            node: NodeId(short(bytes)?),
            incarnation: Incarnation(short(bytes)?),
        },
    })
}

impl Expanded {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.bytes(&self.facts.encode());
        self.seen.write(out);
        out.u8(self.complete.into());
        count(out, self.parts.len());
        for part in &self.parts {
            part.write(out);
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let facts = Delta::decode(bytes.bytes()?)?;
        let seen = VersionVector::read(bytes)?;
        let complete = bytes.flag()?;
        let mut parts = Vec::new();
        for _ in 0..counted(bytes, MAX_RANGES)? {
            parts.push(Part::read(bytes)?);
        }
        Ok(Self {
            facts,
            seen,
            complete,
            parts,
        })
    }
}

impl Fetch {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.u8(self.range.is_some().into());
        if let Some(range) = &self.range {
            range.write(&[], out);
        }
        count(out, self.keys.len());
        let mut before: &[u8] = &[];
        for key in &self.keys {
            out.key_behind(before, key);
            before = key;
        }
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let range = match bytes.flag()? {
            true => Some(KeyRange::read(&[], bytes)?),
            false => None,
        };
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for _ in 0..counted(bytes, MAX_KEYS)? {
            let before = keys.last().map_or(&[][..], Vec::as_slice);
            let key = bytes.key_behind(before)?;
            keys.push(key);
        }
        Ok(Self { range, keys })
    }
}

impl Fetched {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.bytes(&self.delta.encode());
        out.u8(self.upto.is_some().into());
        if let Some(upto) = &self.upto {
            out.bytes(upto);
        }
        out.u32(self.keys);
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            delta: Delta::decode(bytes.bytes()?)?,
            upto: match bytes.flag()? {
                true => Some(bytes.bytes()?.to_vec()),
                false => None,
            },
            keys: bytes.u32()?,
        })
    }
}
