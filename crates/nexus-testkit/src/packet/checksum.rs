//! The internet checksum (RFC 1071).

/// Folds a sum of 16-bit words into one, adding the carries back in.
#[must_use]
pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The checksum over `parts` as if they stood one behind the other; each but the last has an even
/// length.
#[must_use]
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let word = match *pair {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            sum = u32::from(fold(sum)) + u32::from(word);
        }
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3_holds() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&[&example]), !0xddf2);
    }

    #[test]
    fn parts_sum_like_the_whole() {
        let whole = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(
            internet_checksum(&[&[1, 2], &[3, 4, 5, 6], &[7]]),
            internet_checksum(&[&whole])
        );
    }
}
