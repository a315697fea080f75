//! Shared secrets: Response Authenticator (RFC 2865 section 3) and Message-Authenticator (RFC 3579
//! section 3.2), made and checked.
//!
//! Message-Authenticator is always put first, so that a chosen prefix of the packet can never be
//! collided before it (CVE-2024-3596).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};

use crate::attribute_id::AttributeId;
use crate::attributes::{AttributeError, Attributes};
use crate::packet::{Code, Packet};

/// Octets of an MD5 digest, and so of every authenticator.
pub const DIGEST_LEN: usize = 16;
/// Octets of an MD5 block.
const BLOCK_LEN: usize = 64;

/// What a client and a server share. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A shared secret of no octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shared secret is empty: anybody could forge packets; give one of at least 16 random characters"
)]
pub struct EmptySecret;

impl Secret {
    /// A shared secret, of any length but 0 (RFC 2865 section 3).
    ///
    /// # Errors
    /// If there is nothing in it.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, EmptySecret> {
        let octets = octets.into();
        if octets.is_empty() {
            Err(EmptySecret)
        } else {
            Ok(Self(octets))
        }
    }

    pub(crate) fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// HMAC-MD5 keyed with the secret.
    pub(crate) fn hmac(&self) -> Hmac<Md5> {
        // A key of exactly one block, by the definition of HMAC (RFC 2104 section 2): cannot fail.
        let mut block = [0; BLOCK_LEN];
        if self.0.len() <= BLOCK_LEN {
            block
                .iter_mut()
                .zip(&self.0)
                .for_each(|(to, from)| *to = *from);
        } else {
            block
                .iter_mut()
                .zip(Md5::digest(&self.0))
                .for_each(|(to, from)| *to = from);
        }
        Hmac::new(&block.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a packet's Message-Authenticator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageAuthenticator {
    /// Exactly one, and it is right.
    Valid,
    /// There is none.
    Absent,
    /// It is wrong, has not 16 octets, or there are several.
    Invalid,
}

/// Checks the Message-Authenticator of `packet`, in constant time. `authenticator` is the Request
/// Authenticator, for a reply that of its request (RFC 3579 section 3.2).
#[must_use]
pub fn check_message_authenticator(
    packet: &Packet,
    authenticator: &[u8; DIGEST_LEN],
    secret: &Secret,
) -> MessageAuthenticator {
    let mut found = packet.attributes.all(AttributeId::MESSAGE_AUTHENTICATOR);
    let Some(value) = found.next() else {
        return MessageAuthenticator::Absent;
    };
    if value.len() != DIGEST_LEN || found.next().is_some() {
        return MessageAuthenticator::Invalid;
    }
    match message_mac(packet, authenticator, secret).verify_slice(value) {
        Ok(()) => MessageAuthenticator::Valid,
        Err(_) => MessageAuthenticator::Invalid,
    }
}

/// HMAC-MD5 over the packet, with the given authenticator and zeros for Message-Authenticator.
fn message_mac(packet: &Packet, authenticator: &[u8; DIGEST_LEN], secret: &Secret) -> Hmac<Md5> {
    let mut mac = secret.hmac();
    let octets = Packet {
        authenticator: *authenticator,
        ..packet.clone()
    }
    .encode();
    let header = octets.get(..crate::packet::HEADER_LEN).unwrap_or_default();
    mac.update(header);
    for (number, value) in &packet.attributes {
        // The length octet counts itself and the number; the value has at most 253 octets.
        mac.update(&[number, u8::try_from(value.len() + 2).unwrap_or(u8::MAX)]);
        if AttributeId::Ietf(number) == AttributeId::MESSAGE_AUTHENTICATOR {
            mac.update(&[0; DIGEST_LEN]);
        } else {
            mac.update(value);
        }
    }
    mac
}

/// The datagram of a request: Message-Authenticator first, then `attributes` without any they
/// brought. `authenticator` must be unpredictable and new for each request (RFC 2865 section 3).
///
/// # Errors
/// If the attributes leave no room for Message-Authenticator.
pub fn sign_request(
    code: Code,
    identifier: u8,
    authenticator: [u8; DIGEST_LEN],
    attributes: &Attributes,
    secret: &Secret,
) -> Result<Vec<u8>, AttributeError> {
    let unsigned = Packet {
        code,
        identifier,
        authenticator,
        attributes: with_message_authenticator(&[0; DIGEST_LEN], attributes)?,
    };
    let digest = message_mac(&unsigned, &authenticator, secret)
        .finalize()
        .into_bytes();
    let attributes = with_message_authenticator(&digest, attributes)?;
    Ok(Packet {
        attributes,
        ..unsigned
    }
    .encode())
}

/// The datagram of a reply to the request with `identifier` and `request_authenticator`:
/// Message-Authenticator first, then `attributes`, under the Response Authenticator.
///
/// # Errors
/// If the attributes leave no room for Message-Authenticator.
pub fn sign_reply(
    code: Code,
    identifier: u8,
    request_authenticator: &[u8; DIGEST_LEN],
    attributes: &Attributes,
    secret: &Secret,
) -> Result<Vec<u8>, AttributeError> {
    let octets = sign_request(code, identifier, *request_authenticator, attributes, secret)?;
    let response = response_authenticator(&octets, secret);
    let octets = octets.into_iter().enumerate();
    // Octets 4..20 are the authenticator.
    Ok(octets
        .map(|(at, octet)| {
            at.checked_sub(4)
                .and_then(|i| response.get(i).copied())
                .unwrap_or(octet)
        })
        .collect())
}

/// Whether the Response Authenticator of `reply` is right, in constant time.
#[must_use]
pub fn check_response_authenticator(
    reply: &Packet,
    request_authenticator: &[u8; DIGEST_LEN],
    secret: &Secret,
) -> bool {
    let asked = Packet {
        authenticator: *request_authenticator,
        ..reply.clone()
    };
    same(
        &response_authenticator(&asked.encode(), secret),
        &reply.authenticator,
    )
}

/// MD5(Code + ID + Length + RequestAuth + Attributes + Secret).
fn response_authenticator(with_request_authenticator: &[u8], secret: &Secret) -> [u8; DIGEST_LEN] {
    Md5::new()
        .chain_update(with_request_authenticator)
        .chain_update(secret.as_octets())
        .finalize()
        .into()
}

fn with_message_authenticator(
    digest: &[u8],
    attributes: &Attributes,
) -> Result<Attributes, AttributeError> {
    let mut all = Attributes::new();
    all.push(AttributeId::MESSAGE_AUTHENTICATOR, digest)?;
    all.extend(attributes, |number, _| {
        AttributeId::Ietf(number) != AttributeId::MESSAGE_AUTHENTICATOR
    })?;
    Ok(all)
}

/// Whether two octet strings are equal, in a time that depends on their lengths only.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a
        .iter()
        .zip(b)
        .fold(0, |sum, (x, y)| std::hint::black_box(sum | (x ^ y)));
    a.len() == b.len() && differing == 0
}
