//! Watching a pinned map: an entry that was there must be there in every sample, with its address.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nexus_abi::Entry;
use nexus_testkit::bpf;
use serde_json::Value;

const EVERY: Duration = Duration::from_millis(20);

/// The bytes of a key to the bytes of an address.
pub type Addresses = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the address stands in the bytes of a value.
pub const ADDRESS: Range<usize> = {
    let start = offset_of!(Entry, binding.address);
    start..start + size_of::<[u8; 4]>()
};

/// What a watch has seen.
pub struct Watched {
    /// Samples taken.
    pub samples: u32,
    /// Longest time between two samples.
    pub longest_gap: Duration,
    /// Entries that were missing or had another address, each once.
    pub blinks: Vec<String>,
    /// Samples that could not be taken.
    pub unread: u32,
}

/// A thread that samples a map until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

/// Keys and addresses of the map of bindings.
pub fn addresses(pin: &Path) -> Result<Addresses> {
    let mut found = Addresses::new();
    for entry in bpf::map_dump(pin)? {
        let bytes = |name| entry.get(name).and_then(bpf::raw_bytes);
        let address = bytes("value").and_then(|value| value.get(ADDRESS).map(<[u8]>::to_vec));
        match (bytes("key"), address) {
            (Some(key), Some(address)) => found.insert(key, address),
            _ => bail!("cannot read this entry of {}: {entry}", pin.display()),
        };
    }
    Ok(found)
}

/// The entry's fields by name, as `bpftool` shows them.
pub fn formatted(entry: &Value) -> Option<(&Value, &Value)> {
    let formatted = entry.get("formatted")?;
    Some((formatted.get("key")?, formatted.get("value")?))
}

impl Watch {
    /// Watches what is in the map now. More entries may come; these must stay as they are.
    pub fn start(pin: PathBuf) -> Result<(Self, usize)> {
        let expected = addresses(&pin)?;
        let count = expected.len();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || sample(&pin, &expected, &stopped));
        Ok((Self { stop, thread }, count))
    }

    /// Ends it.
    pub fn stop(self) -> Result<Watched> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the thread that watched the map panicked"))
    }
}

fn sample(pin: &Path, expected: &Addresses, stopped: &AtomicBool) -> Watched {
    let mut watched = Watched {
        samples: 0,
        longest_gap: Duration::ZERO,
        blinks: Vec::new(),
        unread: 0,
    };
    let mut last = Instant::now();
    // One sample at least also when told to stop at once.
    loop {
        match addresses(pin) {
            Ok(found) => {
                watched.samples += 1;
                watched.longest_gap = watched.longest_gap.max(last.elapsed());
                last = Instant::now();
                for blink in differences(expected, &found) {
                    if !watched.blinks.contains(&blink) {
                        watched.blinks.push(blink);
                    }
                }
            }
            Err(_) => watched.unread += 1,
        }
        if stopped.load(Ordering::Relaxed) {
            return watched;
        }
        std::thread::sleep(EVERY);
    }
}

fn differences(expected: &Addresses, found: &Addresses) -> Vec<String> {
    expected
        .iter()
        .filter_map(|(key, address)| match found.get(key) {
            Some(other) if other == address => None,
            Some(other) => Some(format!("{key:02x?} had {address:?}, then {other:?}")),
            None => Some(format!("{key:02x?} was missing")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_changed_entry_are_seen_and_a_new_one_is_fine() {
        let before = Addresses::from([(vec![1], vec![9]), (vec![2], vec![8])]);
        assert!(differences(&before, &before).is_empty());
        let after = Addresses::from([(vec![2], vec![7]), (vec![3], vec![6])]);
        assert_eq!(differences(&before, &after).len(), 2);
    }
}
