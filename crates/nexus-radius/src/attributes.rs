//! The attributes of a packet: a run of well-formed TLVs that always fits a packet.

use std::net::Ipv4Addr;

use crate::attribute_id::AttributeId;
use crate::packet::{HEADER_LEN, MAX_LEN};

/// Most octets that the attributes of one packet may take.
pub const MAX_ATTRIBUTES_LEN: usize = MAX_LEN - HEADER_LEN;
/// Most octets of one attribute's value (RFC 2865 section 5).
pub const MAX_VALUE_LEN: usize = 253;
/// Most octets of a vendor attribute's value: vendor id, type and length come off the value.
const MAX_VENDOR_VALUE_LEN: usize = MAX_VALUE_LEN - 6;
/// Most octets of an extended attribute's value: Extended-Type comes off the value (RFC 6929 section 2.1).
const MAX_EXTENDED_VALUE_LEN: usize = MAX_VALUE_LEN - 1;

/// An attribute that cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// RFC 2865 section 5: the length octet counts to 255.
    #[error(
        "the value of attribute {number} has {len} octets, the most is {MAX_VALUE_LEN}: shorten it"
    )]
    ValueTooLong {
        /// First octet of the attribute.
        number: u8,
        /// Octets of the value.
        len: usize,
    },
    /// RFC 2865 section 3: a packet has at most 4096 octets.
    #[error(
        "attribute {number} does not fit: a packet has at most {MAX_LEN} octets; send fewer attributes"
    )]
    PacketFull {
        /// First octet of the attribute.
        number: u8,
    },
}

/// A run of octets that is not a sequence of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedAttributes {
    /// The length octet is below 2 (RFC 2865 section 5).
    #[error("the attribute at octet {offset} has the impossible length {length}")]
    Length {
        /// Where the attribute starts, counted from the first attribute.
        offset: usize,
        /// Its length octet.
        length: u8,
    },
    /// The attribute runs past the end of the packet.
    #[error("the attribute at octet {offset} runs past the end of the packet")]
    PastEnd {
        /// Where the attribute starts, counted from the first attribute.
        offset: usize,
    },
    /// More than fit into a packet.
    #[error("{len} octets of attributes are more than a packet holds ({MAX_ATTRIBUTES_LEN})")]
    TooLong {
        /// Octets given.
        len: usize,
    },
}

/// Attributes in the order of the packet. Holds at most [`MAX_ATTRIBUTES_LEN`] octets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    octets: Vec<u8>,
}

impl Attributes {
    /// No attributes.
    #[must_use]
    pub const fn new() -> Self {
        Self { octets: Vec::new() }
    }

    /// Checks a run of octets, as it stands in a packet behind the header.
    ///
    /// # Errors
    /// If a TLV is impossible or runs past the end. An attribute with an empty value is accepted.
    pub fn decode(octets: &[u8]) -> Result<Self, MalformedAttributes> {
        if octets.len() > MAX_ATTRIBUTES_LEN {
            return Err(MalformedAttributes::TooLong { len: octets.len() });
        }
        let mut rest = octets;
        while !rest.is_empty() {
            let offset = octets.len() - rest.len();
            let [_, length, ..] = *rest else {
                return Err(MalformedAttributes::PastEnd { offset });
            };
            if length < 2 {
                return Err(MalformedAttributes::Length { offset, length });
            }
            rest = rest
                .get(usize::from(length)..)
                .ok_or(MalformedAttributes::PastEnd { offset })?;
        }
        Ok(Self {
            octets: octets.to_vec(),
        })
    }

    /// The attributes as they stand in a packet.
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.octets
    }

    /// Number and value of each attribute, in order. A Vendor-Specific attribute is one of number 26.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.octets }
    }

    /// The values of an attribute, in order. Vendor attributes are found also where several share
    /// one Vendor-Specific attribute; one whose inner TLVs are broken is passed over.
    pub fn all(&self, id: AttributeId) -> impl Iterator<Item = &[u8]> {
        self.iter().flat_map(move |(number, value)| {
            let (plain, vendor) = match id {
                AttributeId::Ietf(wanted) => ((number == wanted).then_some(value), None),
                AttributeId::Extended(wanted, extended_type) => {
                    let inner = value.split_first().filter(|(t, _)| **t == extended_type);
                    (inner.filter(|_| number == wanted).map(|(_, v)| v), None)
                }
                AttributeId::Vendor(vendor, wanted) => {
                    let inner = vendor_run(number, value, vendor).unwrap_or_default();
                    (
                        None,
                        Some(Iter { rest: inner }.filter(move |(t, _)| *t == wanted)),
                    )
                }
            };
            plain
                .into_iter()
                .chain(vendor.into_iter().flatten().map(|(_, v)| v))
        })
    }

    /// The first value of an attribute.
    #[must_use]
    pub fn get(&self, id: AttributeId) -> Option<&[u8]> {
        self.all(id).next()
    }

    /// The first value of an attribute, if it is UTF-8 text.
    #[must_use]
    pub fn text(&self, id: AttributeId) -> Option<&str> {
        std::str::from_utf8(self.get(id)?).ok()
    }

    /// Whether there is such an attribute.
    #[must_use]
    pub fn contains(&self, id: AttributeId) -> bool {
        self.get(id).is_some()
    }

    /// Adds an attribute behind the others.
    ///
    /// # Errors
    /// If the value is longer than 253 octets (252 for an extended, 247 for a vendor attribute) or the packet
    /// is full; nothing is added then.
    pub fn push(&mut self, id: AttributeId, value: &[u8]) -> Result<(), AttributeError> {
        match id {
            AttributeId::Ietf(number) => self.push_parts(number, &[value]),
            AttributeId::Extended(number, extended_type) => {
                if value.len() > MAX_EXTENDED_VALUE_LEN {
                    let len = value.len() + 1;
                    return Err(AttributeError::ValueTooLong { number, len });
                }
                self.push_parts(number, &[&[extended_type], value])
            }
            AttributeId::Vendor(vendor, vendor_type) => {
                let number = 26;
                let too_long = AttributeError::ValueTooLong {
                    number,
                    len: value.len() + 6,
                };
                if value.len() > MAX_VENDOR_VALUE_LEN {
                    return Err(too_long);
                }
                let length = u8::try_from(value.len() + 2).map_err(|_| too_long)?;
                self.push_parts(
                    number,
                    &[&vendor.to_be_bytes(), &[vendor_type, length], value],
                )
            }
        }
    }

    /// Adds text, cut at a character's end to what one attribute holds.
    ///
    /// # Errors
    /// If the packet is full.
    pub fn push_text(&mut self, id: AttributeId, text: &str) -> Result<(), AttributeError> {
        let most = match id {
            AttributeId::Ietf(_) => MAX_VALUE_LEN,
            AttributeId::Extended(..) => MAX_EXTENDED_VALUE_LEN,
            AttributeId::Vendor(..) => MAX_VENDOR_VALUE_LEN,
        };
        let end = text.floor_char_boundary(most.min(text.len()));
        self.push(id, text.as_bytes().get(..end).unwrap_or_default())
    }

    /// Adds a 32-bit number.
    ///
    /// # Errors
    /// If the packet is full.
    pub fn push_u32(&mut self, id: AttributeId, value: u32) -> Result<(), AttributeError> {
        self.push(id, &value.to_be_bytes())
    }

    /// Adds an IPv4 address.
    ///
    /// # Errors
    /// If the packet is full.
    pub fn push_ipv4(&mut self, id: AttributeId, value: Ipv4Addr) -> Result<(), AttributeError> {
        self.push(id, &value.octets())
    }

    /// Adds all of `others` that `keep` says yes to, by their first octet and value, unchanged and in order.
    ///
    /// # Errors
    /// If the packet is full; those that fitted stay.
    pub fn extend(
        &mut self,
        others: &Self,
        mut keep: impl FnMut(u8, &[u8]) -> bool,
    ) -> Result<(), AttributeError> {
        for (number, value) in others.iter().filter(|(number, value)| keep(*number, value)) {
            self.push_parts(number, &[value])?;
        }
        Ok(())
    }

    fn push_parts(&mut self, number: u8, parts: &[&[u8]]) -> Result<(), AttributeError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let length =
            u8::try_from(len + 2).map_err(|_| AttributeError::ValueTooLong { number, len })?;
        if self.octets.len() + usize::from(length) > MAX_ATTRIBUTES_LEN {
            return Err(AttributeError::PacketFull { number });
        }
        self.octets.extend([number, length]);
        parts
            .iter()
            .for_each(|part| self.octets.extend_from_slice(part));
        Ok(())
    }
}

/// The vendor TLVs of a Vendor-Specific value, if they are of this vendor and well formed.
fn vendor_run(number: u8, value: &[u8], vendor: u32) -> Option<&[u8]> {
    let (head, run) = value.split_first_chunk::<4>()?;
    let ours = AttributeId::Ietf(number) == AttributeId::VENDOR_SPECIFIC
        && u32::from_be_bytes(*head) == vendor;
    (ours && Attributes::decode(run).is_ok()).then_some(run)
}

/// Number and value of each attribute.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [number, length, ..] = *self.rest else {
            return None;
        };
        let (whole, rest) = self.rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some((number, whole.get(2..)?))
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = (u8, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Names, numbers and lengths only: values may be passwords.
impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.iter().map(|(number, value)| {
            (
                AttributeId::Ietf(number).name().unwrap_or("?"),
                number,
                value.len(),
            )
        });
        f.debug_list().entries(rows).finish()
    }
}
