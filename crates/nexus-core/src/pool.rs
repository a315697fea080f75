//! A pool: a space of resources, checked once, cut into shards, with constant-time arithmetic.

mod change;
mod dhcp;
mod error;
mod fixed;
mod marks;
mod part;
mod ports;
mod space;
mod spec;
#[cfg(test)]
mod tests;
mod withheld;

use std::time::Duration;

pub use change::{Change, ChangeError};
pub use dhcp::{Dhcp, MAX_OPTIONS, MAX_OPTIONS_LEN};
pub use error::PoolError;
pub use fixed::MAX_STATIC;
pub use marks::{DEFAULT_LOW_WATER, Share};
pub use space::{MAX_SHARDS, MAX_UNITS_PER_SHARD};
pub use spec::{
    Assign, DEFAULT_COOL_DOWN, DEFAULT_DELEGATED_LENGTH, DEFAULT_LEASE_TIME,
    DEFAULT_SHARDING_FACTOR, DhcpSpec, PoolSpec, Release, Reserved, StaticEntry,
};
pub use withheld::MAX_WITHHELD;

use crate::id::{PoolId, ShardId, SubscriberId};
use crate::resource::{Resource, ResourceType};
use crate::shard::ShardRange;
use fixed::Fixed;
use marks::Marks;
use space::Space;
use withheld::Withheld;

/// Most exclusions of a pool, and most reserved parts.
pub const MAX_EXCLUSIONS: usize = 1024;
/// Longest reason of a reserved part, in bytes.
pub const MAX_REASON_LEN: usize = 256;
/// Most labels of a pool.
pub const MAX_METADATA: usize = 64;
/// Longest key or value of a label, in bytes.
pub const MAX_METADATA_LEN: usize = 256;

/// A pool that makes sense. Shards are numbered from 0, the units of a shard (what one subscriber
/// gets: an address, a delegated prefix, a number, a block of ports) from 0 as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    spec: PoolSpec,
    space: Space,
    withheld: Withheld,
    fixed: Fixed,
    dhcp: Option<Dhcp>,
    marks: Marks,
}

impl Pool {
    /// Checks a specification.
    ///
    /// # Errors
    /// The first thing that is wrong, naming field, value and remedy.
    pub fn new(spec: PoolSpec) -> Result<Self, PoolError> {
        let space = Space::parse(&spec)?;
        check_bounds(&spec)?;
        let marks = Marks::new(&spec)?;
        let mut withheld = Vec::new();
        for exclusion in &spec.exclusions {
            withheld.extend(space.parse_part(&spec, "exclusions", exclusion)?);
        }
        for reserved in &spec.reserved {
            withheld.extend(space.parse_part(&spec, "reserved", &reserved.resource)?);
        }
        if space.kind == ResourceType::Ipv6 && space.unit_shift == 0 {
            // The first address of a prefix is every router on the link (RFC 4291 section 2.6.1).
            withheld.push((0, 0));
        }
        let dhcp = if space.kind == ResourceType::Ipv4 {
            let dhcp = Dhcp::parse(&spec, &space)?;
            let router = u128::from(dhcp.router.to_bits());
            for reserved in [space.base, router, space.last] {
                withheld.extend(space.unit_of_value(reserved).map(|unit| (unit, unit)));
            }
            Some(dhcp)
        } else if spec.dhcp.is_default() {
            None
        } else {
            return Err(not_applicable(&spec, "dhcp", ""));
        };
        let withheld = Withheld::new(&spec, withheld)?;
        Ok(Self {
            fixed: Fixed::new(&spec, &space, &withheld)?,
            withheld,
            spec,
            space,
            dhcp,
            marks,
        })
    }

    /// Free share of what an OLT has of the pool below which it gets more.
    #[must_use]
    pub fn low_water(&self) -> Share {
        self.marks.low
    }

    /// Free share of what an OLT has of the pool above which it gives shards back; `None`: never.
    #[must_use]
    pub fn high_water(&self) -> Option<Share> {
        self.marks.high
    }

    /// The specification that the pool was made from.
    #[must_use]
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// Name of the pool.
    #[must_use]
    pub fn id(&self) -> &PoolId {
        &self.spec.id
    }

    /// What the pool hands out.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.spec.kind
    }

    /// Routing context of the pool.
    #[must_use]
    pub fn vrf(&self) -> &str {
        &self.spec.vrf
    }

    /// Region that the pool is restricted to (label `region`).
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.spec.metadata.get("region").map(String::as_str)
    }

    /// How long a released resource rests before another subscriber may get it.
    #[must_use]
    pub fn cool_down(&self) -> Duration {
        self.spec.cool_down.get()
    }

    /// How long a resource rests whose client may not have heard that it lost it: the cool-down, and no
    /// less than the client goes on by itself. That is its DHCP lease, with 1% for either clock.
    #[must_use]
    pub fn rest(&self) -> Duration {
        let lease = self.dhcp().map_or(Duration::ZERO, |dhcp| dhcp.lease_time);
        let lease = lease.saturating_add(lease / 50);
        self.cool_down().max(lease)
    }

    /// What DHCP tells the subscribers; only IPv4 pools have it.
    #[must_use]
    pub fn dhcp(&self) -> Option<&Dhcp> {
        self.dhcp.as_ref()
    }

    /// When a subscriber gets something of the pool: as the pool says, else addresses and prefixes with
    /// each session, and all else only if the pool is named.
    #[must_use]
    pub fn assign(&self) -> Assign {
        self.spec.assign.unwrap_or(match self.kind() {
            ResourceType::Ipv4 | ResourceType::Ipv6 => Assign::Session,
            ResourceType::Vlan | ResourceType::Svlan | ResourceType::Port => Assign::OnRequest,
        })
    }

    /// Space of the pool as text: `100.64.0.0/10`, `1000-2000`, `203.0.113.0/24:1024-65535`.
    #[must_use]
    pub fn space(&self) -> &str {
        &self.space.text
    }

    /// Number of shards, 1 to [`MAX_SHARDS`].
    #[must_use]
    pub fn shard_count(&self) -> u32 {
        self.space.shards
    }

    /// All shards in order.
    pub fn shards(&self) -> impl DoubleEndedIterator<Item = ShardId> + use<> {
        (0..self.space.shards).map(ShardId)
    }

    /// What a shard covers; `None` if the pool has no such shard.
    #[must_use]
    pub fn shard_range(&self, shard: ShardId) -> Option<ShardRange> {
        self.space.shard_range(shard)
    }

    /// Units of a shard, allocatable or not; 0 if the pool has no such shard. All shards have the
    /// same number, but the last of a number pool may have fewer.
    #[must_use]
    pub fn units(&self, shard: ShardId) -> u64 {
        self.space.units_in(shard)
    }

    /// Units of a shard that may be handed out.
    #[must_use]
    pub fn allocatable_units(&self, shard: ShardId) -> u64 {
        let Some(first) = self.space.first_unit(shard) else {
            return 0;
        };
        let units = self.space.units_in(shard);
        let end = first.saturating_add(units);
        let withheld = self.withheld.below(end);
        units.saturating_sub(withheld.saturating_sub(self.withheld.below(first)))
    }

    /// Units of the whole pool that may be handed out.
    #[must_use]
    pub fn allocatable_total(&self) -> u64 {
        let units = self.space.units;
        units.saturating_sub(self.withheld.below(units))
    }

    /// Units of a shard that may not be handed out, as first and last of each range, in order.
    pub fn withheld_units(&self, shard: ShardId) -> impl Iterator<Item = (u64, u64)> + use<'_> {
        let units = self.space.units_in(shard);
        let ends = self.space.first_unit(shard).zip(units.checked_sub(1));
        ends.into_iter().flat_map(|(first, last)| {
            let in_shard = move |unit: u64| unit.saturating_sub(first);
            self.withheld
                .within(first, first.saturating_add(last))
                .map(move |(low, high)| (in_shard(low), in_shard(high)))
        })
    }

    /// The resource that is unit `unit` of `shard`; `None` beyond the end of either.
    #[must_use]
    pub fn resource(&self, shard: ShardId, unit: u64) -> Option<Resource> {
        if unit >= self.space.units_in(shard) {
            return None;
        }
        self.space
            .resource(self.space.first_unit(shard)?.checked_add(unit)?)
    }

    /// Where a resource lies: the inverse of [`Pool::resource`]. `None` for a resource of another
    /// type, outside of the pool, or of another size (prefix length, block of ports).
    #[must_use]
    pub fn locate(&self, resource: &Resource) -> Option<(ShardId, u64)> {
        self.place_of(self.space.unit_of(resource)?)
    }

    fn place_of(&self, unit: u64) -> Option<(ShardId, u64)> {
        let shard = unit.checked_div(self.space.units_per_shard)?;
        let in_shard = unit.checked_rem(self.space.units_per_shard)?;
        Some((ShardId(u32::try_from(shard).ok()?), in_shard))
    }

    /// Whether a resource may be handed out: it lies in the pool, is not excluded, and is not the
    /// network, broadcast or router address.
    #[must_use]
    pub fn is_allocatable(&self, resource: &Resource) -> bool {
        self.space
            .unit_of(resource)
            .is_some_and(|unit| !self.withheld.contains(unit))
    }

    /// Whether unit `unit` of `shard` may be handed out; see [`Pool::is_allocatable`].
    #[must_use]
    pub fn is_allocatable_unit(&self, shard: ShardId, unit: u64) -> bool {
        unit < self.space.units_in(shard)
            && self
                .space
                .first_unit(shard)
                .and_then(|first| first.checked_add(unit))
                .is_some_and(|unit| !self.withheld.contains(unit))
    }

    /// The last unit of the part of a shard that is withheld and has unit `unit` in it; `None` if that may be handed
    /// out.
    #[must_use]
    pub fn withheld_to(&self, shard: ShardId, unit: u64) -> Option<u64> {
        let first = self.space.first_unit(shard)?;
        let last = self.withheld.end_of(first.checked_add(unit)?)?;
        let units = self.space.units_in(shard);
        Some(last.saturating_sub(first).min(units.saturating_sub(1)))
    }

    /// Whether each unit is given out by the centre and moves with its subscriber.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.spec.pinned
    }

    /// The unit that is kept for a subscriber (`static`).
    #[must_use]
    pub fn static_of(&self, subscriber: &SubscriberId) -> Option<(ShardId, u64)> {
        self.place_of(self.fixed.unit(subscriber)?)
    }

    /// The subscriber that unit `unit` of `shard` is kept for (`static`).
    #[must_use]
    pub fn static_holder(&self, shard: ShardId, unit: u64) -> Option<&SubscriberId> {
        let first = self.space.first_unit(shard)?;
        self.fixed.holder(first.checked_add(unit)?)
    }

    /// Whether a subscriber may have a resource: it may be handed out, and is not kept for another one.
    #[must_use]
    pub fn allows(&self, subscriber: &SubscriberId, resource: &Resource) -> bool {
        self.space.unit_of(resource).is_some_and(|unit| {
            !self.withheld.contains(unit)
                && self.fixed.holder(unit).is_none_or(|who| who == subscriber)
        })
    }

    /// Whether a resource of the pool's routing context, of whatever size, has something in common with its space.
    #[must_use]
    pub fn touches(&self, resource: &Resource) -> bool {
        self.space.touches(resource)
    }

    /// Whether both pools could hand out the same resource in the same routing context.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.spec.vrf == other.spec.vrf && self.space.meets(&other.space)
    }

    /// Whether both pools cut the same space into the same shards of the same routing context; see
    /// [`Pool::change_to`] for what else may replace a pool while shards are owned.
    #[must_use]
    pub fn same_geometry(&self, other: &Self) -> bool {
        self.spec.vrf == other.spec.vrf && self.space == other.space
    }
}

fn check_bounds(spec: &PoolSpec) -> Result<(), PoolError> {
    if !(1..=1000).contains(&spec.sharding_factor) {
        let problem = "must be 1 to 1000: virtual nodes of one OLT on the ring".to_owned();
        return Err(value(
            spec,
            "sharding_factor",
            &spec.sharding_factor.to_string(),
            problem,
        ));
    }
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !plain(&spec.vrf) || spec.vrf.len() > 64 {
        let problem = "must be 1 to 64 visible ASCII characters without spaces".to_owned();
        return Err(value(spec, "vrf", &spec.vrf, problem));
    }
    if spec.exclusions.len() > MAX_EXCLUSIONS {
        let problem = format!("too many: at most {MAX_EXCLUSIONS}, join neighbours to ranges");
        return Err(value(
            spec,
            "exclusions",
            &spec.exclusions.len().to_string(),
            problem,
        ));
    }
    if spec.reserved.len() > MAX_EXCLUSIONS {
        let problem = format!("too many: at most {MAX_EXCLUSIONS}, join neighbours to ranges");
        let count = spec.reserved.len().to_string();
        return Err(value(spec, "reserved", &count, problem));
    }
    for Reserved { resource, reason } in &spec.reserved {
        if reason.is_empty() || reason.len() > MAX_REASON_LEN {
            let problem = format!(
                "needs a `reason` of 1 to {MAX_REASON_LEN} bytes, so that the next operator knows what it serves"
            );
            return Err(value(spec, "reserved", resource, problem));
        }
    }
    if spec.metadata.len() > MAX_METADATA {
        let problem = format!("too many labels: at most {MAX_METADATA}");
        return Err(value(
            spec,
            "metadata",
            &spec.metadata.len().to_string(),
            problem,
        ));
    }
    for (key, label) in &spec.metadata {
        if key.is_empty() || key.len() > MAX_METADATA_LEN || label.len() > MAX_METADATA_LEN {
            let problem = format!(
                "keys take 1 to {MAX_METADATA_LEN} bytes, values at most {MAX_METADATA_LEN}"
            );
            return Err(value(spec, "metadata", key, problem));
        }
    }
    Ok(())
}

fn not_applicable(spec: &PoolSpec, field: &'static str, instead: &'static str) -> PoolError {
    PoolError::NotApplicable {
        pool: spec.id.clone(),
        kind: spec.kind,
        field,
        instead,
    }
}

fn value(spec: &PoolSpec, field: &'static str, text: &str, problem: String) -> PoolError {
    PoolError::Value {
        pool: spec.id.clone(),
        field,
        value: text.escape_default().to_string(),
        problem,
    }
}
