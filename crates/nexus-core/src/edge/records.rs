//! The centre's record of this host's shards: what is reserved for whom, and what the store got wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::departed::Former;
use super::reserved::Reserved;
use super::{
    Action, BindingRow, Command, Edge, Effects, Note, OUTBOX_LIMIT, Rest, Row, UnitRow, UnitState,
    Validity, What, Who,
};
use crate::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use crate::resource::Resource;
use crate::time::BootTime;

/// One allocation as the centre has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Pool of the resource.
    pub pool: PoolId,
    /// The resource.
    pub resource: Resource,
    /// Shard that it lies in.
    pub shard: ShardId,
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// Host that has it.
    pub olt: OltId,
    /// Session of the host that recorded it last; none if the centre made it.
    pub session: Option<SessionId>,
    /// Epoch of the allocation.
    pub epoch: Epoch,
    /// Its sequence number.
    pub seq: Seq,
}

/// What is said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// It is as it is.
    Put,
    /// The centre asks this host to end it.
    ReleaseRequested,
    /// Nobody holds the resource any more, but its client may not have heard of it.
    Released,
    /// It is gone.
    Deleted,
}

/// A reading of all records that is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Shards that were owned when it began, with their epochs.
    covers: BTreeMap<(PoolId, ShardId), Epoch>,
    /// Bindings that were acknowledged when it began and have not been seen in it.
    missing: BTreeMap<Who, Seq>,
    /// Reserved units that have not been seen in it.
    unseen: BTreeSet<(PoolId, Resource)>,
    /// Releases that the centre had answered when it began.
    departed: Vec<(Former, Seq)>,
}

impl Edge {
    /// All records are being read from the beginning. To be called before they are asked for. While another host is
    /// taken for this one, what is read counts for nothing.
    pub fn snapshot_begin(&mut self) {
        if self.refused.is_some() {
            return;
        }
        // Whatever it was wanted for has happened before this one.
        self.read_again = false;
        self.snapshot = Some(Snapshot {
            covers: self
                .shards
                .iter()
                .map(|(place, row)| (place.clone(), row.epoch))
                .collect(),
            missing: self
                .bindings
                .iter()
                .filter(|(_, held)| held.row.acked)
                .map(|(who, held)| (who.clone(), held.row.seq))
                .collect(),
            unseen: self.reserved.iter().map(|(unit, _)| unit.clone()).collect(),
            departed: self.departed.stream_begins(),
        });
    }

    /// Has the records read, after the reading that is under way if there is one: many may ask for it one after another,
    /// and begun anew with each, a reading would not end before the last.
    pub(super) fn read_anew(&mut self, fx: &mut Effects) {
        if self.snapshot.is_some() {
            self.read_again = true;
        } else {
            fx.act(Action::PullRecords);
        }
    }

    /// One record, of a snapshot or as it changes.
    pub fn record(&mut self, now: BootTime, kind: RecordKind, record: &Record, fx: &mut Effects) {
        match kind {
            RecordKind::Put => self.record_put(now, record, fx),
            RecordKind::Deleted => self.record_deleted(now, record, fx),
            RecordKind::Released => {
                self.record_deleted(now, record, fx);
                self.rest_unread(now, record, fx);
            }
            RecordKind::ReleaseRequested => {
                self.note_seen(record);
                self.record_release(now, record, fx);
            }
        }
        self.pump(fx);
    }

    /// All records have been read: from the shards that they cover units may be given.
    pub fn snapshot_end(&mut self, now: BootTime, fx: &mut Effects) {
        let Some(snapshot) = self.snapshot.take() else {
            return;
        };
        self.departed.read(snapshot.departed);
        if std::mem::take(&mut self.read_again) {
            fx.act(Action::PullRecords);
        }
        for (pool, resource) in snapshot.unseen {
            self.unreserve(now, &pool, resource, fx);
        }
        for (place, epoch) in snapshot.covers {
            if let Some(row) = self.shards.get_mut(&place)
                && row.epoch == epoch
                && !row.synced
            {
                row.synced = true;
                fx.put(Row::Shard(row.clone()));
            }
            self.open_or_close(&place);
        }
        for (who, seq) in snapshot.missing {
            self.missing_in_record(now, &who, seq, fx);
        }
        let again = self.unread && !self.kept_has_ended(now);
        self.unread &= !again;
        if std::mem::take(&mut self.unconfirmed) || again {
            self.save(fx);
        }
        if again {
            self.serve_again(fx);
        }
        self.pump(fx);
    }

    fn record_put(&mut self, now: BootTime, record: &Record, fx: &mut Effects) {
        self.note_seen(record);
        let Some(unit) = self
            .pools
            .get(&record.pool)
            .and_then(|state| state.allocator.pool().locate(&record.resource))
        else {
            return;
        };
        let owned = self.shards.get(&(record.pool.clone(), unit.0));
        let ours = record.olt == self.olt;
        if owned.is_none() && !ours {
            return;
        }
        if ours && record.seq > self.last_seq {
            // Of an earlier session: what is sent from now on shall count as later.
            self.last_seq = record.seq;
            self.save(fx);
        }
        if self.has_departed(record) {
            self.rest_unread(now, record, fx);
            return;
        }
        let synced = owned.is_some_and(|row| row.synced) && !self.unconfirmed;
        let Some(state) = self.pools.get(&record.pool) else {
            return;
        };
        if let Some(holder) = state.allocator.holder(unit).cloned() {
            let holder = Who {
                pool: record.pool.clone(),
                subscriber: holder,
            };
            let bound = self
                .bindings
                .get(&holder)
                .is_some_and(|held| held.resource == record.resource);
            let left_alone = self.is_left_alone(&record.pool, self.is_of_earlier(record));
            let same = ours && holder.subscriber == record.subscriber;
            if bound && (synced || (same && !left_alone)) {
                return;
            }
            if bound {
                // The store is behind the record, or may be as far behind as the record itself: what it says of this
                // unit is history.
                self.end(now, &holder, Rest::Unheard, fx);
                fx.note(Note::NotInRecord {
                    subscriber: holder.subscriber,
                    resource: record.resource,
                });
            }
        } else if synced && state.allocator.is_resting(unit) {
            // Released here since: the centre will hear of it.
            return;
        }
        self.reserve(record, unit, ours, fx);
    }

    fn reserve(&mut self, record: &Record, unit: (ShardId, u64), ours: bool, fx: &mut Effects) {
        let Some(state) = self.pools.get_mut(&record.pool) else {
            return;
        };
        let place = (record.pool.clone(), record.resource);
        if let Some(before) = self.reserved.get(&place)
            && before.subscriber != record.subscriber
        {
            state.allocator.quarantine(unit, BootTime::ZERO);
        }
        // Another host may still serve its acknowledged binding, cut off or not: the subscriber gets
        // another unit here, and this one rests with its record until that host or an operator ends it.
        let held = if ours {
            state.allocator.hold(unit, &record.subscriber)
        } else {
            state.allocator.hold_apart(unit, &record.subscriber)
        };
        if !held {
            return;
        }
        let reserved = Reserved {
            subscriber: record.subscriber.clone(),
            shard: unit.0,
            ours,
            epoch: record.epoch,
            seq: record.seq,
            earlier: self.is_of_earlier(record),
        };
        if self.reserved.get(&place) == Some(&reserved) {
            return;
        }
        let earlier = reserved.earlier;
        fx.put(Row::Unit(UnitRow {
            pool: record.pool.clone(),
            resource: record.resource,
            state: UnitState::Reserved {
                subscriber: record.subscriber.clone(),
                ours,
                epoch: record.epoch,
                seq: record.seq,
                earlier,
            },
        }));
        self.reserved.insert(place, reserved);
    }

    fn record_deleted(&mut self, now: BootTime, record: &Record, fx: &mut Effects) {
        self.departure_told(record);
        let who = who(record);
        let place = (record.pool.clone(), record.resource);
        if self
            .reserved
            .get(&place)
            .is_some_and(|reserved| reserved.subscriber == record.subscriber)
        {
            self.unreserve(now, &record.pool, record.resource, fx);
            return;
        }
        // A late word of an earlier allocation must not end a later one.
        let ended = self.bindings.get(&who).is_some_and(|held| {
            held.resource == record.resource
                && (held.row.epoch, held.row.seq) <= (record.epoch, record.seq)
        });
        if ended {
            self.end(now, &who, Rest::Unheard, fx);
            fx.note(Note::NotInRecord {
                subscriber: who.subscriber,
                resource: record.resource,
            });
        }
    }

    /// Released before this shard was read: here nothing is known of its rest.
    fn rest_unread(&mut self, now: BootTime, record: &Record, fx: &mut Effects) {
        let Some(state) = self.pools.get_mut(&record.pool) else {
            return;
        };
        let Some(unit) = state.allocator.pool().locate(&record.resource) else {
            return;
        };
        let unread = self
            .shards
            .get(&(record.pool.clone(), unit.0))
            .is_some_and(|row| !row.synced);
        if !unread || state.allocator.holder(unit).is_some() || state.allocator.is_resting(unit) {
            return;
        }
        if state.allocator.hold(unit, &record.subscriber) {
            self.free_unit(now, &record.pool, record.resource, Rest::Unheard, fx);
        }
    }

    fn record_release(&mut self, now: BootTime, record: &Record, fx: &mut Effects) {
        let who = who(record);
        let held = self.bindings.get(&who);
        if let Some(held) = held.filter(|held| held.resource == record.resource) {
            // With a higher number the subscriber has come again since: the centre will hear of it, or has, and this is
            // an older word that was longer on its way. It asks again for what it has then, if it still wants it.
            if held.row.seq <= record.seq {
                self.release(now, &who, "operator", Rest::Unheard, fx);
            } else {
                self.asks_passed_over = true;
            }
            return;
        }
        let place = (record.pool.clone(), record.resource);
        let reserved = self
            .reserved
            .get(&place)
            .filter(|reserved| reserved.ours && reserved.subscriber == record.subscriber)
            .cloned();
        let (shard, epoch) = if let Some(Reserved { shard, epoch, .. }) = reserved {
            self.unreserve(now, &record.pool, record.resource, fx);
            let epoch = self.epoch_of(&record.pool, shard).unwrap_or(epoch);
            (shard, epoch)
        } else if record.olt == self.olt
            && self.outbox.about(&record.pool, record.resource) == 0
            && self.outbox.len() < OUTBOX_LIMIT
            && !self.is_given_on(record)
        {
            // Of an earlier session, in a pool of which this host has nothing now: nobody else can answer for it. Its
            // shard stays frozen until the lease of that session has ended, and its rest begins with this.
            (record.shard, record.epoch)
        } else {
            if record.olt == self.olt {
                self.departed.asked(record);
            }
            return;
        };
        let command = Command {
            what: What::Deallocate {
                reason: "operator".to_owned(),
            },
            pool: who.pool,
            subscriber: who.subscriber,
            resource: record.resource,
            shard,
            epoch,
        };
        self.enqueue_release(command, record.seq, fx);
    }

    /// Whether somebody else has it here since. What the centre has of that is the newer word, and a release with a number of
    /// now would undo it where the two meet.
    fn is_given_on(&self, record: &Record) -> bool {
        let state = self.pools.get(&record.pool);
        let holder = state.and_then(|state| {
            let unit = state.allocator.pool().locate(&record.resource)?;
            state.allocator.holder(unit)
        });
        holder.is_some_and(|holder| *holder != record.subscriber)
    }

    pub(super) fn unreserve(
        &mut self,
        now: BootTime,
        pool: &PoolId,
        resource: Resource,
        fx: &mut Effects,
    ) {
        if self.reserved.remove(&(pool.clone(), resource)).is_some() {
            self.free_unit(now, pool, resource, Rest::Unheard, fx);
        }
    }

    /// An acknowledged binding that the centre does not have. In a shard of this host nobody else can
    /// have got it, so it is recorded again, unless the store itself is in doubt.
    fn missing_in_record(&mut self, now: BootTime, who: &Who, seq: Seq, fx: &mut Effects) {
        let Some(row) = self
            .bindings
            .get(who)
            // A lower number: the word of its subscriber's return was refused meanwhile.
            .filter(|held| held.row.seq <= seq && held.row.acked)
            .map(|held| (held.row.clone(), held.resource))
        else {
            return;
        };
        let (row, resource): (BindingRow, Resource) = row;
        match (self.epoch_of(&who.pool, row.shard), self.unacked_until(now)) {
            // Without a lease the next reading decides; an acknowledged binding goes on until then.
            (Some(_), None) if !self.unconfirmed => {}
            (Some(epoch), Some(until)) if !self.unconfirmed => {
                let seq = self.enqueue(
                    Command {
                        what: What::Allocate {
                            metadata: row.metadata,
                            timestamp: row.timestamp,
                        },
                        pool: who.pool.clone(),
                        subscriber: who.subscriber.clone(),
                        resource,
                        shard: row.shard,
                        epoch,
                    },
                    fx,
                );
                if let Some(held) = self.bindings.get_mut(who) {
                    held.row.since = seq;
                    held.row.seq = seq;
                    held.row.epoch = epoch;
                    held.row.acked = false;
                    held.validity = Validity::Until(until);
                }
                self.watch_end(Validity::Until(until));
                self.unacked.insert(who.clone());
                self.save_binding(who, fx);
                self.put_entry(who, fx);
            }
            _ => {
                self.end(now, who, Rest::Unheard, fx);
                fx.note(Note::NotInRecord {
                    subscriber: who.subscriber.clone(),
                    resource,
                });
            }
        }
    }

    fn note_seen(&mut self, record: &Record) {
        let bound = self
            .bindings
            .get(&who(record))
            .is_some_and(|held| held.resource == record.resource);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot
                .unseen
                .remove(&(record.pool.clone(), record.resource));
            if bound {
                snapshot.missing.remove(&who(record));
            }
        }
    }
}

fn who(record: &Record) -> Who {
    Who {
        pool: record.pool.clone(),
        subscriber: record.subscriber.clone(),
    }
}
