//! Giving, taking back and keeping alive what subscribers hold.

use super::earlier::EARLIER_IN_USE;
use super::places::remove_entry;
use super::policy::change;
use super::resting::RESTS_ANEW;
use super::{
    Authorized, BindingRow, Command, Conflict, Denied, Edge, Effects, Granted, Held, Kind, Note,
    OUTBOX_LIMIT, QUARANTINE, Row, RowKey, UNACKED_STEP, UnitRow, UnitState, Validity, What, Who,
};
use crate::id::{Epoch, PoolId, Seq, ShardId};
use crate::resource::Resource;
use crate::time::BootTime;

/// Later than any end.
pub(super) const NEVER: BootTime = BootTime(u64::MAX);

/// How far ahead the row of a shard says that units were given.
const FRESH_AHEAD: u64 = 64;

/// Most commands about one resource that wait for the centre before a subscriber that comes again and again is not
/// told of once more.
const SAME_AGAIN_LIMIT: usize = 4;

/// How a unit comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Its client gave it back itself.
    CoolDown,
    /// Its client may not have heard of the end, and goes on until its DHCP lease ends.
    Unheard,
    /// Somebody else uses it; its former holder does not get it back either.
    Quarantine,
}

impl Edge {
    /// Gives a subscriber a unit of a pool, the one it has if it has one.
    pub(super) fn give_or_again(
        &mut self,
        now: BootTime,
        who: &Who,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Result<Granted, Denied> {
        if self.bindings.contains_key(who) {
            self.give_again(now, who, request, fx)
        } else {
            self.give(now, who, request, fx)
        }
    }

    /// Gives something to a subscriber that has nothing in this pool.
    pub(super) fn give(
        &mut self,
        now: BootTime,
        who: &Who,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Result<Granted, Denied> {
        if let Some((shard, resource, row)) = self.own_record(now, who, request, fx) {
            self.reserved.remove(&(who.pool.clone(), resource));
            return self.bind(now, who, shard, resource, row, fx);
        }
        let pinned = self
            .pools
            .get(&who.pool)
            .filter(|state| state.configured && state.allocator.pool().is_pinned());
        if pinned.is_some() {
            return Err(Denied::AskCentre(who.pool.clone()));
        }
        let waits = self.waits_for_earlier(who);
        let instead = |denied| if waits { EARLIER_IN_USE } else { denied };
        self.may_allocate(now, &who.pool).map_err(instead)?;
        let rested = self.has_rested(now, &who.pool);
        let pool = self.pools.get_mut(&who.pool).ok_or(Denied::NoPool)?;
        let (given, none) = if rested {
            let given = pool.allocator.allocate(now, &who.subscriber);
            (given, Denied::Exhausted(who.pool.clone()))
        } else {
            (
                pool.allocator.allocate_unused(now, &who.subscriber),
                RESTS_ANEW,
            )
        };
        let (shard, unit) = given.ok_or_else(|| instead(none))?;
        let resource = pool
            .allocator
            .pool()
            .resource(shard, unit)
            .ok_or(Denied::NoPool)?;
        self.reserved.remove(&(who.pool.clone(), resource));
        let epoch = self.epoch_of(&who.pool, shard).ok_or(Denied::NoPool)?;
        self.note_fresh(&who.pool, shard, fx);
        let seq = self.report(request, who, resource, shard, epoch, fx);
        let row = BindingRow {
            subscriber: who.subscriber.clone(),
            shard,
            epoch,
            since: seq,
            seq,
            acked: false,
            key: Some(request.key.clone()),
            metadata: request.metadata.clone(),
            timestamp: request.timestamp.clone(),
        };
        self.bind(now, who, shard, resource, row, fx)
    }

    /// Gives a subscriber what it has, on the line that it is on now.
    pub(super) fn give_again(
        &mut self,
        now: BootTime,
        who: &Who,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Result<Granted, Denied> {
        let held = self.bindings.get(who).ok_or(Denied::NoPool)?;
        let validity = if held.row.acked {
            self.acked_validity()
        } else {
            match (self.is_renewable(now, &who.pool, &held.row), held.validity) {
                (true, _) => self
                    .unacked_until(now)
                    .map_or(Validity::Suspended, Validity::Until),
                (false, kept) => kept,
            }
        };
        if validity == Validity::Suspended {
            return Err(if self.lease_alive(now) {
                Denied::NotReady("the subscriber's binding waits for the centre's answer")
            } else {
                Denied::LeaseEnded
            });
        }
        let (resource, old_key) = (held.resource, held.row.key.clone());
        if old_key.as_ref() != Some(&request.key) {
            self.claim(now, &request.key, Kind::of(&resource), who, fx);
            if let Some(old) = old_key {
                // Another MAC at the same place is written over the one that was allowed there.
                if old.place() != request.key.place() {
                    self.keys.remove(&(Kind::of(&resource), old.place()));
                    remove_entry(resource, &old, fx);
                }
                let (subscriber, to) = (who.subscriber.clone(), request.key.clone());
                let from = old;
                fx.note(match change(&from, &to) {
                    Some(Conflict::MacChanged) => Note::MacChanged {
                        subscriber,
                        from,
                        to,
                    },
                    _ => Note::Moved {
                        subscriber,
                        from,
                        to,
                    },
                });
            }
            self.keyless.remove(who);
            if let Some(held) = self.bindings.get_mut(who) {
                held.row.key = Some(request.key.clone());
                held.row.metadata = request.metadata.clone();
            }
            self.save_binding(who, fx);
        }
        self.record_again(now, who, request, fx);
        if let Some(held) = self.bindings.get_mut(who) {
            held.validity = validity;
            held.active = now;
        }
        self.watch_end(validity);
        self.put_entry(who, fx);
        Ok(Granted {
            pool: who.pool.clone(),
            resource,
            valid_until: until(validity),
            known: true,
        })
    }

    /// Ends a binding and tells the centre.
    pub(super) fn release(
        &mut self,
        now: BootTime,
        who: &Who,
        reason: &str,
        rest: Rest,
        fx: &mut Effects,
    ) {
        let Some(held) = self.end(now, who, rest, fx) else {
            return;
        };
        let epoch = self
            .epoch_of(&who.pool, held.row.shard)
            .unwrap_or(held.row.epoch);
        let command = Command {
            what: What::Deallocate {
                reason: reason.to_owned(),
            },
            pool: who.pool.clone(),
            subscriber: who.subscriber.clone(),
            resource: held.resource,
            shard: held.row.shard,
            epoch,
        };
        self.enqueue_release(command, held.row.seq, fx);
    }

    /// Ends a binding and tells the centre; if it is an IPv4 address, whatever else its subscriber has ends with
    /// it: nothing else would show that it is not there any more.
    pub(super) fn end_with_session(
        &mut self,
        now: BootTime,
        who: &Who,
        reason: &str,
        fx: &mut Effects,
    ) {
        let decides = self
            .bindings
            .get(who)
            .is_some_and(|held| Kind::of(&held.resource) == Kind::Ipv4);
        if decides {
            self.end_session_of(now, &who.subscriber, reason, Rest::Unheard, fx);
        } else {
            self.release(now, who, reason, Rest::Unheard, fx);
        }
    }

    /// Ends a binding without a word to the centre: the centre has said so, or never knew it.
    pub(super) fn end(
        &mut self,
        now: BootTime,
        who: &Who,
        rest: Rest,
        fx: &mut Effects,
    ) -> Option<Held> {
        let held = self.bindings.remove(who)?;
        self.unacked.remove(who);
        self.keyless.remove(who);
        if let Some(key) = &held.row.key {
            self.keys.remove(&(Kind::of(&held.resource), key.place()));
            remove_entry(held.resource, key, fx);
        }
        self.free_unit(now, &who.pool, held.resource, rest, fx);
        Some(held)
    }

    /// Lets the unit of a resource rest; in a shard that is not this host's it is forgotten.
    pub(super) fn free_unit(
        &mut self,
        now: BootTime,
        pool: &PoolId,
        resource: Resource,
        rest: Rest,
        fx: &mut Effects,
    ) {
        let Some(state) = self.pools.get_mut(pool) else {
            fx.forget(RowKey::Unit(pool.clone(), resource));
            return;
        };
        let Some(unit) = state.allocator.pool().locate(&resource) else {
            fx.forget(RowKey::Unit(pool.clone(), resource));
            return;
        };
        if !self.shards.contains_key(&(pool.clone(), unit.0)) {
            state.allocator.quarantine(unit, now);
            fx.forget(RowKey::Unit(pool.clone(), resource));
            return;
        }
        let row = if rest == Rest::Quarantine {
            let until = now + QUARANTINE;
            state.allocator.quarantine(unit, until);
            UnitState::Quarantined { until }
        } else {
            let pool = state.allocator.pool();
            let until = now
                + match rest {
                    Rest::Unheard => pool.rest(),
                    Rest::CoolDown | Rest::Quarantine => pool.cool_down(),
                };
            let former = state.allocator.holder(unit).cloned();
            state.allocator.release(unit, until);
            match former {
                Some(former) => UnitState::Cooling { former, until },
                None => UnitState::Quarantined { until },
            }
        };
        fx.put(Row::Unit(UnitRow {
            pool: pool.clone(),
            resource,
            state: row,
        }));
    }

    /// Ends rests and quarantines that are over, and suspends what the lease does not carry any more.
    pub(super) fn settle(&mut self, now: BootTime, fx: &mut Effects) {
        self.kept_away.settle(now);
        self.end_kept(now, fx);
        self.settle_earlier(now, fx);
        self.settle_rests(now, fx);
        for (id, state) in &mut self.pools {
            for (shard, unit) in state.allocator.settle(now) {
                if let Some(resource) = state.allocator.pool().resource(shard, unit) {
                    fx.forget(RowKey::Unit(id.clone(), resource));
                }
            }
        }
        // Seldom: ends are pushed on long before they come.
        if now < self.next_end {
            return;
        }
        let (mut ended, mut next) = (Vec::new(), NEVER);
        for who in &self.unacked {
            if let Some(Held {
                validity: Validity::Until(end),
                ..
            }) = self.bindings.get(who)
            {
                if *end <= now {
                    ended.push(who.clone());
                } else {
                    next = next.min(*end);
                }
            }
        }
        self.next_end = next;
        for who in ended {
            self.suspend(&who, fx);
        }
    }

    /// Keeps [`Edge::next_end`] true for a binding that has been given until then.
    pub(super) fn watch_end(&mut self, validity: Validity) {
        if let Validity::Until(end) = validity {
            self.next_end = self.next_end.min(end);
        }
    }

    /// Pushes the end of unacknowledged bindings on once half of the step is over.
    pub(super) fn push_on(&mut self, now: BootTime, fx: &mut Effects) {
        let Some(latest) = self.unacked_until(now) else {
            return;
        };
        let due: Vec<Who> = self
            .unacked
            .iter()
            .filter(|who| {
                self.bindings.get(*who).is_some_and(|held| {
                    matches!(held.validity, Validity::Until(end)
                        if end < latest && end.since(now) < UNACKED_STEP / 2)
                        && self.is_renewable(now, &who.pool, &held.row)
                })
            })
            .cloned()
            .collect();
        for who in due {
            if let Some(held) = self.bindings.get_mut(&who) {
                held.validity = Validity::Until(latest);
            }
            self.put_entry(&who, fx);
        }
    }

    /// Takes an unacknowledged binding out of the map until the centre has spoken.
    pub(super) fn suspend(&mut self, who: &Who, fx: &mut Effects) {
        let Some(held) = self.bindings.get_mut(who) else {
            return;
        };
        if held.validity == Validity::Suspended || held.row.acked {
            return;
        }
        held.validity = Validity::Suspended;
        if let Some(key) = &held.row.key {
            remove_entry(held.resource, key, fx);
        }
    }

    /// Whether the lease carries an unacknowledged binding: nobody else can have owned its shard since.
    pub(super) fn is_renewable(&self, now: BootTime, pool: &PoolId, row: &BindingRow) -> bool {
        self.lease_alive(now)
            && self
                .shards
                .get(&(pool.clone(), row.shard))
                .is_some_and(|shard| shard.epoch == row.epoch && !shard.given_back)
    }

    /// Epoch of this host's ownership of a shard.
    pub(super) fn epoch_of(&self, pool: &PoolId, shard: ShardId) -> Option<Epoch> {
        self.shards.get(&(pool.clone(), shard)).map(|row| row.epoch)
    }

    pub(super) fn save_binding(&self, who: &Who, fx: &mut Effects) {
        if let Some(held) = self.bindings.get(who) {
            fx.put(Row::Unit(UnitRow {
                pool: who.pool.clone(),
                resource: held.resource,
                state: UnitState::Bound(held.row.clone()),
            }));
        }
    }

    fn bind(
        &mut self,
        now: BootTime,
        who: &Who,
        shard: ShardId,
        resource: Resource,
        row: BindingRow,
        fx: &mut Effects,
    ) -> Result<Granted, Denied> {
        let validity = if row.acked {
            self.acked_validity()
        } else {
            Validity::Until(self.unacked_until(now).ok_or(Denied::LeaseEnded)?)
        };
        if let Some(state) = self.pools.get_mut(&who.pool)
            && let Some((_, unit)) = state.allocator.pool().locate(&resource)
        {
            state.allocator.hold((shard, unit), &who.subscriber);
        }
        if let Some(key) = row.key.clone() {
            self.claim(now, &key, Kind::of(&resource), who, fx);
        }
        if !row.acked {
            self.unacked.insert(who.clone());
        }
        let held = Held {
            row,
            resource,
            validity,
            active: now,
        };
        self.watch_end(validity);
        self.bindings.insert(who.clone(), held);
        self.save_binding(who, fx);
        self.put_entry(who, fx);
        Ok(Granted {
            pool: who.pool.clone(),
            resource,
            valid_until: until(validity),
            known: false,
        })
    }

    /// Tells the centre what `who` holds; returns the number of the command.
    pub(super) fn report(
        &mut self,
        request: &Authorized,
        who: &Who,
        resource: Resource,
        shard: ShardId,
        epoch: Epoch,
        fx: &mut Effects,
    ) -> Seq {
        self.enqueue(
            Command {
                what: What::Allocate {
                    metadata: request.metadata.clone(),
                    timestamp: request.timestamp.clone(),
                },
                pool: who.pool.clone(),
                subscriber: who.subscriber.clone(),
                resource,
                shard,
                epoch,
            },
            fx,
        )
    }

    /// Tells the centre that the subscriber has come again, and where, if this host may: it may have been somewhere
    /// else meanwhile, and then this is newer than what the centre has on record.
    fn record_again(&mut self, now: BootTime, who: &Who, request: &Authorized, fx: &mut Effects) {
        let Some(held) = self.bindings.get(who) else {
            return;
        };
        let (resource, shard) = (held.resource, held.row.shard);
        let Some(epoch) = self
            .epoch_of(&who.pool, shard)
            .filter(|epoch| held.row.acked || *epoch == held.row.epoch)
        else {
            return;
        };
        let waiting = self.outbox.about(&who.pool, resource);
        // What is acknowledged is this host's to tell of, with a lease or without.
        if !(held.row.acked || self.lease_alive(now))
            || self.outbox.len() >= OUTBOX_LIMIT
            || waiting >= SAME_AGAIN_LIMIT
        {
            return;
        }
        let seq = self.report(request, who, resource, shard, epoch, fx);
        if let Some(held) = self.bindings.get_mut(who) {
            held.row.seq = seq;
            held.row.epoch = epoch;
            held.row.timestamp = request.timestamp.clone();
        }
        self.save_binding(who, fx);
    }

    pub(super) fn may_allocate(&self, now: BootTime, pool: &PoolId) -> Result<(), Denied> {
        if !self.lease_alive(now) {
            return Err(Denied::LeaseEnded);
        }
        if self.outbox.len() >= OUTBOX_LIMIT {
            return Err(Denied::NotReady(
                "too many allocations wait for the centre to record them",
            ));
        }
        let open = |id: &PoolId| {
            self.pools
                .get(id)
                .is_some_and(|state| state.allocator.has_open_shard())
        };
        let unread = self
            .shards
            .values()
            .any(|shard| shard.pool == *pool && !shard.synced && !shard.draining);
        if !open(pool) && unread {
            return Err(Denied::NotReady(
                "the centre's records of this host's shards have not been read to the end",
            ));
        }
        Ok(())
    }

    /// Keeps the row of the shard ahead of the units that were given.
    fn note_fresh(&mut self, pool: &PoolId, shard: ShardId, fx: &mut Effects) {
        let Some(state) = self.pools.get(pool) else {
            return;
        };
        let fresh = state.allocator.fresh(shard);
        if let Some(row) = self.shards.get_mut(&(pool.clone(), shard))
            && fresh > row.fresh
        {
            row.fresh = fresh.saturating_add(FRESH_AHEAD);
            fx.put(Row::Shard(row.clone()));
        }
    }
}

pub(super) fn until(validity: Validity) -> Option<BootTime> {
    match validity {
        Validity::Endless => None,
        Validity::Until(end) => Some(end),
        Validity::Suspended => Some(BootTime::ZERO),
    }
}
