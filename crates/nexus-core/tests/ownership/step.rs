//! What may happen next, and what becomes of it.

use std::collections::BTreeMap;

use nexus_core::edge::{Edge, RecordKind};
use nexus_core::id::Seq;
use nexus_core::shard_table::{Command, Refusal, Register, Renew};

use crate::bug::Bug;
use crate::centre::Verdict;
use crate::host::{request, subscriber};
use crate::world::{Message, World};

/// Subscribers that there are.
const SUBSCRIBERS: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A subscriber has proved who it is, and is answered.
    Authorize {
        host: usize,
        sub: usize,
    },
    /// Its session ends.
    End {
        host: usize,
        sub: usize,
    },
    /// A registration, with its answer.
    Register(usize),
    /// A heartbeat leaves.
    Beat(usize),
    /// The configuration is fetched.
    Configure(usize),
    /// All records are read.
    Pull(usize),
    /// The host hears what it is asked to release.
    Tell(usize),
    /// A message arrives. `again`: a copy stays on its way.
    Deliver {
        message: String,
        again: bool,
    },
    /// A command or its answer is lost, and the host gives up waiting.
    Lose(String),
    Wait,
    /// Nothing of this host gets through until its lease has ended; the others go on.
    Lapse(usize),
    Restart(usize),
    Reboot(usize),
    LoseDisk(usize),
    /// A copy of the disk is made.
    Copy(usize),
    /// The host starts, rebooted, from the old copy.
    OldDisk(usize),
    Drain(usize),
    /// The host dies, and an operator says so.
    Fence(usize),
    Hang(usize),
    Wake(usize),
    /// Everything gets through until nothing is left to do; only before a search begins.
    Rest,
}

/// All that may happen in `world`.
pub fn steps(world: &World, steps: &mut Vec<Step>) {
    if world.fault.is_some() {
        return;
    }
    let left = &world.left;
    for host in &world.hosts {
        let number = host.number;
        if host.dead {
            continue;
        }
        if host.hung {
            steps.push(Step::Wake(number));
            continue;
        }
        for sub in 0..SUBSCRIBERS {
            if left.authorizes > 0 {
                steps.push(Step::Authorize { host: number, sub });
            }
            if left.ends > 0 && host.edge.bindings(Some(&subscriber(sub))).next().is_some() {
                steps.push(Step::End { host: number, sub });
            }
        }
        if host.must_register {
            steps.push(Step::Register(number));
        } else {
            if left.beats > 0 {
                steps.push(Step::Beat(number));
            }
            if world.centre.revision(&host.olt) > host.edge.revision() {
                steps.push(Step::Configure(number));
            }
            if host.wants_records {
                steps.push(Step::Pull(number));
            }
            if !asked_for(world, number).is_empty() {
                steps.push(Step::Tell(number));
            }
        }
        let befalls = number == 0 || left.either;
        let mut may = |budget: u8, step: Step| {
            if budget > 0 && befalls {
                steps.push(step);
            }
        };
        may(left.restarts, Step::Restart(number));
        may(left.reboots, Step::Reboot(number));
        may(left.lost_disks, Step::LoseDisk(number));
        if host.image.is_none() {
            may(left.old_disks, Step::Copy(number));
        } else {
            may(left.old_disks, Step::OldDisk(number));
        }
        may(left.drains, Step::Drain(number));
        may(left.fences, Step::Fence(number));
        may(left.hangs, Step::Hang(number));
    }
    for (text, message) in &world.net {
        let deliver = |again| Step::Deliver {
            message: text.clone(),
            again,
        };
        steps.push(deliver(false));
        if left.copies > 0 && matches!(message, Message::Beat { .. } | Message::Command { .. }) {
            steps.push(deliver(true));
        }
        if left.losses > 0 && matches!(message, Message::Command { .. } | Message::Answer { .. }) {
            steps.push(Step::Lose(text.clone()));
        }
    }
    if left.waits > 0 {
        steps.push(Step::Wait);
    }
    if left.lapses > 0 {
        let hosts = if left.either { world.hosts.len() } else { 1 };
        steps.extend((0..hosts).map(Step::Lapse));
    }
}

/// The world after a step; `None` if nothing comes of it.
pub fn next(world: &World, step: &Step) -> Option<World> {
    let mut world = world.clone();
    take(&mut world, step);
    world.seal();
    Some(world)
}

fn take(world: &mut World, step: &Step) {
    let left = &mut world.left;
    let one = |budget: &mut u8| *budget = budget.saturating_sub(1);
    match step {
        Step::Authorize { host, sub } => {
            one(&mut left.authorizes);
            let (host, sub) = (*host, *sub);
            let granted = world.event(host, |edge, now, fx| edge.authorize(now, &request(sub), fx));
            let accepted = &mut world.hosts[host].accepted;
            if let Ok(granted) = granted {
                accepted.insert(subscriber(sub), granted.ipv4.resource);
            }
        }
        Step::End { host, sub } => {
            one(&mut left.ends);
            let (host, who) = (*host, subscriber(*sub));
            world.event(host, |edge, now, fx| {
                edge.end_session(now, &who, "stop", fx)
            });
            world.hosts[host].accepted.remove(&who);
        }
        Step::Register(host) => register(world, *host),
        Step::Beat(host) => {
            one(&mut left.beats);
            beat(world, *host);
        }
        Step::Configure(host) => configure(world, *host),
        Step::Pull(host) => pull(world, *host),
        Step::Tell(host) => {
            for record in asked_for(world, *host) {
                world.event(*host, |edge, now, fx| {
                    edge.record(now, RecordKind::ReleaseRequested, &record, fx);
                });
                world.hosts[*host].accepted.remove(&record.subscriber);
            }
        }
        Step::Deliver { message, again } => {
            if *again {
                one(&mut left.copies);
            }
            let found = world.net.binary_search_by(|(text, _)| text.cmp(message));
            let Ok(at) = found else { return };
            let message = if *again {
                world.net[at].1.clone()
            } else {
                world.net.remove(at).1
            };
            deliver(world, message);
        }
        Step::Lose(message) => {
            one(&mut left.losses);
            let found = world.net.binary_search_by(|(text, _)| text.cmp(message));
            let Ok(at) = found else { return };
            let (host, process, seq) = match world.net.remove(at).1 {
                Message::Command {
                    host,
                    process,
                    outgoing,
                    ..
                } => (host, process, outgoing.seq),
                Message::Answer {
                    host, process, seq, ..
                } => (host, process, seq),
                _ => return,
            };
            lost(world, host, process, seq);
        }
        Step::Wait => {
            one(&mut left.waits);
            world.wait();
        }
        Step::Lapse(host) => {
            one(&mut left.lapses);
            lapse(world, *host);
        }
        Step::Restart(host) => {
            one(&mut left.restarts);
            restart(world, *host, false);
        }
        Step::Reboot(host) => {
            one(&mut left.reboots);
            restart(world, *host, true);
        }
        Step::LoseDisk(host) => {
            one(&mut left.lost_disks);
            let place = &mut world.hosts[*host];
            place.rows.clear();
            place.accepted.clear();
            place.lives += 1;
            restart(world, *host, false);
        }
        Step::Copy(host) => {
            world.hosts[*host].image = Some(world.hosts[*host].rows.clone());
        }
        Step::OldDisk(host) => {
            one(&mut left.old_disks);
            let place = &mut world.hosts[*host];
            let image = place.image.clone().unwrap_or_default();
            place.stale = image != place.rows;
            place.rows = image;
            place.accepted.clear();
            // No call lives as long as it takes to put back a disk.
            world.net.retain(|(_, message)| message.host() != *host);
            restart(world, *host, true);
        }
        Step::Drain(host) => {
            one(&mut left.drains);
            let olt = world.hosts[*host].olt.clone();
            let _ = world.table(Command::Drain { olt });
        }
        Step::Fence(host) => {
            one(&mut left.fences);
            let place = &mut world.hosts[*host];
            place.dead = true;
            // Its clients are cut off with it.
            let addresses: Vec<_> = place.map.values().map(|(entry, _)| entry.address).collect();
            for address in addresses {
                world.clients.remove(&address);
            }
            let olt = world.hosts[*host].olt.clone();
            let _ = world.table(Command::Fence {
                olt,
                reason: "burnt down".to_owned(),
            });
        }
        Step::Rest => come_to_rest(world),
        Step::Hang(host) => {
            one(&mut left.hangs);
            world.hosts[*host].hung = true;
        }
        Step::Wake(host) => {
            world.hosts[*host].hung = false;
            world.event(*host, Edge::tick);
        }
    }
}

/// Most steps that a lease takes to end.
const LAPSE: usize = 16;

fn lapse(world: &mut World, cut_off: usize) {
    let moved = world.moved;
    for _ in 0..LAPSE {
        world.pass(world.next_moment());
        if world.moved > moved {
            return;
        }
        for host in (0..world.hosts.len()).filter(|host| *host != cut_off) {
            exchange(world, host);
        }
    }
}

/// A heartbeat that gets through at once, as does its answer.
fn exchange(world: &mut World, host: usize) {
    if !world.hosts[host].is_up() || world.hosts[host].must_register {
        return;
    }
    let others = std::mem::take(&mut world.net);
    beat(world, host);
    let of_beat = |(_, message): &(String, Message)| {
        matches!(
            message,
            Message::Beat { .. } | Message::Renewed { .. } | Message::Refused { .. }
        )
    };
    while let Some(at) = world.net.iter().position(of_beat) {
        let message = world.net.remove(at).1;
        deliver(world, message);
    }
    for (_, message) in std::mem::replace(&mut world.net, others) {
        world.send(message);
    }
}

fn restart(world: &mut World, host: usize, reboot: bool) {
    let (now, bug) = (world.now, world.bug);
    world.hosts[host].restart(now, reboot, bug);
    if reboot {
        // Whoever was served from the map asks again, and until then goes on.
        world.look();
    }
}

fn register(world: &mut World, host: usize) {
    let sent = world.local(host);
    let place = &world.hosts[host];
    let (olt, report) = (place.olt.clone(), place.edge.heartbeat(sent));
    let noticed = world.bug != Some(Bug::RollbackUnnoticed);
    let last_seq = if noticed {
        report.last_seq
    } else {
        Seq(u64::MAX)
    };
    let recorded_seq = world.centre.recorded_seq(&report.session);
    let outcome = world.table(Command::Register(Register {
        olt: olt.clone(),
        name: String::new(),
        region: String::new(),
        address: String::new(),
        capacity: 4,
        session: report.session,
        last_seq,
        recorded_seq,
        acked_below: Seq(0),
        keeping: None,
    }));
    match outcome {
        Ok(applied) => {
            let lease = applied.lease.unwrap();
            let config = world.centre.config(&olt);
            world.hosts[host].must_register = false;
            // Whoever registers opens a stream of its records.
            world.hosts[host].wants_records = true;
            if !noticed {
                // It does not know either.
                world.hosts[host].stale = false;
            }
            world.event(host, |edge, now, fx| {
                edge.registered(now, sent, lease, config, fx);
            });
            skip_reading(world, host);
        }
        Err(Refusal::RolledBack { .. } | Refusal::Superseded { .. }) => {
            let session = world.hosts[host].new_session();
            world.event(host, |edge, _, fx| edge.new_session(session, fx));
        }
        Err(Refusal::AlreadyAlive { .. }) => {
            world.event(host, |edge, _, fx| {
                edge.refused_as_second("another one", fx)
            });
        }
        Err(_) => {}
    }
}

fn beat(world: &mut World, host: usize) {
    let sent = world.local(host);
    let place = &world.hosts[host];
    let mut report = place.edge.heartbeat(sent);
    if world.bug == Some(Bug::GivesBackWhileResting) {
        let view = place.edge.view(sent);
        let empty = view
            .shards
            .into_iter()
            .filter(|s| s.draining && s.held == 0);
        report.released.extend(empty.map(|shard| shard.shard));
    }
    let process = place.process;
    world.send(Message::Beat {
        host,
        process,
        sent,
        report,
    });
}

fn configure(world: &mut World, host: usize) {
    let config = world.centre.config(&world.hosts[host].olt);
    world.event(host, |edge, now, fx| edge.configure(now, config, fx));
    skip_reading(world, host);
}

fn skip_reading(world: &mut World, host: usize) {
    if world.bug == Some(Bug::NoWaitForRecords) && world.hosts[host].wants_records {
        world.hosts[host].wants_records = false;
        world.event(host, |edge, _, _| edge.snapshot_begin());
        world.event(host, Edge::snapshot_end);
    }
}

fn pull(world: &mut World, host: usize) {
    world.hosts[host].wants_records = false;
    world.event(host, |edge, _, _| edge.snapshot_begin());
    let records = world.centre.records_for(&world.hosts[host].olt);
    for (kind, record) in records {
        world.event(host, |edge, now, fx| edge.record(now, kind, &record, fx));
        if kind == RecordKind::ReleaseRequested {
            world.hosts[host].accepted.remove(&record.subscriber);
        }
    }
    world.event(host, Edge::snapshot_end);
    if world.hosts[host].stale {
        world.hosts[host].stale = false;
        world.healed += 1;
    }
}

/// What the host is asked to release and still has.
fn asked_for(world: &World, host: usize) -> Vec<nexus_core::edge::Record> {
    let place = &world.hosts[host];
    let asked = world.centre.records_for(&place.olt).into_iter();
    asked
        .filter(|(kind, _)| *kind == RecordKind::ReleaseRequested)
        .map(|(_, record)| record)
        .filter(|record| {
            let mut held = place.edge.bindings(Some(&record.subscriber));
            held.any(|view| view.resource == record.resource)
        })
        .collect()
}

fn deliver(world: &mut World, message: Message) {
    let is_there = |world: &World, host: usize, process: u32| {
        world.hosts[host].is_up() && world.hosts[host].process == process
    };
    match message {
        Message::Beat {
            host,
            process,
            sent,
            report,
        } => {
            let (olt, mut in_use) = (report.olt.clone(), BTreeMap::new());
            // They say that they are full, so that they get whatever is free.
            for (shard, _, _) in report.shard_use {
                in_use.insert(shard.pool, 1000);
            }
            let outcome = world.table(Command::Renew(Renew {
                olt: olt.clone(),
                session: report.session,
                config_revision: report.config_revision,
                last_seq: report.last_seq,
                idle: BTreeMap::new(),
                in_use,
                released: report.released,
                acked_below: Seq(0),
                keeping: None,
            }));
            let revision = world.centre.revision(&olt);
            world.send(match outcome {
                Ok(applied) => Message::Renewed {
                    host,
                    process,
                    sent,
                    lease: applied.lease.unwrap(),
                    revision,
                },
                Err(_) => Message::Refused { host, process },
            });
        }
        Message::Renewed {
            host,
            process,
            sent,
            lease,
            revision,
        } if is_there(world, host, process) => {
            let bug = world.bug;
            world.event(host, |edge, now, fx| {
                let sent = if bug == Some(Bug::CountsFromReceipt) {
                    now
                } else {
                    sent
                };
                // What 99% of this are is the whole.
                let lease = match bug {
                    Some(Bug::NoDriftMargin) => lease * 100 / 99,
                    _ => lease,
                };
                edge.renewed(now, sent, lease, revision, fx);
            });
        }
        Message::Refused { host, process } if is_there(world, host, process) => {
            world.hosts[host].must_register = true;
        }
        Message::Command {
            host,
            process,
            session,
            outgoing,
        } => {
            let (now, olt) = (world.cluster_time(), world.hosts[host].olt.clone());
            let seq = outgoing.seq;
            let bug = world.bug;
            match world.centre.command(now, &olt, &session, &outgoing, bug) {
                Verdict::Answer(answer) => world.send(Message::Answer {
                    host,
                    process,
                    seq,
                    answer,
                }),
                Verdict::RegisterAgain => {
                    lost(world, host, process, seq);
                    world.send(Message::Refused { host, process });
                }
            }
        }
        Message::Answer {
            host,
            process,
            seq,
            answer,
        } if is_there(world, host, process) => answered(world, host, seq, answer),
        Message::Renewed { .. } | Message::Refused { .. } | Message::Answer { .. } => {}
    }
}

fn answered(world: &mut World, host: usize, seq: Seq, answer: Option<nexus_core::edge::Refusal>) {
    world.event(host, |edge, now, fx| match answer {
        None => edge.acked(now, seq, fx),
        Some(refusal) => edge.refused(now, seq, refusal, "refused", fx),
    });
}

fn lost(world: &mut World, host: usize, process: u32, seq: Seq) {
    if world.hosts[host].process == process {
        world.event(host, |edge, now, _| edge.lost(now, seq));
    }
}

/// Lets everything get through until nothing is left to do, all hosts registered and read.
pub fn come_to_rest(world: &mut World) {
    for _ in 0..20 {
        for host in 0..world.hosts.len() {
            if world.hosts[host].must_register {
                register(world, host);
            }
            if !world.hosts[host].must_register {
                beat(world, host);
            }
            configure(world, host);
            if world.hosts[host].wants_records {
                pull(world, host);
            }
        }
        while !world.net.is_empty() {
            let message = world.net.remove(0).1;
            deliver(world, message);
        }
    }
    world.seal();
}
