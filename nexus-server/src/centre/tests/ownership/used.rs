//! Which client uses which address, and up to when at most: whoever was given an address goes on with it until its
//! lease ends, whatever becomes of the entry that it had in the kernel's map.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_core::id::SubscriberId;
use nexus_core::time::BootTime;

use super::DHCP_LEASE;
use super::clock::Clock;
use super::host::Host;

/// A client that was answered by a host.
struct Used {
    who: SubscriberId,
    /// True time up to which it may go on.
    until: u64,
    /// It is answered still: up to this end by the kernel's clock, or without an end.
    answered: Option<Option<BootTime>>,
}

/// All of them, by address and host.
#[derive(Default)]
pub struct Clients {
    used: BTreeMap<(Ipv4Addr, usize), Used>,
    /// True time up to which it is known who was answered.
    known: u64,
}

/// What a host answers a client with now.
pub struct Answered {
    pub address: Ipv4Addr,
    pub who: SubscriberId,
    /// By the kernel's clock.
    pub end: Option<BootTime>,
}

impl Clients {
    /// Time has come to `now`, and until now nothing has changed in any map: clients have renewed as late as they could.
    pub fn pass(&mut self, hosts: &[Host], now: u64) {
        let from = std::mem::replace(&mut self.known, now);
        if from == now {
            return;
        }
        for ((_, host), used) in &mut self.used {
            if let Some(end) = used.answered {
                used.until = used.until.max(goes_on(&hosts[*host].clock, from, now, end));
            }
        }
        self.used
            .retain(|_, used| used.answered.is_some() || used.until > now);
    }

    /// Of this host's clients these are answered now, and no others.
    pub fn answer(&mut self, host: &Host, now: u64, answered: &[Answered]) {
        let others = self.used.iter_mut();
        for (_, used) in others.filter(|((_, of), _)| *of == host.number) {
            used.answered = None;
        }
        for Answered { address, who, end } in answered {
            let until = goes_on(&host.clock, now, now, *end);
            let used = Used {
                who: who.clone(),
                until,
                answered: Some(*end),
            };
            let before = self.used.insert((*address, host.number), used);
            if let Some(before) = before.filter(|before| before.who == *who)
                && let Some(used) = self.used.get_mut(&(*address, host.number))
            {
                used.until = used.until.max(before.until);
            }
        }
    }

    /// Others than `who` that may use an address after `now`: by which host, who, and for how many milliseconds.
    pub fn others<'a>(
        &'a self,
        address: Ipv4Addr,
        who: &'a SubscriberId,
        now: u64,
    ) -> impl Iterator<Item = (usize, &'a SubscriberId, u64)> {
        self.used
            .range((address, 0)..=(address, usize::MAX))
            .filter(move |(_, used)| used.who != *who && used.until > now)
            .map(move |((_, host), used)| (*host, &used.who, used.until - now))
    }

    /// A client gives an address of a host back, and does not use it any more.
    pub fn stop(&mut self, address: Ipv4Addr, host: usize) {
        self.used.remove(&(address, host));
    }

    /// All clients of a host are cut off with it.
    pub fn stop_all(&mut self, host: usize) {
        self.used.retain(|(_, of), _| *of != host);
    }
}

/// True time up to which a client may go on that was answered at any time between two moments: it is told what is left
/// by the kernel's clock, and counts that on its own, which is right.
fn goes_on(clock: &Clock, from: u64, now: u64, end: Option<BootTime>) -> u64 {
    let lease = u64::try_from(DHCP_LEASE.as_millis()).unwrap();
    let told_at = |at: u64| {
        let left = end.map_or(lease, |end| {
            let left = end.since(clock.boot(at)).as_millis();
            u64::try_from(left).unwrap().min(lease)
        });
        if left == 0 { 0 } else { at + left }
    };
    // On a clock that is fast whoever is told first goes on for longest, once less than a lease is left.
    let turns = end.map_or(now, |end| {
        clock
            .true_time(end.saturating_sub(DHCP_LEASE))
            .clamp(from, now)
    });
    told_at(from).max(told_at(turns)).max(told_at(now))
}

/// What a host's kernel answers its clients with, as far as that is looked at: entries end by its own clock.
pub fn answered(host: &Host, now: u64, ignores_end: bool) -> Vec<Answered> {
    let seen = host.seen_as();
    if seen.hidden {
        return Vec::new();
    }
    let local = host.local(now);
    let mut all = Vec::new();
    for served in host.map.values() {
        let end = served.end.filter(|_| !ignores_end);
        if end.is_some_and(|end| end <= local) || (served.acked && seen.superseded) {
            continue;
        }
        all.push(Answered {
            address: served.address,
            who: served.who.clone(),
            end,
        });
    }
    all
}
