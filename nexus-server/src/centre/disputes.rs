//! Who has been given a resource that somebody else has on record, until that is settled. Two ways lead here: a claim that
//! was refused, and a claim that was taken and then displaced, because another server had taken one for somebody else
//! before the two heard of each other. Leases make the second impossible as long as they hold; the audit is there for when
//! they do not.
//!
//! Kept in memory, by each server for what it has seen itself; a restart forgets it.

use std::collections::BTreeMap;

use nexus_clset::{Event, Stand};
use nexus_core::id::{OltId, PoolId, SubscriberId};
use nexus_core::shard_table::ShardTable;
use nexus_core::time::ClusterTime;

use super::Centre;
use crate::allocation::{Allocation, AllocationState, Place};

/// Most disputed resources that are remembered; beyond, what is new is only logged.
const MAX_DISPUTED: usize = 10_000;
/// Most who are remembered for one of them.
const MAX_OTHERS: usize = 16;
/// By how much the causal length grows from what is held by one to what is held by another: two with the release, and two
/// with the claim.
const RELEASE_AND_CLAIM: u64 = 4;
/// By how much it grows when what is held is asked back, beside which its release may have been written.
const ASKED_BACK: u64 = 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Disputes {
    others: BTreeMap<Place, BTreeMap<SubscriberId, Other>>,
}

/// Somebody who has been given a resource and does not have it on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    olt: OltId,
    displaced: Option<Displaced>,
}

/// Whoever was told that it was recorded may count on it until the OLT has heard otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Displaced {
    pool: PoolId,
    at: ClusterTime,
    /// End of a lease that was renewed then.
    lease_end: ClusterTime,
}

impl Other {
    /// The OLT.
    pub const fn olt(&self) -> &OltId {
        &self.olt
    }

    /// Whether it was on record and was displaced.
    pub const fn is_displaced(&self) -> bool {
        self.displaced.is_some()
    }
}

impl Disputes {
    /// All of them, in the order of the resources.
    pub fn iter(&self) -> impl Iterator<Item = (&Place, &BTreeMap<SubscriberId, Other>)> {
        self.others.iter()
    }

    /// An OLT has claimed what another subscriber has on record.
    pub fn refused(&mut self, place: &Place, subscriber: &SubscriberId, olt: &OltId) {
        tracing::error!(resource = %place, %subscriber, %olt, "two subscribers have been given one resource");
        let other = Other {
            olt: olt.clone(),
            displaced: None,
        };
        // Who was displaced and claims again stays that.
        if let Some(others) = self.room(place, subscriber) {
            others.entry(subscriber.clone()).or_insert(other);
        }
    }

    /// Something that was on record has given way to an entry that was written without knowing of it.
    fn displaced(&mut self, before: &Allocation, table: &ShardTable) {
        let at = table.now();
        let other = Other {
            olt: before.olt.clone(),
            displaced: Some(Displaced {
                pool: before.pool.clone(),
                at,
                lease_end: table.rule().grantor_end(at),
            }),
        };
        if let Some(others) = self.room(&before.place, &before.subscriber) {
            others.insert(before.subscriber.clone(), other);
        }
    }

    /// An OLT has ended what it gave a subscriber.
    pub fn released(&mut self, place: &Place, subscriber: &SubscriberId, olt: &OltId) {
        self.end(|disputed, who, other| {
            disputed == place && who == subscriber && other.olt == *olt
        });
    }

    /// This is on record now. A dispute about a refused claim ends when the resource is nobody's, or when the other one
    /// has got something else; a displaced holder may still be served, unless the same OLT serves it with something
    /// else of that pool.
    pub fn saved(&mut self, saved: &Allocation) {
        let is_held = saved.state.is_held();
        let kind = saved.place.resource.kind();
        self.end(|disputed, who, other| match &other.displaced {
            None if !is_held => *disputed == saved.place,
            None => *who == saved.subscriber && disputed.resource.kind() == kind,
            Some(displaced) => {
                is_held
                    && *who == saved.subscriber
                    && other.olt == saved.olt
                    && displaced.pool == saved.pool
            }
        });
    }

    /// Time has passed. A displaced holder is settled when its OLT's host is gone for certain, or when a lease has ended
    /// since and the host has been heard again: one that is not connected has lost what was not acknowledged with its
    /// lease, one that is connected has been told of the rest.
    pub fn pass(&mut self, table: &ShardTable) {
        self.end(|_, _, other| {
            other.displaced.as_ref().is_some_and(|displaced| {
                let is_over = displaced.lease_end <= table.now();
                if other.olt.is_cluster() {
                    return is_over;
                }
                let view = table.olt(&other.olt);
                let is_heard = view.is_some_and(|view| displaced.at < view.heard);
                table.is_gone(&other.olt) || (is_over && is_heard)
            })
        });
    }

    fn end(&mut self, is_over: impl Fn(&Place, &SubscriberId, &Other) -> bool) {
        self.others.retain(|place, others| {
            others.retain(|who, other| !is_over(place, who, other));
            !others.is_empty()
        });
    }

    fn room(
        &mut self,
        place: &Place,
        subscriber: &SubscriberId,
    ) -> Option<&mut BTreeMap<SubscriberId, Other>> {
        let has_room = match self.others.get(place) {
            Some(others) => others.len() < MAX_OTHERS || others.contains_key(subscriber),
            None => self.others.len() < MAX_DISPUTED,
        };
        has_room.then(|| self.others.entry(place.clone()).or_default())
    }
}

impl Centre {
    /// Looks whether an entry has taken the place of another one that it should have known of, and counts it.
    pub(super) fn look_for_displaced(
        &mut self,
        before: &Allocation,
        after: &Allocation,
        event: &Event,
    ) -> bool {
        let (Some(stood), Some(stands)) = (event.stood, event.stands) else {
            return false;
        };
        let is_other = before.subscriber != after.subscriber && before.olt != after.olt;
        if !is_other || !before.state.is_held() || !after.state.is_held() {
            return false;
        }
        if !of_one_epoch(before, after)
            && (may_be_released_between(before, stood, stands) || !self.acks().cover(stood.dot))
        {
            return false;
        }
        tracing::error!(
            resource = %before.place, subscriber = %before.subscriber, olt = %before.olt,
            other_subscriber = %after.subscriber, other_olt = %after.olt,
            "two servers have recorded one resource for two subscribers; the second is on record now"
        );
        self.disputes.displaced(before, self.cluster.table());
        true
    }
}

/// Whether two OLTs have claimed under one epoch, which has one owner: no release makes that right.
fn of_one_epoch(before: &Allocation, after: &Allocation) -> bool {
    before.epoch == after.epoch && !before.is_central() && !after.is_central()
}

/// Whether what stands may be built on a release of what stood, which this server has not seen by itself: state-based
/// replicas skip what was replaced meanwhile.
fn may_be_released_between(before: &Allocation, stood: Stand, stands: Stand) -> bool {
    let beside = match before.state {
        AllocationState::Releasing => ASKED_BACK,
        _ => 0,
    };
    let grown = stands.causal_length.saturating_sub(stood.causal_length);
    grown >= RELEASE_AND_CLAIM.saturating_sub(beside)
}
