//! RELEASE: only the subscriber's own, and then everywhere: kernel, sidecar, centre (RFC 2131 4.3.4).

use nexus_abi::Outcome;
use nexus_testkit::access_node::Line;
use nexus_testkit::dhcp_client::{DhcpClient, Kind};
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::{Bootp, Frame};
use nix::sys::signal::Signal;

use crate::bench::{Bench, LIMIT, POOL, SERVER, WRONG};
use crate::subscriber::Subscriber;

const QINQ: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_release_frees_the_address_everywhere_and_somebody_elses_changes_nothing() {
    let subscribers = [
        Subscriber::new(1, QINQ, POOL),
        Subscriber::new(2, Line::Vlan(100), POOL),
    ];
    let [leaving, staying] = &subscribers;
    let mut bench = Bench::start("release", &[], &subscribers);
    let addresses = bench.connect(&subscribers);
    let own = addresses[&leaving.name];
    let of_other = addresses[&staying.name];
    let before = bench.kernel();
    let answers = bench.counts();

    // To another server, to none, of another address, of nobody's, of none, and on the other's line.
    let mut to_none = Bootp::request(leaving.mac, 3).option(53, &[7]);
    to_none.ciaddr = own;
    let elsewhere = Frame {
        tags: staying.tags(),
        ..leaving.release(6, own, SERVER)
    };
    let wrong = [
        leaving.release(1, own, WRONG),
        leaving
            .release(2, own, SERVER)
            .unicast(bench.gateway, WRONG),
        leaving.frame(&to_none),
        leaving.release(4, of_other, SERVER),
        leaving.release(5, WRONG, SERVER),
        leaving.release(5, "0.0.0.0".parse().unwrap(), SERVER),
        elsewhere,
    ];
    bench.assert_silence(&wrong.map(|frame| frame.build()), staying);
    assert_eq!(bench.kernel(), before);
    // Three of these, and the one that stands behind them as a fence.
    assert_eq!(bench.counts().slow(Outcome::OtherServer), 3 + 1);
    assert_eq!(bench.counts().slow(Outcome::Malformed), 3);
    assert_eq!(bench.counts().slow(Outcome::UnknownClient), 1);
    assert_eq!(bench.counts().answers(), answers.answers());
    bench.wait_synced();
    bench.wait_recorded(leaving, &[(own, "active")]);
    bench.wait_recorded(staying, &[(of_other, "active")]);

    // Its own, as a client sends it: to the server alone.
    let release = leaving
        .release(7, own, SERVER)
        .unicast(bench.gateway, SERVER);
    bench.assert_silence(&[release.build()], staying);
    assert_eq!(bench.bound(leaving), None);
    assert_eq!(bench.bound(staying), Some(of_other));
    bench.wait_recorded(leaving, &[(own, "released")]);
    bench.wait_synced();

    // Nobody answers it any more, and a second release is one of a stranger.
    let after = [leaving.discover(8), leaving.release(9, own, SERVER)];
    bench.assert_silence(&after.map(|frame| frame.build()), staying);
    assert_eq!(bench.counts().answers(), answers.answers());
    bench.wait_recorded(leaving, &[(own, "released")]);

    // It comes back and has its old address: nobody else got it meanwhile.
    assert_eq!(bench.connect(&subscribers), addresses);
    bench.wait_recorded(leaving, &[(own, "active")]);
    let offer = bench.ask_and_read(&leaving.discover(10));
    assert_eq!(offer.message.yiaddr, own);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_real_client_releases_and_a_restart_of_the_sidecar_does_not_bring_it_back() {
    let subscribers = [
        Subscriber::new(1, QINQ, POOL),
        Subscriber::new(2, Line::Vlan(100), POOL),
    ];
    let [leaving, staying] = &subscribers;
    let mut bench = Bench::start("leave", &[QINQ], &subscribers);
    let addresses = bench.connect(&subscribers);
    let own = addresses[&leaving.name];
    let at = &bench.host.network.subscribers[0];
    let mut client = DhcpClient::start(Kind::Udhcpc, at, bench.directory.path()).unwrap();
    assert_eq!(client.wait_for_lease(1, LIMIT).unwrap().address, own);
    client.process().signal(Signal::SIGUSR2).unwrap();
    wait_until("the binding gone from the kernel", LIMIT, || {
        Ok(bench.bound(leaving).is_none().then_some(()))
    })
    .unwrap();
    bench.wait_recorded(leaving, &[(own, "released")]);
    drop(client);

    bench.host.kill().unwrap();
    bench.start_sidecar();
    bench.wait_synced();
    assert_eq!(bench.bound(leaving), None);
    assert_eq!(bench.bound(staying), Some(addresses[&staying.name]));
    bench.assert_silence(&[leaving.discover(8).build()], staying);
    bench.wait_recorded(leaving, &[(own, "released")]);
}
