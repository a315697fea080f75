//! Values of attributes that are more than a number or a text: IPv6 prefixes, tagged values, VLANs and TLVs.

use ipnet::Ipv6Net;

/// Tunnel-Type of a VLAN (RFC 3580 section 3.31).
pub const TUNNEL_TYPE_VLAN: u32 = 13;
/// Tunnel-Medium-Type of IEEE 802 (RFC 3580 section 3.31).
pub const TUNNEL_MEDIUM_802: u32 = 6;

/// TLVs of IP-Port-Range (RFC 8045 section 3.2), all of them 32-bit values.
pub mod ip_port {
    /// IP-Port-Ext-IPv4-Addr (section 3.2.3).
    pub const EXT_IPV4_ADDR: u8 = 3;
    /// IP-Port-Alloc (section 3.2.8).
    pub const ALLOC: u8 = 8;
    /// IP-Port-Range-Start (section 3.2.9).
    pub const RANGE_START: u8 = 9;
    /// IP-Port-Range-End (section 3.2.10).
    pub const RANGE_END: u8 = 10;
    /// The value of IP-Port-Alloc that gives ports.
    pub const ALLOCATION: u32 = 1;
}

/// A prefix as Framed-IPv6-Prefix and Delegated-IPv6-Prefix carry it (RFC 3162 section 2.3): reserved octet,
/// length, 16 octets.
#[must_use]
pub fn ipv6_prefix(prefix: Ipv6Net) -> [u8; 18] {
    let mut value = [0; 18];
    let (head, octets) = value.split_at_mut(2);
    head.copy_from_slice(&[0, prefix.prefix_len()]);
    octets.copy_from_slice(&prefix.network().octets());
    value
}

/// A prefix as read: with 0 to 16 octets behind its length, and no bit set beyond it.
#[must_use]
pub fn read_ipv6_prefix(value: &[u8]) -> Option<Ipv6Net> {
    let (&[_reserved, length], given) = value.split_first_chunk::<2>()?;
    let mut octets = [0; 16];
    octets.get_mut(..given.len())?.copy_from_slice(given);
    let prefix = Ipv6Net::new(octets.into(), length).ok()?;
    (prefix.addr() == prefix.network()).then_some(prefix)
}

/// A number below 2^24 behind a tag of 1 to 31 (RFC 2868 section 3.1); what is above it is cut off.
#[must_use]
pub fn tagged(tag: u8, value: u32) -> [u8; 4] {
    let [_, a, b, c] = value.to_be_bytes();
    [tag, a, b, c]
}

/// A text behind a tag of 1 to 31 (RFC 2868 section 3.6).
#[must_use]
pub fn tagged_text(tag: u8, text: &str) -> Vec<u8> {
    std::iter::once(tag).chain(text.bytes()).collect()
}

/// A VLAN that frames leave with a tag of (RFC 4675 section 2.1): 0x31, 12 bits of padding, 12 bits of VLAN id.
#[must_use]
pub fn egress_vlan(vlan: u16) -> [u8; 4] {
    let [high, low] = (vlan & 0x0fff).to_be_bytes();
    [0x31, 0, high, low]
}

/// TLVs with 32-bit values, one behind the other (RFC 6929 section 2.3).
#[must_use]
pub fn tlvs(tlvs: &[(u8, u32)]) -> Vec<u8> {
    let mut value = Vec::with_capacity(tlvs.len().saturating_mul(6));
    for (kind, number) in tlvs {
        value.extend([*kind, 6]);
        value.extend(number.to_be_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttributeError, AttributeId, Attributes};

    #[test]
    fn a_prefix_is_read_as_it_was_written_and_with_fewer_octets() {
        let prefix: Ipv6Net = "2001:db8:1:2300::/56".parse().unwrap();
        let value = ipv6_prefix(prefix);
        assert_eq!(hex::encode(value), "003820010db8000123000000000000000000");
        assert_eq!(read_ipv6_prefix(&value), Some(prefix));
        assert_eq!(read_ipv6_prefix(&value[..9]), Some(prefix));
        // Bits beyond the length, a length beyond an address, too many octets, no length.
        for wrong in [
            "003020010db80001230000",
            "008100",
            "003820010db800012300000000000000000000",
            "00",
        ] {
            assert_eq!(read_ipv6_prefix(&hex::decode(wrong).unwrap()), None);
        }
    }

    #[test]
    fn tags_and_vlans_stand_where_the_rfcs_say() {
        assert_eq!(tagged(1, TUNNEL_TYPE_VLAN), [1, 0, 0, 13]);
        assert_eq!(tagged_text(1, "100"), b"\x01100");
        assert_eq!(egress_vlan(0xabc), [0x31, 0, 0x0a, 0xbc]);
    }

    #[test]
    fn an_extended_attribute_carries_its_type_and_tlvs_and_is_found_by_both_numbers() {
        let value = tlvs(&[
            (ip_port::ALLOC, ip_port::ALLOCATION),
            (ip_port::RANGE_START, 1024),
        ]);
        let mut attributes = Attributes::new();
        attributes
            .push(AttributeId::Extended(241, 5), b"other")
            .unwrap();
        attributes.push(AttributeId::IP_PORT_RANGE, &value).unwrap();
        let octets = hex::encode(attributes.as_octets());
        assert_eq!(octets, "f108056f74686572f10f06080600000001090600000400");
        assert_eq!(attributes.get(AttributeId::IP_PORT_RANGE), Some(&value[..]));
        assert_eq!(attributes.get(AttributeId::Extended(242, 6)), None);
        let long = [0; 253];
        assert_eq!(
            attributes.push(AttributeId::IP_PORT_RANGE, &long),
            Err(AttributeError::ValueTooLong {
                number: 241,
                len: 254
            })
        );
        attributes
            .push(AttributeId::IP_PORT_RANGE, &long[..252])
            .unwrap();
    }
}
