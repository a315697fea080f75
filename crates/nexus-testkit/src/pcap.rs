//! Reading a capture file that `tcpdump` wrote on this machine.

use std::time::Duration;

/// A frame and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Since 1970, to the nanosecond where the file has it.
    pub at: Duration,
    /// The frame, tags included.
    pub bytes: Vec<u8>,
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// All whole frames of a capture file; one that is still being written ends at the last whole frame.
/// Empty if it is not a capture file of this machine's byte order.
#[must_use]
pub fn read(file: &[u8]) -> Vec<Captured> {
    let mut frames = Vec::new();
    let Some((header, mut rest)) = file.split_at_checked(24) else {
        return frames;
    };
    let to_nanoseconds = match word(header, 0) {
        Some(MICROSECONDS) => 1000,
        Some(NANOSECONDS) => 1,
        _ => return frames,
    };
    while let Some((record, behind)) = rest.split_at_checked(16) {
        let (Some(seconds), Some(fraction), Some(length)) =
            (word(record, 0), word(record, 4), word(record, 8))
        else {
            break;
        };
        let Some((bytes, next)) = behind.split_at_checked(length as usize) else {
            break;
        };
        let at = Duration::new(u64::from(seconds), fraction.saturating_mul(to_nanoseconds));
        frames.push(Captured {
            at,
            bytes: bytes.to_vec(),
        });
        rest = next;
    }
    frames
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        for word in [MICROSECONDS, 0x0004_0002, 0, 0, 65_535, 1] {
            file.extend(word.to_ne_bytes());
        }
        for word in [100, 250, 3, 3] {
            file.extend(u32::to_ne_bytes(word));
        }
        file.extend([7, 8, 9]);
        file
    }

    #[test]
    fn a_frame_comes_with_its_time() {
        let frames = read(&file());
        assert_eq!(
            frames,
            [Captured {
                at: Duration::new(100, 250_000),
                bytes: vec![7, 8, 9]
            }]
        );
    }

    #[test]
    fn a_half_written_frame_is_left_out() {
        let mut file = file();
        file.pop();
        assert_eq!(read(&file), []);
    }
}
