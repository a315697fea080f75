//! INFORM: the pool's options for a client that has its address already (RFC 2131 4.3.5).

use nexus_abi::Outcome;
use nexus_testkit::access_node::Line;
use nexus_testkit::packet::clients::relay_information;
use nexus_testkit::packet::{Bootp, Frame};

use crate::bench::{Bench, POOL, SERVER, WRONG};
use crate::subscriber::Subscriber;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_inform_is_acknowledged_without_address_and_lease_with_the_options_that_it_asks_for() {
    let line = Line::QinQ {
        s_vlan: 200,
        c_vlan: 30,
    };
    let subscribers = [
        Subscriber::new(1, Line::Untagged, POOL),
        Subscriber::new(2, Line::Vlan(100), POOL),
        Subscriber::new(3, line, POOL),
    ];
    let mut bench = Bench::start("inform", &[], &subscribers);
    let addresses = bench.connect(&subscribers);
    let before = bench.kernel();
    let relay = relay_information(b"olt1 eth 0/1/5/33", b"onu-78");
    for subscriber in &subscribers {
        let address = addresses[&subscriber.name];
        let mut request = subscriber.inform(0x1f00, address).bootp().unwrap();
        let identifier = [&[1][..], &subscriber.mac].concat();
        request = request.option(61, &identifier).option(82, &relay);
        let to_all = subscriber.frame(&request);
        let to_server = to_all.clone().unicast(bench.gateway, SERVER);
        for request in [to_all, to_server] {
            let reply = bench.ask_and_read(&request);
            let Frame {
                destination,
                destination_ip,
                destination_port,
                tags,
                ..
            } = &reply.frame;
            assert_eq!(*destination, subscriber.mac);
            assert_eq!((*destination_ip, *destination_port), (address, 68));
            assert_eq!(*tags, request.tags);
            let Bootp {
                ciaddr,
                yiaddr,
                options,
                ..
            } = &reply.message;
            assert_eq!((*ciaddr, yiaddr.is_unspecified()), (address, true));
            // Of the pool's those that it asks for, then the client's own.
            let expected = [
                (53, vec![5]),
                (54, SERVER.octets().to_vec()),
                (1, vec![255, 192, 0, 0]),
                (3, SERVER.octets().to_vec()),
                (6, vec![9, 9, 9, 9, 149, 112, 112, 112]),
                (15, b"residential.example.net".to_vec()),
                (26, 1492_u16.to_be_bytes().to_vec()),
                (42, vec![192, 0, 2, 123]),
                (61, identifier.clone()),
                (82, relay.clone()),
            ];
            assert_eq!(*options, expected);
        }
    }
    // The kernel answers where the frame has room for the reply.
    let counts = bench.counts();
    let by_slow_path = counts.slow(Outcome::InformAck);
    assert_eq!(counts.kernel(Outcome::InformAck) + by_slow_path, 6);
    assert_eq!(counts.kernel(Outcome::NoRoom), by_slow_path);

    // Of an address that it does not have, of none, and on another line.
    let [first, second, third] = &subscribers;
    let own = addresses[&third.name];
    let elsewhere = Frame {
        tags: second.tags(),
        ..third.inform(1, own)
    };
    let none = third.inform(2, "0.0.0.0".parse().unwrap());
    let wrong = third.inform(3, WRONG);
    let silent = [elsewhere, none, wrong].map(|frame| frame.build());
    bench.assert_silence(&silent, first);
    let counts = bench.counts();
    assert_eq!(counts.slow(Outcome::UnknownClient), 2);
    assert_eq!(counts.slow(Outcome::Malformed), 1);
    assert_eq!(bench.kernel(), before);
}
