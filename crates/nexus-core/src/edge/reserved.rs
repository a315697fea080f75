//! Units that belong to a subscriber by the centre's record, with no line known.

use std::collections::{BTreeMap, BTreeSet};

use super::Who;
use crate::id::{Epoch, PoolId, Seq, ShardId, SubscriberId};
use crate::resource::Resource;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) subscriber: SubscriberId,
    pub(super) shard: ShardId,
    pub(super) ours: bool,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    /// By a record of an earlier session of this host.
    pub(super) earlier: bool,
}

/// All of them, and those of this host by their subscribers: after a store was lost there is one for each
/// subscriber, and all of them come at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations {
    units: BTreeMap<(PoolId, Resource), Reserved>,
    ours: BTreeMap<Who, BTreeSet<Resource>>,
}

impl Reservations {
    pub(super) fn get(&self, unit: &(PoolId, Resource)) -> Option<&Reserved> {
        self.units.get(unit)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&(PoolId, Resource), &Reserved)> {
        self.units.iter()
    }

    /// The first unit that is this host's for a subscriber in a pool.
    pub(super) fn of(&self, who: &Who) -> Option<(Resource, &Reserved)> {
        let resource = *self.ours.get(who)?.first()?;
        let reserved = self.units.get(&(who.pool.clone(), resource))?;
        Some((resource, reserved))
    }

    pub(super) fn insert(&mut self, unit: (PoolId, Resource), reserved: Reserved) {
        self.remove(&unit);
        if reserved.ours {
            let resources = self.ours.entry(holder(&unit, &reserved)).or_default();
            resources.insert(unit.1);
        }
        self.units.insert(unit, reserved);
    }

    pub(super) fn remove(&mut self, unit: &(PoolId, Resource)) -> Option<Reserved> {
        let reserved = self.units.remove(unit)?;
        let who = holder(unit, &reserved);
        if let Some(resources) = self.ours.get_mut(&who) {
            resources.remove(&unit.1);
            if resources.is_empty() {
                self.ours.remove(&who);
            }
        }
        Some(reserved)
    }
}

fn holder(unit: &(PoolId, Resource), reserved: &Reserved) -> Who {
    Who {
        pool: unit.0.clone(),
        subscriber: reserved.subscriber.clone(),
    }
}
