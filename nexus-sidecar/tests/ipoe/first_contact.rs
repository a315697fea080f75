//! What is asked, how often, and what happens when the answer is no, or none, or comes too late.

use std::net::Ipv4Addr;

use nexus_radius::AttributeId;
use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::Bootp;

use crate::aaa::{PORT, Played, Says, text};
use crate::bench::{Bench, LIMIT, POOL};
use crate::subscriber::Subscriber;
use crate::support::{OFFER, asking, by_mac, held, replies_to, results, upstream, wait_for};

const LINE: Line = Line::QinQ {
    s_vlan: 100,
    c_vlan: 7,
};

/// A host with a played AAA server, whose answers are waited for so long.
fn start(name: &str, username: &str, says: Says, timeout: &str) -> (Bench, Played) {
    let mut aaa = None;
    let bench = Bench::start_with(name, &[LINE], &[], |text, host| {
        aaa = Some(Played::start(&host.network.olt, says));
        upstream(&asking(&text, username), PORT, timeout)
    });
    (bench, aaa.unwrap())
}

fn client(number: u16) -> Subscriber {
    Subscriber::new(number, LINE, POOL)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_rejected_client_stays_unanswered_and_is_asked_about_once() {
    let (bench, aaa) = start("ipoerj", "{mac}", Says::Accept, "30s");
    let known = by_mac(1, LINE);
    let offer = bench.ask_and_read(&known.discover(1));
    assert_eq!(offer.message.message_type(), Some(OFFER));
    aaa.says(Says::Reject);
    let stranger = client(2);
    bench.uplink.send(&stranger.discover(2).build()).unwrap();
    wait_for(&bench, "reject", 1);
    for xid in 3..8 {
        bench.uplink.send(&stranger.discover(xid).build()).unwrap();
    }
    bench.fence(&known);
    assert_eq!(results(&bench, "rejected-before"), 5);
    assert_eq!(aaa.asked().len(), 2, "one for each client");
    assert!(replies_to(&bench, stranger.mac).is_empty());
    assert_eq!(bench.host.bindings().unwrap().len(), 1);

    // The same MAC on another line is another client.
    let moved = Subscriber::new(2, Line::Vlan(9), POOL);
    bench.uplink.send(&moved.discover(9).build()).unwrap();
    wait_for(&bench, "reject", 2);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_request_says_what_the_packet_says() {
    let (bench, aaa) = start("ipoerq", "{circuit-id}", Says::Accept, "30s");
    let (circuit, remote) = (b"olt-1 pon 0/3:17", [0, 1, 0xfe]);
    let mut agent = vec![2, 3];
    agent.extend(remote);
    agent.extend([1, u8::try_from(circuit.len()).unwrap()]);
    agent.extend(circuit);
    let subscriber = client(1);
    let message = Bootp::discover(subscriber.mac, 1)
        .option(60, b"acme-cpe")
        .option(82, &agent);
    let offer = bench.ask_and_read(&subscriber.frame(&message));
    assert_eq!(offer.message.message_type(), Some(OFFER));
    assert_eq!(offer.message.get(82), Some(agent.as_slice()));
    let asked = aaa.asked();
    let [asked] = asked.as_slice() else {
        panic!("{} requests", asked.len())
    };
    for (id, expected) in [
        (AttributeId::USER_NAME, "olt-1 pon 0/3:17"),
        (AttributeId::AGENT_CIRCUIT_ID, "olt-1 pon 0/3:17"),
        (AttributeId::NAS_PORT_ID, &format!("{OLT_INTERFACE}:100.7")),
        (AttributeId::CALLING_STATION_ID, "02:00:00:00:00:01"),
        (AttributeId::ALC_DHCP_VENDOR_CLASS_ID, "acme-cpe"),
    ] {
        assert_eq!(text(asked, id), expected);
    }
    assert_eq!(asked.get(AttributeId::AGENT_REMOTE_ID), Some(&remote[..]));
    assert_eq!(
        held(&bench, "olt-1=20pon=200=2F3:17"),
        [offer.message.yiaddr]
    );

    // Without the circuit-id there is no User-Name: nobody is asked, nothing is said.
    let bare = client(2);
    bench.uplink.send(&bare.discover(2).build()).unwrap();
    wait_for(&bench, "no-username", 1);
    assert_eq!(aaa.asked().len(), 1);
    assert!(replies_to(&bench, bare.mac).is_empty());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_packets_at_once_make_one_question_and_one_binding() {
    let (bench, aaa) = start("ipoe2", "{mac}", Says::Nothing, "30s");
    let subscriber = by_mac(1, LINE);
    bench.uplink.send(&subscriber.discover(1).build()).unwrap();
    wait_until("the question", LIMIT, || {
        Ok((aaa.asked().len() == 1).then_some(()))
    })
    .unwrap();
    for xid in [2, 3] {
        bench
            .uplink
            .send(&subscriber.discover(xid).build())
            .unwrap();
    }
    wait_for(&bench, "attached", 2);
    aaa.says(Says::Accept);
    wait_for(&bench, "accept", 1);
    bench.fence(&subscriber);
    assert_eq!(aaa.asked().len(), 1);
    let replies = replies_to(&bench, subscriber.mac);
    let offers: Vec<_> = replies
        .iter()
        .filter(|seen| seen.message.message_type() == Some(OFFER))
        .map(|seen| seen.message.xid)
        .collect();
    assert_eq!(offers, [3], "the newest packet is answered, once");
    assert_eq!(held(&bench, &subscriber.name).len(), 1);
    assert_eq!(bench.host.bindings().unwrap().len(), 1);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn with_a_silent_aaa_server_strangers_wait_and_known_clients_do_not() {
    let (bench, aaa) = start("ipoedn", "{mac}", Says::Accept, "500ms");
    let known = by_mac(1, LINE);
    let address = bench.ask_and_read(&known.discover(1)).message.yiaddr;
    aaa.says(Says::Nothing);
    let stranger = by_mac(2, LINE);
    bench.uplink.send(&stranger.discover(2).build()).unwrap();
    wait_for(&bench, "upstream-no-answer", 1);
    assert!(replies_to(&bench, stranger.mac).is_empty());
    // In the kernel and in the slow path.
    let renewed = bench.ask_and_read(&known.frame(&Bootp::renew(known.mac, 3, address)));
    assert_eq!(renewed.message.message_type(), Some(5));
    bench.fence(&known);
    // Silence is not remembered: as soon as the server is back, the client is in.
    aaa.says(Says::Accept);
    let offer = bench.ask_and_read(&stranger.discover(4));
    assert_eq!(offer.message.message_type(), Some(OFFER));
    assert_ne!(offer.message.yiaddr, address);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn beyond_the_bound_strangers_are_dropped_and_known_clients_are_answered() {
    let mut aaa = None;
    let bench = Bench::start_with("ipoemx", &[LINE], &[], |text, host| {
        aaa = Some(Played::start(&host.network.olt, Says::Accept));
        let text = upstream(&asking(&text, "{mac}"), PORT, "30s");
        text.replace("      reject_for: 1h\n", "      max_waiting: 4\n")
    });
    let aaa = aaa.unwrap();
    let known = by_mac(1, LINE);
    let offer = bench.ask_and_read(&known.discover(1));
    assert_eq!(offer.message.message_type(), Some(OFFER));
    aaa.says(Says::Nothing);
    for number in 2..12 {
        let stranger = by_mac(number, LINE);
        bench.uplink.send(&stranger.discover(9).build()).unwrap();
    }
    bench.fence(&known);
    assert_eq!(results(&bench, "too-many"), 6);
    wait_until("the four questions", LIMIT, || {
        Ok((aaa.asked().len() == 5).then_some(()))
    })
    .unwrap();
    assert_eq!(bench.host.bindings().unwrap().len(), 1);
    assert_eq!(results(&bench, "accept"), 1);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_client_with_an_old_lease_is_told_to_begin_anew_at_once() {
    let (bench, aaa) = start("ipoein", "{mac}", Says::Accept, "30s");
    let subscriber = by_mac(1, LINE);
    let old = Ipv4Addr::new(192, 0, 2, 77);
    let reboot = Bootp::request(subscriber.mac, 1)
        .option(53, &[3])
        .option(50, &old.octets());
    let answer = bench.ask_and_read(&subscriber.frame(&reboot));
    assert_eq!(answer.message.message_type(), Some(6));
    let offer = bench.ask_and_read(&subscriber.discover(2));
    assert_eq!(held(&bench, &subscriber.name), [offer.message.yiaddr]);
    assert_eq!(aaa.asked().len(), 1);

    // Who has chosen another server is not our client.
    let other = by_mac(2, LINE);
    let select = Bootp::select(other.mac, 3, old, Ipv4Addr::new(192, 0, 2, 1));
    bench.uplink.send(&other.frame(&select).build()).unwrap();
    bench.fence(&subscriber);
    assert_eq!(aaa.asked().len(), 1);
    assert!(replies_to(&bench, other.mac).is_empty());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn after_a_kill_between_accept_and_reply_the_client_gets_the_same_address() {
    let (mut bench, aaa) = start("ipoekl", "{mac}", Says::Nothing, "30s");
    let subscriber = by_mac(1, LINE);
    bench.uplink.send(&subscriber.discover(1).build()).unwrap();
    wait_until("the question", LIMIT, || {
        Ok((aaa.asked().len() == 1).then_some(()))
    })
    .unwrap();
    // The reply cannot leave; everything before it happens.
    let set = |state: &str| {
        let olt = &bench.host.network.olt;
        olt.run("ip", &["link", "set", OLT_INTERFACE, state])
            .unwrap();
    };
    set("down");
    aaa.says(Says::Accept);
    wait_for(&bench, "accept", 1);
    let [address] = held(&bench, &subscriber.name)[..] else {
        panic!("no binding")
    };
    bench.host.kill().unwrap();
    let olt = &bench.host.network.olt;
    olt.run("ip", &["link", "set", OLT_INTERFACE, "up"])
        .unwrap();
    assert!(replies_to(&bench, subscriber.mac).is_empty());
    bench.start_sidecar();
    let offer = bench.ask_and_read(&subscriber.discover(2));
    assert_eq!(offer.message.yiaddr, address);
    assert_eq!(held(&bench, &subscriber.name), [address]);
    assert_eq!(aaa.asked().len(), 1, "it is known");
}
