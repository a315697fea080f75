//! From what a pool says about DHCP to the template that replies are made from.

use core::fmt;

use nexus_abi::{
    OPTION_BITS, OPTIONS_CAPACITY, OPTIONS_HEAD, Profile, SERVER_HEAD, TEMPLATE_WORDS, Template,
    VARIANTS,
};
use zerocopy::IntoBytes;

use crate::checksum::{fold, halves};
use crate::wire::option;

/// What a pool says about DHCP. Addresses are four bytes in network order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileParts<'a> {
    /// Server identifier and gateway of the pool.
    pub server_id: [u8; 4],
    /// `siaddr`; zero if there is none.
    pub next_server: [u8; 4],
    /// MAC address that replies come from.
    pub gateway_mac: [u8; 6],
    /// Lease time in seconds, more than 0.
    pub lease_secs: u32,
    /// Subnet mask (1).
    pub subnet_mask: [u8; 4],
    /// Routers (3); none: the option is left out.
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
}

/// Encodes the profile, and its first template: the head with zeros for what the binding decides, then all
/// of the pool's options by ascending code.
pub fn encode(parts: &ProfileParts<'_>) -> Result<(Profile, Template), ProfileError> {
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
    encoder.put(option::MESSAGE_TYPE, &[0])?;
    encoder.put(option::SERVER_ID, &parts.server_id)?;
    encoder.put(option::LEASE_TIME, &[0; 4])?;
    encoder.put(option::RENEWAL_TIME, &[0; 4])?;
    encoder.put(option::REBINDING_TIME, &[0; 4])?;
    debug_assert_eq!(encoder.len, OPTIONS_HEAD);
    let mut bits = [FOREIGN; 256];
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
        encoder.put(code, value)?;
        if let (Some(bit), Ok(number)) = (bits.get_mut(usize::from(code)), u8::try_from(count)) {
            *bit = number;
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
    let all = (1_u32 << count) - 1;
    let mut sets = [0; VARIANTS];
    if let Some(first) = sets.first_mut() {
        *first = all;
    }
    let profile = Profile {
        present: 1,
        lease_secs: parts.lease_secs,
        server_id: parts.server_id,
        next_server: parts.next_server,
        gateway_mac: parts.gateway_mac,
        rapid_commit: u16::from(parts.rapid_commit),
        all,
        variants: 1,
        sets,
        bits,
    };
    let bytes = encoder.bytes.get(..encoder.len).unwrap_or_default();
    Ok((profile, template(bytes)))
}

/// The bit of an option that a pool does not have.
const FOREIGN: u8 = 31;

/// The template with those of the options of `all`, the first template of `profile`, that are in `set`.
#[must_use]
pub fn select(profile: &Profile, all: &Template, set: u32) -> Template {
    let bytes = all.options.as_bytes();
    let bytes = bytes.get(..usize::from(all.len)).unwrap_or_default();
    let (head, mut rest) = bytes.split_at_checked(OPTIONS_HEAD).unwrap_or_default();
    let mut kept = [0; OPTIONS_CAPACITY];
    let mut len = 0;
    let mut keep = |option: &[u8]| {
        if let Some(to) = kept.get_mut(len..len + option.len()) {
            to.copy_from_slice(option);
            len += option.len();
        }
    };
    keep(head);
    while let [code, value_len, ..] = rest {
        let (option, others) = rest
            .split_at_checked(2 + usize::from(*value_len))
            .unwrap_or((rest, &[]));
        let bit = profile.bits.get(usize::from(*code)).copied();
        if set >> bit.unwrap_or(FOREIGN) & 1 == 1 {
            keep(option);
        }
        rest = others;
    }
    template(kept.get(..len).unwrap_or_default())
}

/// `bytes`: at most [`OPTIONS_CAPACITY`], the head included.
fn template(bytes: &[u8]) -> Template {
    let mut options = [0; TEMPLATE_WORDS];
    for (to, from) in options.as_mut_bytes().iter_mut().zip(bytes) {
        *to = *from;
    }
    let mut tail = [0_u64; TEMPLATE_WORDS];
    let behind_head = bytes.get(OPTIONS_HEAD..).unwrap_or_default();
    for (to, from) in tail
        .as_mut_bytes()
        .iter_mut()
        .skip(SERVER_HEAD)
        .zip(behind_head)
    {
        *to = *from;
    }
    Template {
        len: bytes.len() as u16,
        reserved: 0,
        sum: sum(&options),
        tail_sum: sum(&tail),
        reserved_too: 0,
        options,
    }
}

fn sum(words: &[u64]) -> u32 {
    u32::from(fold(words.iter().copied().map(halves).sum()))
}

#[cfg(test)]
mod tests;
