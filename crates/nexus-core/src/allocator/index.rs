//! Which of many shards to look at: those with fresh units, with returned ones, with loose ones, and the next
//! whose rest ends, so that an allocation does not walk over all shards.

use std::collections::BTreeSet;

use crate::id::ShardId;
use crate::time::BootTime;

/// What there is in one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// A unit that was never given.
    pub fresh: bool,
    /// Place in the order of returns of the unit that has been back for the longest time.
    pub idle: Option<u64>,
    /// Units of which nothing is remembered.
    pub loose: bool,
    /// When the next rest ends.
    pub rest: Option<BootTime>,
}

/// The entries of all shards, each in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    fresh: BTreeSet<ShardId>,
    idle: BTreeSet<(u64, ShardId)>,
    loose: BTreeSet<ShardId>,
    rests: BTreeSet<(BootTime, ShardId)>,
}

impl Index {
    /// Replaces the entry of a shard.
    pub fn replace(&mut self, shard: ShardId, before: Entry, after: Entry) {
        flag(&mut self.fresh, shard, before.fresh, after.fresh);
        flag(&mut self.loose, shard, before.loose, after.loose);
        moved(&mut self.idle, shard, before.idle, after.idle);
        moved(&mut self.rests, shard, before.rest, after.rest);
    }

    pub fn fresh(&self) -> Option<ShardId> {
        self.fresh.first().copied()
    }

    pub fn oldest_idle(&self) -> Option<ShardId> {
        self.idle.first().map(|(_, shard)| *shard)
    }

    pub fn loose(&self) -> Option<ShardId> {
        self.loose.first().copied()
    }

    /// The shard with the rest that ends first, if it has ended.
    pub fn rested(&self, now: BootTime) -> Option<ShardId> {
        let (until, shard) = self.rests.first()?;
        (*until <= now).then_some(*shard)
    }
}

fn flag(shards: &mut BTreeSet<ShardId>, shard: ShardId, before: bool, after: bool) {
    if before && !after {
        shards.remove(&shard);
    } else if after && !before {
        shards.insert(shard);
    }
}

fn moved<T: Ord + Copy>(
    order: &mut BTreeSet<(T, ShardId)>,
    shard: ShardId,
    before: Option<T>,
    after: Option<T>,
) {
    if before == after {
        return;
    }
    if let Some(before) = before {
        order.remove(&(before, shard));
    }
    order.extend(after.map(|after| (after, shard)));
}
