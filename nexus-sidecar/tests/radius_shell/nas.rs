//! RADIUS towards the NAS: a users file, real sockets, and `radclient`.

use crate::support::{ADDRESS, Radius, SECRET, access_request, assert_silence, receive};
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::resource::{Resource, ResourceType};
use nexus_radius::authenticator::{
    MessageAuthenticator, check_message_authenticator, check_response_authenticator, sign_request,
};
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};
use nexus_sidecar::edge_handle::{Delivered, EdgeError};

const USERS: &str = "users:\n- {username: alice, password: wonderland}\n\
    - {username: bob, password: builder, subscriber_id: sub-12345, pool: business-ipv4}\n";

fn start(more: &str) -> Radius {
    start_for("127.0.0.0/8", more)
}

fn start_for(clients: &str, more: &str) -> Radius {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), USERS).unwrap();
    let path = file.path().display();
    Radius::start(&format!(
        "clients: [{{address: {clients}, secret: {SECRET}}}]\nusers_file: {path}\n{more}"
    ))
}

fn pap(user: &str, password: &str) -> String {
    format!(
        "User-Name = \"{user}\"\nUser-Password = \"{password}\"\n\
         Calling-Station-Id = \"02-00-00-00-00-01\"\nNAS-Port-Id = \"pon-1:100.200\"\n\
         Message-Authenticator = 0x00\n"
    )
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn pap_is_accepted_with_the_address_of_the_edge() {
    let radius = start("");
    let lines = pap("alice", "wonderland") + "Proxy-State = 0x6131\nProxy-State = 0x6232\n";
    let output = radius.radclient(SECRET, "5", &lines);
    assert!(output.contains("Received Access-Accept"), "{output}");
    assert!(
        output.contains(&format!("Framed-IP-Address = {ADDRESS}")),
        "{output}"
    );
    assert!(
        output.contains("Framed-IP-Netmask = 255.192.0.0"),
        "{output}"
    );
    let (_, reply) = output.split_once("Received").unwrap();
    let echoed = reply.find("Proxy-State = 0x6131").unwrap();
    assert!(
        reply.find("Proxy-State = 0x6232").unwrap() > echoed,
        "{output}"
    );
    assert!(!output.contains("Session-Timeout"), "{output}");

    let asked = radius.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].subscriber, SubscriberId::new("alice").unwrap());
    assert_eq!(
        (asked[0].mac, asked[0].vlans),
        ([2, 0, 0, 0, 0, 1], Some((100, 200)))
    );
    assert_eq!(asked[0].pool, None);
    assert_eq!(radius.counters()["accept"], 1);
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn chap_is_accepted_and_the_users_file_names_id_and_pool() {
    let radius = start("default_pool: residential-ipv4");
    let chap = pap("bob", "builder").replace("User-Password", "CHAP-Password");
    let output = radius.radclient(SECRET, "5", &chap);
    assert!(output.contains("Received Access-Accept"), "{output}");
    let with_challenge = chap.clone() + "CHAP-Challenge = 0x0102030405060708090a0b0c0d0e0f10\n";
    let output = radius.radclient(SECRET, "5", &with_challenge);
    assert!(output.contains("Received Access-Accept"), "{output}");
    let asked = radius.asked();
    assert_eq!(asked[0].subscriber, SubscriberId::new("sub-12345").unwrap());
    assert_eq!(asked[1].pool, Some(PoolId::new("business-ipv4").unwrap()));
    let output = radius.radclient(SECRET, "5", &chap.replace("builder", "burglar"));
    assert!(output.contains("Received Access-Reject"), "{output}");
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn a_wrong_password_and_an_unknown_user_are_rejected_alike() {
    let radius = start("");
    for lines in [pap("alice", "looking-glass"), pap("mallory", "wonderland")] {
        let output = radius.radclient(SECRET, "5", &lines);
        assert!(output.contains("Received Access-Reject"), "{output}");
        assert!(!output.contains("Reply-Message"), "{output}");
    }
    assert!(radius.asked().is_empty());
    assert_eq!(radius.counters()["reject"], 2);
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn a_wrong_secret_gets_no_answer_and_a_counter() {
    let radius = start("");
    let output = radius.radclient("another secret", "0.5", &pap("alice", "wonderland"));
    assert!(output.contains("No reply from server"), "{output}");
    radius.wait_for("bad-message-authenticator", 1);
    assert!(radius.asked().is_empty());
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn a_request_without_message_authenticator_gets_no_answer_unless_the_client_is_let_off() {
    let radius = start("");
    let unsigned = pap("alice", "wonderland").replace("Message-Authenticator = 0x00\n", "");
    let output = radius.radclient(SECRET, "0.5", &unsigned);
    assert!(output.contains("No reply from server"), "{output}");
    radius.wait_for("missing-message-authenticator", 1);
    assert!(radius.asked().is_empty());

    let lax = start_for("127.0.0.1, require_message_authenticator: false", "");
    let output = lax.radclient(SECRET, "5", &unsigned);
    assert!(output.contains("Received Access-Accept"), "{output}");
    let proxied = unsigned + "Proxy-State = 0x61\n";
    let output = lax.radclient(SECRET, "0.5", &proxied);
    assert!(output.contains("No reply from server"), "{output}");
    lax.wait_for("unprotected-proxy-state", 1);
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn an_unknown_client_gets_no_answer_and_a_counter() {
    let radius = start_for("192.0.2.0/24", "");
    let output = radius.radclient(SECRET, "0.5", &pap("alice", "wonderland"));
    assert!(output.contains("No reply from server"), "{output}");
    radius.wait_for("unknown-client", 1);
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn status_server_is_answered() {
    let radius = start("");
    let mut radclient = std::process::Command::new("radclient");
    let address = radius.address.to_string();
    radclient.args(["-x", "-r", "1", "-t", "5", &address, "status", SECRET]);
    let lines = "Message-Authenticator = 0x00\n";
    let done =
        nexus_testkit::command::run_with_input(&mut radclient, lines, crate::support::PATIENCE);
    let output = done.unwrap().stdout;
    assert!(output.contains("Received Access-Accept"), "{output}");
    assert_eq!(radius.counters()["status"], 1);
}

#[test]
fn a_reply_is_signed_with_message_authenticator_first() {
    let radius = start("");
    let nas = radius.nas();
    nas.send(&access_request(7)).unwrap();
    let reply = receive(&nas);
    assert_eq!((reply.code, reply.identifier), (Code::ACCESS_ACCEPT, 7));
    assert_eq!(
        reply.attributes.iter().next().map(|(number, _)| number),
        Some(80)
    );
    let secret = Secret::new(SECRET).unwrap();
    assert!(check_response_authenticator(&reply, &[7; 16], &secret));
    let check = check_message_authenticator(&reply, &[7; 16], &secret);
    assert_eq!(check, MessageAuthenticator::Valid);
    let address = reply.attributes.get(AttributeId::FRAMED_IP_ADDRESS);
    assert_eq!(address, Some(&ADDRESS.octets()[..]));
}

#[test]
fn session_timeout_is_sent_only_if_the_binding_ends() {
    let radius = start("");
    let nas = radius.nas();
    let session_timeout = |identifier| {
        nas.send(&access_request(identifier)).unwrap();
        let reply = receive(&nas);
        reply
            .attributes
            .get(AttributeId::SESSION_TIMEOUT)
            .map(<[u8]>::to_vec)
    };
    assert_eq!(session_timeout(1), None);
    radius.end_bindings_in(600);
    assert_eq!(session_timeout(2), Some(600u32.to_be_bytes().to_vec()));
}

#[test]
fn malformed_datagrams_of_every_length_are_counted_and_change_nothing() {
    let radius = start("");
    let nas = radius.nas();
    let whole = access_request(1);
    let mut malformed = 0;
    for len in 0..whole.len() {
        nas.send(&whole[..len]).unwrap();
        malformed += 1;
    }
    for len in (1..=5000).step_by(357) {
        nas.send(&vec![0xff; len]).unwrap();
        malformed += 1;
    }
    radius.wait_for("malformed", malformed);
    // Padding behind the packet is no malformation.
    nas.send(&[&whole[..], &[0; 40]].concat()).unwrap();
    assert_eq!(receive(&nas).code, Code::ACCESS_ACCEPT);
    assert_eq!(radius.asked().len(), 1);
}

#[test]
fn every_changed_octet_is_noticed() {
    let radius = start("");
    let nas = radius.nas();
    let whole = access_request(1);
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        nas.send(&changed).unwrap();
    }
    assert_silence(&nas);
    assert!(radius.asked().is_empty());
    let dropped: u64 = radius
        .counters()
        .iter()
        .filter(|(o, _)| *o != "status")
        .map(|(_, n)| n)
        .sum();
    assert_eq!(dropped, whole.len() as u64, "{:?}", radius.counters());
}

#[test]
fn a_repetition_in_work_never_authorizes_twice_and_gets_the_same_answer_afterwards() {
    let radius = start("");
    radius.hold();
    let nas = radius.nas();
    for _ in 0..5 {
        nas.send(&access_request(1)).unwrap();
    }
    radius.wait_for("duplicate", 4);
    assert_silence(&nas);
    radius.release();
    let first = receive(&nas);
    assert_eq!(first.code, Code::ACCESS_ACCEPT);
    nas.send(&access_request(1)).unwrap();
    assert_eq!(receive(&nas), first);
    assert_eq!(radius.asked().len(), 1);
    assert_eq!(
        (radius.counters()["accept"], radius.counters()["repeated"]),
        (1, 1)
    );
}

#[test]
fn requests_are_worked_on_side_by_side_up_to_the_bound() {
    let radius = start("max_in_flight: 3");
    radius.hold();
    let nas = radius.nas();
    for identifier in 0..5 {
        nas.send(&access_request(identifier)).unwrap();
    }
    radius.wait_for("overloaded", 2);
    radius.release();
    let mut answered: Vec<u8> = (0..3).map(|_| receive(&nas).identifier).collect();
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2]);
    nas.send(&access_request(4)).unwrap();
    assert_eq!(receive(&nas).identifier, 4);
}

#[test]
fn what_the_edge_refuses_for_good_is_rejected_with_the_reason() {
    let pool = || PoolId::new("residential-ipv4").unwrap();
    for (error, label) in [
        (EdgeError::NoPool, "no-pool"),
        (EdgeError::Exhausted(pool()), "exhausted"),
        (EdgeError::LeaseEnded, "lease-ended"),
        (EdgeError::UnknownPool(pool()), "unknown-pool"),
    ] {
        let radius = start("");
        radius.refuse(error.clone());
        let nas = radius.nas();
        nas.send(&access_request(1)).unwrap();
        let reply = receive(&nas);
        assert_eq!(reply.code, Code::ACCESS_REJECT);
        let message = reply.attributes.text(AttributeId::REPLY_MESSAGE).unwrap();
        assert_eq!(message, error.to_string());
        assert_eq!(radius.counters()[label], 1);
    }
}

#[test]
fn what_the_edge_cannot_do_just_now_is_not_answered_and_may_be_asked_again() {
    let radius = start("");
    radius.refuse(EdgeError::NotReady("no configuration".to_owned()));
    let nas = radius.nas();
    nas.send(&access_request(1)).unwrap();
    radius.wait_for("not-ready", 1);
    assert_silence(&nas);
    nas.send(&access_request(1)).unwrap();
    radius.wait_for("not-ready", 2);
    assert_eq!(radius.asked().len(), 2);
}

/// A signed Access-Request of alice's, with some attributes left out and others added.
fn altered(leave_out: &[u8], add: &[(AttributeId, &[u8])]) -> Vec<u8> {
    let whole = Packet::decode(&access_request(1)).unwrap();
    let mut attributes = Attributes::new();
    attributes
        .extend(&whole.attributes, |number, _| !leave_out.contains(&number))
        .unwrap();
    add.iter()
        .for_each(|(id, value)| attributes.push(*id, value).unwrap());
    let secret = Secret::new(SECRET).unwrap();
    sign_request(
        Code::ACCESS_REQUEST,
        1,
        whole.authenticator,
        &attributes,
        &secret,
    )
    .unwrap()
}

#[test]
fn a_request_that_cannot_be_used_is_rejected_with_the_reason() {
    let (password, station) = (2, 31);
    for (request, outcome, reason) in [
        (
            altered(&[station], &[]),
            "bad-identity",
            "Calling-Station-Id",
        ),
        (
            altered(&[87], &[(AttributeId::NAS_PORT_ID, b"pon-1:9999")]),
            "bad-identity",
            "VLAN id 9999",
        ),
        (
            altered(
                &[password],
                &[(AttributeId::EAP_MESSAGE, b"\x02\x00\x00\x05\x01")],
            ),
            "no-credentials",
            "PAP or CHAP",
        ),
        (
            altered(&[], &[(AttributeId::CHAP_PASSWORD, &[0; 17])]),
            "bad-credentials",
            "CHAP-Password",
        ),
        (
            altered(&[password], &[(AttributeId::USER_PASSWORD, &[0; 15])]),
            "bad-credentials",
            "multiple of 16",
        ),
    ] {
        let radius = start("");
        let nas = radius.nas();
        nas.send(&request).unwrap();
        let reply = receive(&nas);
        assert_eq!(reply.code, Code::ACCESS_REJECT);
        let message = reply.attributes.text(AttributeId::REPLY_MESSAGE).unwrap();
        assert!(message.contains(reason), "{message}");
        assert_eq!(radius.counters()[outcome], 1);
        assert!(radius.asked().is_empty());
    }
}

#[test]
fn requests_in_work_are_answered_before_the_end() {
    let mut radius = start("");
    radius.hold();
    let nas = radius.nas();
    nas.send(&access_request(1)).unwrap();
    nas.send(&access_request(1)).unwrap();
    radius.wait_for("duplicate", 1);
    radius.release();
    radius.stop();
    assert_eq!(receive(&nas).code, Code::ACCESS_ACCEPT);
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn the_accept_tells_of_everything_that_the_subscriber_has() {
    let radius = start("");
    let one = |kind, text| Delivered {
        pool: PoolId::new("p").unwrap(),
        resource: Resource::parse(kind, text).unwrap(),
        framed: false,
    };
    radius.deliver(vec![
        one(ResourceType::Ipv6, "2001:db8:a::5/128"),
        one(ResourceType::Ipv6, "2001:db8:b:7::/64"),
        one(ResourceType::Ipv6, "2001:db8:c:1200::/56"),
        one(ResourceType::Vlan, "100"),
        one(ResourceType::Svlan, "200"),
        one(ResourceType::Port, "203.0.113.7:1024-1535"),
    ]);
    let output = radius.radclient(SECRET, "5", &pap("alice", "wonderland"));
    let (_, reply) = output.split_once("Received Access-Accept").unwrap();
    // As the dictionaries of FreeRADIUS read them.
    for expected in [
        "Framed-IPv6-Address = 2001:db8:a::5",
        "Framed-IPv6-Prefix = 2001:db8:b:7::/64",
        "Delegated-IPv6-Prefix = 2001:db8:c:1200::/56",
        "Tunnel-Type:1 = VLAN",
        "Tunnel-Medium-Type:1 = IEEE-802",
        "Tunnel-Private-Group-Id:1 = \"100\"",
        "Egress-VLANID = 822083784",
        "IP-Port-Range-Alloc = Allocation",
        "IP-Port-Range-Ext-IPv4-Addr = 203.0.113.7",
        "IP-Port-Range-Range-Start = 1024",
        "IP-Port-Range-Range-End = 1535",
    ] {
        assert!(reply.contains(expected), "{expected} in {output}");
    }
}
