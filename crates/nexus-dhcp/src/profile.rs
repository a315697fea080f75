//! From what a pool says about DHCP to the template that replies are made from.

use core::fmt;

use nexus_abi::{Encoded, OPTION_BITS, OPTION_WORDS, OPTIONS_CAPACITY, Profile};
use zerocopy::IntoBytes;

use crate::checksum::fold;
use crate::wire::option;

/// What a pool says about DHCP. Addresses are four bytes in network order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileParts<'a> {
    /// Server identifier and source address of replies.
    pub server_id: [u8; 4],
    /// `siaddr`; zero if there is none.
    pub next_server: [u8; 4],
    /// MAC address that replies come from.
    pub gateway_mac: [u8; 6],
    /// Lease time in seconds, more than 0.
    pub lease_secs: u32,
    /// Subnet mask (1).
    pub subnet_mask: [u8; 4],
    /// Routers (3), of which the first is the pool's gateway; none: the option is left out.
    pub routers: &'a [[u8; 4]],
    /// Domain name servers (6).
    pub dns: &'a [[u8; 4]],
    /// Domain name (15).
    pub domain_name: Option<&'a str>,
    /// Interface MTU (26) in bytes.
    pub mtu: Option<u16>,
    /// NTP servers (42).
    pub ntp: &'a [[u8; 4]],
    /// A DISCOVER with option 80 is answered with an ACK (RFC 4039).
    pub rapid_commit: bool,
    /// Any other option by number; one that has a field above replaces it.
    pub custom: &'a [(u8, &'a [u8])],
}

/// Why a pool's DHCP data cannot be made into a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileError {
    /// The options do not fit: `needed` bytes of at most [`OPTIONS_CAPACITY`].
    TooLong {
        /// Bytes that the options come to.
        needed: usize,
    },
    /// An option's value has more than 255 bytes, or none.
    ValueLength {
        /// The option.
        code: u8,
        /// Bytes of its value.
        len: usize,
    },
    /// An option that the server itself sets.
    Reserved {
        /// The option.
        code: u8,
    },
    /// A lease time of 0.
    NoLease,
    /// More options than a set has bits: that many.
    TooMany {
        /// Options of the pool.
        count: usize,
    },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { needed } => write!(
                f,
                "the pool's DHCP options need {needed} bytes, {OPTIONS_CAPACITY} are the most: \
                 remove or shorten some"
            ),
            Self::ValueLength { code, len } => write!(
                f,
                "DHCP option {code} has a value of {len} bytes: 1 to 255 are possible"
            ),
            Self::Reserved { code } => write!(
                f,
                "DHCP option {code} is set by the server itself: remove it from the pool"
            ),
            Self::TooMany { count } => write!(
                f,
                "the pool has {count} DHCP options, {OPTION_BITS} are the most: remove some"
            ),
            Self::NoLease => f.write_str("the lease time is 0: give at least 1 second"),
        }
    }
}

impl core::error::Error for ProfileError {}

/// The options that a server sets from the binding or the request, never from the pool.
#[must_use]
pub fn is_reserved(code: u8) -> bool {
    matches!(
        code,
        option::PAD
            | option::REQUESTED_ADDRESS
            | option::LEASE_TIME
            | option::OVERLOAD
            | option::MESSAGE_TYPE
            | option::SERVER_ID
            | option::MAX_MESSAGE_SIZE
            | option::RENEWAL_TIME
            | option::REBINDING_TIME
            | option::CLIENT_ID
            | option::RAPID_COMMIT
            | option::RELAY_AGENT
            | option::PARAMETERS
            | option::END
    )
}

struct Encoder {
    bytes: [u8; OPTIONS_CAPACITY],
    len: usize,
}

impl Encoder {
    fn put(&mut self, code: u8, value: &[u8]) -> Result<(), ProfileError> {
        let len = u8::try_from(value.len())
            .ok()
            .filter(|len| *len > 0)
            .ok_or(ProfileError::ValueLength {
                code,
                len: value.len(),
            })?;
        let end = self.len + 2 + value.len();
        if let Some([to_code, to_len, to_value @ ..]) = self.bytes.get_mut(self.len..end) {
            *to_code = code;
            *to_len = len;
            to_value.copy_from_slice(value);
        }
        self.len = end;
        Ok(())
    }

    /// The sum of what stands from `offset` on, as if that were an even one.
    fn sum(&self, offset: usize) -> u32 {
        let bytes = self.bytes.get(offset..self.len).unwrap_or_default();
        let sum = bytes.chunks(2).map(|pair| match pair {
            [first, second, ..] => u64::from(u16::from_ne_bytes([*first, *second])),
            [first] => u64::from(u16::from_ne_bytes([*first, 0])),
            [] => 0,
        });
        u32::from(fold(sum.sum()))
    }
}

/// Encodes the profile: the pool's options by ascending code.
pub fn encode(parts: &ProfileParts<'_>) -> Result<Profile, ProfileError> {
    if parts.lease_secs == 0 {
        return Err(ProfileError::NoLease);
    }
    if let Some((code, _)) = parts.custom.iter().find(|(code, _)| is_reserved(*code)) {
        return Err(ProfileError::Reserved { code: *code });
    }
    let mut encoder = Encoder {
        bytes: [0; OPTIONS_CAPACITY],
        len: 0,
    };
    let mut bits = [FOREIGN; 256];
    let mut encoded = [Encoded::default(); OPTION_BITS + 1];
    let mut count = 0_usize;
    let mtu = parts.mtu.map(u16::to_be_bytes);
    for code in 1..=254 {
        let custom = parts.custom.iter().find(|(custom, _)| *custom == code);
        let value = match (custom, code) {
            (Some((_, value)), _) => Some(*value),
            (None, option::SUBNET_MASK) => Some(parts.subnet_mask.as_slice()),
            (None, option::ROUTERS) => Some(parts.routers.as_flattened()),
            (None, option::DNS) => Some(parts.dns.as_flattened()),
            (None, option::DOMAIN_NAME) => parts.domain_name.map(str::as_bytes),
            (None, option::MTU) => mtu.as_ref().map(<[u8; 2]>::as_slice),
            (None, option::NTP) => Some(parts.ntp.as_flattened()),
            _ => None,
        };
        // An empty list is no option; an empty value of a custom one is an error.
        let Some(value) = value.filter(|value| custom.is_some() || !value.is_empty()) else {
            continue;
        };
        let offset = encoder.len;
        encoder.put(code, value)?;
        if let (Some(bit), Some(one)) = (bits.get_mut(usize::from(code)), encoded.get_mut(count)) {
            *bit = count as u8;
            *one = Encoded {
                offset: offset as u16,
                len: (encoder.len - offset) as u16,
                sum: encoder.sum(offset),
            };
        }
        count += 1;
    }
    if count > OPTION_BITS {
        return Err(ProfileError::TooMany { count });
    }
    if encoder.len > OPTIONS_CAPACITY {
        return Err(ProfileError::TooLong {
            needed: encoder.len,
        });
    }
    let mut options = [0; OPTION_WORDS];
    for (to, from) in options.as_mut_bytes().iter_mut().zip(encoder.bytes) {
        *to = from;
    }
    Ok(Profile {
        present: 1,
        lease_secs: parts.lease_secs,
        server_id: parts.server_id,
        next_server: parts.next_server,
        gateway_mac: parts.gateway_mac,
        rapid_commit: u16::from(parts.rapid_commit),
        all: (1 << count) - 1,
        count: count as u32,
        gateway: parts.routers.first().copied().unwrap_or_default(),
        reserved: 0,
        bits,
        encoded,
        options,
    })
}

/// The bit of an option that a pool does not have.
const FOREIGN: u8 = 31;

#[cfg(test)]
mod tests;
