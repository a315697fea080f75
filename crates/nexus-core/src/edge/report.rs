//! What the machine says of itself: to the centre with each heartbeat, to people, and to the kernel's map.

use super::places::entry;
use super::{BindingRow, ClocksApart, Edge, Kept, Kind, MapEntry, Place, Validity};
use crate::id::{OltId, PoolId, Seq, SessionId, SubscriberId};
use crate::pool::Pool;
use crate::resource::Resource;
use crate::shard::ShardRef;
use crate::time::BootTime;

/// What a heartbeat carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// This host.
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
    /// Subscribers with an IPv4 address.
    pub active_subscribers: u32,
    /// Revision of the configuration in use.
    pub config_revision: u64,
    /// Fill of each shard: held, available.
    pub shard_use: Vec<(ShardRef, u64, u64)>,
    /// Shards that are given back.
    pub released: Vec<ShardRef>,
    /// Highest sequence number used.
    pub last_seq: Seq,
    /// The lease has not ended.
    pub lease_alive: bool,
    /// Number of the rule that acknowledged bindings are ended by; 0: no end was said yet.
    pub keeping: u64,
    /// Clocks that run apart, if some do.
    pub clocks_apart: Option<ClocksApart>,
}

impl Heartbeat {
    /// Nothing new is given because clocks run apart.
    #[must_use]
    pub fn clocks_stop(&self) -> bool {
        self.clocks_apart.as_ref().is_some_and(|apart| apart.stops)
    }
}

/// One owned shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// Pool, index and epoch.
    pub shard: ShardRef,
    /// `100.64.0.0/18`.
    pub range: String,
    /// The centre wants it back.
    pub draining: bool,
    /// The centre's records of it have been read.
    pub synced: bool,
    /// Units with a holder.
    pub held: u64,
    /// Units that could be given now.
    pub available: u64,
}

/// The machine at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    /// Session of the store.
    pub session: SessionId,
    /// Why the centre refuses this host as the second one with its OLT id, if it does.
    pub refused: Option<String>,
    /// Clocks that run apart, if some do.
    pub clocks_apart: Option<ClocksApart>,
    /// The last heartbeat was answered.
    pub connected: bool,
    /// End of the lease, if it is alive.
    pub lease_until: Option<BootTime>,
    /// What outlives it.
    pub kept: Kept,
    /// Nothing is served before the centre's records have been read.
    pub unread: bool,
    /// Revision of the configuration.
    pub revision: u64,
    /// Shards in order.
    pub shards: Vec<ShardView>,
    /// Acknowledged bindings.
    pub acked: u64,
    /// Unacknowledged bindings that are served.
    pub unacked: u64,
    /// Unacknowledged bindings that are not served.
    pub suspended: u64,
    /// Commands the centre has not acknowledged.
    pub pending: u64,
    /// Releases among them.
    pub pending_releases: u64,
    /// Newcomers that are kept away.
    pub kept_away: u64,
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingView<'a> {
    /// Pool.
    pub pool: &'a PoolId,
    /// The resource.
    pub resource: Resource,
    /// The rest of it.
    pub row: &'a BindingRow,
    /// End; `None`: no end.
    pub valid_until: Option<BootTime>,
    /// It waits for the centre, or for the reading of its records, and is not served.
    pub suspended: bool,
}

impl Edge {
    /// What the next registration or heartbeat carries.
    #[must_use]
    pub fn heartbeat(&self, now: BootTime) -> Heartbeat {
        let reference = |row: &super::ShardRow| ShardRef {
            pool: row.pool.clone(),
            shard: row.shard,
            epoch: row.epoch,
        };
        let of_ipv4 = |held: &&super::Held| Kind::of(&held.resource) == Kind::Ipv4;
        let subscribers = self.bindings.values().filter(of_ipv4);
        Heartbeat {
            olt: self.olt.clone(),
            session: self.session.clone(),
            active_subscribers: u32::try_from(subscribers.count()).unwrap_or(u32::MAX),
            config_revision: self.revision,
            shard_use: self
                .shards
                .values()
                .filter_map(|row| {
                    let usage = self.pools.get(&row.pool)?.allocator.usage(row.shard);
                    Some((reference(row), usage.held, usage.available))
                })
                .collect(),
            released: self
                .shards
                .values()
                .filter(|row| row.given_back)
                .map(reference)
                .collect(),
            last_seq: self.last_seq,
            lease_alive: self.lease_alive(now),
            keeping: self.refresh.said,
            clocks_apart: self.clocks_apart(),
        }
    }

    /// The machine at a glance.
    #[must_use]
    pub fn view(&self, now: BootTime) -> EdgeView {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let suspended = self
            .unacked
            .iter()
            .filter_map(|who| self.bindings.get(who))
            .filter(|held| held.validity == Validity::Suspended)
            .count();
        let shards = self.shards.values().filter_map(|row| {
            let state = self.pools.get(&row.pool)?;
            let usage = state.allocator.usage(row.shard);
            Some(ShardView {
                shard: ShardRef {
                    pool: row.pool.clone(),
                    shard: row.shard,
                    epoch: row.epoch,
                },
                range: state.allocator.pool().shard_range(row.shard)?.to_string(),
                draining: row.draining,
                synced: row.synced,
                held: usage.held,
                available: usage.available,
            })
        });
        EdgeView {
            session: self.session.clone(),
            refused: self.refused.clone(),
            clocks_apart: self.clocks_apart(),
            connected: self.connected,
            lease_until: self
                .lease
                .map(|lease| lease.until)
                .filter(|until| now < *until),
            kept: self.kept,
            unread: self.unread,
            revision: self.revision,
            shards: shards.collect(),
            acked: count(self.bindings.len().saturating_sub(self.unacked.len())),
            unacked: count(self.unacked.len().saturating_sub(suspended)),
            suspended: count(suspended),
            pending: count(self.outbox.len()),
            pending_releases: count(self.outbox.releases()),
            kept_away: count(self.kept_away.len()),
        }
    }

    /// The last heartbeat was answered.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Bindings in the order of pool and subscriber, of one subscriber or of all.
    pub fn bindings<'a>(
        &'a self,
        subscriber: Option<&'a SubscriberId>,
    ) -> impl Iterator<Item = BindingView<'a>> {
        self.bindings
            .iter()
            .filter(move |(who, _)| subscriber.is_none_or(|wanted| who.subscriber == *wanted))
            .map(|(who, held)| BindingView {
                pool: &who.pool,
                resource: held.resource,
                row: &held.row,
                valid_until: match held.validity {
                    _ if self.unread => Some(BootTime::ZERO),
                    Validity::Endless => None,
                    Validity::Until(end) => Some(end),
                    Validity::Suspended => Some(BootTime::ZERO),
                },
                suspended: self.unread || held.validity == Validity::Suspended,
            })
    }

    /// All entries that the kernel's map shall have, in the order of pool and subscriber.
    pub fn map_entries(&self) -> impl Iterator<Item = MapEntry> {
        self.bindings
            .iter()
            .filter(|_| !self.unread)
            .filter_map(|(who, held)| entry(who, held))
    }

    /// The entry of the IPv4 binding at a place, if it has one.
    #[must_use]
    pub fn map_entry(&self, place: &Place) -> Option<MapEntry> {
        let who = self.keys.get(&(Kind::Ipv4, place.clone()))?;
        if self.unread {
            return None;
        }
        entry(who, self.bindings.get(who)?)
    }

    /// All pools that something may be held in, in order.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(|state| state.allocator.pool())
    }

    /// A pool.
    #[must_use]
    pub fn pool(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id).map(|state| state.allocator.pool())
    }

    /// This host.
    #[must_use]
    pub const fn olt(&self) -> &OltId {
        &self.olt
    }

    /// Session of the store.
    #[must_use]
    pub const fn session(&self) -> &SessionId {
        &self.session
    }

    /// Highest sequence number used.
    #[must_use]
    pub const fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Revision of the configuration in use.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }
}
