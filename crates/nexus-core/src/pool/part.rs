//! Parts of a pool as an operator writes them (`exclusions`, `reserved`), read as ranges of units.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::error::PoolError;
use super::space::{Space, parse_number_range};
use super::spec::PoolSpec;
use super::value;
use super::withheld::MAX_WITHHELD;
use crate::resource::{ResourceType, parse_number};

/// Lowest and highest address, or lowest and highest port.
type Ends<T> = Option<(T, T)>;

impl Space {
    /// Reads one part and gives the first and last unit that it touches, as often as it lies apart.
    pub(super) fn parse_part(
        &self,
        spec: &PoolSpec,
        field: &'static str,
        text: &str,
    ) -> Result<Vec<(u64, u64)>, PoolError> {
        let outside = || PoolError::ExclusionOutside {
            pool: spec.id.clone(),
            field,
            exclusion: text.escape_default().to_string(),
            space: self.text.clone(),
        };
        let unreadable = || {
            let problem = match self.kind {
                ResourceType::Port => {
                    "not a port, ports first-last, or either behind an address of the pool and a colon"
                }
                ResourceType::Vlan | ResourceType::Svlan => "not a number or a range first-last",
                _ => "not an address, a prefix without host bits, or a range first-last",
            };
            let problem = format!("{problem}, as this {} pool needs", self.kind);
            value(spec, field, text, problem)
        };
        let reversed = || value(spec, field, text, "is reversed: swap both ends".into());
        if let Some(ports) = &self.ports {
            let (addresses, numbers) = parse_ports(text).ok_or_else(unreadable)?;
            if addresses.is_some_and(|(first, last)| first > last)
                || numbers.is_some_and(|(first, last)| first > last)
            {
                return Err(reversed());
            }
            if numbers.is_some()
                && addresses.is_none()
                && ports.address_count() > MAX_WITHHELD as u64
            {
                let problem = format!(
                    "would be withheld on each of {} addresses one by one: narrow `range` instead",
                    ports.address_count()
                );
                return Err(value(spec, field, text, problem));
            }
            return ports.units_of(addresses, numbers).ok_or_else(outside);
        }
        let (first, last) = match self.kind {
            ResourceType::Ipv4 => {
                parse_ipv4(text).map(|(first, last)| (u128::from(first), u128::from(last)))
            }
            ResourceType::Ipv6 => parse_ipv6(text),
            _ => parse_numbers(text).map(|(first, last)| (u128::from(first), u128::from(last))),
        }
        .ok_or_else(unreadable)?;
        if first > last {
            return Err(reversed());
        }
        match (self.unit_of_value(first), self.unit_of_value(last)) {
            (Some(first), Some(last)) => Ok(vec![(first, last)]),
            _ => Err(outside()),
        }
    }
}

/// `40000`, `40000-40511`, `203.0.113.7`, `203.0.113.0/30`, `203.0.113.1-203.0.113.4`, and the first two
/// behind any of the others and a colon.
fn parse_ports(text: &str) -> Option<(Ends<u32>, Ends<u16>)> {
    match text.split_once(':') {
        Some((addresses, ports)) => {
            Some((Some(parse_ipv4(addresses)?), Some(parse_numbers(ports)?)))
        }
        None if text.contains('.') => Some((Some(parse_ipv4(text)?), None)),
        None => Some((None, Some(parse_numbers(text)?))),
    }
}

fn parse_numbers(text: &str) -> Option<(u16, u16)> {
    parse_number_range(text).or_else(|| parse_number(text).map(|n| (n, n)))
}

fn parse_ipv4(text: &str) -> Option<(u32, u32)> {
    if let Some((first, last)) = text.split_once('-') {
        let bits = |part: &str| Some(part.parse::<Ipv4Addr>().ok()?.to_bits());
        return Some((bits(first)?, bits(last)?));
    }
    let net = match text.parse::<Ipv4Addr>() {
        Ok(address) => Ipv4Net::from(address),
        Err(_) => text.parse().ok()?,
    };
    (net.addr() == net.network()).then(|| (net.network().to_bits(), net.broadcast().to_bits()))
}

fn parse_ipv6(text: &str) -> Option<(u128, u128)> {
    if let Some((first, last)) = text.split_once('-') {
        let bits = |part: &str| Some(part.parse::<Ipv6Addr>().ok()?.to_bits());
        return Some((bits(first)?, bits(last)?));
    }
    let net = match text.parse::<Ipv6Addr>() {
        Ok(address) => Ipv6Net::from(address),
        Err(_) => text.parse().ok()?,
    };
    (net.addr() == net.network()).then(|| (net.network().to_bits(), net.broadcast().to_bits()))
}
