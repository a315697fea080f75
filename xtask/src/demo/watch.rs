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
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

const EVERY: Duration = Duration::from_millis(20);

/// The bytes of a key to the bytes of an address; only entries that have not ended.
pub type Addresses = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the address stands in the bytes of a value.
pub const ADDRESS: Range<usize> = {
    let start = offset_of!(Entry, binding.address);
    start..start + size_of::<[u8; 4]>()
};

/// Where the end of a binding stands in the bytes of a value.
const END: Range<usize> = {
    let start = offset_of!(Entry, binding.valid_until_ns);
    start..start + size_of::<u64>()
};

/// What a watch has seen.
pub struct Watched {
    /// Samples taken.
    pub samples: u32,
    /// Longest time between two samples.
    pub longest_gap: Duration,
    /// Entries that were missing, had ended or had another address, each once.
    pub blinks: Vec<String>,
    /// Samples that could not be taken.
    pub unread: u32,
}

/// A thread that samples a map until it is told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

/// Keys and addresses of the map of bindings. The kernel takes an entry that has ended for an absent
/// one, and so does this.
pub fn addresses(pin: &Path) -> Result<Addresses> {
    let dump = bpf::map_dump(pin)?;
    let now = boot_time_ns()?;
    let mut found = Addresses::new();
    for entry in dump {
        let bytes = |name| entry.get(name).and_then(bpf::raw_bytes);
        let read = bytes("key").zip(bytes("value").as_deref().and_then(address_and_end));
        let Some((key, (address, end))) = read else {
            bail!("cannot read this entry of {}: {entry}", pin.display());
        };
        if end > now {
            found.insert(key, address);
        }
    }
    Ok(found)
}

/// The address and the boot time, in nanoseconds, that a binding ends at.
fn address_and_end(value: &[u8]) -> Option<(Vec<u8>, u64)> {
    let end = value.get(END)?.try_into().ok()?;
    Some((value.get(ADDRESS)?.to_vec(), u64::from_ne_bytes(end)))
}

fn boot_time_ns() -> Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(u64::try_from(now.as_nanos())?)
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
    loop {
        // Asked before the sample: the last one is taken after the word to stop.
        let is_last = stopped.load(Ordering::Relaxed);
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
        if is_last {
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
            None => Some(format!("{key:02x?} was missing or had ended")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES};
    use nexus_testkit::command;
    use nexus_testkit::netns::unique_prefix;
    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn address_and_end_are_found_where_the_kernel_contract_has_them() {
        let key = BindingKey::mac(1, [2, 0, 0, 0, 0, 1]);
        let mut value = vec![0; size_of::<Entry>()];
        assert_eq!(size_of_val(&key), END.start);
        value[END].copy_from_slice(&77_u64.to_ne_bytes());
        value[ADDRESS].copy_from_slice(&[100, 64, 1, 2]);
        assert_eq!(address_and_end(&value), Some((vec![100, 64, 1, 2], 77)));
        assert_eq!(address_and_end(&[]), None);
    }

    #[test]
    #[ignore = "needs root: makes a map"]
    fn an_entry_that_goes_while_it_is_watched_is_a_blink() {
        let pin = Path::new(bpf::BPFFS).join(unique_prefix("watch"));
        let bpftool = |arguments: &[&str]| {
            let pin = pin.to_str().unwrap();
            let words = arguments
                .iter()
                .map(|word| if *word == "PIN" { pin } else { word });
            command::output(Command::new("bpftool").args(words)).unwrap();
        };
        bpf::ensure_bpffs().unwrap();
        let (key, value) = (
            size_of::<BindingKey>().to_string(),
            size_of::<Entry>().to_string(),
        );
        bpftool(&[
            "map", "create", "PIN", "type", "hash", "key", &key, "value", &value, "entries", "4",
            "name", "watched",
        ]);
        let key = BindingKey::mac(1, [2, 0, 0, 0, 0, 1]);
        let binding = Binding {
            valid_until_ns: NEVER_EXPIRES,
            last_seen_ns: 0,
            address: [100, 64, 1, 2],
            profile: 0,
        };
        let id = bpf::map_id(&pin).unwrap();
        bpf::map_update(id, key.as_bytes(), Entry { key, binding }.as_bytes()).unwrap();

        let (steady, count) = Watch::start(pin.clone()).unwrap();
        let steady = steady.stop().unwrap();
        assert_eq!((count, steady.blinks.len(), steady.unread), (1, 0, 0));

        let (watch, _) = Watch::start(pin.clone()).unwrap();
        let ended = Binding {
            valid_until_ns: 1,
            ..binding
        };
        bpf::map_update(
            id,
            key.as_bytes(),
            Entry {
                key,
                binding: ended,
            }
            .as_bytes(),
        )
        .unwrap();
        let blinked = watch.stop().unwrap();
        std::fs::remove_file(&pin).unwrap();
        assert_eq!(blinked.blinks.len(), 1);
    }

    #[test]
    fn a_missing_and_a_changed_entry_are_seen_and_a_new_one_is_fine() {
        let before = Addresses::from([(vec![1], vec![9]), (vec![2], vec![8])]);
        assert!(differences(&before, &before).is_empty());
        let after = Addresses::from([(vec![2], vec![7]), (vec![3], vec![6])]);
        assert_eq!(differences(&before, &after).len(), 2);
    }
}
