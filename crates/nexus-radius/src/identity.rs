//! Who a request is about: the MAC address, the VLANs of the line, and the subscriber id.

pub mod braces;
mod template;
mod vlan_pattern;

pub use template::{MissingAttribute, Template, TemplateError};
pub use vlan_pattern::{VlanOutOfRange, VlanPattern, VlanPatternError, Vlans};

/// A MAC address of a subscriber out of text as NAS vendors write it into Calling-Station-Id (RFC
/// 2865 section 5.31): `aa:bb:cc:dd:ee:ff`, `aa-bb-cc-dd-ee-ff`, `aabb.ccdd.eeff`,
/// `aabb-ccdd-eeff`, `aabbcc-ddeeff`, `aabbccddeeff`, in either case. Nothing for other text, for
/// group addresses and for zero.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = text
        .chars()
        .find(|c| [':', '-', '.'].contains(c))
        .unwrap_or(':');
    let groups: Vec<&str> = text.split(separator).collect();
    let first = groups.first()?.len();
    let even = first.is_multiple_of(2) && groups.iter().all(|group| group.len() == first);
    let digits = groups.concat();
    if !even || digits.len() != 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [_, _, mac @ ..] = u64::from_str_radix(&digits, 16).ok()?.to_be_bytes();
    let [first, ..] = mac;
    (first & 1 == 0 && mac != [0; 6]).then_some(mac)
}

/// A MAC address as this host writes it: `aa:bb:cc:dd:ee:ff`.
#[must_use]
pub fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_written_as_it_is_read() {
        let mac = [2, 0xab, 0xcd, 0x0e, 0xf0, 1];
        assert_eq!(mac_text(mac), "02:ab:cd:0e:f0:01");
        assert_eq!(parse_mac(&mac_text(mac)), Some(mac));
    }

    #[test]
    fn a_mac_is_read_in_every_usual_notation() {
        for text in [
            "02:ab:cd:0e:f0:01",
            "02-AB-CD-0E-F0-01",
            "02ab.cd0e.f001",
            "02ab-cd0e-f001",
            "02abcd-0ef001",
            "02ABCD0EF001",
        ] {
            assert_eq!(
                parse_mac(text),
                Some([2, 0xab, 0xcd, 0x0e, 0xf0, 1]),
                "{text}"
            );
        }
    }

    #[test]
    fn text_that_is_no_subscribers_mac_is_refused() {
        for text in [
            "",
            "02:ab:cd:0e:f0",
            "02:ab:cd:0e:f0:01:02",
            "2:ab:cd:e:f0:1",
            "02:ab-cd:0e:f0:01",
            "02:abcd:0ef0:01",
            "0x2abcd0ef001",
            "+2abcd0ef001",
            "02:ab:cd:0e:f0:0g",
            "02:ab:cd:0e:f0:01 ",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "äabbccddeef",
        ] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
