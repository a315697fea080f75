//! `PUNTS`: token buckets in front of the slow path.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use nexus_abi::{PUNT_COUNT, PUNT_INTERFACES, PUNT_LINES, Punt, Rate, hash_key};
use nexus_dhcp::Link;

use crate::clock::jiffies;
use crate::settings::setting;

#[btf_map]
static PUNTS: Array<Punt, { PUNT_COUNT as usize }> = Array::new();

/// One packet, in the unit of [`Rate`].
const PACKET: u32 = 1 << 16;
/// Keeps the hash of lines apart from that of keys.
const ROWS: u64 = 0x5bd1_e995_9f3b_2c6d;

/// Whether one more packet of this line and interface may go to the slow path. A line is the VLAN
/// pair, or without tags the client's MAC.
#[inline(always)]
pub fn admit(link: &Link, mac: u64) -> bool {
    let line = Rate {
        per_jiffy: setting!(line_rate.per_jiffy),
        burst: setting!(line_rate.burst),
    };
    let interface = Rate {
        per_jiffy: setting!(interface_rate.per_jiffy),
        burst: setting!(interface_rate.burst),
    };
    let now = jiffies() as u32;
    let number = u32::from(setting!(interface));
    if line.per_jiffy != 0 {
        let who = if link.vids == 0 { mac } else { 0 };
        let identity = who | u64::from(number) << 56;
        let hash = hash_key(setting!(seed) ^ ROWS, identity, link.vids);
        let first = PUNT_INTERFACES + (hash as u32 & (PUNT_LINES - 1));
        let second = PUNT_INTERFACES + PUNT_LINES + ((hash >> 32) as u32 & (PUNT_LINES - 1));
        // Both are asked, so that both are charged.
        let admitted = take(first, line, now) | take(second, line, now);
        if !admitted {
            return false;
        }
    }
    interface.per_jiffy == 0 || take(number, interface, now)
}

/// Takes a packet out of a bucket. Two processors at the same bucket at the same time may take one
/// for the price of none.
#[inline(always)]
fn take(number: u32, rate: Rate, now: u32) -> bool {
    let Some(punt) = PUNTS.get_ptr_mut(number) else {
        return true;
    };
    // SAFETY: map memory stays valid while the program runs; any bytes make a bucket.
    unsafe {
        let ticks = u64::from(now.wrapping_sub((*punt).filled_jiffies));
        let back = ticks * u64::from(rate.per_jiffy);
        let before = u64::from((*punt).taken);
        let taken = before.saturating_sub(back) as u32;
        (*punt).filled_jiffies = now;
        if taken > rate.burst - PACKET {
            (*punt).taken = taken;
            return false;
        }
        (*punt).taken = taken + PACKET;
    }
    true
}
