//! `KINDS`: which kinds of key an interface has, so that the kernel looks up no others.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, MapData};
use nexus_abi::{BindingKey, map};

use super::FastPathError;

/// The bits of each interface. They are only ever set; those of kinds that have gone are cleared when the
/// maps are taken up again.
pub struct Kinds {
    map: Array<MapData, u32>,
    set: BTreeMap<u8, u32>,
}

impl Kinds {
    /// Makes the map say which kinds the keys of `present` are of.
    pub fn open(
        map: Map,
        present: impl Iterator<Item = BindingKey>,
    ) -> Result<Self, FastPathError> {
        let map = Array::try_from(map).map_err(|source| FastPathError::map(map::KINDS, source))?;
        let mut kinds = Self {
            map,
            set: BTreeMap::new(),
        };
        let mut bits: BTreeMap<u8, u32> = BTreeMap::new();
        for key in present {
            *bits.entry(key.interface()).or_default() |= bit(&key);
        }
        for number in 0..nexus_abi::INTERFACE_COUNT {
            let interface = u8::try_from(number).unwrap_or(u8::MAX);
            kinds.write(interface, bits.get(&interface).copied().unwrap_or(0))?;
        }
        Ok(kinds)
    }

    /// To be called before a key is written.
    pub fn note(&mut self, key: &BindingKey) -> Result<(), FastPathError> {
        let interface = key.interface();
        let before = self.set.get(&interface).copied().unwrap_or(0);
        let after = before | bit(key);
        if before == after {
            return Ok(());
        }
        self.write(interface, after)
    }

    fn write(&mut self, interface: u8, bits: u32) -> Result<(), FastPathError> {
        self.map
            .set(u32::from(interface), bits, 0)
            .map_err(|source| FastPathError::map(map::KINDS, source))?;
        self.set.insert(interface, bits);
        Ok(())
    }
}

fn bit(key: &BindingKey) -> u32 {
    1 << (key.kind() & 31)
}
