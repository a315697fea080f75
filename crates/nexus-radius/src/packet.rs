//! The packet format of RFC 2865 section 3.

use std::fmt;

use crate::attributes::{Attributes, MalformedAttributes};

/// Octets before the attributes.
pub const HEADER_LEN: usize = 20;
/// Most octets of a packet.
pub const MAX_LEN: usize = 4096;

/// What a packet is: its first octet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub u8);

impl Code {
    /// RFC 2865 section 4.1.
    pub const ACCESS_REQUEST: Self = Self(1);
    /// RFC 2865 section 4.2.
    pub const ACCESS_ACCEPT: Self = Self(2);
    /// RFC 2865 section 4.3.
    pub const ACCESS_REJECT: Self = Self(3);
    /// RFC 2866 section 4.1.
    pub const ACCOUNTING_REQUEST: Self = Self(4);
    /// RFC 2865 section 4.4.
    pub const ACCESS_CHALLENGE: Self = Self(11);
    /// RFC 5997 section 3.
    pub const STATUS_SERVER: Self = Self(12);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ACCESS_REQUEST => f.write_str("Access-Request"),
            Self::ACCESS_ACCEPT => f.write_str("Access-Accept"),
            Self::ACCESS_REJECT => f.write_str("Access-Reject"),
            Self::ACCOUNTING_REQUEST => f.write_str("Accounting-Request"),
            Self::ACCESS_CHALLENGE => f.write_str("Access-Challenge"),
            Self::STATUS_SERVER => f.write_str("Status-Server"),
            Self(other) => write!(f, "code {other}"),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A packet whose length and attributes are in order. Nothing is said of who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// First octet.
    pub code: Code,
    /// Matches a reply with its request.
    pub identifier: u8,
    /// Request Authenticator or Response Authenticator.
    pub authenticator: [u8; 16],
    /// The rest.
    pub attributes: Attributes,
}

/// Why a datagram is not a RADIUS packet; such a datagram is dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than a header.
    #[error("{len} octets are less than a RADIUS header ({HEADER_LEN})")]
    TooShort {
        /// Octets of the datagram.
        len: usize,
    },
    /// The Length field is outside 20..=4096.
    #[error("the Length field says {length}, which is outside {HEADER_LEN}..={MAX_LEN}")]
    Length {
        /// The Length field.
        length: u16,
    },
    /// The datagram is shorter than its Length field.
    #[error("the Length field says {length}, but only {len} octets came")]
    Truncated {
        /// The Length field.
        length: u16,
        /// Octets of the datagram.
        len: usize,
    },
    /// The attributes are not a sequence of TLVs.
    #[error(transparent)]
    Attributes(#[from] MalformedAttributes),
}

impl Packet {
    /// Reads a datagram. Octets behind the Length field are padding and ignored.
    ///
    /// # Errors
    /// If the datagram breaks RFC 2865 section 3.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let too_short = DecodeError::TooShort {
            len: datagram.len(),
        };
        let (header, _) = datagram
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(too_short)?;
        let [code, identifier, high, low, authenticator @ ..] = *header;
        let length = u16::from_be_bytes([high, low]);
        if !(HEADER_LEN..=MAX_LEN).contains(&usize::from(length)) {
            return Err(DecodeError::Length { length });
        }
        let attributes =
            datagram
                .get(HEADER_LEN..usize::from(length))
                .ok_or(DecodeError::Truncated {
                    length,
                    len: datagram.len(),
                })?;
        Ok(Self {
            code: Code(code),
            identifier,
            authenticator,
            attributes: Attributes::decode(attributes)?,
        })
    }

    /// The packet as it goes on the wire: 20..=4096 octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let attributes = self.attributes.as_octets();
        let len = HEADER_LEN + attributes.len();
        // `Attributes` never exceeds a packet, so the length always fits.
        let length = u16::try_from(len).unwrap_or(u16::MAX);
        let mut octets = Vec::with_capacity(len);
        octets.extend([self.code.0, self.identifier]);
        octets.extend(length.to_be_bytes());
        octets.extend(self.authenticator);
        octets.extend_from_slice(attributes);
        octets
    }
}
