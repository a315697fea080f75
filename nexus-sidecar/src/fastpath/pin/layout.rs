//! Whether pinned maps are what this program expects: aya would use one of another layout without a word.

use std::path::Path;

use aya::maps::{MapError, MapInfo, MapType};
use nexus_abi::{
    Bucket, Circuit, EVENTS_BYTES, INTERFACE_COUNT, OUTCOME_COUNT, PROFILE_COUNT, PUNT_COUNT,
    Profile, Punt, map,
};

use super::{SEED, Sizes};
use crate::fastpath::FastPathError;

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// A map that is not what the program needs.
#[derive(Debug)]
pub struct Unfit {
    /// The map.
    pub name: &'static str,
    /// What is needed.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// The first of the maps that are pinned in a folder which does not fit. One that is not there can be made.
pub fn unfit(pins: &Path, sizes: Sizes) -> Result<Option<Unfit>, FastPathError> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let array = MapType::Array;
    let bucket = [4, size(size_of::<Bucket>()), sizes.buckets, MMAPABLE];
    let circuit = [4, size(size_of::<Circuit>()), sizes.circuits, MMAPABLE];
    let expected = [
        (map::BINDINGS, array, bucket),
        (map::CIRCUITS, array, circuit),
        (
            map::PROFILES,
            array,
            [4, size(size_of::<Profile>()), PROFILE_COUNT, 0],
        ),
        (
            map::COUNTERS,
            MapType::PerCpuArray,
            [4, 8, OUTCOME_COUNT, 0],
        ),
        (
            map::PUNTS,
            array,
            [4, size(size_of::<Punt>()), PUNT_COUNT, 0],
        ),
        (map::KINDS, array, [4, 4, INTERFACE_COUNT, 0]),
        (map::EVENTS, MapType::RingBuf, [0, 0, EVENTS_BYTES, 0]),
        (SEED, array, [4, 8, 1, 0]),
    ];
    for (name, kind, shape) in expected {
        let path = pins.join(name);
        if !path.exists() {
            continue;
        }
        let found = Shape::of(&path).map_err(|source| FastPathError::map(name, source))?;
        let expected = Shape { kind, shape };
        if found != expected {
            return Ok(Some(Unfit {
                name,
                expected: expected.to_string(),
                found: found.to_string(),
            }));
        }
    }
    // Without the seed nobody can tell where the keys stand.
    let seedless = pins.join(map::BINDINGS).exists() && !pins.join(SEED).exists();
    Ok(seedless.then(|| Unfit {
        name: SEED,
        expected: "the seed of BINDINGS".to_owned(),
        found: "nothing".to_owned(),
    }))
}

/// Type; and size of keys, size of values, entries and flags.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    kind: MapType,
    shape: [u32; 4],
}

impl Shape {
    fn of(pin: &Path) -> Result<Self, MapError> {
        let info = MapInfo::from_pin(pin)?;
        let (key, value) = (info.key_size(), info.value_size());
        Ok(Self {
            kind: info.map_type()?,
            shape: [key, value, info.max_entries(), info.map_flags()],
        })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, [key, value, entries, flags]) = (self.kind, self.shape);
        write!(
            f,
            "{kind:?} with keys of {key} bytes, values of {value} bytes, {entries} entries, flags {flags:#x}"
        )
    }
}

/// How large the maps are that are pinned in a folder; `None`: they are not there, or none of this
/// version's.
pub fn sizes(pins: &Path) -> Result<Option<Sizes>, FastPathError> {
    let entries = |name: &'static str| {
        let path = pins.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let info = MapInfo::from_pin(&path).map_err(|source| FastPathError::map(name, source))?;
        Ok(Some(info.max_entries()))
    };
    let (Some(buckets), Some(circuits)) = (entries(map::BINDINGS)?, entries(map::CIRCUITS)?) else {
        return Ok(None);
    };
    let sizes = Sizes { buckets, circuits };
    Ok(unfit(pins, sizes)?.is_none().then_some(sizes))
}
