//! Two interfaces of one host: each with its own subscribers, identity, server identifier and policies.

use std::net::Ipv4Addr;

use nexus_testkit::access_node::Line;
use nexus_testkit::capture::{Capture, Seen};
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::packet::Frame;
use nexus_testkit::wire::Wire;

use crate::bench::{Bench, LIMIT, POOL, SERVER};
use crate::subscriber::Subscriber;

const QINQ: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};
/// Of the second interface.
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Subscribers of the second interface, without an access node.
struct Street {
    capture: Capture,
    wire: Wire,
    _namespace: Namespace,
    _directory: tempfile::TempDir,
}

impl Street {
    fn new(namespace: Namespace) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            capture: Capture::start(&namespace, "street0", directory.path()).unwrap(),
            wire: Wire::open(&namespace, "street0").unwrap(),
            _namespace: namespace,
            _directory: directory,
        }
    }

    fn ask(&self, request: &Frame) -> Seen {
        let xid = request.bootp().unwrap().xid;
        self.wire.send(&request.build()).unwrap();
        let is_answer = |seen: &Seen| seen.message.op == 2 && seen.message.xid == xid;
        let seen = self
            .capture
            .wait_for_dhcp("an answer on the street", LIMIT, |seen| {
                seen.iter().any(is_answer)
            });
        seen.unwrap().into_iter().find(is_answer).unwrap()
    }
}

fn server_id(seen: &Seen) -> Ipv4Addr {
    seen.message.address(54).unwrap()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_interfaces_serve_their_own_subscribers_each_in_its_own_way() {
    let on_first = Subscriber::new(1, QINQ, POOL);
    let on_second = Subscriber::new(2, Line::Untagged, POOL);
    let street = Namespace::create(&unique_prefix("second"), "street").unwrap();
    let accounts = [on_first.clone(), on_second.clone()];
    let mut bench = Bench::start_with("interfaces", &[], &accounts, |text, host| {
        let olt = &host.network.olt;
        link::veth(End::new(&street, "street0"), End::new(olt, "access1")).unwrap();
        let second = format!(
            "    mode: native\n  - name: access1\n    mode: generic\n    identity: [mac]\n    server_id: {OTHER_SERVER}\n    policies: {{mac_changes: refuse}}\n"
        );
        // Whoever is tagged is on the first one, whoever else this NAS asks about on the second.
        let rule = "radius:\n  interfaces: [{nas_port_id: 'olt 1/1:', interface: access0}]\n";
        let client = "address: 127.0.0.1\n      interface: access1\n";
        let text = text.replace("    mode: native\n", &second);
        let text = text.replace("radius:\n", rule);
        text.replace("address: 127.0.0.1\n", client)
    });
    let gateway = link::mac(&bench.host.network.olt, "access1").unwrap();
    let street = Street::new(street);
    let addresses = bench.connect(&accounts);

    let lines: Vec<_> = bench.host.bindings().unwrap();
    let mut lines: Vec<_> = lines
        .iter()
        .map(|one| one["line"].as_str().unwrap())
        .collect();
    lines.sort_unstable();
    let expected = [
        "access0 200.30 02:00:00:00:00:01",
        "access1 any 02:00:00:00:00:02",
    ];
    assert_eq!(lines, expected);

    // The kernel answers on both, and each client on its own interface only.
    let before = bench.counts().answers();
    let first = bench.ask_and_read(&on_first.discover(0x1001));
    assert_eq!(first.message.yiaddr, addresses[&on_first.name]);
    assert_eq!(server_id(&first), SERVER);
    let second = street.ask(&on_second.discover(0x1002));
    assert_eq!(second.message.yiaddr, addresses[&on_second.name]);
    assert_eq!(server_id(&second), OTHER_SERVER);
    assert_eq!(
        (second.frame.source_ip, second.frame.source),
        (OTHER_SERVER, gateway)
    );
    assert_eq!(bench.counts().answers(), (before.0 + 2, before.1));
    bench.assert_silence(&[on_second.discover(0x1003).build()], &on_first);

    // So does the slow path.
    let inform = on_second.inform(0x1004, addresses[&on_second.name]);
    let informed = street.ask(&inform);
    assert_eq!(informed.message.message_type(), Some(5));
    assert_eq!(server_id(&informed), OTHER_SERVER);

    // Another MAC is let in on the first one and not on the second.
    let with_other_mac = |subscriber: &Subscriber| Subscriber {
        mac: [2, 0, 0, 0, 9, 9],
        ..subscriber.clone()
    };
    let asked = [with_other_mac(&on_first), with_other_mac(&on_second)];
    let answers = bench.nas.answers(&asked);
    assert_eq!(answers[&on_first.name], Some(addresses[&on_first.name]));
    assert_eq!(answers[&on_second.name], None, "Access-Reject");
    let metrics = bench.metrics();
    for (conflict, policy) in [("mac-changed", "take-over"), ("mac-changed", "refuse")] {
        let line = format!(
            "nexus_sidecar_line_conflicts_total{{conflict=\"{conflict}\",policy=\"{policy}\"}} 1"
        );
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }

    // Numbers and bindings are there again after a kill; the kernel has gone on meanwhile.
    let interfaces = |bench: &Bench| bench.host.status().unwrap()["interfaces"].clone();
    let numbered = interfaces(&bench);
    assert_eq!(numbered.as_array().unwrap().len(), 2);
    bench.host.kill().unwrap();
    let meanwhile = street.ask(&on_second.discover(0x1005));
    assert_eq!(meanwhile.message.yiaddr, addresses[&on_second.name]);
    bench.start_sidecar();
    assert_eq!(interfaces(&bench), numbered);
    let after = street.ask(&on_second.discover(0x1006));
    assert_eq!(after.message.yiaddr, addresses[&on_second.name]);
}
