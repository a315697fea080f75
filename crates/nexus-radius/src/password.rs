//! User-Password (PAP, RFC 2865 section 5.2) and CHAP-Password (section 5.3).

use std::fmt;

use md5::{Digest, Md5};

use crate::attribute_id::AttributeId;
use crate::attributes::Attributes;
use crate::authenticator::{DIGEST_LEN, Secret, same};
use crate::packet::Packet;

/// Most octets of a hidden password.
const MAX_HIDDEN_LEN: usize = 128;

/// What the subscriber offers as proof. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// PAP: the password in clear, without its padding.
    Pap(Vec<u8>),
    /// CHAP: CHAP identifier, response, and the challenge it answers.
    Chap {
        /// First octet of CHAP-Password.
        identifier: u8,
        /// The other sixteen.
        response: [u8; DIGEST_LEN],
        /// CHAP-Challenge, or the Request Authenticator where there is none.
        challenge: Vec<u8>,
    },
    /// Neither (EAP, or authorization only).
    None,
}

/// Credentials that break RFC 2865; the request is answered with Access-Reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Length is not 16, 32, .. 128 (section 5.2).
    #[error("User-Password has {0} octets, which is not a multiple of 16 up to 128")]
    PapLength(usize),
    /// Length is not 17 (section 5.3).
    #[error("CHAP-Password has {0} octets instead of 17")]
    ChapLength(usize),
    /// Section 4.1.
    #[error("the request has User-Password and CHAP-Password, or one of them twice")]
    Several,
    /// Too long to hide.
    #[error("the password has {0} octets, the most is 128")]
    TooLong(usize),
}

impl Credentials {
    /// The credentials of an Access-Request from a client with this secret.
    ///
    /// # Errors
    /// If an attribute has a length that is impossible, or there are several.
    pub fn read(request: &Packet, secret: &Secret) -> Result<Self, CredentialsError> {
        let mut pap = request.attributes.all(AttributeId::USER_PASSWORD);
        let mut chap = request.attributes.all(AttributeId::CHAP_PASSWORD);
        match (pap.next(), chap.next(), pap.next().or(chap.next())) {
            (None, None, _) => Ok(Self::None),
            (Some(hidden), None, None) => {
                Ok(Self::Pap(reveal(hidden, &request.authenticator, secret)?))
            }
            (None, Some(value), None) => {
                let wrong = CredentialsError::ChapLength(value.len());
                let (identifier, response) = value.split_first().ok_or(wrong)?;
                Ok(Self::Chap {
                    identifier: *identifier,
                    response: response.try_into().map_err(|_| wrong)?,
                    challenge: chap_challenge(request).to_vec(),
                })
            }
            _ => Err(CredentialsError::Several),
        }
    }

    /// Whether they prove knowledge of `password`.
    #[must_use]
    pub fn prove(&self, password: &[u8]) -> bool {
        match self {
            Self::Pap(given) => same(given, password),
            Self::Chap {
                identifier,
                response,
                challenge,
            } => {
                let digest = Md5::new()
                    .chain_update([*identifier])
                    .chain_update(password)
                    .chain_update(challenge)
                    .finalize();
                same(&digest, response)
            }
            Self::None => false,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pap(_) => "Pap(..)",
            Self::Chap { .. } => "Chap(..)",
            Self::None => "None",
        })
    }
}

/// The challenge that CHAP-Password of `request` answers (section 5.40).
#[must_use]
pub fn chap_challenge(request: &Packet) -> &[u8] {
    request
        .attributes
        .get(AttributeId::CHAP_CHALLENGE)
        .unwrap_or(&request.authenticator)
}

/// The value of User-Password: 16..=128 octets.
///
/// # Errors
/// If the password has more than 128 octets.
pub fn hide(
    password: &[u8],
    authenticator: &[u8; DIGEST_LEN],
    secret: &Secret,
) -> Result<Vec<u8>, CredentialsError> {
    if password.len() > MAX_HIDDEN_LEN {
        return Err(CredentialsError::TooLong(password.len()));
    }
    let mut padded = password.to_vec();
    padded.resize(
        password.len().next_multiple_of(DIGEST_LEN).max(DIGEST_LEN),
        0,
    );
    let mut hidden = Vec::with_capacity(padded.len());
    let mut previous = *authenticator;
    let (blocks, _) = padded.as_chunks::<DIGEST_LEN>();
    for block in blocks {
        previous = xor(block, &keystream(&previous, secret));
        hidden.extend(previous);
    }
    Ok(hidden)
}

/// The password inside User-Password, without the padding.
///
/// # Errors
/// If the length is impossible.
pub fn reveal(
    hidden: &[u8],
    authenticator: &[u8; DIGEST_LEN],
    secret: &Secret,
) -> Result<Vec<u8>, CredentialsError> {
    let (blocks, rest) = hidden.as_chunks::<DIGEST_LEN>();
    if !rest.is_empty() || blocks.is_empty() || hidden.len() > MAX_HIDDEN_LEN {
        return Err(CredentialsError::PapLength(hidden.len()));
    }
    let mut password = Vec::with_capacity(hidden.len());
    let mut previous = authenticator;
    for block in blocks {
        password.extend(xor(block, &keystream(previous, secret)));
        previous = block;
    }
    // Padding is zeros; a password cannot end in one.
    let end = password
        .iter()
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last + 1);
    password.truncate(end);
    Ok(password)
}

/// The attributes of `request` for another server: all, in order, but for what only holds between
/// the two ends of one hop. User-Password goes (the caller hides it anew for the next hop), and so
/// does Message-Authenticator. A CHAP challenge that was the Request Authenticator becomes an
/// attribute, because the next hop has another Request Authenticator.
///
/// # Errors
/// If the attributes do not fit a packet.
pub fn next_hop_attributes(
    request: &Packet,
) -> Result<Attributes, crate::attributes::AttributeError> {
    let mut attributes = Attributes::new();
    attributes.extend(&request.attributes, |number, _| {
        let id = AttributeId::Ietf(number);
        id != AttributeId::USER_PASSWORD && id != AttributeId::MESSAGE_AUTHENTICATOR
    })?;
    let chap = request.attributes.contains(AttributeId::CHAP_PASSWORD);
    if chap && !request.attributes.contains(AttributeId::CHAP_CHALLENGE) {
        attributes.push(AttributeId::CHAP_CHALLENGE, &request.authenticator)?;
    }
    Ok(attributes)
}

fn keystream(previous: &[u8; DIGEST_LEN], secret: &Secret) -> [u8; DIGEST_LEN] {
    Md5::new()
        .chain_update(secret.as_octets())
        .chain_update(previous)
        .finalize()
        .into()
}

fn xor(a: &[u8; DIGEST_LEN], b: &[u8; DIGEST_LEN]) -> [u8; DIGEST_LEN] {
    let mut out = *a;
    out.iter_mut().zip(b).for_each(|(x, y)| *x ^= y);
    out
}
