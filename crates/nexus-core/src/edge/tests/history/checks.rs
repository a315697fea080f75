//! What must be true after each step, and once everything has got through.

use super::*;

impl Host {
    /// An event that is not durable yet removes the entry of this place.
    pub(super) fn is_leaving(&self, place: &Place) -> bool {
        let removes = |action: &Action| matches!(action, Action::RemoveBinding(p) if p == place);
        self.queue
            .iter()
            .any(|(fx, _)| fx.actions.iter().any(removes))
    }

    /// On disk as in the machine: one binding on a place, and one address of a pool for a subscriber.
    pub(super) fn check_places(&self) {
        let on_disk = self.rows.values().filter_map(|row| match row {
            Row::Unit(UnitRow {
                pool,
                state: UnitState::Bound(binding),
                ..
            }) => Some((pool, binding)),
            _ => None,
        });
        let held = self.edge.bindings(None).map(|view| (view.pool, view.row));
        check_apart(on_disk);
        check_apart(held);
    }

    /// Nothing ends before the machine looks for it.
    pub(super) fn check_ends(&self) {
        let open = |view: &BindingView<'_>| !view.row.acked && !view.suspended;
        let ends = self.edge.bindings(None).filter(open);
        let first = ends.filter_map(|view| view.valid_until).min();
        assert!(first.is_none_or(|end| self.edge.next_end <= end));
    }
}

pub(super) fn check_apart<'a>(bindings: impl Iterator<Item = (&'a PoolId, &'a BindingRow)>) {
    let (mut places, mut holders) = (BTreeSet::new(), BTreeSet::new());
    for (pool, row) in bindings {
        let holder = (pool, &row.subscriber);
        assert!(holders.insert(holder), "two bindings of {holder:?}");
        if let Some(key) = &row.key {
            assert!(places.insert(key.place()), "two bindings on {key}");
        }
    }
}

impl World {
    pub(super) fn check(&self) {
        let mut holders: BTreeMap<std::net::Ipv4Addr, &SubscriberId> = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let now = self.local(index);
            for (entry, who) in host.map.values() {
                if entry.valid_until.is_some_and(|end| end <= now) {
                    continue;
                }
                if let Some(other) = holders.insert(entry.address, who) {
                    assert_eq!(other, who, "two subscribers on {}", entry.address);
                }
            }
            host.check_places();
            host.check_ends();
            self.check_accepted(index, now);
        }
    }

    /// Whatever was answered with success is on disk, and in the map as long as it may be.
    pub(super) fn check_accepted(&self, index: usize, now: BootTime) {
        let host = &self.hosts[index];
        for (who, (resource, key)) in &host.accepted {
            let row = host.rows.get(&RowKey::Unit(pool_id(), *resource));
            let Some(Row::Unit(UnitRow {
                state: UnitState::Bound(binding),
                ..
            })) = row
            else {
                panic!("the accepted binding of {who} to {resource} is not on disk: {row:?}");
            };
            assert_eq!(binding.subscriber, *who);
            if binding.key.as_ref() != Some(key) || host.is_leaving(&key.place()) {
                continue;
            }
            let entry = host.map.get(&key.place());
            if binding.acked {
                let entry = entry.unwrap_or_else(|| panic!("{who} has lost {resource}"));
                assert_eq!((entry.0.valid_until, &entry.1), (None, who));
                assert_eq!(entry.0.key, *key, "the MAC that is allowed");
            } else if let Some((entry, _)) = entry {
                assert!(
                    entry
                        .valid_until
                        .is_some_and(|end| end <= now + UNACKED_STEP)
                );
            }
        }
    }

    /// Everything gets through: what was accepted is on record, and the edge can go on.
    pub(super) fn heal(&mut self) {
        for _ in 0..12 {
            for host in 0..2 {
                let pending = self.hosts[host].queue.len();
                self.flush(host, pending);
                self.run(Op::Heartbeat(host));
                self.run(Op::GetConfig(host));
            }
            self.drain();
            for host in 0..2 {
                if self.hosts[host].wants_records || self.centre.streams[host].is_none() {
                    self.run(Op::OpenStream(host));
                }
                self.run(Op::ReadStream(host, usize::MAX));
                self.run(Op::Tick(host));
            }
            self.drain();
            self.run(Op::Wait(3));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let view = host.edge.view(self.local(index));
            assert_eq!(view.pending, 0, "host {index} still waits for the centre");
            assert_eq!((view.unacked, view.suspended), (0, 0), "host {index}");
            for (who, (resource, _)) in &host.accepted {
                let record = self.centre.records.get(resource);
                assert_eq!(
                    record.map(|r| &r.subscriber),
                    Some(who),
                    "{resource} on record"
                );
            }
            for (resource, record) in &self.centre.records {
                let held = |b: BindingView<'_>| {
                    b.resource == *resource && b.row.subscriber == record.subscriber
                };
                assert!(
                    record.olt != index || host.edge.bindings(None).any(held),
                    "{resource} is on record for a binding that is gone"
                );
            }
            assert!(view.lease_until.is_some());
            assert!(view.shards.iter().all(|shard| shard.synced));
        }
    }
}
