//! What must never be, looked for after each event.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_core::id::SubscriberId;

use super::bug::Bug;
use super::host::Host;
use super::world::World;
use super::{DHCP_LEASE, LEASE};
use crate::allocation::{AllocationState, Place};

/// Says what is wrong.
pub fn look(world: &mut World) -> Option<String> {
    world
        .fault
        .take()
        .or_else(|| two_on_one_address(world))
        .or_else(|| accepted_is_durable(world))
        .or_else(|| acknowledged_is_on_record(world))
}

/// No address is in two kernels' maps for two subscribers, nor given to one while the client of another may
/// still use it. Entries end by the kernel's own clock.
fn two_on_one_address(world: &mut World) -> Option<String> {
    let mut holders: BTreeMap<Ipv4Addr, (SubscriberId, usize)> = BTreeMap::new();
    let ignores_end = world.bug == Some(Bug::KernelForgetsTheEnd);
    let lease_of_client = u64::try_from(DHCP_LEASE.as_millis()).unwrap();
    for host in world
        .hosts
        .iter()
        .filter(|host| !host.dead && !host.doubtful && host.astray.is_none())
    {
        let local = host.local(world.now);
        for (entry, who) in host.map.values() {
            let end = entry.valid_until.filter(|_| !ignores_end);
            // What is acknowledged outlives every lease, also if it is kept for some days and not without an end.
            let outlives = end.is_none_or(|end| end.since(local) > LEASE);
            if end.is_some_and(|end| end <= local) || (outlives && host.superseded) {
                continue;
            }
            let address = entry.address;
            if let Some((other, on)) = holders.insert(address, (who.clone(), host.number))
                && other != *who
                && !are_twins(&world.hosts, on, host.number)
            {
                return Some(format!(
                    "{address} is {other}'s in the map of host {on} and {who}'s in that of host {}",
                    host.number
                ));
            }
            let left = end.map_or(lease_of_client, |end| {
                u64::try_from(end.since(local).as_millis())
                    .unwrap()
                    .min(lease_of_client)
            });
            let client = (who.clone(), world.now + left / 1000 * 1000, host.number);
            if let Some((other, until, on)) = world.clients.insert(address, client)
                && until > world.now
                && other != *who
                && !are_twins(&world.hosts, on, host.number)
                // What it gave before nobody had recorded, or it would have been found out: nothing tells.
                && (on != host.number || host.unaware_until < world.now)
            {
                return Some(format!(
                    "{address} is given to {who} on host {} while {other} may use it for {} ms by host {on}",
                    host.number,
                    until - world.now
                ));
            }
        }
    }
    None
}

/// What was answered with success is on disk.
fn accepted_is_durable(world: &World) -> Option<String> {
    for host in world
        .hosts
        .iter()
        .filter(|host| host.up && !host.dead && !host.doubtful)
    {
        for (who, resource) in &host.accepted {
            let held = host
                .edge
                .bindings(Some(who))
                .any(|view| view.resource == *resource);
            if held && !host.has_on_disk(who, *resource) && host.queue.is_empty() {
                let number = host.number;
                return Some(format!(
                    "{resource} of {who} is not on the disk of host {number}"
                ));
            }
        }
    }
    None
}

/// What a host was told to be recorded is on record, on a server that is up or not.
fn acknowledged_is_on_record(world: &World) -> Option<String> {
    for host in world
        .hosts
        .iter()
        .filter(|host| host.up && !host.dead && !host.doubtful && !has_twin(&world.hosts, host))
        .filter(|host| host.astray.is_none())
    {
        for view in host
            .edge
            .bindings(None)
            .filter(|view| view.row.acked && !host.superseded)
            // What it keeps and does not serve is nobody's right: a second host learns later what became of it.
            .filter(|view| host.serves(view.resource))
        {
            let place = Place {
                vrf: "default".to_owned(),
                resource: view.resource,
            };
            let mut known = world
                .servers
                .iter()
                .filter_map(|s| s.centre.record.get(&place));
            if !known.any(|known| known.subscriber == view.row.subscriber) {
                return Some(format!(
                    "{} of {} counts as recorded on host {}, and no server knows it",
                    view.resource, view.row.subscriber, host.number
                ));
            }
        }
    }
    None
}

/// When all is put right: everybody knows the same, nothing waits, and whatever a host serves is on record.
pub fn settled(world: &World) -> Option<String> {
    for host in world
        .hosts
        .iter()
        .filter(|host| !host.dead && !has_twin(&world.hosts, host))
    {
        if host.clock.rate().abs() > 10 {
            if !host.stops() {
                return Some(format!(
                    "the clock of host {} runs {} thousandths fast, and it goes on",
                    host.number,
                    host.clock.rate()
                ));
            }
            continue;
        }
        let view = host.edge.view(host.local(world.now));
        if !host.registered || view.pending > 0 || view.suspended > 0 || view.lease_until.is_none()
        {
            return Some(format!(
                "host {} has not come to rest: registered {}, {} commands wait, {} bindings are suspended, lease {:?}",
                host.number, host.registered, view.pending, view.suspended, view.lease_until
            ));
        }
        for binding in host.edge.bindings(None) {
            let place = Place {
                vrf: "default".to_owned(),
                resource: binding.resource,
            };
            for server in &world.servers {
                let known = server.centre.record.get(&place);
                let same = known.is_some_and(|known| {
                    known.subscriber == binding.row.subscriber
                        && known.olt == host.olt
                        && known.state != AllocationState::Released
                });
                if !same {
                    return Some(format!(
                        "host {} serves {} to {}, server {} has on record {known:?}",
                        host.number, binding.resource, binding.row.subscriber, server.number
                    ));
                }
            }
        }
    }
    let audit = world.servers[0].centre.audit();
    (!audit.duplicates.is_empty()).then(|| format!("the audit finds {:?}", audit.duplicates))
}

/// Whether two hosts have one id. While one of them is cut off the other takes its turn, and nobody can tell it from
/// the first one with a new disk: the known limit, which docs/OWNERSHIP.md names with its remedy.
fn are_twins(hosts: &[Host], one: usize, other: usize) -> bool {
    one != other && hosts[one].olt == hosts[other].olt
}

fn has_twin(hosts: &[Host], host: &Host) -> bool {
    let mut all = hosts.iter();
    all.any(|other| are_twins(hosts, host.number, other.number))
}
