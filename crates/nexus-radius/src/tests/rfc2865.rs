//! The packets of RFC 2865 section 7: shared secret `xyzzy5461`, octets from the RFC.

use super::secret;
use crate::authenticator::check_response_authenticator;
use crate::password::{Credentials, hide};
use crate::{AttributeId, Code, Packet, Secret};

const TELNET_REQUEST: &str = "010000380f403f9473978057bd83d5cb98f4227a01066e656d6f\
    02120dbe708d93d413ce3196e43f782a0aee0406c0a80110050600000003";
const TELNET_ACCEPT: &str = "0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f0600000000\
    0e06c0a80103";
const CHAP_REQUEST: &str = "010100472aee86f08d0d55969ca5978e0d3367a20108666c6f707379\
    031316e97557\
    c316185895f293ff6344077275 0406c0a80110 050600000014 060600000002 070600000001";
const CHAP_ACCEPT: &str = "0201003815efbc7dab26cfa3dc34d9c03c8601a4060600000002070600000001\
    0806fffffffe0a06000000020d06000000010c06000005dc";
const MOPSY_REQUEST: &str = "01020039f3a47a1f6a6d76710b947ab93041a03901076d6f707379\
    021233657573778289b570885e15084825c50406c0a80110050600000007";
const MOPSY_CHALLENGE: &str = "0b02004e36f3c8764ae8c71157403c0c71ff9c451230\
    4368616c6c656e67652033323736393433302e2020456e74657220726573706f6e73652061742070726f6d70742e\
    180a3332373639343330";
/// As printed, the length octet of State is 16 where 10 would be right.
const MOPSY_ANSWER: &str = "01030043b12255 6d428a13d0d6253807c457ecf001076d6f707379\
    0212692c1f205fc081b919b95195f561a5810406c0a8011005060000000718103332373639343330";
const MOPSY_REJECT: &str = "03030014a42f4fca45916c4e09c8340f9e746aa0";

fn octets(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

fn packet(hex: &str) -> Packet {
    Packet::decode(&octets(hex)).unwrap()
}

fn xyzzy() -> Secret {
    secret("xyzzy5461")
}

#[test]
fn section_7_1_telnet_with_pap() {
    let request = packet(TELNET_REQUEST);
    assert_eq!(
        (request.code, request.identifier),
        (Code::ACCESS_REQUEST, 0)
    );
    assert_eq!(
        request.attributes.text(AttributeId::USER_NAME),
        Some("nemo")
    );
    assert_eq!(
        request.attributes.get(AttributeId::NAS_IP_ADDRESS),
        Some(&[192, 168, 1, 16][..])
    );
    let credentials = Credentials::read(&request, &xyzzy()).unwrap();
    assert_eq!(credentials, Credentials::Pap(b"arctangent".to_vec()));
    assert!(credentials.prove(b"arctangent"));
    assert!(!credentials.prove(b"arctangents") && !credentials.prove(b"arctangen"));
    let hidden = hide(b"arctangent", &request.authenticator, &xyzzy()).unwrap();
    assert_eq!(
        request.attributes.get(AttributeId::USER_PASSWORD),
        Some(&hidden[..])
    );

    let accept = packet(TELNET_ACCEPT);
    assert!(check_response_authenticator(
        &accept,
        &request.authenticator,
        &xyzzy()
    ));
    assert!(!check_response_authenticator(
        &accept,
        &request.authenticator,
        &secret("xyzzy5462")
    ));
    assert!(!check_response_authenticator(&accept, &[0; 16], &xyzzy()));
}

#[test]
fn section_7_2_framed_with_chap() {
    let request = packet(CHAP_REQUEST);
    let credentials = Credentials::read(&request, &xyzzy()).unwrap();
    assert!(matches!(
        credentials,
        Credentials::Chap {
            identifier: 0x16,
            ..
        }
    ));
    assert!(credentials.prove(b"arctangent"));
    assert!(!credentials.prove(b"arctangenT"));
    let accept = packet(CHAP_ACCEPT);
    assert!(check_response_authenticator(
        &accept,
        &request.authenticator,
        &xyzzy()
    ));
}

#[test]
fn section_7_3_challenge_and_response() {
    let request = packet(MOPSY_REQUEST);
    let pap = Credentials::read(&request, &xyzzy()).unwrap();
    assert_eq!(pap, Credentials::Pap(b"challenge".to_vec()));
    let challenge = packet(MOPSY_CHALLENGE);
    assert_eq!(challenge.code, Code::ACCESS_CHALLENGE);
    assert_eq!(
        challenge.attributes.get(AttributeId::STATE),
        Some(&b"32769430"[..])
    );
    assert!(check_response_authenticator(
        &challenge,
        &request.authenticator,
        &xyzzy()
    ));

    let as_printed = octets(MOPSY_ANSWER);
    Packet::decode(&as_printed).unwrap_err();
    let mut repaired = as_printed;
    let at = repaired.len() - 9;
    assert_eq!(repaired[at], 16);
    repaired[at] = 10;
    let answer = Packet::decode(&repaired).unwrap();
    let pap = Credentials::read(&answer, &xyzzy()).unwrap();
    assert_eq!(pap, Credentials::Pap(b"99101462".to_vec()));
    let reject = packet(MOPSY_REJECT);
    assert!(check_response_authenticator(
        &reject,
        &answer.authenticator,
        &xyzzy()
    ));
}

#[test]
fn every_packet_is_encoded_back_to_its_octets() {
    for hex in [
        TELNET_REQUEST,
        TELNET_ACCEPT,
        CHAP_REQUEST,
        CHAP_ACCEPT,
        MOPSY_CHALLENGE,
    ] {
        assert_eq!(packet(hex).encode(), octets(hex));
    }
}
