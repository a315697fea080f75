//! What a subscriber gets besides its IPv4 address: one unit for each further kind, all in the same event.
//!
//! A pool named for it (users file, AAA server) goes first; then what it has already; then the first pool of
//! that kind that every session gets a unit of and that has one. What cannot be given is left out and said: the
//! subscriber is let in without it. What it has and is not to get any more ends.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Authorized, Denied, Edge, Effects, Granted, Kind, Missing, Rest, Who};
use crate::id::{PoolId, ShardId, SubscriberId};
use crate::pool::Assign;
use crate::time::BootTime;

/// What is to be tried for each kind, in this order.
type Wishes = BTreeMap<Kind, Vec<PoolId>>;

impl Edge {
    /// Gives a subscriber that has its IPv4 address everything else that it is to get.
    pub(super) fn give_further(
        &mut self,
        now: BootTime,
        request: &Authorized,
        fx: &mut Effects,
    ) -> (Vec<Granted>, Vec<Missing>) {
        let (named, mut missing) = self.named(request);
        let mut given = Vec::new();
        for (kind, wishes) in self.wishes(request, &named) {
            let (granted, failed) = self.first_of(now, request, &wishes, fx);
            // Another pool may have helped out; one that was named is missed all the same.
            if granted.is_none() || named.contains_key(&kind) {
                missing.extend(failed);
            }
            given.extend(granted);
        }
        let kept: BTreeSet<&PoolId> = given.iter().map(|granted| &granted.pool).collect();
        self.end_others(now, request, &kept, fx);
        (given, missing)
    }

    /// The pools that were named, by kind; and those that cannot be used.
    fn named(&self, request: &Authorized) -> (BTreeMap<Kind, PoolId>, Vec<Missing>) {
        let (mut named, mut missing) = (BTreeMap::new(), Vec::new());
        for pool in &request.named {
            let state = self.pools.get(pool);
            let mut not = |why| {
                missing.push(Missing {
                    pool: pool.clone(),
                    configured: state.is_some(),
                    why,
                });
            };
            let Some(state) = state else {
                not(Denied::UnknownPool(pool.clone()));
                continue;
            };
            let kind = Kind::of_pool(state.allocator.pool());
            if kind == Kind::Ipv4 {
                not(Denied::WrongType(pool.clone()));
            } else if !request.without.contains(&kind) {
                match named.entry(kind) {
                    Entry::Vacant(first) => {
                        first.insert(pool.clone());
                    }
                    Entry::Occupied(_) => not(Denied::SecondOfKind(pool.clone(), kind)),
                }
            }
        }
        (named, missing)
    }

    fn wishes(&self, request: &Authorized, named: &BTreeMap<Kind, PoolId>) -> Wishes {
        let mut wishes = Wishes::new();
        let mut wish = |kind, pool: &PoolId| {
            let pools: &mut Vec<PoolId> = wishes.entry(kind).or_default();
            if kind != Kind::Ipv4 && !request.without.contains(&kind) && !pools.contains(pool) {
                pools.push(pool.clone());
            }
        };
        for (kind, pool) in named {
            wish(*kind, pool);
        }
        for (who, held) in self.bindings_of(&request.subscriber) {
            let kind = Kind::of(&held.resource);
            if named.contains_key(&kind) || self.goes_on(&who.pool) {
                wish(kind, &who.pool);
            }
        }
        for (id, state) in &self.pools {
            let kind = Kind::of_pool(state.allocator.pool());
            let who = Who {
                pool: id.clone(),
                subscriber: request.subscriber.clone(),
            };
            if !named.contains_key(&kind) && self.goes_on(id) && self.reserved.of(&who).is_some() {
                wish(kind, id);
            }
        }
        // Those from which something can be given now come first.
        for open in [true, false] {
            for (id, state) in &self.pools {
                let kind = Kind::of_pool(state.allocator.pool());
                if !named.contains_key(&kind)
                    && self.goes_to_every_session(id)
                    && state.allocator.has_open_shard() == open
                {
                    wish(kind, id);
                }
            }
        }
        wishes.retain(|_, pools| !pools.is_empty());
        wishes
    }

    /// Whether a unit of the pool that a session has stays with it unasked.
    pub(super) fn goes_on(&self, pool: &PoolId) -> bool {
        self.pools.get(pool).is_none_or(|state| {
            !state.configured || state.allocator.pool().assign() == Assign::Session
        })
    }

    fn goes_to_every_session(&self, pool: &PoolId) -> bool {
        let shards = (pool.clone(), ShardId(0))..=(pool.clone(), ShardId(u32::MAX));
        self.pools.get(pool).is_some_and(|state| {
            state.configured && state.allocator.pool().assign() == Assign::Session
        }) && self.shards.range(shards).next().is_some()
    }

    /// A unit of the first of these pools that has one, and why those before have none.
    fn first_of(
        &mut self,
        now: BootTime,
        request: &Authorized,
        pools: &[PoolId],
        fx: &mut Effects,
    ) -> (Option<Granted>, Vec<Missing>) {
        let mut failed = Vec::new();
        for pool in pools {
            let who = Who {
                pool: pool.clone(),
                subscriber: request.subscriber.clone(),
            };
            match self.give_or_again(now, &who, request, fx) {
                Ok(granted) => return (Some(granted), failed),
                Err(why) => failed.push(Missing {
                    pool: pool.clone(),
                    configured: true,
                    why,
                }),
            }
        }
        (None, failed)
    }

    /// Ends what the subscriber has besides its IPv4 address and is not to have any more. What was not given
    /// only because it cannot be now stays for it.
    fn end_others(
        &mut self,
        now: BootTime,
        request: &Authorized,
        kept: &BTreeSet<&PoolId>,
        fx: &mut Effects,
    ) {
        let has_another = |kind: Kind, edge: &Self| {
            kept.iter().any(|pool| {
                let state = edge.pools.get(*pool);
                state.is_some_and(|state| Kind::of_pool(state.allocator.pool()) == kind)
            })
        };
        let over: Vec<Who> = self
            .bindings_of(&request.subscriber)
            .filter(|(who, held)| {
                let kind = Kind::of(&held.resource);
                kind != Kind::Ipv4
                    && !kept.contains(&who.pool)
                    && (has_another(kind, self)
                        || request.without.contains(&kind)
                        || !(self.goes_on(&who.pool) || request.named.contains(&who.pool)))
            })
            .map(|(who, _)| who.clone())
            .collect();
        for who in over {
            self.release(now, &who, "pool-changed", Rest::Unheard, fx);
        }
    }

    /// Ends what a subscriber has besides an IPv4 address that has ended by itself: the session was that.
    pub(super) fn end_session_of(
        &mut self,
        now: BootTime,
        subscriber: &SubscriberId,
        reason: &str,
        rest: Rest,
        fx: &mut Effects,
    ) {
        let all: Vec<Who> = self
            .bindings_of(subscriber)
            .map(|(who, _)| who.clone())
            .collect();
        for who in &all {
            self.release(now, who, reason, rest, fx);
        }
    }
}
