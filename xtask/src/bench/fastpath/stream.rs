//! One frame made into a stream of many clients: where in it the client's MAC and IP address stand.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::packet::Mac;

/// Bytes that the kernel's side has for a frame.
const FRAME_BYTES: usize = 1024;
/// Places at which a MAC or an IP address can stand.
const PLACES: usize = 4;
const IPV4_LEN: usize = 20;

/// Last four bytes of the MAC address of client 0, as a number.
pub const FIRST_MAC: u32 = 0x4000_0000;
/// MAC address of client 0. Nothing else in a frame looks like it.
pub const MAC: Mac = [0x02, 0x5a, 0x40, 0, 0, 0];
/// Address of client 0. Nothing else in a frame looks like it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 0);

/// The frames of one case.
pub struct Stream {
    /// The frame of client 0, without a UDP checksum: it would be another one for each client.
    pub frame: Vec<u8>,
    /// Whether it carries two VLAN tags.
    pub tagged: bool,
    /// Number of the first client that sends; client 0 is the first that is bound.
    pub first_client: u32,
}

impl Stream {
    /// The value of the map `STREAM` (crates/nexus-testkit/traffic/src/main.rs): `clients` of them
    /// send into the interface `target`.
    pub fn encode(&self, clients: u32, target: u32) -> Result<Vec<u8>> {
        let frame = &self.frame;
        let len = u32::try_from(frame.len()).context("a frame of more than 4 GB")?;
        if frame.is_empty() || frame.len() > FRAME_BYTES {
            bail!("a frame of {len} bytes: 1 to {FRAME_BYTES} are possible");
        }
        let macs = places(frame, &MAC)?;
        let addresses = places(frame, &ADDRESS.octets())?;
        let (checksum, sum) = self.checksum(&addresses)?;

        let mut value = frame.clone();
        value.resize(FRAME_BYTES, 0);
        let mut put = |number: u32| value.extend(number.to_ne_bytes());
        [len, target, clients].into_iter().for_each(&mut put);
        macs.into_iter().for_each(&mut put);
        put(FIRST_MAC.wrapping_add(self.first_client));
        addresses.into_iter().for_each(&mut put);
        put(u32::from(ADDRESS));
        put(checksum);
        put(sum);
        put(u32::from(self.tagged));
        Ok(value)
    }

    /// Offset of the IP header's checksum and the sum of its other words but the address, if that
    /// stands in the header; else zeros: the checksum is right for all clients.
    fn checksum(&self, addresses: &[u32]) -> Result<(u32, u32)> {
        let start: usize = if self.tagged { 22 } else { 14 };
        let header = start..start + IPV4_LEN;
        let inside = |place: &u32| header.contains(&(*place as usize));
        let Some(place) = addresses.iter().copied().find(inside) else {
            return Ok((0, 0));
        };
        let checksum = start + 10;
        let words = self
            .frame
            .get(header.clone())
            .context("no room for an IP header")?
            .chunks_exact(2)
            .map(|pair| {
                pair.iter()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte))
            });
        let sum = (start..)
            .step_by(2)
            .zip(words)
            .filter(|(at, _)| *at != checksum && !(place as usize..place as usize + 4).contains(at))
            .map(|(_, word)| word)
            .sum();
        Ok((u32::try_from(checksum)?, sum))
    }
}

/// Where `pattern` stands in `frame`; zeros behind.
fn places(frame: &[u8], pattern: &[u8]) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for (at, window) in (0_u32..).zip(frame.windows(pattern.len())) {
        found.extend((window == pattern).then_some(at));
    }
    if found.len() > PLACES {
        bail!(
            "the client stands in {} places: {PLACES} are possible",
            found.len()
        );
    }
    found.resize(PLACES, 0);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_testkit::packet::{Bootp, Frame};

    fn number(value: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(value[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_client_is_found_wherever_it_stands_in_the_frame() {
        let renew = Bootp::renew(MAC, 1, ADDRESS).option(61, &[&[1], &MAC[..]].concat());
        let stream = Stream {
            frame: Frame::from_client(&renew).build(),
            tagged: false,
            first_client: 5,
        };
        let value = stream.encode(7, 3).unwrap();
        assert_eq!(value.len(), 1024 + 16 * 4);
        assert_eq!(number(&value, 1024), stream.frame.len() as u32);
        assert_eq!([number(&value, 1028), number(&value, 1032)], [3, 7]);
        let macs: Vec<u32> = (0..4).map(|at| number(&value, 1036 + 4 * at)).collect();
        // Ethernet source, chaddr, option 61.
        assert_eq!(macs[..2], [6, 14 + 28 + 28]);
        assert!(macs[2] > 282 && macs[3] == 0, "{macs:?}");
        assert_eq!(number(&value, 1052), FIRST_MAC + 5);
        // IP source, ciaddr.
        assert_eq!(
            [number(&value, 1056), number(&value, 1060)],
            [26, 14 + 28 + 12]
        );
        let [checksum, sum] = [number(&value, 1076), number(&value, 1080)];
        assert_eq!(checksum, 24);
        let sum = sum + (u32::from(ADDRESS) >> 16) + (u32::from(ADDRESS) & 0xffff);
        let sum = (sum & 0xffff) + (sum >> 16);
        let right = u32::from(stream.frame[24]) << 8 | u32::from(stream.frame[25]);
        assert_eq!(!sum & 0xffff, right);
    }

    #[test]
    fn a_frame_that_does_not_fit_is_refused() {
        let stream = Stream {
            frame: vec![0; 1025],
            tagged: false,
            first_client: 0,
        };
        assert!(stream.encode(1, 1).is_err());
    }
}
