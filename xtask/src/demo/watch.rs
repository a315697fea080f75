//! Watching a pinned map: an entry that was there must be there in every sample, with its address.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::Ipv4Addr;
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

/// The bytes that make an entry's key to the bytes of its address; only entries that have not ended.
pub type Addresses = BTreeMap<Vec<u8>, Vec<u8>>;

const ENTRY: usize = size_of::<Entry>();
/// MAC, kind, interface and VLAN ids.
const KEY: Range<usize> = 0..offset_of!(Entry, profile);
const ADDRESS: Range<usize> = {
    let start = offset_of!(Entry, address);
    start..start + size_of::<[u8; 4]>()
};
const END: Range<usize> = {
    let start = offset_of!(Entry, valid_until_secs);
    start..start + size_of::<u32>()
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
    let now = boot_time_secs()?;
    let mut found = Addresses::new();
    for bucket in dump {
        let Some(bytes) = bucket.get("value").and_then(bpf::raw_bytes) else {
            bail!("cannot read this bucket of {}: {bucket}", pin.display());
        };
        for entry in bytes.chunks_exact(ENTRY) {
            if let Some((key, address, end)) = parts(entry)
                && end > now
            {
                found.insert(key, address);
            }
        }
    }
    Ok(found)
}

/// Key, address, and the second of the boot time that a binding ends at.
fn parts(entry: &[u8]) -> Option<(Vec<u8>, Vec<u8>, u32)> {
    let end = entry.get(END)?.try_into().ok()?;
    let (key, address) = (entry.get(KEY)?.to_vec(), entry.get(ADDRESS)?.to_vec());
    Some((key, address, u32::from_ne_bytes(end)))
}

fn boot_time_secs() -> Result<u32> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(u32::try_from(now.as_secs())?)
}

/// The fields by name, as `bpftool` shows them, of the entry with an address.
pub fn formatted(dump: &[Value], address: Ipv4Addr) -> Option<&Value> {
    for bucket in dump {
        let bytes = bucket.get("value").and_then(bpf::raw_bytes)?;
        let mut entries = bytes.chunks_exact(ENTRY);
        if let Some(place) = entries.position(|entry| {
            parts(entry).is_some_and(|(_, held, end)| end != 0 && held == address.octets())
        }) {
            let formatted = bucket.get("formatted")?.get("value")?;
            return formatted.get("entries")?.get(place);
        }
    }
    None
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

    use nexus_abi::{BindingKey, Bucket, NEVER_EXPIRES};
    use nexus_testkit::command;
    use nexus_testkit::netns::unique_prefix;
    use zerocopy::IntoBytes as _;

    use super::*;

    /// A bucket whose second entry is MAC 02:00:00:00:00:01 with 100.64.1.2.
    fn bucket(valid_until_secs: u32) -> Bucket {
        let held = Entry {
            mac: [2, 0, 0, 0, 0, 1],
            kind: BindingKey::KIND_MAC,
            address: [100, 64, 1, 2],
            valid_until_secs,
            ..Entry::default()
        };
        Bucket {
            entries: [Entry::default(), held],
        }
    }

    #[test]
    fn key_address_and_end_are_found_where_the_kernel_contract_has_them() {
        let bucket = bucket(77);
        let (key, address, end) = parts(&bucket.as_bytes()[ENTRY..]).unwrap();
        assert_eq!((key.len(), end), (12, 77));
        assert_eq!(address, [100, 64, 1, 2]);
        assert_eq!(key[..7], [2, 0, 0, 0, 0, 1, BindingKey::KIND_MAC]);
        assert_eq!(parts(&[]), None);
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
        let value = size_of::<Bucket>().to_string();
        bpftool(&[
            "map", "create", "PIN", "type", "array", "key", "4", "value", &value, "entries", "4",
            "name", "watched",
        ]);
        let id = bpf::map_id(&pin).unwrap();
        let write = |bucket: Bucket| {
            bpf::map_update(id, &2_u32.to_ne_bytes(), bucket.as_bytes()).unwrap();
        };
        write(bucket(NEVER_EXPIRES));

        let (steady, count) = Watch::start(pin.clone()).unwrap();
        let steady = steady.stop().unwrap();
        assert_eq!((count, steady.blinks.len(), steady.unread), (1, 0, 0));

        let (watch, _) = Watch::start(pin.clone()).unwrap();
        write(bucket(1));
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
