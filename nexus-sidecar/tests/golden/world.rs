//! Loaded programs with subscribers in their maps, and the same decisions made on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nexus_abi::{Binding, BindingKey, Circuit, NEVER_EXPIRES, Outcome, Profile};
use nexus_dhcp::exchange::{Identity, find, reply};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_dhcp::{Bytes, Shape, decide, selection};
use nexus_sidecar::fastpath::{AttachMode, FastPath, InterfaceConfig};
use nexus_testkit::packet::Mac;
use nix::time::{ClockId, clock_gettime};
use zerocopy::FromZeros as _;

use crate::home::Home;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

pub const GATEWAY_MAC: Mac = [2, 0, 0x5e, 0, 0, 1];
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Server of the second pool, whose replies are long.
pub const RICH_SERVER: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
pub const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

/// Profiles: as most pools are, with long replies, with rapid commit, and one that is not there.
pub const PLAIN: u16 = 0;
pub const RICH: u16 = 255;
pub const RAPID: u16 = 9;
const ABSENT: u16 = 7;

/// An interface on which subscribers are known by line, or else by MAC.
pub const LINES: u8 = 1;
/// By circuit-id, or else by VLAN pair.
pub const CIRCUITS: u8 = 2;
/// By line, by circuit-id and remote-id, or else by MAC.
pub const REMOTES: u8 = 3;
/// By MAC, or else by VLAN pair.
pub const VLANS: u8 = 63;

/// Number, identity order, whether the remote-id counts.
pub const INTERFACES: [(u8, &[u8], bool); 4] = [
    (LINES, &[KIND_LINE, KIND_MAC], false),
    (CIRCUITS, &[KIND_CIRCUIT, KIND_VLAN], false),
    (REMOTES, &[KIND_LINE, KIND_CIRCUIT, KIND_MAC], true),
    (VLANS, &[KIND_MAC, KIND_VLAN], false),
];

const KIND_LINE: u8 = BindingKey::KIND_LINE;
const KIND_MAC: u8 = BindingKey::KIND_MAC;
const KIND_VLAN: u8 = BindingKey::KIND_VLAN;
const KIND_CIRCUIT: u8 = BindingKey::KIND_CIRCUIT;

/// Known by its MAC, on any line.
pub const ANYWHERE: Mac = [2, 0, 0, 0, 0, 0x21];
/// Bound to its line without a tag.
pub const UNTAGGED: Mac = [2, 0, 0, 0, 0, 0x22];
/// Bound to VLAN 100.
pub const TAGGED: Mac = [2, 0, 0, 0, 0, 0x23];
/// Bound to S-VLAN 200, C-VLAN 30.
pub const QINQ: Mac = [2, 0, 0, 0, 0, 0x24];
/// Bound to S-VLAN 300, C-VLAN 40; of the second pool.
pub const RICH_QINQ: Mac = [2, 0, 0, 0, 0, 0x25];
/// Its binding has ended.
pub const ENDED: Mac = [2, 0, 0, 0, 0, 0x26];
/// Its binding names a profile that is not there.
pub const NO_PROFILE: Mac = [2, 0, 0, 0, 0, 0x27];
/// Known by its MAC; of the second pool.
pub const RICH_ANYWHERE: Mac = [2, 0, 0, 0, 0, 0x28];
/// Known by its MAC, and on VLAN 101 by another binding.
pub const TWICE: Mac = [2, 0, 0, 0, 0, 0x29];
/// Its binding ends soon.
pub const ENDING: Mac = [2, 0, 0, 0, 0, 0x2a];
/// Known by its MAC; of the pool with rapid commit.
pub const HURRIED: Mac = [2, 0, 0, 0, 0, 0x2b];
/// Known to nobody.
pub const STRANGER: Mac = [2, 0, 0, 0, 0, 0x66];

/// VLAN ids, outer and inner, that a binding holds on; `None`: on all lines.
pub type Line = Option<(u16, u16)>;

/// Everybody who is bound on the interface [`LINES`]: MAC, address, line, profile.
pub const BOUND: [(Mac, Ipv4Addr, Line, u16); 12] = [
    (ANYWHERE, Ipv4Addr::new(100, 64, 3, 7), None, PLAIN),
    (UNTAGGED, Ipv4Addr::new(100, 64, 3, 8), Some((0, 0)), PLAIN),
    (TAGGED, Ipv4Addr::new(100, 64, 3, 9), Some((100, 0)), PLAIN),
    (QINQ, Ipv4Addr::new(100, 64, 3, 10), Some((200, 30)), PLAIN),
    (
        RICH_QINQ,
        Ipv4Addr::new(100, 96, 3, 11),
        Some((300, 40)),
        RICH,
    ),
    (ENDED, Ipv4Addr::new(100, 64, 3, 12), None, PLAIN),
    (NO_PROFILE, Ipv4Addr::new(100, 64, 3, 13), None, ABSENT),
    (RICH_ANYWHERE, Ipv4Addr::new(100, 96, 3, 14), None, RICH),
    (TWICE, Ipv4Addr::new(100, 64, 3, 15), None, PLAIN),
    (TWICE, Ipv4Addr::new(100, 64, 3, 16), Some((101, 0)), PLAIN),
    (ENDING, Ipv4Addr::new(100, 64, 3, 17), None, PLAIN),
    (HURRIED, Ipv4Addr::new(100, 64, 3, 18), None, RAPID),
];

/// Interface, circuit-id, remote-id, MAC, address, profile.
pub type OnCircuit = (u8, &'static [u8], &'static [u8], Mac, Ipv4Addr, u16);

/// Everybody who is bound by circuit.
pub const ON_CIRCUIT: [OnCircuit; 7] = [
    (
        CIRCUITS,
        PORT,
        &[],
        QINQ,
        Ipv4Addr::new(100, 64, 4, 1),
        PLAIN,
    ),
    (
        CIRCUITS,
        b"port 9",
        &[],
        ENDED,
        Ipv4Addr::new(100, 64, 4, 2),
        PLAIN,
    ),
    (
        CIRCUITS,
        &[7; 126],
        &[],
        TAGGED,
        Ipv4Addr::new(100, 96, 4, 3),
        RICH,
    ),
    (
        REMOTES,
        PORT,
        b"onu-77",
        QINQ,
        Ipv4Addr::new(100, 64, 5, 1),
        PLAIN,
    ),
    (
        REMOTES,
        PORT,
        b"onu-78",
        UNTAGGED,
        Ipv4Addr::new(100, 64, 5, 2),
        PLAIN,
    ),
    (
        REMOTES,
        b"port 7",
        &[],
        HURRIED,
        Ipv4Addr::new(100, 64, 5, 3),
        RAPID,
    ),
    (
        REMOTES,
        &[9; 100],
        &[8; 26],
        RICH_QINQ,
        Ipv4Addr::new(100, 96, 5, 4),
        RICH,
    ),
];

/// The circuit-id of the home gateway among the clients of the test bench.
pub const PORT: &[u8] = b"olt1 eth 0/1/5/32:200.30";

/// Interface, kind, VLAN ids, MAC, address.
pub type Elsewhere = (u8, u8, (u16, u16), Mac, Ipv4Addr);

/// Everybody who is bound otherwise.
pub const ELSEWHERE: [Elsewhere; 9] = [
    (
        CIRCUITS,
        KIND_VLAN,
        (200, 30),
        TAGGED,
        Ipv4Addr::new(100, 64, 4, 10),
    ),
    (
        CIRCUITS,
        KIND_VLAN,
        (100, 0),
        TAGGED,
        Ipv4Addr::new(100, 64, 4, 11),
    ),
    (
        CIRCUITS,
        KIND_VLAN,
        (102, 0),
        ENDED,
        Ipv4Addr::new(100, 64, 4, 12),
    ),
    (
        REMOTES,
        KIND_LINE,
        (100, 0),
        QINQ,
        Ipv4Addr::new(100, 64, 5, 10),
    ),
    (
        REMOTES,
        KIND_MAC,
        (0, 0),
        QINQ,
        Ipv4Addr::new(100, 64, 5, 11),
    ),
    (
        REMOTES,
        KIND_MAC,
        (0, 0),
        TAGGED,
        Ipv4Addr::new(100, 64, 5, 12),
    ),
    (VLANS, KIND_MAC, (0, 0), TWICE, Ipv4Addr::new(100, 64, 6, 1)),
    (
        VLANS,
        KIND_VLAN,
        (200, 30),
        TWICE,
        Ipv4Addr::new(100, 64, 6, 2),
    ),
    (
        VLANS,
        KIND_VLAN,
        (100, 0),
        TAGGED,
        Ipv4Addr::new(100, 64, 6, 3),
    ),
];

/// The address of the first binding of `mac` on the interface [`LINES`].
pub fn address_of(mac: Mac) -> Ipv4Addr {
    BOUND.iter().find(|bound| bound.0 == mac).unwrap().1
}

pub fn plain_parts() -> ProfileParts<'static> {
    ProfileParts {
        server_id: SERVER.octets(),
        next_server: [0; 4],
        gateway_mac: GATEWAY_MAC,
        lease_secs: 3600,
        subnet_mask: [255, 224, 0, 0],
        routers: &[[100, 64, 0, 1]],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: None,
        mtu: None,
        ntp: &[],
        rapid_commit: false,
        custom: &[],
    }
}

fn rich_parts() -> ProfileParts<'static> {
    ProfileParts {
        server_id: RICH_SERVER.octets(),
        next_server: [10, 0, 0, 9],
        gateway_mac: GATEWAY_MAC,
        lease_secs: 86_400,
        subnet_mask: [255, 224, 0, 0],
        routers: &[[100, 96, 0, 1]],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: Some("residential.example.net"),
        mtu: Some(1492),
        ntp: &[[100, 96, 0, 2], [100, 96, 0, 3]],
        rapid_commit: false,
        custom: &[
            (2, &[0, 0, 0x0e, 0x10]),
            (28, &[100, 127, 255, 255]),
            (43, b"\x01\x1dhttp://acs.example.net:7547/a"),
            (121, &[0, 100, 96, 0, 1, 10, 10, 0, 100, 96, 0, 4]),
        ],
    }
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered, by this frame.
    Reply(Outcome, Vec<u8>),
    /// It was passed on as it was.
    Untouched(Outcome),
    /// It was dropped as it was.
    Dropped(Outcome),
}

impl Fate {
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Reply(outcome, _) | Self::Untouched(outcome) | Self::Dropped(outcome) => *outcome,
        }
    }
}

/// The programs, their subscribers, and the same on the host.
pub struct World {
    pub kernel: FastPath,
    pub bindings: BTreeMap<BindingKey, Binding>,
    pub profiles: BTreeMap<u16, Profile>,
    loaded: BTreeSet<u8>,
    _home: Home,
}

impl World {
    pub fn new(test: &str) -> Self {
        let home = Home::new(test);
        let kernel = home.open(1024);
        Self::over(home, kernel)
    }

    /// With the maps of `kernel`, which are pinned in `home`.
    pub fn over(home: Home, mut kernel: FastPath) -> Self {
        let rapid = ProfileParts {
            rapid_commit: true,
            ..plain_parts()
        };
        let profiles = [
            (PLAIN, encode(&plain_parts()).unwrap()),
            (RICH, encode(&rich_parts()).unwrap()),
            (RAPID, encode(&rapid).unwrap()),
        ];
        for (id, profile) in &profiles {
            kernel.put_profile(*id, profile).unwrap();
        }
        let mut world = Self {
            kernel,
            bindings: BTreeMap::new(),
            profiles: BTreeMap::from(profiles),
            loaded: BTreeSet::new(),
            _home: home,
        };
        for (key, binding) in everybody() {
            world.bind(key, binding);
        }
        world
    }

    pub fn bind(&mut self, key: BindingKey, binding: Binding) {
        self.kernel.put_binding(&key, &binding).unwrap();
        self.bindings.insert(key, binding);
    }

    /// Loads the program of an interface, unless it is there: each takes the verifier a while.
    pub fn load(&mut self, number: u8) {
        if self.loaded.insert(number) {
            let (_, identity, remote_id) = INTERFACES.iter().find(|at| at.0 == number).unwrap();
            let config = interface(number, identity, *remote_id);
            self.kernel.load_only(&config).unwrap();
        }
    }

    /// Runs the program of an interface on `frame`.
    pub fn verdict(&mut self, number: u8, frame: &[u8]) -> (u32, Vec<u8>) {
        self.load(number);
        self.kernel.run_once(number, frame).unwrap()
    }

    /// As `verdict`. Exactly one counter moves by exactly one, and that is the outcome; none moves for
    /// what is not DHCP or ARP of ours.
    pub fn in_kernel_on(&mut self, number: u8, frame: &[u8]) -> Fate {
        let before = self.kernel.counters().unwrap();
        let (verdict, after) = self.verdict(number, frame);
        let mut moved = Vec::new();
        for ((outcome, now), (_, then)) in self.kernel.counters().unwrap().into_iter().zip(before) {
            moved.extend((now != then).then_some((outcome, now - then)));
        }
        let outcome = match moved.as_slice() {
            [] => Outcome::NotDhcp,
            [(outcome, 1)] => *outcome,
            _ => panic!("these counters moved: {moved:?}"),
        };
        fate(verdict, after, frame, outcome)
    }

    pub fn in_kernel(&mut self, frame: &[u8]) -> Fate {
        self.in_kernel_on(LINES, frame)
    }

    /// What the code that the slow path runs makes of a DHCP frame at `now_secs`, where it does what the
    /// kernel program does: no reply is shortened.
    pub fn on_host(&self, number: u8, frame: &[u8], now_secs: u32) -> Fate {
        self.decide_on_host(number, frame, now_secs)
            .unwrap_or_else(Fate::Untouched)
    }

    fn decide_on_host(&self, number: u8, frame: &[u8], now: u32) -> Result<Fate, Outcome> {
        let (_, kinds, remote_id) = INTERFACES.iter().find(|at| at.0 == number).unwrap();
        let identity = Identity {
            interface: number,
            kinds,
            remote_id: *remote_id,
        };
        let lookup = |key: &BindingKey| self.bindings.get(key).copied();
        let (request, _, binding) = find(frame, identity, now, lookup)?;
        let absent = Profile::new_zeroed();
        let profile = self.profiles.get(&binding.profile).unwrap_or(&absent);
        let answer = decide(&request, &binding, profile, now)?;
        let packet = Bytes(frame);
        let set = selection::wanted(&packet, &request, &answer, profile)?;
        Shape::of(&packet, &request, &answer, profile, set)?;
        let (outcome, sent) = reply(frame, &request, &binding, profile, now)?;
        Ok(Fate::Reply(outcome, sent))
    }

    /// Switches on an interface what is told of its packets.
    pub fn listen(&mut self, number: u8, events: bool, trace: &[Mac]) {
        self.load(number);
        self.kernel.set_switches(number, events, trace).unwrap();
    }

    /// Runs `frame` in the kernel and on the host, which have to agree in every byte.
    pub fn run_on(&mut self, number: u8, frame: &[u8]) -> Fate {
        let early = boot_secs();
        let fate = self.in_kernel_on(number, frame);
        let on_host = self.on_host(number, frame, early);
        if fate != on_host {
            // A second may have passed meanwhile.
            let late = self.on_host(number, frame, boot_secs());
            assert_eq!(fate, late, "kernel and host disagree");
        }
        fate
    }

    pub fn run(&mut self, frame: &[u8]) -> Fate {
        self.run_on(LINES, frame)
    }
}

/// What a verdict amounts to: what is not answered is what it was.
pub fn fate(verdict: u32, after: Vec<u8>, frame: &[u8], outcome: Outcome) -> Fate {
    if verdict != XDP_TX {
        assert_eq!(after, frame, "not answered, but changed ({outcome:?})");
    }
    match verdict {
        XDP_TX => Fate::Reply(outcome, after),
        XDP_PASS => Fate::Untouched(outcome),
        XDP_DROP => Fate::Dropped(outcome),
        _ => panic!("verdict {verdict}, {outcome:?}"),
    }
}

pub fn interface(number: u8, identity: &[u8], remote_id: bool) -> InterfaceConfig {
    InterfaceConfig {
        number,
        name: format!("interface {number}"),
        mode: AttachMode::Native,
        identity: identity.to_vec(),
        remote_id,
    }
}

pub fn binding(mac: Mac, address: Ipv4Addr, profile: u16) -> Binding {
    let valid_until_secs = match mac {
        ENDED => 1,
        ENDING => boot_secs() + 500,
        _ => NEVER_EXPIRES,
    };
    Binding {
        address: address.octets(),
        valid_until_secs,
        mac,
        profile,
        last_seen_jiffies: 0,
    }
}

/// A key of a kind without circuits.
pub fn key(interface: u8, kind: u8, (outer_vid, inner_vid): (u16, u16), mac: Mac) -> BindingKey {
    match kind {
        KIND_LINE => BindingKey::Line {
            interface,
            outer_vid,
            inner_vid,
            mac,
        },
        KIND_MAC => BindingKey::Mac { interface, mac },
        _ => BindingKey::Vlan {
            interface,
            outer_vid,
            inner_vid,
        },
    }
}

fn everybody() -> Vec<(BindingKey, Binding)> {
    let on_lines = BOUND.iter().map(|(mac, address, line, profile)| {
        let kind = if line.is_some() { KIND_LINE } else { KIND_MAC };
        let key = key(LINES, kind, line.unwrap_or_default(), *mac);
        (key, binding(*mac, *address, *profile))
    });
    let on_circuits = ON_CIRCUIT
        .iter()
        .map(|(interface, id, remote, mac, address, profile)| {
            let key = BindingKey::Circuit {
                interface: *interface,
                circuit: Circuit::new(id, remote).unwrap(),
            };
            (key, binding(*mac, *address, *profile))
        });
    let elsewhere = ELSEWHERE
        .iter()
        .map(|(interface, kind, vids, mac, address)| {
            (
                key(*interface, *kind, *vids, *mac),
                binding(*mac, *address, PLAIN),
            )
        });
    on_lines.chain(on_circuits).chain(elsewhere).collect()
}

/// Seconds of the clock that bindings are measured in.
pub fn boot_secs() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    u32::try_from(now.tv_sec()).unwrap()
}

/// Whether this runs in an emulator, where what is repeated is repeated less often.
pub fn is_slow_machine() -> bool {
    std::env::var_os("NEXUS_SLOW_MACHINE").is_some()
}
