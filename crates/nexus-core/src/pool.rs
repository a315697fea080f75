//! A pool: a space of resources, checked once, cut into shards, with constant-time arithmetic.

mod dhcp;
mod error;
mod space;
mod spec;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use dhcp::{Dhcp, MAX_OPTIONS, MAX_OPTIONS_LEN};
pub use error::PoolError;
pub use space::{MAX_SHARDS, MAX_UNITS_PER_SHARD};
pub use spec::{
    DEFAULT_COOL_DOWN, DEFAULT_DELEGATED_LENGTH, DEFAULT_LEASE_TIME, DEFAULT_SHARDING_FACTOR,
    DhcpSpec, PoolSpec, Release,
};

use crate::id::{PoolId, ShardId};
use crate::resource::{Resource, ResourceType};
use crate::shard::ShardRange;
use space::{Space, not_applicable, value};

/// Most exclusions of a pool.
pub const MAX_EXCLUSIONS: usize = 1024;
/// Most labels of a pool.
pub const MAX_METADATA: usize = 64;
/// Longest key or value of a label, in bytes.
pub const MAX_METADATA_LEN: usize = 256;

/// A pool that makes sense. Shards are numbered from 0, the units of a shard (what one subscriber
/// gets: an address, a delegated prefix, a number) from 0 as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    spec: PoolSpec,
    space: Space,
    /// Units that are never handed out, as ranges from the start of the pool: ordered, apart.
    withheld: Vec<(u64, u64)>,
    dhcp: Option<Dhcp>,
}

impl Pool {
    /// Checks a specification.
    ///
    /// # Errors
    /// The first thing that is wrong, naming field, value and remedy.
    pub fn new(spec: PoolSpec) -> Result<Self, PoolError> {
        let space = Space::parse(&spec)?;
        check_bounds(&spec)?;
        let mut withheld = Vec::new();
        for exclusion in &spec.exclusions {
            withheld.push(space.parse_exclusion(&spec, exclusion)?);
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
        Ok(Self {
            withheld: merge(withheld),
            spec,
            space,
            dhcp,
        })
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

    /// Space of the pool as text: `100.64.0.0/10`, `1000-2000`.
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
        let overlap = |&(low, high): &(u64, u64)| {
            high.saturating_add(1)
                .min(end)
                .saturating_sub(low.max(first))
        };
        units.saturating_sub(self.withheld.iter().map(overlap).sum())
    }

    /// Units of the whole pool that may be handed out.
    #[must_use]
    pub fn allocatable_total(&self) -> u64 {
        let withheld = self
            .withheld
            .iter()
            .map(|(low, high)| high.abs_diff(*low).saturating_add(1));
        self.space.units.saturating_sub(withheld.sum())
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
    /// type, outside of the pool, or (IPv6) of another prefix length.
    #[must_use]
    pub fn locate(&self, resource: &Resource) -> Option<(ShardId, u64)> {
        let unit = self.space.unit_of(resource)?;
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
            .is_some_and(|unit| !self.is_withheld(unit))
    }

    /// Whether unit `unit` of `shard` may be handed out; see [`Pool::is_allocatable`].
    #[must_use]
    pub fn is_allocatable_unit(&self, shard: ShardId, unit: u64) -> bool {
        unit < self.space.units_in(shard)
            && self
                .space
                .first_unit(shard)
                .and_then(|first| first.checked_add(unit))
                .is_some_and(|unit| !self.is_withheld(unit))
    }

    /// Whether both pools could hand out the same resource in the same routing context.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.spec.vrf == other.spec.vrf
            && self.spec.kind == other.spec.kind
            && self.space.base <= other.space.last
            && other.space.base <= self.space.last
    }

    /// Whether both pools cut the same space into the same shards of the same routing context, so
    /// that one may replace the other while shards are owned.
    #[must_use]
    pub fn same_geometry(&self, other: &Self) -> bool {
        self.spec.vrf == other.spec.vrf && self.space == other.space
    }

    fn is_withheld(&self, unit: u64) -> bool {
        let after = self.withheld.partition_point(|&(low, _)| low <= unit);
        after
            .checked_sub(1)
            .and_then(|index| self.withheld.get(index))
            .is_some_and(|&(_, high)| unit <= high)
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

/// Orders ranges and joins those that touch.
fn merge(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}
