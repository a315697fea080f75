//! The RADIUS packet parser, against a plain reading of RFC 2865 3 and 5, and what reads its attributes.

use nexus_radius::authenticator::check_message_authenticator;
use nexus_radius::password::Credentials;
use nexus_radius::{Packet, Secret};

/// The input is a datagram.
pub(crate) fn run(data: &[u8]) {
    let decoded = Packet::decode(data);
    let Some(expected) = plain(data) else {
        assert!(decoded.is_err(), "what breaks RFC 2865 was taken");
        return;
    };
    let Ok(packet) = decoded else {
        assert!(
            decoded.is_ok(),
            "what obeys RFC 2865 was refused: {decoded:?}"
        );
        return;
    };
    let found: Vec<(u8, &[u8])> = packet.attributes.iter().collect();
    assert_eq!(found, expected);
    let encoded = packet.encode();
    assert_eq!(data.get(..encoded.len()), Some(&encoded[..]));
    assert_eq!(Packet::decode(&encoded), Ok(packet.clone()));
    if let Ok(secret) = Secret::new(*b"secret") {
        let _ = check_message_authenticator(&packet, &packet.authenticator, &secret);
        if let Ok(credentials) = Credentials::read(&packet, &secret) {
            let _ = credentials.prove(b"password");
        }
    }
}

/// Type and value of every attribute.
fn plain(data: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let len = usize::from(u16::from_be_bytes([*data.get(2)?, *data.get(3)?]));
    if !(20..=4096).contains(&len) {
        return None;
    }
    let mut rest = data.get(20..len)?;
    let mut all = Vec::new();
    while let Some((number, behind)) = rest.split_first() {
        let len = usize::from(*behind.first()?);
        all.push((*number, rest.get(2..len)?));
        rest = rest.get(len..)?;
    }
    Some(all)
}
