//! What replicas tell each other: deltas, digests, and the pull of what is missing.

use crate::codec::{Reader, Writer};
use crate::entry::{Entry, MAX_KEY_BYTES};
use crate::error::Malformed;
use crate::retired::Retired;
use crate::summary::Fingerprint;
use crate::vector::VersionVector;
use crate::version::{Dot, Incarnation, Origin};

/// First byte of every message.
const FORMAT: u8 = 2;

/// A key and what it is bound to.
pub type KeyedEntry = (Vec<u8>, Entry);

/// Writes `start..=end` of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose writes.
    pub origin: Origin,
    /// The first.
    pub start: u64,
    /// The last.
    pub end: u64,
}

/// Entries on their way to another replica. Any loss, repetition and order is fine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Tombstones of writes up to these are collected everywhere: a fact, which goes before the entries.
    pub collected: VersionVector,
    /// Causal length above which new keys start, so that they stand above every collected tombstone.
    pub floor: u64,
    /// Writers that are forgotten everywhere: a fact as well.
    pub retired: Retired,
    /// Keys and what they are bound to.
    pub entries: Vec<KeyedEntry>,
}

/// What one replica has, in a few hundred bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Which boot of which replica this is.
    pub origin: Origin,
    /// The first boot on the rows that it has. What it says in one boot after the other goes together only
    /// while this is the same; it is another one after a wipe.
    pub born: Incarnation,
    /// Writes that it has seen.
    pub seen: VersionVector,
    /// Tombstones that are collected.
    pub collected: VersionVector,
    /// See [`Delta::floor`].
    pub floor: u64,
    /// See [`Delta::retired`].
    pub retired: Retired,
    /// Whether every tombstone in `collected` is removed: before that it is still in the fingerprint.
    pub swept: bool,
    /// Whether it is a full member, that has had all of some other one once.
    pub complete: bool,
    /// Of everything it holds. Differs from ours while `seen` and `collected` are equal and both are
    /// swept: damage, to be repaired by ranges.
    pub fingerprint: Fingerprint,
}

/// "This is what I have seen, give me the rest."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Who asks. The answer is for this boot of it only: an earlier or later one has seen other things.
    pub asking: Origin,
    /// What need not be sent.
    pub have: VersionVector,
    /// Where the answer before ended.
    pub after: Option<Dot>,
}

/// A part of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullAnswer {
    /// Who asked.
    pub asking: Origin,
    /// Entries that the asking replica lacks.
    pub delta: Delta,
    /// Writes that are all answered by these entries, or made void by writes in `seen`.
    pub covers: Vec<Range>,
    /// What the answering replica had seen when it answered.
    pub seen: VersionVector,
    /// See [`Digest::complete`].
    pub complete: bool,
    /// Where to go on, if this was not all.
    pub next: Option<Dot>,
}

impl Delta {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        self.write(&mut out);
        out.finish()
    }

    /// The message of these bytes.
    ///
    /// # Errors
    /// Whatever does not fit: lengths, counts, keys, entries.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        message("delta", bytes, Self::read)
    }

    /// Bytes of this message without its entries, and those of one entry in it.
    pub(crate) fn entry_bytes(key: &[u8], entry: &Entry) -> usize {
        key.len()
            .saturating_add(entry.value.len())
            .saturating_add(64)
    }

    fn write(&self, out: &mut Writer) {
        self.collected.write(out);
        out.u64(self.floor);
        self.retired.write(out);
        out.count(self.entries.len());
        for (key, entry) in &self.entries {
            out.bytes(key);
            out.bytes(&entry.encode());
        }
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        let collected = VersionVector::read(bytes)?;
        let floor = bytes.u64()?;
        let retired = Retired::read(bytes)?;
        let mut entries = Vec::new();
        for _ in 0..bytes.count(8)? {
            let key = bytes.bytes()?.to_vec();
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                return Err(bytes.wrong(format!("a key of {} bytes", key.len())));
            }
            entries.push((key, Entry::decode(bytes.bytes()?)?));
        }
        Ok(Self {
            collected,
            floor,
            retired,
            entries,
        })
    }
}

impl Digest {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        self.write(&mut out);
        out.finish()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.origin(self.origin);
        out.u32(self.born.0);
        self.seen.write(out);
        self.collected.write(out);
        out.u64(self.floor);
        self.retired.write(out);
        out.u8(self.swept.into());
        out.u8(self.complete.into());
        out.u64(self.fingerprint.count);
        out.raw(&self.fingerprint.sum.to_be_bytes());
    }

    /// The message of these bytes.
    ///
    /// # Errors
    /// Whatever does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        message("digest", bytes, Self::read)
    }

    pub(crate) fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            origin: bytes.origin()?,
            born: Incarnation(bytes.u32()?),
            seen: VersionVector::read(bytes)?,
            collected: VersionVector::read(bytes)?,
            floor: bytes.u64()?,
            retired: Retired::read(bytes)?,
            swept: bytes.flag()?,
            complete: bytes.flag()?,
            fingerprint: Fingerprint {
                count: bytes.u64()?,
                sum: u128::from_be_bytes(bytes.array()?),
            },
        })
    }
}

impl PullRequest {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        out.origin(self.asking);
        self.have.write(&mut out);
        write_dot(&mut out, self.after);
        out.finish()
    }

    /// The message of these bytes.
    ///
    /// # Errors
    /// Whatever does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        message("pull request", bytes, |bytes| {
            Ok(Self {
                asking: bytes.origin()?,
                have: VersionVector::read(bytes)?,
                after: read_dot(bytes)?,
            })
        })
    }
}

impl PullAnswer {
    /// The bytes of this message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        out.origin(self.asking);
        self.delta.write(&mut out);
        out.count(self.covers.len());
        for range in &self.covers {
            out.origin(range.origin);
            out.u64(range.start);
            out.u64(range.end);
        }
        self.seen.write(&mut out);
        out.u8(self.complete.into());
        write_dot(&mut out, self.next);
        out.finish()
    }

    /// The message of these bytes.
    ///
    /// # Errors
    /// Whatever does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        message("pull answer", bytes, |bytes| {
            let asking = bytes.origin()?;
            let delta = Delta::read(bytes)?;
            let mut covers = Vec::new();
            for _ in 0..bytes.count(24)? {
                covers.push(Range {
                    origin: bytes.origin()?,
                    start: bytes.u64()?,
                    end: bytes.u64()?,
                });
            }
            Ok(Self {
                asking,
                delta,
                covers,
                seen: VersionVector::read(bytes)?,
                complete: bytes.flag()?,
                next: read_dot(bytes)?,
            })
        })
    }
}

fn message<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut bytes = Reader::new(what, bytes);
    bytes.format(FORMAT)?;
    let message = read(&mut bytes)?;
    bytes.end()?;
    Ok(message)
}

/// A dot, or zeros for none (no write has number 0).
fn write_dot(out: &mut Writer, dot: Option<Dot>) {
    match dot {
        Some(dot) => {
            out.origin(dot.origin);
            out.u64(dot.seq);
        }
        None => out.raw(&[0; 16]),
    }
}

fn read_dot(bytes: &mut Reader<'_>) -> Result<Option<Dot>, Malformed> {
    let dot = Dot {
        origin: bytes.origin()?,
        seq: bytes.u64()?,
    };
    Ok((dot.seq != 0).then_some(dot))
}
