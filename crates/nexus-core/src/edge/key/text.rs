//! The text form of keys, as it stands in rows, in the centre's record and on the command line.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{At, Circuit, LineKey, Place, Vlans};

/// Why a text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a line key: write it as `eth1 100.7 02:00:00:00:00:01`, `eth1 any 02:00:00:00:00:01`, `eth1 vlan 100.7 02:00:00:00:00:01` or `eth1 circuit 302f31+0a 02:00:00:00:00:01`"
)]
pub struct KeyError(String);

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.outer, self.inner)
    }
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.circuit_id)?;
        if !self.remote_id.is_empty() {
            f.write_str("+")?;
            write_hex(f, &self.remote_id)?;
        }
        Ok(())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(vlans) => vlans.fmt(f),
            Self::Mac => f.write_str("any"),
            Self::Vlan(vlans) => write!(f, "vlan {vlans}"),
            Self::Circuit(circuit) => write!(f, "circuit {circuit}"),
        }
    }
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.interface, self.at)?;
        write_mac(f, self.mac)
    }
}

/// As the key, without a MAC that is only allowed there.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.interface, self.at)?;
        if let Some(mac) = self.mac {
            f.write_str(" ")?;
            write_mac(f, mac)?;
        }
        Ok(())
    }
}

impl FromStr for LineKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError(text.escape_default().to_string()))
    }
}

impl TryFrom<String> for LineKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<LineKey> for String {
    fn from(key: LineKey) -> Self {
        key.to_string()
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn write_mac(f: &mut fmt::Formatter<'_>, mac: [u8; 6]) -> fmt::Result {
    let [a, b, c, d, e, g] = mac;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}

fn parse(text: &str) -> Option<LineKey> {
    let mut parts = text.split(' ');
    let interface = parts.next().filter(|name| !name.is_empty())?;
    let at = match parts.next()? {
        "any" => At::Mac,
        "vlan" => At::Vlan(vlans(parts.next()?)?),
        "circuit" => At::Circuit(circuit(parts.next()?)?),
        pair => At::Line(vlans(pair)?),
    };
    let mac = mac(parts.next()?)?;
    parts.next().is_none().then(|| LineKey {
        interface: interface.to_owned(),
        at,
        mac,
    })
}

fn vlans(text: &str) -> Option<Vlans> {
    let (outer, inner) = text.split_once('.')?;
    Some(Vlans {
        outer: outer.parse().ok()?,
        inner: inner.parse().ok()?,
    })
}

fn circuit(text: &str) -> Option<Circuit> {
    let (circuit_id, remote_id) = text.split_once('+').unwrap_or((text, ""));
    Some(Circuit {
        circuit_id: bytes(circuit_id)?,
        remote_id: bytes(remote_id)?,
    })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let all = pairs
        .iter()
        .map(|pair| octet(std::str::from_utf8(pair).ok()?));
    rest.is_empty().then(|| all.collect()).flatten()
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut octets = text.split(':');
    for byte in &mut bytes {
        *byte = octets.next().and_then(octet)?;
    }
    octets.next().is_none().then_some(bytes)
}

/// Two hexadecimal digits, and nothing that a number may have besides.
fn octet(text: &str) -> Option<u8> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}
