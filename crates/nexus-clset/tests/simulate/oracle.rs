//! What clients were promised, and whether the nodes keep it.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_clset::{
    Delta, Digest, Entry, EntryKind, MAX_LEAD, MemoryRows, NodeId, Replica, RowKind, Rows as _,
    UnixMillis,
};

use crate::bug::Bug;
use crate::host::{Host, Running};

#[derive(Default)]
pub struct Oracle {
    /// All entries that were ever made.
    pub made: BTreeMap<Vec<u8>, Vec<Entry>>,
    /// Those that clients were told are safe.
    accepted: Vec<(Vec<u8>, Entry)>,
    /// How many that were in all.
    pub promised: u64,
    pub failure: Option<String>,
}

impl Oracle {
    pub fn fail(&mut self, why: impl Into<String>) {
        self.failure.get_or_insert(why.into());
    }

    /// A node has made entries.
    pub fn made(&mut self, delta: &Delta) {
        for (key, entry) in &delta.entries {
            let made = self.made.entry(key.clone()).or_default();
            if made.iter().any(|other| other.dot() == entry.dot()) {
                self.failure
                    .get_or_insert(format!("write {:?} was made twice", entry.dot()));
            }
            made.push(entry.clone());
        }
    }

    /// A client was told that its write is safe. (A node that was removed and does not know promises
    /// what nobody can keep.)
    pub fn accepted(&mut self, delta: &Delta, by_a_member: bool) {
        if by_a_member {
            self.promised += delta.entries.len() as u64;
            self.accepted.extend(delta.entries.iter().cloned());
        }
    }

    /// A node is removed, or its disk is lost: what no other member has on its disk may be lost.
    pub fn forget_what_only_one_had(&mut self, hosts: &[Host], at: usize) {
        let others: Vec<_> = hosts
            .iter()
            .enumerate()
            .filter(|(other, host)| *other != at && !host.was_removed && !host.gone)
            .map(|(_, host)| &host.disk)
            .collect();
        let on_disk = |disk: &MemoryRows, key: &[u8], entry: &Entry| {
            let row = disk.get(RowKind::Entry, key).unwrap();
            row.is_some_and(|row| Entry::decode(&row).unwrap().precedence(entry).is_ge())
        };
        self.accepted
            .retain(|(key, entry)| others.iter().any(|disk| on_disk(disk, key, entry)));
    }

    /// What peers were told to be on a node's disk must be there when it boots.
    pub fn check_words(&self, hosts: &[Host], at: usize) -> Result<(), String> {
        let booted = &hosts[at];
        let Some(running) = &booted.running else {
            return Ok(());
        };
        if booted.was_removed || !running.replica.is_complete() {
            return Ok(());
        }
        let digest = running.replica.digest();
        for (other, host) in hosts.iter().enumerate().filter(|(other, _)| *other != at) {
            let Some(peer) = &host.running else {
                continue;
            };
            // Who does not know the members of now does not know who has started over.
            if host.list.as_ref().map(|list| list.epoch)
                != booted.list.as_ref().map(|list| list.epoch)
            {
                continue;
            }
            let word = peer.sync.acknowledged_by(booted.id);
            let missing = word.runs().find(|(origin, _, end)| {
                !digest.retired.contains(*origin) && digest.seen.upto(*origin) < *end && {
                    let dot = nexus_clset::Dot {
                        origin: *origin,
                        seq: *end,
                    };
                    !digest.seen.contains(dot)
                }
            });
            if let Some((origin, start, end)) = missing {
                return Err(format!(
                    "node {} told node {} that writes {start}..={end} of {origin} are on its disk, they are not",
                    booted.id.0, hosts[other].id.0
                ));
            }
        }
        Ok(())
    }

    /// What must hold at any moment.
    pub fn check_always(
        &self,
        hosts: &mut [Host],
        boot: Duration,
        bug: Option<Bug>,
    ) -> Result<(), String> {
        for at in 0..hosts.len() {
            let wall = Host::wall(boot);
            let host = &mut hosts[at];
            let (id, was_off) = (host.id.0, host.was_off);
            let Some(running) = &mut host.running else {
                continue;
            };
            let of_node = |why: String| format!("node {id}: {why}");
            let watched = running.watcher.follow(&running.replica, 7, bug);
            watched.map_err(of_node)?;
            let lead = running.replica.clock().lead(UnixMillis(wall));
            if !was_off && lead > MAX_LEAD + Duration::from_millis(1) {
                return Err(of_node(format!("its clock was dragged {lead:?} ahead")));
            }
            self.check_in_sync(hosts, at, boot, bug)?;
        }
        Ok(())
    }

    /// Who is said to be in sync has held what is here.
    fn check_in_sync(
        &self,
        hosts: &[Host],
        at: usize,
        boot: Duration,
        bug: Option<Bug>,
    ) -> Result<(), String> {
        let Some(running) = &hosts[at].running else {
            return Ok(());
        };
        let report = running.sync.report();
        for (node, peer) in &report.peers {
            let Some(other) = hosts.iter().find(|host| host.id == *node) else {
                continue;
            };
            // What it said before its last boot is not what it holds now, and cannot be known to be that.
            let heard = peer.heard.map(|ago| boot.saturating_sub(ago));
            if heard.is_none_or(|heard| heard < other.booted_at) {
                continue;
            }
            let in_sync = match bug {
                Some(Bug::InSyncByCounters) => {
                    let theirs = other.running.as_ref().map(|r| r.replica.seen());
                    theirs == Some(running.replica.seen())
                }
                _ => peer.in_sync,
            };
            if in_sync && !other.roots.contains(&(report.entries, report.root)) {
                return Err(format!(
                    "node {} says it is in sync with node {}, which never held the same",
                    hosts[at].id.0, node.0
                ));
            }
        }
        Ok(())
    }

    /// What must hold when all is healed and all have had time.
    pub fn check_settled(&self, hosts: &[Host], members: &[usize]) -> Result<(), String> {
        for at in members {
            let host = &hosts[*at];
            let Some(running) = &host.running else {
                return Err(format!("node {} does not run", host.id.0));
            };
            let of_node = |why: String| format!("node {}: {why}", host.id.0);
            self.check_promises(&running.replica).map_err(of_node)?;
            check_rows(host, running).map_err(of_node)?;
            running.watcher.check(&running.replica).map_err(of_node)?;
        }
        Ok(())
    }

    fn check_promises(&self, replica: &Replica<MemoryRows>) -> Result<(), String> {
        let digest = replica.digest();
        let nothing = Vec::new();
        for (key, entry) in &self.accepted {
            let stands = replica.get_entry(key).unwrap();
            let made = self.made.get(key).unwrap_or(&nothing);
            if !holds(stands.as_ref(), entry, made, &digest) {
                return Err(format!(
                    "an accepted write is lost: key {} had {entry:?}, has {stands:?}",
                    key.escape_ascii()
                ));
            }
        }
        for (key, made) in &self.made {
            let stands = replica.get_entry(key).unwrap();
            if stands.is_some_and(|stands| !made.contains(&stands)) {
                return Err(format!("key {} has what nobody wrote", key.escape_ascii()));
            }
        }
        Ok(())
    }
}

/// Whether what is kept up to date is what the rows say, and nothing grows without need.
fn check_rows(host: &Host, running: &Running) -> Result<(), String> {
    if running.replica.unsettled_rows() > 0 {
        return Ok(());
    }
    let image = host.disk.image();
    let entries = image.all(RowKind::Entry);
    let dots = image.all(RowKind::Dot).len();
    let now = UnixMillis(crate::host::START);
    let (fresh, _) = Replica::open(image, NodeId(host.id.0), now).unwrap();
    if fresh.fingerprint() != running.replica.fingerprint() {
        return Err("the summary is not that of the rows".to_owned());
    }
    if dots != entries.len() {
        return Err(format!(
            "{dots} writes are indexed, {} stand",
            entries.len()
        ));
    }
    Ok(())
}

/// Whether `entry` is in what stands: equal or greater, or under a tombstone that is collected. (A
/// fence is forgotten with its tombstone, so that below it a key may begin anew under a lower one.)
fn holds(stands: Option<&Entry>, entry: &Entry, made: &[Entry], digest: &Digest) -> bool {
    stands.is_some_and(|stands| stands.precedence(entry).is_ge())
        || made.iter().any(|tombstone| {
            tombstone.kind() == EntryKind::Tombstone
                && tombstone.precedence(entry).is_ge()
                && (digest.collected.contains(tombstone.dot())
                    || digest.retired.contains(tombstone.version.origin))
                && stands.is_none_or(|stands| stands.version.fence < tombstone.version.fence)
        })
}
