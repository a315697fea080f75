//! The matrix: each client program of Debian gets, renews and gives back its lease on each kind of line
//! and behind each relay, all side by side.
//!
//! Behind a relay the subscriber is known by its MAC; `circuit.rs` has those known by their circuit-id.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_testkit::access_node::{Line, SUBSCRIBER_INTERFACE, Subscriber};
use nexus_testkit::capture::Seen;
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Lease};
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::Mac;
use nexus_testkit::relay::{self, Relay};

use crate::world::{Account, Answers, DNS, LIMIT, SERVER, World, pool};

/// Time enough for `dhcpcd` to look whether its address is free (some 6 s) before anybody renews.
const LEASE_SECS: u32 = 40;
/// A release changes nothing there.
const KEEPS: &str = "keeps-ipv4";
/// A released address rests there and then is anybody's.
const FREES: &str = "frees-ipv4";

const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const RELEASE: u8 = 7;

/// How a client reaches the OLT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Untagged,
    Vlan,
    QinQ,
    Behind(relay::Kind),
}

const WAYS: [Way; 5] = [
    Way::Untagged,
    Way::Vlan,
    Way::QinQ,
    Way::Behind(relay::Kind::Dhcrelay),
    Way::Behind(relay::Kind::Dnsmasq),
];

/// One client on one line.
struct Cell {
    kind: Kind,
    way: Way,
    account: Account,
}

impl Cell {
    /// Whether its RELEASE frees its address.
    fn gives_back(&self) -> bool {
        self.account.pool == FREES
    }

    /// Gateway and server of its pool.
    fn server(&self) -> Ipv4Addr {
        if self.account.pool == KEEPS {
            OTHER_SERVER
        } else {
            SERVER
        }
    }

    fn all() -> Vec<Self> {
        let cells = WAYS
            .into_iter()
            .flat_map(|way| Kind::ALL.into_iter().map(move |kind| (way, kind)));
        (1_u8..)
            .zip(cells)
            .map(|(number, (way, kind))| {
                let vid = u16::from(number) + 100;
                let line = match way {
                    Way::Vlan => Line::Vlan(vid),
                    Way::QinQ => Line::QinQ {
                        s_vlan: 200,
                        c_vlan: vid,
                    },
                    Way::Untagged | Way::Behind(_) => Line::Untagged,
                };
                let way_name = match way {
                    Way::Behind(relay) => relay.name().to_owned(),
                    _ => format!("{way:?}").to_lowercase(),
                };
                let behind = u8::from(matches!(way, Way::Behind(_)));
                let account = Account {
                    name: format!("{}-{way_name}", kind.name()),
                    // As the access network and the relays number them.
                    mac: [2, 0, 0, 0, behind, number],
                    line,
                    pool: if way == Way::Vlan { KEEPS } else { FREES },
                };
                Self { kind, way, account }
            })
            .collect()
    }
}

/// The world with its relays, and who lives where.
struct Matrix {
    /// By MAC of the host on the line.
    relays: BTreeMap<Mac, Relay>,
    cells: Vec<Cell>,
    addresses: BTreeMap<String, Ipv4Addr>,
    world: World,
}

impl Matrix {
    fn start() -> Self {
        let cells = Cell::all();
        let pools = [
            pool(FREES, SERVER, LEASE_SECS, "cool-down"),
            pool(KEEPS, OTHER_SERVER, LEASE_SECS, "keep"),
        ];
        let lines: Vec<Line> = cells.iter().map(|cell| cell.account.line).collect();
        let accounts: Vec<Account> = cells.iter().map(|cell| cell.account.clone()).collect();
        let world = World::start("matrix", &pools, &lines, &accounts);
        let addresses = world.connect(&accounts);
        let server = relay::Server {
            address: SERVER,
            mac: world.gateway,
        };
        let network = &world.host.network;
        let mut relays = BTreeMap::new();
        for (cell, at) in cells.iter().zip(&network.subscribers) {
            if let Way::Behind(kind) = cell.way {
                let own = Ipv4Addr::new(100, 64, 0, 100 + at.mac[5]);
                let directory = world.directory.path();
                let relay = Relay::start(kind, at, &world.prefix, (own, 10), server, directory);
                relays.insert(at.mac, relay.unwrap());
            }
        }
        Self {
            relays,
            cells,
            addresses,
            world,
        }
    }

    /// Where the client of a cell runs.
    fn home(&self, cell: &Cell) -> &Subscriber {
        let mut on_lines = self.world.host.network.subscribers.iter();
        let own = on_lines
            .find(|at| at.mac[5] == cell.account.mac[5])
            .unwrap();
        self.relays.get(&own.mac).map_or(own, |relay| &relay.client)
    }

    /// `work` for every cell at the same time.
    fn each<T: Send, U: Send>(&self, input: Vec<T>, work: impl Fn(&Cell, T) -> U + Sync) -> Vec<U> {
        let work = &work;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .cells
                .iter()
                .zip(input)
                .map(|(cell, one)| scope.spawn(move || work(cell, one)))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect()
        })
    }

    /// The client has what RADIUS and the pool say, by its own account and by its interface's.
    fn assert_configured(&self, cell: &Cell, lease: &Lease) {
        let name = &cell.account.name;
        let expected = Lease {
            address: self.addresses[name],
            mask: Ipv4Addr::new(255, 224, 0, 0),
            router: Some(cell.server()),
            dns: DNS.to_vec(),
            seconds: LEASE_SECS,
            server: Some(cell.server()),
        };
        assert_eq!(*lease, expected, "{name}");
        let arguments = [
            "-4",
            "-brief",
            "address",
            "show",
            "dev",
            SUBSCRIBER_INTERFACE,
        ];
        let shown = self.home(cell).namespace.run("ip", &arguments).unwrap();
        assert!(
            shown.contains(&format!(" {}/11 ", expected.address)),
            "{name}: {shown}"
        );
    }

    /// Messages of a cell's client and to it, in order.
    fn seen(&self, cell: &Cell) -> Vec<Seen> {
        let mut seen = self.world.capture.dhcp().unwrap();
        seen.retain(|seen| seen.message.mac() == cell.account.mac);
        seen
    }

    /// Waits until the client has sent what `is` says.
    fn wait_for_message(&self, cell: &Cell, what: &str, is: impl Fn(&Seen) -> bool) {
        let what = format!("{what} of {}", cell.account.name);
        let own = |seen: &&Seen| seen.message.mac() == cell.account.mac;
        let capture = &self.world.capture;
        capture
            .wait_for_dhcp(&what, LIMIT, |seen| seen.iter().filter(own).any(&is))
            .unwrap();
    }

    /// All that the client asked on its way to a lease was answered, through its relay where it has one.
    fn assert_exchange(&self, cell: &Cell) {
        let (name, seen) = (&cell.account.name, self.seen(cell));
        let relayed = matches!(cell.way, Way::Behind(_));
        let inserts = cell.way == Way::Behind(relay::Kind::Dhcrelay);
        for (kind, expected) in [(DISCOVER, OFFER), (REQUEST, ACK)] {
            let asked = requests(&seen, kind, Ipv4Addr::UNSPECIFIED);
            assert!(!asked.is_empty(), "{name} has not sent {kind}");
            for request in asked {
                let message = &request.message;
                assert_eq!(!message.giaddr.is_unspecified(), relayed, "{name}");
                assert_eq!(message.get(82).is_some(), inserts, "{name}");
                for reply in answers(&seen, request, expected) {
                    assert_eq!(reply.frame.tags, request.frame.tags, "{name}");
                    assert_eq!(reply.message.get(82), message.get(82), "{name}");
                }
            }
        }
    }

    /// It renewed by unicast, and the server it has its lease from answered.
    fn assert_renewed(&self, cell: &Cell) {
        let (name, seen) = (&cell.account.name, self.seen(cell));
        let address = self.addresses[name];
        let renewals = requests(&seen, REQUEST, address);
        let direct = |seen: &Seen| {
            seen.frame.destination_ip == cell.server()
                && seen.frame.destination == self.world.gateway
                && seen.message.giaddr.is_unspecified()
        };
        assert!(renewals.iter().any(|seen| direct(seen)), "{name}");
        for renewal in renewals {
            let relayed = !renewal.message.giaddr.is_unspecified();
            // `dhcrelay` listens below IP, so it also sends on what was meant for the server alone.
            let may_be = cell.way == Way::Behind(relay::Kind::Dhcrelay);
            assert!(may_be || !relayed, "{name}");
            for answer in answers(&seen, renewal, ACK) {
                assert_eq!(answer.message.yiaddr, address, "{name}");
            }
        }
    }

    /// Waits until everything asked is answered, and makes sure who has: the slow path only what the kernel
    /// passed on to it.
    fn settle(&self) -> Answers {
        let done = wait_until("every DISCOVER and REQUEST answered", LIMIT, || {
            let answers = self.world.answers();
            let (asked, replied) = self.on_the_wire();
            let whole = asked == replied && answers.kernel + answers.slow == replied;
            Ok(whole.then_some(answers))
        });
        let answers = done.unwrap();
        assert_eq!(answers.slow, answers.passed_on, "{answers:?}");
        answers
    }

    /// DISCOVER and REQUEST on the uplink so far, and replies to them.
    fn on_the_wire(&self) -> (u64, u64) {
        let seen = self.world.capture.dhcp().unwrap();
        let asks = |seen: &&Seen| {
            seen.message.op == 1
                && [Some(DISCOVER), Some(REQUEST)].contains(&seen.message.message_type())
        };
        let asked = seen.iter().filter(asks).count();
        let replied = seen.iter().filter(|seen| seen.message.op == 2).count();
        (asked as u64, replied as u64)
    }
}

/// Requests of one kind with that `ciaddr`.
fn requests(seen: &[Seen], kind: u8, ciaddr: Ipv4Addr) -> Vec<&Seen> {
    let is = |seen: &&Seen| {
        let message = &seen.message;
        message.op == 1 && message.message_type() == Some(kind) && message.ciaddr == ciaddr
    };
    seen.iter().filter(is).collect()
}

/// The replies of that kind to a request, where they should be: at the relay, or at the client. One for each
/// time that it was sent.
fn answers<'a>(seen: &'a [Seen], request: &Seen, kind: u8) -> Vec<&'a Seen> {
    let asked = &request.message;
    let same = |seen: &&Seen| {
        let message = &seen.message;
        message.op == 1
            && message.xid == asked.xid
            && message.message_type() == asked.message_type()
            && message.giaddr == asked.giaddr
    };
    let relayed = !asked.giaddr.is_unspecified();
    let is = |reply: &&Seen| {
        reply.message.op == 2
            && reply.message.xid == asked.xid
            && reply.message.message_type() == Some(kind)
            && (reply.frame.destination_port == 67) == relayed
            && (reply.frame.destination_ip == asked.giaddr) == relayed
    };
    let answers: Vec<&Seen> = seen.iter().filter(is).collect();
    let times = seen.iter().filter(same).count();
    assert_eq!(answers.len(), times, "replies to {asked:?}");
    answers
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn every_client_gets_renews_and_gives_back_its_lease_on_every_line_and_behind_every_relay() {
    let matrix = Matrix::start();
    let directory = matrix.world.directory.path();

    let nobody = vec![(); matrix.cells.len()];
    let clients = matrix.each(nobody, |cell, ()| {
        let mut client = DhcpClient::start(cell.kind, matrix.home(cell), directory).unwrap();
        let lease = client.wait_for_lease(1, LIMIT).unwrap();
        matrix.assert_configured(cell, &lease);
        client
    });
    let first = matrix.settle();
    for cell in &matrix.cells {
        matrix.assert_exchange(cell);
    }

    let clients = matrix.each(clients, |cell, mut client| {
        let lease = client.wait_for_lease(2, LIMIT).unwrap();
        matrix.assert_configured(cell, &lease);
        client
    });
    eprintln!("{first:?}; with renewals {:?}", matrix.settle());
    for cell in &matrix.cells {
        matrix.assert_renewed(cell);
    }
    for cell in &matrix.cells {
        let Account { name, .. } = &cell.account;
        matrix
            .world
            .wait_recorded(name, matrix.addresses[name], "active");
        assert_eq!(matrix.world.bound(name), Some(matrix.addresses[name]));
    }

    matrix.each(clients, |cell, mut client| {
        client.release_now().unwrap();
        let released = |seen: &Seen| seen.message.message_type() == Some(RELEASE);
        matrix.wait_for_message(cell, "RELEASE", released);
    });
    for cell in &matrix.cells {
        let Account { name, .. } = &cell.account;
        let state = if cell.gives_back() {
            "released"
        } else {
            "active"
        };
        matrix
            .world
            .wait_recorded(name, matrix.addresses[name], state);
    }
    // What was to be freed is free by now, so the others' RELEASEs have been read too.
    matrix.world.wait_synced();
    for cell in &matrix.cells {
        let Account { name, .. } = &cell.account;
        let kept = (!cell.gives_back()).then_some(matrix.addresses[name]);
        assert_eq!(matrix.world.bound(name), kept, "{name}");
    }
}
