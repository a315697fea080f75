//! A place for an entry, as words: where it lies and what its words say.

use nexus_abi::{BUCKET_ENTRIES, Binding, Entry};
use zerocopy::transmute;

use super::memory::Memory;
use super::probe::Probe;

const WORDS: usize = size_of::<Entry>() / 8;
const HELD: usize = Entry::HELD / 8;
const SEEN: usize = Entry::LAST_SEEN / 8;
const _: () = assert!(Entry::LAST_SEEN / 8 == Entry::OVERFLOW / 8);

/// Buckets that a memory has room for.
pub fn buckets_in(memory: &impl Memory) -> u32 {
    u32::try_from(memory.words() / (WORDS * BUCKET_ENTRIES)).unwrap_or(0)
}

/// Changes how many keys have their home in a bucket and stand elsewhere.
pub fn overflow(memory: &impl Memory, bucket: u32, change: impl Fn(u32) -> u32) {
    let at = Slot::of(bucket)[0].at(SEEN);
    memory.update(at, |word| {
        u64::from(change((word >> 32) as u32)) << 32 | word & 0xffff_ffff
    });
}

/// How many keys have their home in a bucket and stand elsewhere.
pub fn overflow_of(memory: &impl Memory, bucket: u32) -> u32 {
    (memory.load(Slot::of(bucket)[0].at(SEEN)) >> 32) as u32
}

/// A place, by its number in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u64);

impl Slot {
    /// The places of a bucket.
    pub fn of(bucket: u32) -> [Self; BUCKET_ENTRIES] {
        let first = u64::from(bucket) * BUCKET_ENTRIES as u64;
        std::array::from_fn(|entry| Self(first + entry as u64))
    }

    /// The places of a table.
    pub fn all(mask: u32) -> impl Iterator<Item = Self> {
        (0..=mask).flat_map(Self::of)
    }

    /// The bucket that it is in.
    pub const fn bucket(self) -> u32 {
        (self.0 / BUCKET_ENTRIES as u64) as u32
    }

    const fn at(self, word: usize) -> usize {
        self.0 as usize * WORDS + word
    }

    /// Nobody's.
    pub fn is_free(self, memory: &impl Memory) -> bool {
        memory.load(self.at(HELD)) >> 32 == 0
    }

    /// What stands there.
    pub fn words(self, memory: &impl Memory) -> Words {
        let [identity, rest, held, seen]: [u64; WORDS] =
            std::array::from_fn(|word| memory.load(self.at(word)));
        Words {
            identity,
            rest,
            held,
            last_seen: seen as u32,
        }
    }

    /// From now on it is nobody's.
    pub fn clear(self, memory: &impl Memory) {
        memory.store(self.at(HELD), 0);
    }

    /// Writes who may use it and how; it is nobody's at that moment.
    pub fn describe(self, memory: &impl Memory, words: &Words) {
        memory.store(self.at(0), words.identity);
        memory.store(self.at(1), words.rest);
    }

    /// Writes when the client was last seen. The kernel writes that word too, even late, for an entry
    /// that has just left: one time of many is of no consequence, the other half of the word is.
    pub fn see(self, memory: &impl Memory, last_seen: u32) {
        memory.update(self.at(SEEN), |word| {
            word >> 32 << 32 | u64::from(last_seen)
        });
    }

    /// From now on it holds this address until this time.
    pub fn hold(self, memory: &impl Memory, held: u64) {
        memory.store(self.at(HELD), held);
    }
}

/// The words of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// MAC, kind and interface.
    pub identity: u64,
    /// VLANs or number of the circuit, and profile.
    pub rest: u64,
    /// Address and end; no end: free.
    pub held: u64,
    /// When the client was last seen.
    pub last_seen: u32,
}

impl Words {
    /// Of a new entry.
    pub fn new(probe: &Probe, vids: u32, binding: &Binding, last_seen: u32) -> Self {
        let mut entry = Entry {
            profile: binding.profile,
            address: binding.address,
            valid_until_secs: binding.valid_until_secs,
            mac: binding.mac,
            outer_vid: vids as u16,
            inner_vid: (vids >> 16) as u16,
            ..Entry::default()
        };
        let [.., kind, interface] = probe.identity.to_le_bytes();
        (entry.kind, entry.interface) = (kind, interface);
        if let Some(mac) = probe.mac() {
            entry.mac = mac;
        }
        let [identity, rest, held, _]: [u64; WORDS] = transmute!(entry);
        Self {
            identity,
            rest,
            held,
            last_seen,
        }
    }

    /// VLANs or number of the circuit.
    pub const fn vids(&self) -> u32 {
        self.rest as u32
    }

    /// The entry; `None`: the place is free.
    pub fn entry(&self) -> Option<Entry> {
        let entry: Entry = transmute!([
            self.identity,
            self.rest,
            self.held,
            u64::from(self.last_seen)
        ]);
        (entry.valid_until_secs != 0).then_some(entry)
    }

    /// What the entry gives to whoever has its key; `None`: the place is free.
    pub fn binding(&self) -> Option<Binding> {
        let entry = self.entry()?;
        Some(Binding {
            address: entry.address,
            valid_until_secs: entry.valid_until_secs,
            mac: entry.mac,
            profile: entry.profile,
            last_seen_jiffies: entry.last_seen_jiffies,
        })
    }
}
