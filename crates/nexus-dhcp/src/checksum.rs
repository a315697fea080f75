//! The Internet checksum (RFC 1071), in memory order: sums of words as they stand in memory.

/// Folds a sum of 16- or 32-bit words to 16 bits with end-around carry.
#[inline(always)]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) as u16
}

/// What one byte at `offset` of the summed range adds to the sum.
#[inline(always)]
pub fn byte(offset: usize, value: u8) -> u64 {
    if cfg!(target_endian = "little") == (offset & 1 == 0) {
        value as u64
    } else {
        (value as u64) << 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 section 3.
    #[test]
    fn the_example_of_rfc_1071_sums_to_its_result() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7u8];
        let by_byte: u64 = data.iter().enumerate().map(|(at, b)| byte(at, *b)).sum();
        assert_eq!(fold(by_byte).to_ne_bytes(), [0xdd, 0xf2]);
        let by_word: u64 = data
            .chunks_exact(4)
            .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
            .sum();
        assert_eq!(fold(by_word), fold(by_byte));
    }
}
