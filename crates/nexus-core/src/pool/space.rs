//! The space of a pool as numbers: units in a row, cut into shards of equal size.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::error::PoolError;
use super::ports::Ports;
use super::spec::{DEFAULT_DELEGATED_LENGTH, PoolSpec};
use super::{not_applicable, value};
use crate::id::ShardId;
use crate::resource::{Resource, ResourceType, parse_number};
use crate::shard::ShardRange;

/// Most shards of a pool.
pub const MAX_SHARDS: u32 = 65_536;
/// Most resources in a shard; a bitmap of one takes 128 KiB.
pub const MAX_UNITS_PER_SHARD: u64 = 1 << 20;

/// Numbers of a shard of VLANs, if the pool does not say.
const DEFAULT_SHARD_VLANS: u32 = 100;

/// Where a pool lies and how it is cut. A value is an address or number; a unit is what one
/// subscriber gets, `1 << unit_shift` values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub kind: ResourceType,
    pub base: u128,
    pub last: u128,
    pub unit_shift: u32,
    pub units: u64,
    pub units_per_shard: u64,
    pub shards: u32,
    /// Prefix length of the pool (`ipv4`, `ipv6`).
    pub prefix_len: u8,
    /// Prefix length of a shard (`ipv4`, `ipv6`).
    pub shard_len: u8,
    /// How ports are laid out; only `port`. `base` and `last` are the ends of its ports.
    pub ports: Option<Ports>,
    /// The space as text, for messages.
    pub text: String,
}

impl Space {
    pub fn parse(spec: &PoolSpec) -> Result<Self, PoolError> {
        if spec.kind != ResourceType::Port {
            if spec.addresses.is_some() {
                return Err(not_applicable(spec, "addresses", ""));
            }
            if spec.block_size.is_some() {
                return Err(not_applicable(spec, "block_size", ""));
            }
        }
        match spec.kind {
            ResourceType::Ipv4 => Self::parse_ipv4(spec),
            ResourceType::Ipv6 => Self::parse_ipv6(spec),
            ResourceType::Vlan | ResourceType::Svlan => Self::parse_vlans(spec),
            ResourceType::Port => Self::parse_ports(spec),
        }
    }

    fn parse_ipv4(spec: &PoolSpec) -> Result<Self, PoolError> {
        let text = cidr_field(spec, "100.64.0.0/10")?;
        if spec.delegated_length.is_some() {
            return Err(not_applicable(spec, "delegated_length", ""));
        }
        let net: Ipv4Net = text.parse().map_err(|_| {
            value(
                spec,
                "cidr",
                text,
                "not an IPv4 prefix: write it as 100.64.0.0/10".into(),
            )
        })?;
        if net.addr() != net.network() {
            let problem = format!("has host bits set: did you mean {}?", net.trunc());
            return Err(value(spec, "cidr", text, problem));
        }
        if net.prefix_len() > 30 {
            // Network, broadcast and router address take three of the four addresses of a /30.
            let problem = "leaves no address for a subscriber: use a /30 or a shorter prefix";
            return Err(value(spec, "cidr", text, problem.into()));
        }
        let base = u128::from(net.network().to_bits());
        let last = u128::from(net.broadcast().to_bits());
        let default = net
            .prefix_len()
            .max(net.prefix_len().saturating_add(8).min(28));
        Self::prefixes(
            spec,
            base,
            last,
            net.prefix_len(),
            32,
            32,
            default,
            net.to_string(),
        )
    }

    fn parse_ipv6(spec: &PoolSpec) -> Result<Self, PoolError> {
        let text = cidr_field(spec, "2001:db8::/32")?;
        let net: Ipv6Net = text.parse().map_err(|_| {
            value(
                spec,
                "cidr",
                text,
                "not an IPv6 prefix: write it as 2001:db8::/32".into(),
            )
        })?;
        if net.addr() != net.network() {
            let problem = format!("has host bits set: did you mean {}?", net.trunc());
            return Err(value(spec, "cidr", text, problem));
        }
        let delegated = spec.delegated_length.unwrap_or(DEFAULT_DELEGATED_LENGTH);
        if !matches!(delegated, 48..=64 | 128) || delegated < net.prefix_len() {
            let problem = format!(
                "must be 48 to 64, or 128 for single addresses, and no shorter than the pool's own /{}: a subscriber gets one such prefix of {net}",
                net.prefix_len()
            );
            return Err(value(
                spec,
                "delegated_length",
                &delegated.to_string(),
                problem,
            ));
        }
        let base = net.network().to_bits();
        let last = net.broadcast().to_bits();
        // At least 16 units in a shard, where the pool has them. Single addresses are cut as IPv4 is, but
        // into no more of them than a shard can hold.
        let finest = delegated.saturating_sub(4).max(net.prefix_len());
        let default = if delegated == 128 {
            net.prefix_len().saturating_add(8).max(108).min(finest)
        } else {
            net.prefix_len().saturating_add(16).min(finest)
        };
        Self::prefixes(
            spec,
            base,
            last,
            net.prefix_len(),
            delegated,
            128,
            default,
            net.to_string(),
        )
    }

    #[allow(clippy::too_many_arguments)] // One caller per address family; a struct would only rename them.
    fn prefixes(
        spec: &PoolSpec,
        base: u128,
        last: u128,
        prefix_len: u8,
        unit_len: u8,
        bits: u8,
        default_shard_len: u8,
        text: String,
    ) -> Result<Self, PoolError> {
        let shard_len = match spec.shard_size {
            None => default_shard_len,
            Some(size) => u8::try_from(size)
                .ok()
                .filter(|len| (prefix_len..=unit_len).contains(len))
                .ok_or_else(|| {
                    let problem = format!(
                        "must be the prefix length of a shard, from {prefix_len} (the pool) to {unit_len} (what one subscriber gets)"
                    );
                    value(spec, "shard_size", &size.to_string(), problem)
                })?,
        };
        // All lengths are at most 128 and in order, so that no shift below reaches 128 except for
        // `::/0` in single addresses, which the checks refuse before it matters.
        let power = |length: u8| 1u128.checked_shl(u32::from(length)).unwrap_or(u128::MAX);
        let shards = power(shard_len.saturating_sub(prefix_len));
        let units_per_shard = power(unit_len.saturating_sub(shard_len));
        Self {
            kind: spec.kind,
            base,
            last,
            unit_shift: u32::from(bits.saturating_sub(unit_len)),
            units: 0,
            units_per_shard: 0,
            shards: 0,
            prefix_len,
            shard_len,
            ports: None,
            text,
        }
        .cut(
            spec,
            shards,
            units_per_shard,
            shards.saturating_mul(units_per_shard),
        )
    }

    fn parse_vlans(spec: &PoolSpec) -> Result<Self, PoolError> {
        let (first, last) = number_range(spec, 4094, "1000-2000")?;
        let size = spec.shard_size.unwrap_or(DEFAULT_SHARD_VLANS);
        if size == 0 {
            let problem = "must be at least 1: it is how many numbers a shard holds".into();
            return Err(value(spec, "shard_size", "0", problem));
        }
        let units = u128::from(last.abs_diff(first)).saturating_add(1);
        let size = u128::from(size);
        Self {
            kind: spec.kind,
            base: u128::from(first),
            last: u128::from(last),
            unit_shift: 0,
            units: 0,
            units_per_shard: 0,
            shards: 0,
            prefix_len: 0,
            shard_len: 0,
            ports: None,
            text: format!("{first}-{last}"),
        }
        .cut(spec, units.div_ceil(size), size, units)
    }

    pub(super) fn cut(
        mut self,
        spec: &PoolSpec,
        shards: u128,
        units_per_shard: u128,
        units: u128,
    ) -> Result<Self, PoolError> {
        let shard = self.shard_text_of(units_per_shard);
        if units > u128::from(MAX_SHARDS).saturating_mul(u128::from(MAX_UNITS_PER_SHARD)) {
            return Err(PoolError::TooLarge {
                pool: spec.id.clone(),
                space: self.text,
                units,
            });
        }
        self.shards = u32::try_from(shards)
            .ok()
            .filter(|count| *count <= MAX_SHARDS)
            .ok_or_else(|| PoolError::TooManyShards {
                pool: spec.id.clone(),
                space: self.text.clone(),
                shard: shard.clone(),
                count: shards,
            })?;
        let too_large = || PoolError::ShardTooLarge {
            pool: spec.id.clone(),
            shard: shard.clone(),
            units: units_per_shard,
        };
        self.units_per_shard = u64::try_from(units_per_shard)
            .ok()
            .filter(|units| *units <= MAX_UNITS_PER_SHARD)
            .ok_or_else(too_large)?;
        self.units = u64::try_from(units).map_err(|_| too_large())?;
        Ok(self)
    }

    /// Size of a shard as text: `/18`, `100 numbers`.
    pub fn shard_text(&self) -> String {
        self.shard_text_of(u128::from(self.units_per_shard))
    }

    fn shard_text_of(&self, units: u128) -> String {
        match &self.ports {
            _ if self.is_address() => format!("/{}", self.shard_len),
            Some(ports) if ports.block > 1 => format!("{units} blocks of {} ports", ports.block),
            Some(_) => format!("{units} ports"),
            None => format!("{units} numbers"),
        }
    }

    pub fn is_address(&self) -> bool {
        matches!(self.kind, ResourceType::Ipv4 | ResourceType::Ipv6)
    }

    /// Number of the unit that `value` lies in, counted from the start of the pool.
    pub fn unit_of_value(&self, value: u128) -> Option<u64> {
        let offset = value.checked_sub(self.base)?;
        if value > self.last {
            return None;
        }
        u64::try_from(offset.checked_shr(self.unit_shift)?).ok()
    }

    /// Number of the unit that is exactly `resource`.
    pub fn unit_of(&self, resource: &Resource) -> Option<u64> {
        if resource.kind() != self.kind {
            return None;
        }
        if let Some(ports) = &self.ports {
            return ports.unit_of(resource);
        }
        let value = match resource {
            Resource::Ipv4(address) => u128::from(address.to_bits()),
            Resource::Ipv6(net) => {
                let delegated = 128u32.checked_sub(self.unit_shift)?;
                if u32::from(net.prefix_len()) != delegated || net.addr() != net.network() {
                    return None;
                }
                net.network().to_bits()
            }
            Resource::Vlan(n) | Resource::Svlan(n) => u128::from(*n),
            Resource::Port { .. } => return None,
        };
        self.unit_of_value(value)
    }

    /// The resource that is unit number `unit`, counted from the start of the pool.
    pub fn resource(&self, unit: u64) -> Option<Resource> {
        if unit >= self.units {
            return None;
        }
        if let Some(ports) = &self.ports {
            return ports.resource(unit);
        }
        let offset = u128::from(unit).checked_shl(self.unit_shift)?;
        let value = self.base.checked_add(offset)?;
        let number = || u16::try_from(value).ok();
        Some(match self.kind {
            ResourceType::Ipv4 => Resource::Ipv4(Ipv4Addr::from_bits(u32::try_from(value).ok()?)),
            ResourceType::Ipv6 => {
                let length = u8::try_from(128u32.checked_sub(self.unit_shift)?).ok()?;
                Resource::Ipv6(Ipv6Net::new(Ipv6Addr::from_bits(value), length).ok()?)
            }
            ResourceType::Vlan => Resource::Vlan(number()?),
            ResourceType::Svlan => Resource::Svlan(number()?),
            ResourceType::Port => return None,
        })
    }

    /// First unit of `shard`, counted from the start of the pool.
    pub fn first_unit(&self, shard: ShardId) -> Option<u64> {
        (shard.0 < self.shards).then(|| u64::from(shard.0).saturating_mul(self.units_per_shard))
    }

    pub fn units_in(&self, shard: ShardId) -> u64 {
        self.first_unit(shard).map_or(0, |first| {
            self.units.saturating_sub(first).min(self.units_per_shard)
        })
    }

    pub fn shard_range(&self, shard: ShardId) -> Option<ShardRange> {
        let first = self.first_unit(shard)?;
        let last = first.checked_add(self.units_in(shard).checked_sub(1)?)?;
        match self.resource(first)? {
            Resource::Ipv4(address) => Some(ShardRange::Ipv4(
                Ipv4Net::new(address, self.shard_len).ok()?,
            )),
            Resource::Ipv6(net) => Some(ShardRange::Ipv6(
                Ipv6Net::new(net.addr(), self.shard_len).ok()?,
            )),
            Resource::Vlan(low) | Resource::Svlan(low) => {
                let count = u16::try_from(last.checked_sub(first)?).ok()?;
                Some(ShardRange::Numbers {
                    first: low,
                    last: low.checked_add(count)?,
                })
            }
            Resource::Port { .. } => self.ports.as_ref()?.range(first, last),
        }
    }

    /// Whether both could hand out the same resource.
    pub fn meets(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        match (&self.ports, &other.ports) {
            (Some(ports), Some(others)) => ports.meets(others),
            _ => self.base <= other.last && other.base <= self.last,
        }
    }

    /// Whether a resource, of whatever size, has something in common with the space.
    pub fn touches(&self, resource: &Resource) -> bool {
        let meets = |first: u128, last: u128| self.base <= last && first <= self.last;
        if resource.kind() != self.kind {
            return false;
        }
        match *resource {
            Resource::Ipv4(address) => {
                let address = u128::from(address.to_bits());
                meets(address, address)
            }
            Resource::Ipv6(net) => meets(net.network().to_bits(), net.broadcast().to_bits()),
            Resource::Vlan(id) | Resource::Svlan(id) => meets(u128::from(id), u128::from(id)),
            Resource::Port {
                address,
                first,
                last,
            } => {
                let own = self.ports.as_ref().and_then(|ports| ports.addresses);
                let apart = own.zip(address).is_some_and(|((low, high), address)| {
                    !(low..=high).contains(&address.to_bits())
                });
                !apart && meets(u128::from(first), u128::from(last))
            }
        }
    }
}

/// The field `range` of a pool of numbers, from 1 to `highest`.
pub(super) fn number_range(
    spec: &PoolSpec,
    highest: u16,
    example: &'static str,
) -> Result<(u16, u16), PoolError> {
    if spec.cidr.is_some() {
        return Err(not_applicable(spec, "cidr", " and use `range`"));
    }
    if spec.delegated_length.is_some() {
        return Err(not_applicable(spec, "delegated_length", ""));
    }
    let text = spec
        .range
        .as_deref()
        .ok_or_else(|| PoolError::SpaceMissing {
            pool: spec.id.clone(),
            kind: spec.kind,
            expected: "range",
            example,
        })?;
    let (first, last) = parse_number_range(text).ok_or_else(|| {
        let problem = format!("not a range of numbers up to 65535: write it as {example}");
        value(spec, "range", text, problem)
    })?;
    if first > last {
        let problem = format!("is reversed: did you mean {last}-{first}?");
        return Err(value(spec, "range", text, problem));
    }
    if first < 1 || last > highest {
        let problem = format!(
            "is out of bounds: a {} lies between 1 and {highest}",
            spec.kind
        );
        return Err(value(spec, "range", text, problem));
    }
    Ok((first, last))
}

pub(super) fn parse_number_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((parse_number(first)?, parse_number(last)?))
}

fn cidr_field<'a>(spec: &'a PoolSpec, example: &'static str) -> Result<&'a str, PoolError> {
    if spec.range.is_some() {
        return Err(not_applicable(spec, "range", " and use `cidr`"));
    }
    spec.cidr.as_deref().ok_or_else(|| PoolError::SpaceMissing {
        pool: spec.id.clone(),
        kind: spec.kind,
        expected: "cidr",
        example,
    })
}
