//! `CIRCUITS`: the bytes of circuits, under numbers that their entries have.

use nexus_abi::{BindingKey, CIRCUIT_WORDS, Circuit};

use super::Full;
use super::memory::Memory;
use super::probe::Probe;
use super::slot::Words;

/// The array, and which of its numbers are free.
#[derive(Debug)]
pub struct Circuits<M> {
    memory: M,
    /// Numbers that were in use before.
    freed: Vec<u32>,
    /// All from here on were never in use.
    next: u32,
}

impl<M: Memory> Circuits<M> {
    /// With all numbers free.
    pub const fn new(memory: M) -> Self {
        Self {
            memory,
            freed: Vec::new(),
            next: 0,
        }
    }

    /// How many there can be.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.memory.words() / CIRCUIT_WORDS).unwrap_or(u32::MAX)
    }

    /// `used` are in use, all others free.
    pub fn restore(&mut self, used: &[bool]) {
        let end = used
            .iter()
            .rposition(|used| *used)
            .map_or(0, |last| last + 1);
        self.next = u32::try_from(end).unwrap_or(u32::MAX);
        self.freed = (0..self.next)
            .zip(used)
            .filter(|(_, used)| !**used)
            .map(|(number, _)| number)
            .collect();
    }

    /// Writes a circuit under a number of its own, before its entry is written.
    pub fn take(&mut self, circuit: &Circuit) -> Result<u32, Full> {
        let number = match self.freed.pop() {
            Some(number) => number,
            None if self.next < self.capacity() => {
                self.next += 1;
                self.next - 1
            }
            None => return Err(Full::Circuits(self.capacity())),
        };
        let first = number as usize * CIRCUIT_WORDS;
        for (at, word) in (first..).zip(circuit.words) {
            self.memory.store(at, word);
        }
        Ok(number)
    }

    /// The entry of this number is gone. A reader that still compares its bytes looks at the entry once more
    /// afterwards, and sees so.
    pub fn free(&mut self, number: u32) {
        self.freed.push(number);
    }

    fn get(&self, number: u32) -> Circuit {
        let first = number as usize * CIRCUIT_WORDS;
        Circuit {
            words: std::array::from_fn(|word| self.memory.load(first + word)),
        }
    }

    /// Whether an entry is the one of a key.
    pub fn matches(&self, probe: &Probe, words: &Words) -> bool {
        words.held >> 32 != 0
            && probe.is(words.identity)
            && match &probe.circuit {
                Some(circuit) => self.get(words.vids()) == *circuit,
                None => words.vids() == probe.vids,
            }
    }

    /// The key of an entry; `None`: the place is free, or what stands there is none.
    pub fn key(&self, words: &Words) -> Option<BindingKey> {
        let entry = words.entry()?;
        let (interface, mac) = (entry.interface, entry.mac);
        let (outer_vid, inner_vid) = (entry.outer_vid, entry.inner_vid);
        Some(match entry.kind {
            BindingKey::KIND_LINE => BindingKey::Line {
                interface,
                outer_vid,
                inner_vid,
                mac,
            },
            BindingKey::KIND_MAC if words.vids() == 0 => BindingKey::Mac { interface, mac },
            BindingKey::KIND_VLAN => BindingKey::Vlan {
                interface,
                outer_vid,
                inner_vid,
            },
            BindingKey::KIND_CIRCUIT if entry.circuit() < self.capacity() => BindingKey::Circuit {
                interface,
                circuit: self.get(entry.circuit()),
            },
            _ => return None,
        })
    }
}
