//! Starting: from nothing, or from the rows that were durable when the process ended.

use std::collections::{BTreeMap, BTreeSet};

use super::command::Outbox;
use super::departed::Departures;
use super::drift::Drift;
use super::holding::NEVER;
use super::keeping::{Clocks, Kept, Refresh};
use super::policy::KeptAway;
use super::reserved::{Reservations, Reserved};
use super::{
    Action, BindingRow, Earlier, Edge, EdgeRow, Effects, Held, Kind, PoolState, QUARANTINE, Rests,
    Row, UnitRow, UnitState, Validity, Who,
};
use crate::allocator::Allocator;
use crate::id::{OltId, Seq, SessionId};
use crate::pool::Pool;
use crate::time::BootTime;

/// What the process knows of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Id of the host.
    pub olt: OltId,
    /// This boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// A session made at random, used if the store has none or is not to be believed.
    pub new_session: SessionId,
    /// The rows are not the newest that this host has written, or not of this host: an older image of the disk was
    /// put back, or the disk is a copy of another one's. They are gone on from as after a reboot, and under a new
    /// session.
    pub rolled_back: bool,
}

impl Edge {
    /// The machine as its rows say, in any order. On the boot that the rows were written in, the lease
    /// still counts; after a reboot there is none, acknowledged bindings go on as long as
    /// [`Kept`] says, and the others are suspended. `fx` says what to write; the kernel's map is to be made equal to
    /// [`Edge::map_entries`].
    #[must_use]
    pub fn restore(
        clocks: impl Into<Clocks>,
        start: Start,
        rows: impl IntoIterator<Item = Row>,
        fx: &mut Effects,
    ) -> Self {
        let clocks: Clocks = clocks.into();
        let now = clocks.boot;
        let mut edge = Self {
            olt: start.olt,
            session: start.new_session.clone(),
            boot_id: start.boot_id,
            last_seq: Seq(0),
            revision: 0,
            configured_at: BootTime::ZERO,
            lease: None,
            waiting: None,
            kept: Kept::default(),
            refresh: Refresh::default(),
            unconfirmed: true,
            connected: false,
            drift: Drift::default(),
            pools: BTreeMap::new(),
            shards: BTreeMap::new(),
            bindings: BTreeMap::new(),
            keys: BTreeMap::new(),
            unacked: BTreeSet::new(),
            next_end: NEVER,
            keyless: BTreeMap::new(),
            reserved: Reservations::default(),
            departed: Departures::default(),
            outbox: Outbox::default(),
            sending: false,
            resend_at: None,
            doubted: BTreeSet::new(),
            refused: None,
            unread: false,
            earlier: Earlier::Uncounted,
            rests: Rests::default(),
            asks_passed_over: false,
            read_again: false,
            snapshot: None,
            served: None,
            kept_away: KeptAway::default(),
            seen_until: BootTime::ZERO,
            idle_cursor: None,
        };
        let mut commands = BTreeMap::new();
        let mut units = Vec::new();
        let mut shards = Vec::new();
        let mut same_boot = false;
        for row in rows {
            match row {
                Row::Edge(row) => same_boot = edge.restore_self(clocks, row, start.rolled_back),
                Row::Pool(spec) => {
                    // It was checked when it was taken over.
                    if let Ok(pool) = Pool::new(spec) {
                        let state = PoolState {
                            allocator: Allocator::new(pool),
                            configured: true,
                        };
                        edge.pools
                            .insert(state.allocator.pool().id().clone(), state);
                    }
                }
                Row::Shard(row) => shards.push(row),
                Row::Unit(row) => units.push(row),
                Row::Command(row) => {
                    edge.last_seq = edge.last_seq.max(row.seq);
                    commands.insert(row.seq, row.command);
                }
            }
        }
        for (seq, command) in commands {
            edge.note_departure(seq, &command);
            edge.outbox.push(seq, command);
        }
        for row in shards {
            let place = (row.pool.clone(), row.shard);
            edge.shards.insert(place.clone(), row);
            edge.open_or_close(&place);
        }
        for row in units {
            edge.restore_unit(now, same_boot, row, fx);
        }
        if start.rolled_back {
            edge.new_session(start.new_session, fx);
        }
        edge.unread |= edge.kept_has_ended(now);
        // Last, so that a process that ends before it comes up as after a reboot once more.
        edge.save(fx);
        if edge.shards.values().any(|row| !row.synced) {
            fx.act(Action::PullRecords);
        }
        edge
    }

    fn restore_self(&mut self, now: Clocks, row: EdgeRow, rolled_back: bool) -> bool {
        let same_boot = row.boot_id == self.boot_id && !rolled_back;
        self.session = row.session;
        self.last_seq = self.last_seq.max(row.last_seq);
        self.revision = row.revision;
        self.unconfirmed = row.unconfirmed;
        self.unread = row.unread;
        self.earlier = if same_boot {
            row.earlier
        } else {
            row.earlier.rebooted()
        };
        self.rests = row.rests.restored(now.boot, same_boot);
        self.lease = row.lease.filter(|_| same_boot);
        self.kept = match (same_boot, rolled_back) {
            (true, _) => row.kept,
            (false, true) => row.kept.rolled_back(),
            (false, false) => row.kept.rebooted(now),
        };
        same_boot
    }

    fn restore_unit(&mut self, now: BootTime, same_boot: bool, row: UnitRow, fx: &mut Effects) {
        let Some(state) = self.pools.get_mut(&row.pool) else {
            return;
        };
        let Some(unit) = state.allocator.pool().locate(&row.resource) else {
            return;
        };
        let rest = state.allocator.pool().rest();
        match row.state.clone() {
            UnitState::Bound(binding) => {
                state.allocator.hold(unit, &binding.subscriber);
                self.restore_binding(now, &row, binding);
            }
            UnitState::Reserved {
                subscriber,
                ours,
                epoch,
                seq,
                earlier,
            } => {
                if ours {
                    state.allocator.hold(unit, &subscriber);
                } else {
                    state.allocator.hold_apart(unit, &subscriber);
                }
                let reserved = Reserved {
                    subscriber,
                    shard: unit.0,
                    ours,
                    epoch,
                    seq,
                    earlier,
                };
                self.reserved.insert((row.pool, row.resource), reserved);
            }
            UnitState::Cooling { former, until } => {
                let until = if same_boot { until } else { now + rest };
                state.allocator.restore_rest(unit, until, Some(&former));
                if !same_boot {
                    let state = UnitState::Cooling { former, until };
                    fx.put(Row::Unit(UnitRow { state, ..row }));
                }
            }
            UnitState::Quarantined { until } => {
                let until = if same_boot { until } else { now + QUARANTINE };
                state.allocator.restore_rest(unit, until, None);
                if !same_boot {
                    let state = UnitState::Quarantined { until };
                    fx.put(Row::Unit(UnitRow { state, ..row }));
                }
            }
        }
    }

    fn restore_binding(&mut self, now: BootTime, row: &UnitRow, binding: BindingRow) {
        let who = Who {
            pool: row.pool.clone(),
            subscriber: binding.subscriber.clone(),
        };
        self.last_seq = self.last_seq.max(binding.seq);
        let validity = if binding.acked {
            self.acked_validity()
        } else if self.is_renewable(now, &row.pool, &binding) {
            self.unacked_until(now)
                .map_or(Validity::Suspended, Validity::Until)
        } else {
            Validity::Suspended
        };
        match &binding.key {
            Some(key) => {
                self.keys
                    .insert((Kind::of(&row.resource), key.place()), who.clone());
            }
            None => {
                self.keyless.insert(who.clone(), now);
            }
        }
        if !binding.acked {
            self.unacked.insert(who.clone());
        }
        self.watch_end(validity);
        let held = Held {
            row: binding,
            resource: row.resource,
            validity,
            active: now,
        };
        self.bindings.insert(who, held);
    }
}
