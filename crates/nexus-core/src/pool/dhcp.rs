//! What DHCP tells the subscribers of a pool, checked and ready to be encoded.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::error::PoolError;
use super::space::Space;
use super::spec::{PoolSpec, Release};
use super::value;

/// Most bytes that the options of a pool may take in a reply template.
pub const MAX_OPTIONS_LEN: usize = 256;

/// Most options of a pool, its mask and router included.
pub const MAX_OPTIONS: usize = 31;

/// Options that belong to the protocol or the binding and are never a pool's own (RFC 2132
/// sections 3.1, 9 and RFC 3046).
const RESERVED: [u16; 15] = [0, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 80, 82, 255];

/// The DHCP data of an IPv4 pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Prefix length of the pool; its mask is option 1.
    pub prefix_len: u8,
    /// Default gateway (option 3), inside the pool.
    pub router: Ipv4Addr,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// Lease time (option 51), whole seconds.
    pub lease_time: Duration,
    /// Domain name (option 15).
    pub domain_name: Option<String>,
    /// Time servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// Interface MTU (option 26).
    pub mtu: Option<u16>,
    /// `siaddr` of replies.
    pub next_server: Option<Ipv4Addr>,
    /// Clients may ask for rapid commit (option 80).
    pub rapid_commit: bool,
    /// What a DHCPRELEASE does.
    pub release: Release,
    /// How long a client may be silent before its binding ends; `None`: for ever.
    pub idle_release: Option<Duration>,
    /// Further options, code to value.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Dhcp {
    pub(super) fn parse(spec: &PoolSpec, space: &Space) -> Result<Self, PoolError> {
        let dhcp = Self {
            prefix_len: space.prefix_len,
            router: router(spec, space)?,
            dns: addresses(spec, "dhcp.dns", &spec.dhcp.dns)?,
            lease_time: lease_time(spec)?,
            domain_name: domain_name(spec)?,
            ntp: addresses(spec, "dhcp.ntp", &spec.dhcp.ntp)?,
            mtu: mtu(spec)?,
            next_server: next_server(spec)?,
            rapid_commit: spec.dhcp.rapid_commit,
            release: spec.dhcp.release,
            idle_release: idle_release(spec)?,
            options: options(spec)?,
        };
        let len = dhcp.encoded_len();
        if len > MAX_OPTIONS_LEN {
            return Err(PoolError::OptionsTooLong {
                pool: spec.id.clone(),
                len,
                max: MAX_OPTIONS_LEN,
            });
        }
        let count = dhcp.count();
        if count > MAX_OPTIONS {
            let problem = format!(
                "makes {count} DHCP options of the pool with its mask, router and all else: at most {MAX_OPTIONS} are possible, remove some"
            );
            let further = dhcp.options.len().to_string();
            return Err(value(spec, "dhcp.options", &further, problem));
        }
        Ok(dhcp)
    }

    /// Options that a reply can carry for the pool.
    fn count(&self) -> usize {
        let fields = [
            !self.dns.is_empty(),
            !self.ntp.is_empty(),
            self.domain_name.is_some(),
            self.mtu.is_some(),
        ];
        let mask_and_router = 2;
        mask_and_router + fields.iter().filter(|there| **there).count() + self.options.len()
    }

    /// Subnet mask (option 1).
    #[must_use]
    pub fn netmask(&self) -> Ipv4Addr {
        let host_bits = 32u32.saturating_sub(u32::from(self.prefix_len));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// Bytes that the pool's options take on the wire: code, length and value of each, without the
    /// ones that a reply gets anyway (message type, server id, the times, END).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let list = |count: usize| if count == 0 { 0 } else { 2 + 4 * count };
        let mask_and_router = 12;
        mask_and_router
            + list(self.dns.len())
            + list(self.ntp.len())
            + self.domain_name.as_ref().map_or(0, |name| 2 + name.len())
            + self.mtu.map_or(0, |_| 4)
            + self
                .options
                .values()
                .map(|value| 2 + value.len())
                .sum::<usize>()
    }
}

fn router(spec: &PoolSpec, space: &Space) -> Result<Ipv4Addr, PoolError> {
    let address = |value: u128| u32::try_from(value).map(Ipv4Addr::from_bits).ok();
    let first = address(space.base.saturating_add(1)).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let Some(text) = spec.dhcp.router.as_deref() else {
        return Ok(first);
    };
    let fail = |problem: String| value(spec, "dhcp.router", text, problem);
    let router: Ipv4Addr = text
        .parse()
        .map_err(|_| fail(format!("not an IPv4 address: write one such as {first}")))?;
    let bits = u128::from(router.to_bits());
    if bits <= space.base || bits >= space.last {
        let problem = format!(
            "is not a host address inside the pool's {}: subscribers could not reach it",
            space.text
        );
        return Err(fail(problem));
    }
    Ok(router)
}

fn addresses(
    spec: &PoolSpec,
    field: &'static str,
    texts: &[String],
) -> Result<Vec<Ipv4Addr>, PoolError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            let problem = "not an IPv4 address: write one such as 192.0.2.53".to_owned();
            value(spec, field, text, problem)
        })
    };
    texts.iter().map(parse).collect()
}

fn lease_time(spec: &PoolSpec) -> Result<Duration, PoolError> {
    let lease = spec.dhcp.lease_time.get();
    // The largest value of option 51 means "for ever" (RFC 2131 section 3.3), which no pool grants.
    let in_bounds = lease >= Duration::from_secs(1) && lease.as_secs() < u64::from(u32::MAX);
    if in_bounds && lease.subsec_nanos() == 0 {
        return Ok(lease);
    }
    let problem = "must be whole seconds, at least 1s: write it as 30m or 1h".to_owned();
    Err(value(
        spec,
        "dhcp.lease_time",
        &spec.dhcp.lease_time.to_string(),
        problem,
    ))
}

/// A client renews at half of its lease time and is silent in between.
fn idle_release(spec: &PoolSpec) -> Result<Option<Duration>, PoolError> {
    let lease = spec.dhcp.lease_time;
    match spec.dhcp.idle_release {
        Some(idle) if idle < lease => {
            let problem = format!(
                "is shorter than dhcp.lease_time {lease}: a client that is there would lose its address between two renewals, give at least {lease}"
            );
            Err(value(spec, "dhcp.idle_release", &idle.to_string(), problem))
        }
        idle => Ok(idle.map(Duration::from)),
    }
}

fn domain_name(spec: &PoolSpec) -> Result<Option<String>, PoolError> {
    let Some(name) = spec.dhcp.domain_name.as_deref() else {
        return Ok(None);
    };
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label_is_right) {
        return Ok(Some(name.to_owned()));
    }
    let problem = "not a domain name: letters, digits and hyphens in labels of 1 to 63, \
                   such as access.example.net";
    Err(value(spec, "dhcp.domain_name", name, problem.to_owned()))
}

fn mtu(spec: &PoolSpec) -> Result<Option<u16>, PoolError> {
    match spec.dhcp.mtu {
        Some(mtu) if mtu < 68 => {
            let problem = "is too small: at least 68 (RFC 2132 section 5.1)".to_owned();
            Err(value(spec, "dhcp.mtu", &mtu.to_string(), problem))
        }
        mtu => Ok(mtu),
    }
}

fn next_server(spec: &PoolSpec) -> Result<Option<Ipv4Addr>, PoolError> {
    let text = spec.dhcp.next_server.as_slice();
    let parsed = addresses(spec, "dhcp.next_server", text)?;
    Ok(parsed.first().copied())
}

fn options(spec: &PoolSpec) -> Result<BTreeMap<u8, Vec<u8>>, PoolError> {
    let mut options = BTreeMap::new();
    for (&code, text) in &spec.dhcp.options {
        let fail = |problem: String| value(spec, "dhcp.options", &code.to_string(), problem);
        let own_field = match code {
            1 => Some("the pool's cidr"),
            3 => Some("dhcp.router"),
            6 => Some("dhcp.dns"),
            15 => Some("dhcp.domain_name"),
            26 => Some("dhcp.mtu"),
            42 => Some("dhcp.ntp"),
            _ => None,
        };
        if let Some(field) = own_field {
            return Err(fail(format!("comes from {field}: set it there")));
        }
        if RESERVED.contains(&code) {
            let problem = "is reserved: the protocol sets this option itself, remove it";
            return Err(fail(problem.to_owned()));
        }
        let code = u8::try_from(code)
            .map_err(|_| fail("is not an option code: use 1 to 254".to_owned()))?;
        let decoded = decode_hex(text).ok_or_else(|| {
            let problem = format!(
                "has the value `{}`, which is not pairs of hexadecimal digits such as \"0104c0000201\"",
                text.escape_default()
            );
            fail(problem)
        })?;
        if decoded.len() > 255 {
            let problem = format!("has a value of {} bytes: at most 255 fit", decoded.len());
            return Err(fail(problem));
        }
        options.insert(code, decoded);
    }
    Ok(options)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}
