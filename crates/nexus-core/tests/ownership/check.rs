//! What must never be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_core::id::SubscriberId;

use crate::world::{DHCP_LEASE, World};

/// Every client renews whenever it can and otherwise goes on as long as its DHCP lease lasts. Says so if two
/// meet on one address.
pub fn renew_clients(world: &mut World) -> Option<String> {
    for host in 0..world.hosts.len() {
        let local = world.local(host);
        // What an old disk serves is known to be doubtful; see `look`.
        if world.hosts[host].stale || world.hosts[host].dead {
            continue;
        }
        for (entry, who) in world.hosts[host].map.values() {
            let left = entry.valid_until.map_or(DHCP_LEASE, |end| end.since(local));
            // Whole seconds, as they stand in the packet.
            let lease = left.min(DHCP_LEASE).as_secs() * 1000;
            if lease == 0 {
                continue;
            }
            let client = (who.clone(), world.now + lease);
            if let Some((other, until)) = world.clients.insert(entry.address, client)
                && until > world.now
                && other != *who
            {
                return Some(format!(
                    "{} is given to {who} while {other} uses it",
                    entry.address
                ));
            }
        }
    }
    None
}

/// The invariants.
pub fn look(world: &World) -> Option<String> {
    two_on_one_address(world)
        .or_else(|| acknowledged_is_on_record(world))
        .or_else(|| accepted_is_durable(world))
}

/// No address is in two kernels' maps for two subscribers.
fn two_on_one_address(world: &World) -> Option<String> {
    let mut holders: BTreeMap<Ipv4Addr, (&SubscriberId, usize)> = BTreeMap::new();
    for host in &world.hosts {
        let local = host.local(world.now);
        for (entry, who) in host.map.values() {
            if host.dead || host.stale || entry.valid_until.is_some_and(|end| end <= local) {
                continue;
            }
            if let Some((other, on)) = holders.insert(entry.address, (who, host.number))
                && other != who
            {
                let (address, here) = (entry.address, host.number);
                return Some(format!(
                    "{address} is {other}'s in the map of host {on} and {who}'s in that of host {here}"
                ));
            }
        }
    }
    None
}

/// What a host was told to be recorded is on record.
fn acknowledged_is_on_record(world: &World) -> Option<String> {
    for host in world.hosts.iter().filter(|host| !host.dead && !host.stale) {
        for view in host.edge.bindings(None).filter(|view| view.row.acked) {
            let on_record = world.centre.record.get(&view.resource);
            let known = on_record
                .is_some_and(|entry| entry.is_held() && entry.subscriber == view.row.subscriber);
            if !known {
                return Some(format!(
                    "{} of {} counts as recorded on host {}, the record says {on_record:?}",
                    view.resource, view.row.subscriber, host.number
                ));
            }
        }
    }
    None
}

/// What was answered with success is there.
fn accepted_is_durable(world: &World) -> Option<String> {
    for host in world.hosts.iter().filter(|host| !host.dead && !host.stale) {
        for (who, resource) in &host.accepted {
            let held = |view: nexus_core::edge::BindingView<'_>| view.resource == *resource;
            if !host.edge.bindings(Some(who)).any(held) {
                let number = host.number;
                return Some(format!("host {number} has lost {resource} of {who}"));
            }
        }
    }
    None
}
