//! `BINDINGS`, `CIRCUITS` and `PROFILES`: who the client is and what it holds.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use nexus_abi::{
    BUCKET_ENTRIES, Binding, BindingKey, Bucket, CIRCUIT_WORDS, Circuit, Entry, IDENTITY_COUNT,
    INTERFACE_COUNT, NEVER_EXPIRES, Outcome, PROFILE_COUNT, Place, Profile, hash_circuit, hash_key,
};
use nexus_dhcp::Request;
use nexus_dhcp::circuit::CircuitBuffer;

use crate::clock::{boot_secs, jiffies};
use crate::frame::{Frame, hidden};
use crate::settings::setting;

/// `BPF_F_MMAPABLE`: the sidecar writes it without a system call, and every bucket is a cache line.
const MMAPABLE: usize = 1 << 10;

/// Both are sized to the host when they are loaded.
#[btf_map]
static BINDINGS: Array<Bucket, 65536, MMAPABLE> = Array::new();

#[btf_map]
static CIRCUITS: Array<Circuit, 2, MMAPABLE> = Array::new();

#[btf_map]
static KINDS: Array<u32, { INTERFACE_COUNT as usize }> = Array::new();

#[btf_map]
static PROFILES: Array<Profile, { PROFILE_COUNT as usize }> = Array::new();

const MAC_BITS: u32 = 48;

/// A binding as it was when it was looked up.
#[derive(Clone, Copy)]
pub struct Found {
    pub binding: Binding,
    /// Seconds of the boot-time clock; read only for a binding that has an end, else 0.
    pub now_secs: u32,
}

impl Found {
    /// The profile of this binding.
    #[inline(always)]
    pub fn profile(&self) -> Result<&'static Profile, Outcome> {
        PROFILES
            .get(u32::from(self.binding.profile))
            .ok_or(Outcome::NoProfile)
    }
}

/// Notes that the client of an entry has been heard.
#[inline(always)]
fn heard(entry: *mut Entry) {
    let now = jiffies() as u32;
    // SAFETY: map memory stays valid while the program runs. Should the entry have got another key
    // meanwhile, that subscriber was heard early by the time this run takes.
    unsafe {
        let last_seen = &raw mut (*entry).last_seen_jiffies;
        // A line that is not written to need not be fetched from another processor.
        if last_seen.read_volatile() != now {
            last_seen.write_volatile(now);
        }
    }
}

/// Why nobody was found.
enum Absent {
    /// There is no such key: another kind may know the client.
    Key,
    /// The line is somebody's, but not with this MAC.
    Mac,
}

/// Whether clients are known by option 82 on this interface.
#[inline(always)]
pub fn needs_circuit() -> bool {
    let mut order = 0;
    while order < IDENTITY_COUNT {
        if setting!(identity[order]) == BindingKey::KIND_CIRCUIT {
            return true;
        }
        order += 1;
    }
    false
}

/// The binding of a client by its line and MAC alone, without option 82: for ARP, and for interfaces on which
/// nobody is known by a circuit.
#[inline(always)]
pub fn find_on_line(vids: u32, mac: u64) -> Result<Found, Outcome> {
    find(vids, mac, |_| Err(Outcome::UnknownClient))
}

/// The binding of the client of a request, under the first kind of key that knows it.
#[inline(always)]
pub fn find_client(
    frame: &Frame,
    request: &Request,
    buffer: &mut CircuitBuffer,
) -> Result<Found, Outcome> {
    find(request.link.vids, request.mac_word(), |mac| {
        let option = request.options.relay;
        if option.len == 0 {
            return Err(Outcome::UnknownClient);
        }
        let circuit = buffer.read(frame, option, setting!(remote_id) != 0)?;
        Ok(by_circuit(circuit, mac))
    })
}

/// Whether a key of this kind may stand in the table for this interface.
#[inline(always)]
fn is_used(kind: u8) -> bool {
    match KINDS.get(u32::from(setting!(interface))) {
        Some(kinds) => *kinds >> (kind & 31) & 1 == 1,
        None => false,
    }
}

#[inline(always)]
fn find(
    vids: u32,
    mac: u64,
    mut circuit: impl FnMut(u64) -> Result<Result<Found, Absent>, Outcome>,
) -> Result<Found, Outcome> {
    let mut order = 0;
    while order < IDENTITY_COUNT {
        let kind = setting!(identity[order]);
        // Most clients are known under the first kind, and are not to wait for the answer.
        if kind == 0 || order != 0 && !is_used(kind) {
            order += 1;
            continue;
        }
        let found = match kind {
            BindingKey::KIND_LINE => by_key(identity(BindingKey::KIND_LINE) | mac, vids),
            BindingKey::KIND_MAC => by_key(identity(BindingKey::KIND_MAC) | mac, 0),
            BindingKey::KIND_VLAN => by_line(vids, mac),
            BindingKey::KIND_CIRCUIT => match circuit(mac) {
                Ok(found) => found,
                Err(Outcome::UnknownClient) => Err(Absent::Key),
                Err(outcome) => return Err(outcome),
            },
            _ => return Err(Outcome::UnknownClient),
        };
        match found {
            Ok(found) => return Ok(found),
            Err(Absent::Mac) => return Err(Outcome::MacMismatch),
            Err(Absent::Key) => {}
        }
        order += 1;
    }
    Err(Outcome::UnknownClient)
}

/// Kind and interface, as the first word of an entry has them.
#[inline(always)]
fn identity(kind: u8) -> u64 {
    u64::from(kind) << MAC_BITS | u64::from(setting!(interface)) << (MAC_BITS + 8)
}

/// A key of which the MAC is part.
#[inline(always)]
fn by_key(identity: u64, vids: u32) -> Result<Found, Absent> {
    let hash = hash_key(setting!(seed), identity, vids);
    search(hash, |words| {
        (words.identity == identity && words.vids == vids).then_some(Ok(()))
    })
}

/// A VLAN pair of one subscriber.
#[inline(always)]
fn by_line(vids: u32, mac: u64) -> Result<Found, Absent> {
    let line = identity(BindingKey::KIND_VLAN);
    let hash = hash_key(setting!(seed), line, vids);
    search(hash, |words| {
        if words.identity >> MAC_BITS != line >> MAC_BITS || words.vids != vids {
            return None;
        }
        Some(allowed(words, line, mac))
    })
}

#[inline(always)]
fn by_circuit(circuit: &Circuit, mac: u64) -> Result<Found, Absent> {
    let line = identity(BindingKey::KIND_CIRCUIT);
    let hash = hash_circuit(setting!(seed), setting!(interface), circuit);
    search(hash, |words| {
        if words.identity >> MAC_BITS != line >> MAC_BITS {
            return None;
        }
        let there = CIRCUITS.get(words.vids & setting!(circuit_mask))?;
        let mut differs = 0;
        let mut at = 0;
        while at < CIRCUIT_WORDS {
            if let (Some(there), Some(here)) = (there.words.get(at), circuit.words.get(at)) {
                differs |= there ^ here;
            }
            at += 1;
        }
        if differs != 0 {
            return None;
        }
        Some(allowed(words, line, mac))
    })
}

#[inline(always)]
fn allowed(words: &Words, line: u64, mac: u64) -> Result<(), Absent> {
    if words.identity == line | mac {
        Ok(())
    } else {
        Err(Absent::Mac)
    }
}

/// An entry as words in memory order.
struct Words {
    /// MAC, kind, interface.
    identity: u64,
    /// Both VLAN ids, or the number of a circuit.
    vids: u32,
    profile: u16,
}

/// Looks at the two places of a key. `matches`: `None` if an entry is of another key, else whether
/// the client may use it.
#[inline(always)]
fn search(
    hash: u64,
    mut matches: impl FnMut(&Words) -> Option<Result<(), Absent>>,
) -> Result<Found, Absent> {
    let place = Place::of(hash, setting!(bucket_mask));
    let mut number = place.home;
    let mut round = 0;
    while round < 2 {
        let Some(bucket) = BINDINGS.get_ptr_mut(hidden(number as usize) as u32) else {
            return Err(Absent::Key);
        };
        let mut index = 0;
        while index < BUCKET_ENTRIES {
            // SAFETY: the index lies within the bucket.
            let entry = unsafe { (&raw mut (*bucket).entries).cast::<Entry>().add(index) };
            // Read again only when all is compared: a circuit's bytes may be another's by then.
            if let Some((held, words)) = read(entry)
                && let Some(allowed) = matches(&words)
                && word(entry, Entry::HELD) == held
            {
                let valid_until_secs = (held >> 32) as u32;
                let now_secs = if valid_until_secs == NEVER_EXPIRES {
                    0
                } else {
                    boot_secs()
                };
                // An entry that has ended is as good as absent.
                if valid_until_secs > now_secs {
                    allowed?;
                    heard(entry);
                    let [a, b, c, d, e, f, ..] = words.identity.to_ne_bytes();
                    return Ok(Found {
                        binding: Binding {
                            address: (held as u32).to_ne_bytes(),
                            valid_until_secs,
                            mac: [a, b, c, d, e, f],
                            profile: words.profile,
                            last_seen_jiffies: 0,
                        },
                        now_secs,
                    });
                }
            }
            index += 1;
        }
        // SAFETY: map memory stays valid while the program runs; any bytes make a number.
        let overflow = unsafe {
            (&raw const (*bucket).entries)
                .cast::<u8>()
                .add(Entry::OVERFLOW)
                .cast::<u32>()
                .read_volatile()
        };
        if overflow == 0 {
            return Err(Absent::Key);
        }
        number = place.other;
        round += 1;
    }
    Err(Absent::Key)
}

/// The word that says whether an entry is there, and the rest: the first two steps of the reader's rule of
/// `nexus_abi::table`.
#[inline(always)]
fn read(entry: *const Entry) -> Option<(u64, Words)> {
    let held = word(entry, Entry::HELD);
    if held >> 32 == 0 {
        return None;
    }
    let line = word(entry, 8);
    let words = Words {
        identity: word(entry, 0),
        vids: line as u32,
        profile: (line >> 32) as u16,
    };
    Some((held, words))
}

/// Eight bytes of an entry, at a multiple of eight.
#[inline(always)]
fn word(entry: *const Entry, at: usize) -> u64 {
    // SAFETY: within the entry, which begins on a multiple of eight bytes; map memory stays valid while
    // the program runs.
    unsafe { entry.cast::<u8>().add(at).cast::<u64>().read_volatile() }
}
