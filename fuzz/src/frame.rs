//! Link layer, IP, UDP and BOOTP: any frame is read alike whatever stands behind its datagram.

use nexus_dhcp::exchange::read;
use nexus_dhcp::{Bytes, Outcome, parse_link};

use crate::mend::{mend, payload};

/// The first byte: whether lengths and checksum are mended, and how many bytes stand behind the datagram.
pub(crate) fn run(data: &[u8]) {
    let [flags, frame @ ..] = data else {
        return;
    };
    let mut frame = frame.to_vec();
    if flags & 1 != 0 {
        mend(&mut frame, usize::from(flags >> 1));
    }
    match parse_link(&Bytes(&frame)) {
        Err(outcome) => {
            assert_eq!(outcome, Outcome::NotDhcp);
            assert!(frame.len() < 22, "a whole link layer was not read");
        }
        Ok(link) => {
            assert!([14, 18, 22].contains(&link.payload));
            assert!(link.payload <= payload(&frame));
            assert!(link.outer_vid() < 4096 && link.inner_vid() < 4096);
            assert!(link.payload == 22 || link.inner_vid() == 0);
            assert!(link.payload > 14 || link.outer_vid() == 0);
        }
    }
    let Ok(request) = read(&frame) else {
        return;
    };
    let ip = request.link.payload;
    assert_eq!(ip, payload(&frame));
    let total = frame.get(ip + 2..ip + 4);
    let total = total.map_or(0, |bytes| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    });
    assert!((268..=1500).contains(&total) && ip + total <= frame.len());
    assert_eq!(
        frame.get(ip + 28 + 28..ip + 28 + 34),
        Some(&request.mac()[..])
    );
    // A byte less is no message any more, and what stands behind does not count.
    frame.truncate(ip + total);
    let again = read(&frame).map(|again| again.options);
    assert_eq!(again, Ok(request.options));
    frame.resize(ip + total + 40, 0x5a);
    assert_eq!(read(&frame).map(|again| again.options), Ok(request.options));
    frame.truncate(ip + total - 1);
    assert_eq!(read(&frame).err(), Some(Outcome::Malformed));
}
