//! What must never be, looked for after each event.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_core::id::SubscriberId;

use super::bug::Bug;
use super::host::Host;
use super::used::{self, Answered};
use super::world::World;
use crate::allocation::{AllocationState, Place};

/// Says what is wrong. Looks at what the event may have changed; that time has passed makes nothing wrong.
pub fn look(world: &mut World) -> Option<String> {
    let fault = world
        .fault
        .take()
        .or_else(|| two_on_one_address(world))
        .or_else(|| accepted_is_durable(world))
        .or_else(|| acknowledged_is_on_record(world));
    world.records_changed = false;
    for host in &mut world.hosts {
        host.changed = false;
    }
    fault
}

/// No address is in two kernels' maps for two subscribers, nor given to one while the client of another may
/// still use it.
fn two_on_one_address(world: &mut World) -> Option<String> {
    let is_new = |host: &Host| host.map_changed || host.seen_as() != host.was_seen_as;
    if !world.hosts.iter().any(is_new) {
        return None;
    }
    let now = world.now;
    let ignores_end = world.bug == Some(Bug::KernelForgetsTheEnd);
    world.clients.pass(&world.hosts, now);
    let of_host = |host: &Host| used::answered(host, now, ignores_end);
    let answered: Vec<_> = world.hosts.iter().map(of_host).collect();
    let fault = in_two_maps(&world.hosts, &answered).or_else(|| still_used(world, &answered));
    for (host, answered) in world.hosts.iter().zip(&answered) {
        world.clients.answer(host, now, answered);
    }
    for host in &mut world.hosts {
        host.map_changed = false;
        host.was_seen_as = host.seen_as();
    }
    fault
}

fn in_two_maps(hosts: &[Host], answered: &[Vec<Answered>]) -> Option<String> {
    let mut holders: BTreeMap<Ipv4Addr, (&SubscriberId, usize)> = BTreeMap::new();
    for (host, entries) in hosts.iter().zip(answered) {
        for Answered { address, who, .. } in entries {
            if let Some((other, on)) = holders.insert(*address, (who, host.number))
                && other != who
                && !are_twins(hosts, on, host.number)
            {
                return Some(format!(
                    "{address} is {other}'s in the map of host {on} and {who}'s in that of host {}",
                    host.number
                ));
            }
        }
    }
    None
}

fn still_used(world: &World, answered: &[Vec<Answered>]) -> Option<String> {
    for (host, entries) in world.hosts.iter().zip(answered) {
        for Answered { address, who, .. } in entries {
            let mut others = world.clients.others(*address, who, world.now);
            let met = others.find(|(on, _, left)| {
                let short = world.hosts[*on].rests_short_by(world.now);
                !are_twins(&world.hosts, *on, host.number)
                    && (*on != host.number || *left > short)
                    // What it gave before nobody had recorded, or it would have been found out: nothing tells.
                    && (*on != host.number || host.unaware_until < world.now)
            });
            if let Some((on, other, left)) = met {
                return Some(format!(
                    "{address} is given to {who} on host {} while {other} may use it for {left} ms by host {on}",
                    host.number
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
        .filter(|host| host.changed && host.up && !host.dead && !host.doubtful)
        .filter(|host| host.queue.is_empty())
    {
        for (who, resource) in &host.accepted {
            let mut held = host.edge.bindings(Some(who));
            let held = held.find(|view| view.resource == *resource);
            if held.is_some_and(|view| !host.has_on_disk(view.pool, who, *resource)) {
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
        .filter(|host| host.changed || world.records_changed)
        .filter(|host| host.up && !host.dead && !host.doubtful && !host.superseded)
        .filter(|host| !host.overstays() && !has_twin(&world.hosts, host))
    {
        for view in host
            .edge
            .bindings(None)
            .filter(|view| view.row.acked)
            // What it keeps and does not serve is nobody's right: a second host learns later what became of it.
            .filter(|view| host.serves(view.resource, world.now))
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
    if let Some(unanswered) = unanswered(world) {
        return Some(unanswered);
    }
    let audit = world.servers[0].centre.audit();
    (!audit.duplicates.is_empty()).then(|| format!("the audit finds {:?}", audit.duplicates))
}

/// What was asked back has been given back, or its subscriber has come again.
fn unanswered(world: &World) -> Option<String> {
    let record = &world.servers[0].centre.record;
    let live = world.hosts.iter().filter(|host| !host.dead);
    let mut live = live.filter(|host| !has_twin(&world.hosts, host) && !host.stops());
    live.find_map(|host| {
        let mut on_record = record.of_olt(&host.olt, None);
        let asked = on_record.find(|known| known.state == AllocationState::Releasing)?;
        Some(format!(
            "host {} was asked back {asked:?}, and has not answered",
            host.number
        ))
    })
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
