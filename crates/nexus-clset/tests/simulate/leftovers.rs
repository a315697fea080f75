//! What no node should still have when a cluster had time: old tombstones, and writers that ended.

use std::collections::BTreeSet;

use nexus_clset::{Entry, Hlc, Origin, RowKind};

use crate::host::Host;
use crate::world::World;

impl World {
    /// Tombstones and writers that every member should have forgotten by now, described. What is stamped
    /// or numbered by a clock that was ahead counts as young until that time.
    pub fn leftovers(&self) -> Vec<String> {
        let mut out = Vec::new();
        let members = self.members();
        let old = Host::wall(self.now) - self.tombstone_age.as_millis() as u64;
        let current: BTreeSet<_> = members
            .iter()
            .filter_map(|at| self.hosts[*at].origin())
            .collect();
        for at in members {
            let host = &self.hosts[at];
            let entries = host.disk.all(RowKind::Entry).into_iter();
            let entries: Vec<_> = entries
                .map(|(_, row)| Entry::decode(&row).unwrap())
                .collect();
            let tombstones = host.disk.all(RowKind::Tombstone).into_iter();
            let stamp = |row: &[u8]| {
                row.first_chunk()
                    .map_or(0, |stamp| u64::from_be_bytes(*stamp))
            };
            let tombstones = tombstones
                .filter(|(row, _)| Hlc(stamp(row)).millis().0 < old)
                .count();
            if tombstones > 0 {
                out.push(format!("{tombstones} tombstones on node {}", host.id.0));
            }
            let stands = |origin: &Origin| entries.iter().any(|e| e.version.origin == *origin);
            let ended = |origin: &Origin| {
                let boot = current.iter().find(|boot| boot.node == origin.node);
                let last = boot.unwrap_or(origin).incarnation;
                !current.contains(origin) && u64::from(last.0) * 1000 < old
            };
            let writers = host.running.iter().flat_map(|r| r.replica.seen().origins());
            for origin in writers.filter(|origin| ended(origin) && !stands(origin)) {
                let runs = host.running.iter().flat_map(|r| r.replica.seen().runs());
                let runs: Vec<_> = runs
                    .filter(|(of, _, _)| *of == origin)
                    .map(|(_, start, end)| start..=end)
                    .collect();
                out.push(format!(
                    "writer {origin} on node {} with {runs:?}",
                    host.id.0
                ));
            }
        }
        out
    }
}

impl Host {
    fn origin(&self) -> Option<Origin> {
        self.running
            .as_ref()
            .map(|running| running.replica.origin())
    }
}
