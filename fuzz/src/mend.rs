//! Frames whose lengths and IP checksum fit, so that a fuzzer gets past them.

use nexus_testkit::packet::internet_checksum;

/// Offset of what stands behind Ethernet and all its tags.
pub(crate) fn payload(frame: &[u8]) -> usize {
    let is_tag = |at: usize| {
        matches!(
            frame.get(at..at + 2),
            Some([0x81, 0] | [0x88, 0xa8] | [0x91, 0])
        )
    };
    let tags = (12..).step_by(4).take_while(|at| is_tag(*at)).count();
    14 + 4 * tags
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(place) = frame.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Makes both lengths and the IP checksum fit a datagram that ends `behind` bytes before the frame does.
pub(crate) fn mend(frame: &mut [u8], behind: usize) {
    let ip = payload(frame);
    let Some(total) = frame
        .len()
        .checked_sub(ip + behind)
        .filter(|len| *len >= 28)
    else {
        return;
    };
    let total = u16::try_from(total).unwrap_or(u16::MAX);
    put(frame, ip + 2, total);
    put(frame, ip + 24, total - 20);
    put(frame, ip + 10, 0);
    let sum = frame
        .get(ip..ip + 20)
        .map(|header| internet_checksum(&[header]));
    put(frame, ip + 10, sum.unwrap_or_default());
}
