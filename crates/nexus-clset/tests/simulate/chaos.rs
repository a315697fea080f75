//! What goes wrong, and what clients do meanwhile.

use std::time::Duration;

use nexus_clset::{
    Entry, EntryKind, Error, Fence, Input, NodeId, RowKind, RowWrite, Rows as _, Write,
};

use crate::bug::Bug;
use crate::host::Job;
use crate::network::Link;
use crate::world::{Event, World};

/// Keys without owner, and keys of an owner with a fence.
const KEYS: usize = 24;
const OWNED: usize = 6;

impl World {
    /// One write of a client to some node that takes it, and the next one later.
    pub fn write_somewhere(&mut self) {
        if !self.chaos {
            return;
        }
        let pause = match self.random.chance(100) {
            true => self.random.millis(200, 2000),
            false => self.random.millis(1, 120),
        };
        self.schedule(pause, Event::Write);
        let ready: Vec<_> = (0..self.hosts.len())
            .filter(|at| self.takes_writes(*at))
            .collect();
        if let Some(at) = self.random.pick(&ready).copied() {
            self.write(at);
        }
    }

    fn takes_writes(&self, at: usize) -> bool {
        let host = &self.hosts[at];
        let ready = |running: &crate::host::Running| {
            running.replica.is_complete()
                && running.sync.writes_refused().is_none()
                && running.sync.must_start_over().is_none()
                && running.queue.len() < 500
        };
        host.writes && host.is_member_by_its_list() && host.running.as_ref().is_some_and(ready)
    }

    fn write(&mut self, at: usize) {
        let mut writes = Vec::new();
        for _ in 0..if self.random.chance(100) { 3 } else { 1 } {
            let owned = self.random.chance(250);
            let (key, fence) = if owned {
                let key = self.random.below(OWNED);
                (format!("owned/{key}"), self.command(key))
            } else {
                (format!("key/{}", self.random.below(KEYS)), Fence::NONE)
            };
            let value = self.random.chance(600).then(|| {
                let length = if self.random.chance(50) { 4000 } else { 40 };
                let mut value = format!("{} ", self.random.number());
                value.push_str(&"x".repeat(self.random.below(length)));
                value
            });
            if writes.iter().all(|(other, _, _)| *other != key) {
                writes.push((key, value, fence));
            }
        }
        let writes: Vec<_> = writes
            .iter()
            .map(|(key, value, fence)| Write {
                key: key.as_bytes(),
                value: value.as_ref().map(String::as_bytes),
                fence: *fence,
            })
            .collect();
        let now = self.hosts[at].now(self.now);
        let Some(running) = &mut self.hosts[at].running else {
            return;
        };
        let change = match running.replica.write(&writes, now.wall) {
            Ok(change) => change,
            Err(Error::OlderFence { .. }) => return,
            Err(error) => return self.oracle.fail(error.to_string()),
        };
        let ticket = change.ticket;
        if let Some(delta) = &change.delta {
            self.oracle.made(delta);
            if self.bug == Some(Bug::AcknowledgedEarly) {
                let listed = self.is_listed(at);
                self.oracle.accepted(delta, listed);
            }
        }
        if let Some(running) = &mut self.hosts[at].running {
            running.queue.push_back(Job { change, own: true });
        }
        self.hosts[at].note_root();
        self.queued(at, ticket);
    }

    /// The next command of the owner of a key, or sometimes an older one, sent again or late.
    fn command(&mut self, key: usize) -> Fence {
        let (epoch, seq) = &mut self.commands[key];
        match self.random.below(10) {
            0 => {
                *epoch += 1;
                *seq = 1;
            }
            1 if *seq > 1 => {
                return Fence {
                    epoch: *epoch,
                    seq: *seq - 1,
                };
            }
            _ => *seq += 1,
        }
        Fence {
            epoch: *epoch,
            seq: *seq,
        }
    }

    /// Something goes wrong, and the next thing later.
    pub fn fault(&mut self) {
        if !self.chaos {
            return;
        }
        let pause = self.random.millis(50, self.fault_pause);
        self.schedule(pause, Event::Fault);
        let at = self.random.below(self.hosts.len());
        let other = self.random.below(self.hosts.len());
        if self.hosts[at].gone {
            return;
        }
        match self.random.below(100) {
            0..=21 => {
                let back = self.random.millis(50, 15_000);
                if self.hosts[at].running.is_some() {
                    self.crash(at, back);
                }
            }
            22..=32 => self.partition(),
            33..=42 => {
                self.say(|| format!("messages from host {at} to host {other} are lost"));
                self.network.link(at, other).cut = true;
            }
            43..=54 => self.slow_link(at, other),
            55..=62 => self.network.heal(),
            63..=69 => self.jump_clock(at),
            70..=76 => {
                let high = self.random.between(20, 6000);
                self.say(|| format!("the disk of host {at} takes up to {high} ms"));
                self.hosts[at].flush = (high / 4, high);
            }
            77..=80 => self.lose_disk(at),
            81..=91 => self.evict_or_admit_again(at),
            92..=94 => self.grow_or_shrink(at),
            95..=97 => self.input(at, Input::Flush),
            _ => self.lose_row(at),
        }
    }

    fn partition(&mut self) {
        let side = self.random.number();
        self.say(|| format!("partition {side:b}"));
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                if a != b && (side >> a) & 1 != (side >> b) & 1 {
                    self.network.link(a, b).cut = true;
                }
            }
        }
    }

    fn slow_link(&mut self, from: usize, to: usize) {
        let delay = self.random.between(10, 2000);
        let loss = self.random.between(0, 600);
        let rate = self.random.between(2_000, 1_000_000);
        self.say(|| format!("host {from} to host {to}: {delay} ms, {loss} lost, {rate} B/s"));
        let link: &mut Link = self.network.link(from, to);
        link.delay = (delay / 3, delay);
        link.loss = loss;
        link.twice = 100;
        link.bytes_per_second = rate;
    }

    fn jump_clock(&mut self, at: usize) {
        let far = *self.random.pick(&[300, 1800, 10_000, 3_600_000]).unwrap();
        let by = self.random.between(1, far) as i64;
        let by = if self.random.chance(500) { by } else { -by };
        self.say(|| format!("the clock of host {at} jumps by {by} ms"));
        self.hosts[at].clock += by;
        self.hosts[at].was_off = true;
    }

    /// The disk is lost: the node comes back under another number.
    fn lose_disk(&mut self, at: usize) {
        if !self.is_listed(at) || self.whole_without(at) < 2 {
            return;
        }
        let node = self.hosts[at].id.0;
        self.say(|| format!("node {node} loses its disk"));
        let back = self.random.millis(1000, 5000);
        if self.hosts[at].running.is_some() {
            self.crash(at, back);
        }
        self.remove(at);
        self.numbers += 1;
        let (id, writes, life) = (
            NodeId(self.numbers),
            self.hosts[at].writes,
            self.hosts[at].life,
        );
        let (clock, was_off) = (self.hosts[at].clock, self.hosts[at].was_off);
        let mut fresh = crate::host::Host::new(id, writes);
        (fresh.life, fresh.clock, fresh.was_off) = (life, clock, was_off);
        for other in 0..self.hosts.len() {
            self.disconnect(other, at);
        }
        self.hosts[at] = fresh;
        self.admit(at);
    }

    fn evict_or_admit_again(&mut self, at: usize) {
        let members = self.members();
        if !self.is_listed(at) {
            self.admit(at);
        } else if members.len() > 2 && self.whole_without(at) >= 2 {
            self.remove(at);
        }
    }

    /// Members that have all they should, `at` not counted.
    fn whole_without(&self, at: usize) -> usize {
        let complete = |other: &usize| {
            let running = self.hosts[*other].running.as_ref();
            running.is_some_and(|r| r.replica.is_complete()) && !self.hosts[*other].was_removed
        };
        let others = self.members().into_iter().filter(|other| *other != at);
        others.filter(complete).count()
    }

    fn grow_or_shrink(&mut self, at: usize) {
        let here = self.hosts.iter().filter(|host| !host.gone).count();
        if here < 7 && self.random.chance(500) {
            let writes = self.random.chance(600);
            self.admit_new(writes);
        } else if here > 3 && self.is_listed(at) && self.whole_without(at) >= 2 {
            self.remove(at);
            self.hosts[at].crash(0);
            self.hosts[at].gone = true;
        }
    }

    /// The store loses the row of a value, silently, while the node is down. Only what two others have on
    /// disk. (Where a tombstone is lost, what its node writes next does not know of it.)
    fn lose_row(&mut self, at: usize) {
        let back = self.random.millis(50, 3000);
        let disk = self.hosts[at].disk.clone();
        let mut entries = disk.all(RowKind::Entry);
        entries.retain(|(_, row)| Entry::decode(row).unwrap().kind() == EntryKind::Put);
        let Some((key, bytes)) = self.random.pick(&entries).cloned() else {
            return;
        };
        let others = self.members().into_iter().filter(|other| *other != at);
        let same = others.filter(|other| {
            let other = &self.hosts[*other];
            let row = other.disk.get(RowKind::Entry, &key).unwrap();
            row.as_ref() == Some(&bytes) && !other.was_removed
        });
        if same.count() < 2 || self.hosts[at].running.is_none() {
            return;
        }
        let entry = Entry::decode(&bytes).unwrap();
        let origin = entry.version.origin;
        let dot = [
            origin.node.0.to_be_bytes().to_vec(),
            origin.incarnation.0.to_be_bytes().to_vec(),
            entry.seq.to_be_bytes().to_vec(),
        ];
        let tombstone = [entry.version.hlc.0.to_be_bytes().to_vec(), key.clone()];
        let gone = |kind, key| RowWrite {
            kind,
            key,
            value: None,
        };
        self.say(|| format!("host {at} loses the row of {}", key.escape_ascii()));
        self.crash(at, back);
        if disk.get(RowKind::Entry, &key).unwrap() != Some(bytes) {
            // What the disk was busy with had another entry for it.
            return;
        }
        disk.apply(&[
            gone(RowKind::Entry, key),
            gone(RowKind::Dot, dot.concat()),
            gone(RowKind::Tombstone, tombstone.concat()),
        ]);
    }

    /// All that went wrong is put right.
    pub fn heal(&mut self) {
        self.say(|| "all is put right".to_owned());
        self.chaos = false;
        self.network.heal();
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.clock = 0;
            host.flush = (1, 5);
            if !host.gone && host.running.is_none() {
                self.schedule(Duration::from_millis(500), Event::Restart { host: at });
            }
            if !self.hosts[at].gone && !self.is_listed(at) {
                self.admit(at);
            }
        }
    }

    /// All members run and are alike, and know it.
    pub fn is_settled(&self) -> bool {
        let members = self.members();
        let first = members.first().and_then(|at| self.hosts[*at].root());
        members.iter().all(|at| {
            let host = &self.hosts[*at];
            let settled = |running: &crate::host::Running| {
                running.replica.is_complete()
                    && running.replica.unsettled_rows() == 0
                    && running.sync.report().converged
            };
            host.root() == first
                && host
                    .list
                    .as_ref()
                    .is_some_and(|list| list.epoch == self.list.epoch)
                && host.running.as_ref().is_some_and(settled)
        })
    }

    /// What stands between the nodes and that.
    pub fn what_is_missing(&self) -> String {
        let mut out = String::new();
        for at in self.members() {
            let host = &self.hosts[at];
            let Some(running) = &host.running else {
                out.push_str(&format!("\n  node {} does not run", host.id.0));
                continue;
            };
            let report = running.sync.report();
            out.push_str(&format!(
                "\n  node {}: complete {}, converged {}, {} entries, root {:x}, {} rows unsettled, list {:?}, seen {:?}",
                host.id.0,
                report.complete,
                report.converged,
                report.entries,
                report.root,
                running.replica.unsettled_rows(),
                host.list.as_ref().map(|list| list.epoch),
                running.replica.seen().runs().map(|(o, s, e)| format!("{o} {s}..={e}")).collect::<Vec<_>>(),
            ));
            for (node, peer) in &report.peers {
                out.push_str(&format!(
                    "\n    of node {}: up {}, in sync {}, ahead {}, behind {}, mismatches {}, heard {:?}, refuses us {}",
                    node.0, peer.up, peer.in_sync, peer.ahead, peer.behind, peer.mismatches, peer.heard, peer.refuses_us
                ));
            }
        }
        out
    }
}
