//! What an earlier session of this host may have given without a word of it having arrived.
//!
//! A store that was lost took with it what the centre had not recorded: a release that was on its way, and to whom
//! the resource went after it. That other client goes on until what it was given ends, which is at most one step
//! of an unacknowledged binding after the end of the lost life. Until then a record of an earlier session is given to
//! nobody, not even to the subscriber that it names: that one gets another resource, or is told to come again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Authorized, BindingRow, Denied, Edge, Effects, Record, UNACKED_STEP, Who};
use crate::id::{PoolId, ShardId};
use crate::resource::Resource;
use crate::time::BootTime;

/// What a subscriber is told that is to have what an earlier session may have given on, if there is nothing else.
pub(super) const EARLIER_IN_USE: Denied = Denied::NotReady(
    "what the record says is the subscriber's may still be used by somebody to whom an earlier session of this host gave it on: it is given again once that has ended",
);

/// Whether somebody may still use what an earlier session gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Earlier {
    /// Nobody does. Also what a store says that was written before this was kept.
    #[default]
    Over,
    /// It is counted from the next registration on.
    Uncounted,
    /// Until then.
    Until(BootTime),
}

impl Earlier {
    /// After a reboot the times of the rows mean nothing.
    #[must_use]
    pub(super) fn rebooted(self) -> Self {
        match self {
            Self::Until(_) => Self::Uncounted,
            kept => kept,
        }
    }
}

impl Edge {
    /// The session is taken in, so that no other one of this host gives anything from here on. No grant was longer
    /// than the lease.
    pub(super) fn count_earlier(&mut self, now: BootTime, lease: Duration, fx: &mut Effects) {
        if self.earlier == Earlier::Uncounted {
            self.earlier = Earlier::Until(now + lease.min(UNACKED_STEP));
            self.save(fx);
        }
    }

    pub(super) fn settle_earlier(&mut self, now: BootTime, fx: &mut Effects) {
        if matches!(self.earlier, Earlier::Until(end) if end <= now) {
            self.earlier = Earlier::Over;
            self.save(fx);
        }
    }

    /// Whether a record is one of an earlier session of this host. What the centre itself gave has no session.
    pub(super) fn is_of_earlier(&self, record: &Record) -> bool {
        record.olt == self.olt
            && record
                .session
                .as_ref()
                .is_some_and(|session| *session != self.session)
    }

    /// Whether a record of an earlier session must still be left alone. Units of pinned pools are given by the centre
    /// one by one, so that no host gives one on.
    pub(super) fn is_left_alone(&self, pool: &PoolId, of_earlier: bool) -> bool {
        let pinned = || {
            let state = self.pools.get(pool);
            state.is_some_and(|state| state.allocator.pool().is_pinned())
        };
        of_earlier && self.earlier != Earlier::Over && !pinned()
    }

    /// Whether what the record has for a subscriber here waits for that.
    pub(super) fn waits_for_earlier(&self, who: &Who) -> bool {
        let reserved = self.reserved.of(who);
        reserved.is_some_and(|(_, reserved)| self.is_left_alone(&who.pool, reserved.earlier))
    }

    /// What the centre has on record for this subscriber on this host, and no line is known for yet: acknowledged
    /// already. If the record is of an earlier session and its shard has come to this one, it is claimed anew: a
    /// release that the earlier one had sent, and that comes to light only later, is then the older word.
    pub(super) fn own_record(
        &mut self,
        now: BootTime,
        who: &Who,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Option<(ShardId, Resource, BindingRow)> {
        let pool = self.pools.get(&who.pool)?.allocator.pool();
        let (resource, reserved) = self.reserved.of(who)?;
        if self.is_left_alone(&who.pool, reserved.earlier) {
            return None;
        }
        let (shard, _) = pool.locate(&resource)?;
        let mut row = BindingRow {
            subscriber: who.subscriber.clone(),
            shard,
            epoch: reserved.epoch,
            since: reserved.seq,
            seq: reserved.seq,
            acked: true,
            key: Some(request.key.clone()),
            metadata: request.metadata.clone(),
            timestamp: request.timestamp.clone(),
        };
        let owned = self.shards.get(&(who.pool.clone(), shard));
        let newer = owned
            .filter(|owned| reserved.earlier && owned.synced && !owned.given_back)
            .map(|owned| owned.epoch)
            .filter(|epoch| *epoch > row.epoch);
        if let Some(epoch) = newer
            && self.may_allocate(now, &who.pool).is_ok()
        {
            let seq = self.report(request, who, resource, shard, epoch, fx);
            (row.epoch, row.since, row.seq, row.acked) = (epoch, seq, seq, false);
        }
        Some((shard, resource, row))
    }
}
