//! What nobody should send: no answer, a counter, and nothing else happens.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::access_node::Line;
use nexus_testkit::packet::{Bootp, Frame, Tag, internet_checksum};

use crate::bench::{Bench, POOL, SERVER, WRONG};
use crate::subscriber::Subscriber;

const LINE: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};
/// Where IPv4 starts behind two tags, and BOOTP behind that.
const IP: usize = 22;
const BOOTP: usize = IP + 28;

/// Frames that are not answered, and how the slow path counts each.
fn bad_frames(known: &Subscriber, own: Ipv4Addr) -> Vec<(&'static str, Outcome, Vec<u8>)> {
    let discover = || Bootp::discover(known.mac, 7);
    let frame = |message: &Bootp| known.frame(message).build();
    let with = |code: u8, value: &[u8]| frame(&discover().option(code, value));
    let spoilt = |at: usize, value: u8| {
        let mut bytes = frame(&discover());
        bytes[at] = value;
        bytes
    };
    let mut endless = discover();
    (endless.end, endless.min_len) = (false, 0);
    let mut cut = frame(&discover());
    cut.truncate(BOOTP + 200);
    let mut other_source = known.frame(&discover());
    other_source.source = [2, 0, 0, 0, 0, 0x77];
    let mut fragment = known.frame(&discover());
    fragment.fragment = 0x2000;
    let on = |tags: Vec<Tag>| {
        let mut frame = known.discover(7);
        frame.tags = tags;
        frame.build()
    };
    let stranger = Subscriber::new(0x66, LINE, POOL);
    let selects_other = Bootp::select(known.mac, 7, own, WRONG);
    vec![
        ("no END", Outcome::Malformed, frame(&endless)),
        ("cut off", Outcome::Malformed, cut),
        (
            "wrong IP checksum",
            Outcome::Malformed,
            spoilt(IP + 10, 0x5a),
        ),
        ("wrong UDP length", Outcome::Malformed, spoilt(IP + 25, 9)),
        ("MAC of another", Outcome::Malformed, other_source.build()),
        ("short option 50", Outcome::Malformed, with(50, &[1, 2])),
        ("empty client identifier", Outcome::Malformed, with(61, &[])),
        ("two message types", Outcome::Unsupported, with(53, &[3])),
        ("option overload", Outcome::Unsupported, with(52, &[1])),
        ("no cookie", Outcome::Unsupported, spoilt(BOOTP + 236, 0)),
        ("not Ethernet", Outcome::Unsupported, spoilt(BOOTP + 1, 6)),
        ("a fragment", Outcome::Unsupported, fragment.build()),
        ("IP options", Outcome::Unsupported, with_ip_option(known)),
        ("a reply", Outcome::NotDhcp, spoilt(BOOTP, 2)),
        (
            "no message type",
            Outcome::Unsupported,
            frame(&Bootp::request(known.mac, 7)),
        ),
        ("FORCERENEW", Outcome::SlowMessage, {
            frame(&Bootp::request(known.mac, 7).option(53, &[9]))
        }),
        (
            "another server",
            Outcome::OtherServer,
            frame(&selects_other),
        ),
        (
            "a stranger",
            Outcome::UnknownClient,
            stranger.discover(7).build(),
        ),
        (
            "a stranger's release",
            Outcome::UnknownClient,
            stranger.release(7, own, SERVER).build(),
        ),
        ("no tag", Outcome::UnknownClient, on(vec![])),
        (
            "the outer tag alone",
            Outcome::UnknownClient,
            on(vec![Tag::s_vlan(200)]),
        ),
        (
            "tags exchanged",
            Outcome::UnknownClient,
            on(vec![Tag::s_vlan(30), Tag::c_vlan(200)]),
        ),
    ]
}

/// A DISCOVER with four bytes of IP options (RFC 791 3.1).
fn with_ip_option(known: &Subscriber) -> Vec<u8> {
    let mut bytes = known.discover(7).build();
    bytes.splice(IP + 20..IP + 20, [1, 1, 1, 0]);
    bytes[IP] = 0x46;
    let total = u16::try_from(bytes.len() - IP).unwrap();
    bytes[IP + 2..IP + 4].copy_from_slice(&total.to_be_bytes());
    bytes[IP + 10..IP + 12].fill(0);
    let sum = internet_checksum(&[&bytes[IP..IP + 24]]);
    bytes[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Packets of the slow path by outcome, as the metrics have them.
fn in_metrics(bench: &Bench, outcome: Outcome) -> u64 {
    let row = format!(
        "nexus_sidecar_dhcp_slow_packets_total{{outcome=\"{}\"}} ",
        outcome.label()
    );
    let text = bench.metrics();
    let count = text.lines().find_map(|line| line.strip_prefix(&row));
    count.map_or(0, |count| count.parse().unwrap())
}

fn bench(name: &str) -> (Bench, [Subscriber; 2], BTreeMap<String, Ipv4Addr>) {
    let subscribers = [
        Subscriber::new(1, LINE, POOL),
        Subscriber::new(2, Line::Vlan(100), POOL),
    ];
    let mut bench = Bench::start(name, &[], &subscribers);
    let addresses = bench.connect(&subscribers);
    (bench, subscribers, addresses)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn malformed_and_strangers_messages_are_counted_and_nothing_else() {
    let (bench, [known, fence], addresses) = bench("bad");
    let (kernel, own) = (bench.kernel(), addresses[&known.name]);
    let (held, recorded) = (bindings(&bench), bench.records("state=all"));
    let before = bench.counts();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, outcome, frame) in bad_frames(&known, own) {
        let count = bench.counts().slow(outcome);
        let measured = in_metrics(&bench, outcome);
        bench.assert_silence(&[frame], &fence);
        // The fence that stands behind it is a message to another server.
        let more = 1 + u64::from(outcome == Outcome::OtherServer);
        assert_eq!(bench.counts().slow(outcome), count + more, "{name}");
        assert_eq!(in_metrics(&bench, outcome), measured + more, "{name}");
        *expected.entry(outcome.label()).or_default() += 1;
    }
    // The kernel has seen them all and passed them on; what is not DHCP it does not count.
    let after = bench.counts();
    for outcome in [
        Outcome::Malformed,
        Outcome::Unsupported,
        Outcome::OtherServer,
        Outcome::UnknownClient,
    ] {
        assert_eq!(
            after.kernel(outcome) - before.kernel(outcome),
            expected[outcome.label()],
            "{outcome:?}"
        );
    }
    assert_eq!(after.answers(), before.answers());
    assert_eq!(bench.kernel(), kernel);
    assert_eq!(bindings(&bench), held);
    assert_eq!(bench.records("state=all"), recorded);
}

/// The bindings, but for the time that is left of them.
fn bindings(bench: &Bench) -> Vec<serde_json::Value> {
    let mut bindings = bench.host.bindings().unwrap();
    for binding in &mut bindings {
        binding.as_object_mut().unwrap().remove("valid_for_secs");
    }
    bindings
}

/// A generator of numbers that are always the same (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_be_bytes()[3]).collect()
    }
}

/// DHCP from the outside, junk inside: of a subscriber or of strangers, on any line, options of any length.
fn junk(known: &Subscriber, numbers: &mut Numbers) -> Vec<u8> {
    let mut message = Bootp::request(known.mac, 7);
    if numbers.next().is_multiple_of(2) {
        message.chaddr[..6].copy_from_slice(&[2, 0, 0, 1, 0, 0]);
        message.chaddr[4..6].copy_from_slice(&numbers.bytes(2));
    }
    message.end = false;
    message.min_len = 0;
    let len = usize::try_from(numbers.next() % 600).unwrap();
    message.trailer = numbers.bytes(len);
    let mut frame = Frame::from_client(&message);
    frame.tags = match numbers.next() % 4 {
        0 => vec![],
        1 => vec![Tag::c_vlan(100).priority(3)],
        _ => known.tags(),
    };
    let mut bytes = frame.build();
    if numbers.next().is_multiple_of(4) {
        let at = usize::try_from(numbers.next()).unwrap() % bytes.len();
        // Not the ports: it shall come to us.
        if at >= frame.tags.len() * 4 + 14 + 28 {
            bytes[at] ^= 0x40;
        }
    }
    bytes
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_thousand_junk_frames_at_once_neither_crash_nor_stop_the_slow_path() {
    let (mut bench, [known, fence], addresses) = bench("junk");
    let (kernel, held) = (bench.kernel(), bindings(&bench));
    let recorded = bench.records("state=all");
    let pid = bench.host.sidecar.as_ref().unwrap().pid();
    let before = bench.counts();
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let frames: Vec<_> = (0..2000).map(|_| junk(&known, &mut numbers)).collect();
    bench.assert_silence(&frames, &fence);

    let after = bench.counts();
    let moved = |count: &dyn Fn(&crate::bench::Counts, Outcome) -> u64| -> u64 {
        [
            Outcome::Malformed,
            Outcome::Unsupported,
            Outcome::UnknownClient,
        ]
        .into_iter()
        .map(|outcome| count(&after, outcome) - count(&before, outcome))
        .sum()
    };
    let (in_kernel, in_slow_path) = (
        moved(&|counts, outcome| counts.kernel(outcome)),
        moved(&|counts, outcome| counts.slow(outcome)),
    );
    // Queues are bounded, so some may have been dropped; none is counted twice.
    assert!(in_kernel > 0 && in_kernel <= 2000, "{in_kernel}");
    assert!(
        in_slow_path > 0 && in_slow_path <= in_kernel,
        "{in_slow_path}"
    );
    assert_eq!(after.answers(), before.answers());
    assert_eq!(bench.kernel(), kernel);
    assert_eq!(bindings(&bench), held);
    assert_eq!(bench.records("state=all"), recorded);

    // The same process goes on: DHCP by the kernel, RADIUS.
    let sidecar = bench.host.sidecar.as_mut().unwrap();
    assert!(sidecar.is_running().unwrap());
    assert_eq!(sidecar.pid(), pid);
    let offer = bench.ask_and_read(&known.discover(9));
    assert_eq!(offer.message.yiaddr, addresses[&known.name]);
    assert_eq!(bench.nas.accepted(&[known, fence]), addresses);
}
