//! How a pool of ports is laid out: blocks of ports in a row, the same ones on each public address (RFC 6888,
//! RFC 7422).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::error::PoolError;
use super::space::{Space, number_range};
use super::spec::PoolSpec;
use super::value;
use crate::resource::{Resource, ResourceType};
use crate::shard::ShardRange;

/// Ports of a shard, if the pool does not say and has no addresses.
const DEFAULT_SHARD_PORTS: u32 = 1024;

/// Unit number `address * per_address + block`, counted from the lowest address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
    /// Ports in a block.
    pub block: u16,
    /// Blocks on one address.
    pub per_address: u64,
    /// Lowest and highest address; `None`: one address that the pool does not know.
    pub addresses: Option<(u32, u32)>,
}

impl Ports {
    /// Reads the layout and how many units a shard has.
    pub fn parse(spec: &PoolSpec) -> Result<(Self, u64), PoolError> {
        let (first, last) = number_range(spec, 65_535, "1024-65535")?;
        let block = spec.block_size.unwrap_or(1);
        let count = u32::from(last.abs_diff(first)).saturating_add(1);
        let fail = |problem: String| {
            let block = block.to_string();
            Err(value(spec, "block_size", &block, problem))
        };
        let Some(rest) = count.checked_rem(u32::from(block)) else {
            return fail("must be at least 1: it is how many ports one subscriber gets".into());
        };
        if u32::from(block) > count {
            return fail(format!("is more than the {count} ports of {first}-{last}"));
        }
        if rest > 0 {
            let shorter = u32::from(last).saturating_sub(rest);
            return fail(format!(
                "does not divide the {count} ports of {first}-{last}: change `range`, to {first}-{shorter} for example, or the size"
            ));
        }
        let per_address = u64::from(count.checked_div(u32::from(block)).unwrap_or(1));
        let addresses = spec.addresses.as_deref().map(|text| addresses(spec, text));
        let ports = Self {
            first,
            last,
            block,
            per_address,
            addresses: addresses.transpose()?,
        };
        let per_shard = ports.per_shard(spec)?;
        Ok((ports, per_shard))
    }

    /// A shard of a pool with addresses is a part of one address or some whole ones, so that it can be
    /// told in one line.
    fn per_shard(&self, spec: &PoolSpec) -> Result<u64, PoolError> {
        let Some(size) = spec.shard_size else {
            let by_ports = DEFAULT_SHARD_PORTS.checked_div(u32::from(self.block));
            return Ok(match self.addresses {
                Some(_) => self.per_address,
                None => u64::from(by_ports.unwrap_or(1).max(1)),
            });
        };
        let fail = |problem: String| Err(value(spec, "shard_size", &size.to_string(), problem));
        let size = u64::from(size);
        if size == 0 {
            return fail("must be at least 1: it is how many blocks of ports a shard holds".into());
        }
        let divides = |a: u64, b: u64| b.checked_rem(a) == Some(0);
        let whole = divides(self.per_address, size) || divides(size, self.per_address);
        if self.addresses.is_some() && !whole {
            return fail(format!(
                "is neither a multiple nor a divisor of the {} blocks that one address has: a shard is some whole addresses or an equal part of one",
                self.per_address
            ));
        }
        Ok(size)
    }

    /// Units of the pool.
    pub fn units(&self) -> u128 {
        let addresses = self.addresses.map_or(1, |(first, last)| {
            u128::from(last.abs_diff(first)).saturating_add(1)
        });
        addresses.saturating_mul(u128::from(self.per_address))
    }

    /// The space as text: `203.0.113.0/24:1024-65535`.
    pub fn text(&self, spec: &PoolSpec) -> String {
        let ports = format!("{}-{}", self.first, self.last);
        match &spec.addresses {
            Some(addresses) => format!("{addresses}:{ports}"),
            None => ports,
        }
    }

    /// The unit that is exactly `resource`.
    pub fn unit_of(&self, resource: &Resource) -> Option<u64> {
        let Resource::Port {
            address,
            first,
            last,
        } = resource
        else {
            return None;
        };
        let block = self.block_of(*first)?;
        let unit = self.unit(self.index_of(*address)?, block)?;
        (self.ports_of(block)? == (*first, *last)).then_some(unit)
    }

    /// The block that is unit number `unit`.
    pub fn resource(&self, unit: u64) -> Option<Resource> {
        let (first, last) = self.ports_of(unit.checked_rem(self.per_address)?)?;
        Some(Resource::Port {
            address: self.address_of(unit)?,
            first,
            last,
        })
    }

    /// What the units from `first` to `last` cover.
    pub fn range(&self, first: u64, last: u64) -> Option<ShardRange> {
        let (first_port, _) = self.ports_of(first.checked_rem(self.per_address)?)?;
        let (_, last_port) = self.ports_of(last.checked_rem(self.per_address)?)?;
        Some(match (self.address_of(first)?, self.address_of(last)?) {
            (Some(from), Some(to)) => ShardRange::Ports {
                from,
                to,
                first: first_port,
                last: last_port,
            },
            _ => ShardRange::Numbers {
                first: first_port,
                last: last_port,
            },
        })
    }

    /// Whether both could hand out the same port of the same address. Ports of an address that is not known
    /// may be ports of any.
    pub fn meets(&self, other: &Self) -> bool {
        let addresses = match (self.addresses, other.addresses) {
            (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
            _ => true,
        };
        addresses && self.first <= other.last && other.first <= self.last
    }

    /// The units that some ports of some addresses touch; all ports or all addresses if not given. `None`:
    /// they are not inside the pool.
    pub fn units_of(
        &self,
        addresses: Option<(u32, u32)>,
        ports: Option<(u16, u16)>,
    ) -> Option<Vec<(u64, u64)>> {
        let (first, last) = ports.unwrap_or((self.first, self.last));
        let (low, high) = (self.block_of(first)?, self.block_of(last)?);
        let (from, to) = match addresses.or(self.addresses) {
            Some((from, to)) => (
                self.index_of(Some(from.into()))?,
                self.index_of(Some(to.into()))?,
            ),
            None => (0, 0),
        };
        if low == 0 && high.saturating_add(1) == self.per_address {
            return Some(vec![(self.unit(from, low)?, self.unit(to, high)?)]);
        }
        (from..=to)
            .map(|address| Some((self.unit(address, low)?, self.unit(address, high)?)))
            .collect()
    }

    /// Addresses of the pool.
    pub fn address_count(&self) -> u64 {
        self.addresses.map_or(1, |(first, last)| {
            u64::from(last.abs_diff(first)).saturating_add(1)
        })
    }

    fn unit(&self, address: u64, block: u64) -> Option<u64> {
        address.checked_mul(self.per_address)?.checked_add(block)
    }

    fn index_of(&self, address: Option<Ipv4Addr>) -> Option<u64> {
        match (address, self.addresses) {
            (None, None) => Some(0),
            (Some(address), Some((first, last))) if address.to_bits() <= last => {
                address.to_bits().checked_sub(first).map(u64::from)
            }
            _ => None,
        }
    }

    #[allow(clippy::option_option)] // No such unit, or a unit of an address that is not known.
    fn address_of(&self, unit: u64) -> Option<Option<Ipv4Addr>> {
        let index = u32::try_from(unit.checked_div(self.per_address)?).ok()?;
        Some(match self.addresses {
            Some((first, _)) => Some(Ipv4Addr::from_bits(first.checked_add(index)?)),
            None => None,
        })
    }

    fn block_of(&self, port: u16) -> Option<u64> {
        let offset = port.checked_sub(self.first).filter(|_| port <= self.last)?;
        Some(u64::from(offset.checked_div(self.block)?))
    }

    fn ports_of(&self, block: u64) -> Option<(u16, u16)> {
        let offset = u16::try_from(block).ok()?.checked_mul(self.block)?;
        let first = self.first.checked_add(offset)?;
        Some((first, first.checked_add(self.block.checked_sub(1)?)?))
    }
}

impl Space {
    pub(super) fn parse_ports(spec: &PoolSpec) -> Result<Self, PoolError> {
        let (ports, per_shard) = Ports::parse(spec)?;
        let units = ports.units();
        let per_shard = u128::from(per_shard);
        Self {
            kind: ResourceType::Port,
            base: u128::from(ports.first),
            last: u128::from(ports.last),
            unit_shift: 0,
            units: 0,
            units_per_shard: 0,
            shards: 0,
            prefix_len: 0,
            shard_len: 0,
            text: ports.text(spec),
            ports: Some(ports),
        }
        .cut(spec, units.div_ceil(per_shard), per_shard, units)
    }
}

fn addresses(spec: &PoolSpec, text: &str) -> Result<(u32, u32), PoolError> {
    let fail = |problem: String| value(spec, "addresses", text, problem);
    let net: Ipv4Net = text
        .parse()
        .map_err(|_| fail("not an IPv4 prefix: write it as 203.0.113.0/24".into()))?;
    if net.addr() != net.network() {
        let problem = format!("has host bits set: did you mean {}?", net.trunc());
        return Err(fail(problem));
    }
    Ok((net.network().to_bits(), net.broadcast().to_bits()))
}
