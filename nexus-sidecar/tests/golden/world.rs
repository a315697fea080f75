//! A loaded program with subscribers in its maps, and the same decisions made on the host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Outcome, Profile};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_dhcp::{Bytes, OptionTable, Reply, decide, parse_link, parse_message};
use nexus_sidecar::fastpath::{FastPath, FastPathConfig};
use nexus_testkit::bpf;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::packet::Mac;
use nix::time::{ClockId, clock_gettime};

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// `BPF_PROG_TEST_RUN` lets packets arrive on the loopback interface.
pub const IFINDEX: u32 = 1;

pub const GATEWAY_MAC: Mac = [2, 0, 0x5e, 0, 0, 1];
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Server of the second pool, whose replies are long.
pub const RICH_SERVER: Ipv4Addr = Ipv4Addr::new(100, 96, 0, 1);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
pub const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

const PLAIN: u32 = 0;
const RICH: u32 = 255;
const ABSENT: u32 = 7;

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
/// Known to nobody.
pub const STRANGER: Mac = [2, 0, 0, 0, 0, 0x66];

/// VLAN ids, outer and inner, that a binding holds on; `None`: on all lines.
pub type Line = Option<(u16, u16)>;

/// Everybody who is in the map: MAC, address, line, profile.
pub const BOUND: [(Mac, Ipv4Addr, Line, u32); 11] = [
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
];

/// The address of the first binding of `mac`.
pub fn address_of(mac: Mac) -> Ipv4Addr {
    BOUND.iter().find(|bound| bound.0 == mac).unwrap().1
}

pub fn plain_profile() -> Profile {
    encode(&ProfileParts {
        server_id: SERVER.octets(),
        next_server: [0; 4],
        gateway_mac: GATEWAY_MAC,
        lease_secs: 3600,
        subnet_mask: [255, 224, 0, 0],
        routers: &[SERVER.octets()],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: None,
        mtu: None,
        ntp: &[],
        custom: &[],
    })
    .unwrap()
}

fn rich_profile() -> Profile {
    encode(&ProfileParts {
        server_id: RICH_SERVER.octets(),
        next_server: [10, 0, 0, 9],
        gateway_mac: GATEWAY_MAC,
        lease_secs: 86_400,
        subnet_mask: [255, 224, 0, 0],
        routers: &[RICH_SERVER.octets()],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: Some("residential.example.net"),
        mtu: Some(1492),
        ntp: &[[100, 96, 0, 2], [100, 96, 0, 3]],
        custom: &[
            (2, &[0, 0, 0x0e, 0x10]),
            (28, &[100, 127, 255, 255]),
            (43, b"\x01\x1dhttp://acs.example.net:7547/a"),
            (121, &[0, 100, 96, 0, 1, 10, 10, 0, 100, 96, 0, 4]),
        ],
    })
    .unwrap()
}

/// Pins of one test, removed when it ends, however it ends.
pub struct Pins(PathBuf);

impl Pins {
    pub fn new(test: &str) -> Self {
        bpf::ensure_bpffs().unwrap();
        Self(Path::new(bpf::BPFFS).join(unique_prefix(test)))
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Loads the program with its pins here.
    pub fn open(&self, max_bindings: u32) -> FastPath {
        FastPath::open(&self.config(max_bindings)).unwrap()
    }

    pub fn config(&self, max_bindings: u32) -> FastPathConfig {
        FastPathConfig {
            pin_root: self.0.clone(),
            max_bindings,
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = bpf::unpin(&self.0);
    }
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered, by this frame.
    Reply(Outcome, Vec<u8>),
    /// It was passed on as it was.
    Untouched(Outcome),
}

/// The program, its subscribers, and the same on the host.
pub struct World {
    kernel: FastPath,
    bindings: BTreeMap<BindingKey, Binding>,
    profiles: BTreeMap<u32, Profile>,
    _pins: Pins,
}

impl World {
    pub fn new(test: &str) -> Self {
        let pins = Pins::new(test);
        let mut kernel = pins.open(1024);
        let profiles = BTreeMap::from([(PLAIN, plain_profile()), (RICH, rich_profile())]);
        for (id, profile) in &profiles {
            kernel.put_profile(*id, profile).unwrap();
        }
        let mut bindings = BTreeMap::new();
        for (mac, address, line, profile) in BOUND {
            let key = match line {
                Some((outer, inner)) => BindingKey::line(IFINDEX, outer, inner, mac),
                None => BindingKey::mac(IFINDEX, mac),
            };
            let valid_until_ns = match mac {
                ENDED => 1,
                ENDING => boot_ns() + 500_000_000_000,
                _ => NEVER_EXPIRES,
            };
            let binding = Binding {
                valid_until_ns,
                last_seen_ns: 0,
                address: address.octets(),
                profile,
            };
            kernel.put_binding(&key, &binding).unwrap();
            bindings.insert(key, binding);
        }
        Self {
            kernel,
            bindings,
            profiles,
            _pins: pins,
        }
    }

    /// Runs the program on `frame`. Exactly one counter moves by exactly one, and that is the
    /// outcome; none moves for what is not DHCP or ARP of ours.
    pub fn in_kernel(&mut self, frame: &[u8]) -> Fate {
        let before = self.kernel.counters().unwrap();
        let (verdict, after) = self.kernel.run_once(frame).unwrap();
        let mut moved = Vec::new();
        for ((outcome, now), (_, then)) in self.kernel.counters().unwrap().into_iter().zip(before) {
            moved.extend((now != then).then_some((outcome, now - then)));
        }
        let outcome = match moved.as_slice() {
            [] => Outcome::NotDhcp,
            [(outcome, 1)] => *outcome,
            _ => panic!("these counters moved: {moved:?}"),
        };
        match verdict {
            XDP_TX => Fate::Reply(outcome, after),
            XDP_PASS => {
                assert_eq!(after, frame, "passed on, but changed ({outcome:?})");
                Fate::Untouched(outcome)
            }
            _ => panic!("verdict {verdict}, {outcome:?}"),
        }
    }

    /// What the code that the slow path runs makes of a DHCP frame at `now_ns`.
    pub fn on_host(&self, frame: &[u8], now_ns: u64) -> Fate {
        self.decide_on_host(frame, now_ns)
            .unwrap_or_else(Fate::Untouched)
    }

    fn decide_on_host(&self, frame: &[u8], now_ns: u64) -> Result<Fate, Outcome> {
        let packet = Bytes(frame);
        let message = parse_message(&packet, parse_link(&packet)?)?;
        let request = message.into_request(&packet, &mut OptionTable::default())?;
        let keys = [request.line_key(IFINDEX), request.mac_key(IFINDEX)];
        let binding = keys.iter().find_map(|key| self.bindings.get(key));
        let binding = binding.ok_or(Outcome::UnknownClient)?;
        let absent = Profile {
            present: 0,
            ..plain_profile()
        };
        let profile = self.profiles.get(&binding.profile).unwrap_or(&absent);
        let answer = decide(&request, binding, profile, now_ns)?;
        let mut reply = Reply::default();
        let span = reply.write(&packet, &request, &answer, profile)?;
        Ok(Fate::Reply(answer.outcome, reply.frame(span).to_vec()))
    }

    /// Runs `frame` in the kernel and on the host, which have to agree in every byte.
    pub fn run(&mut self, frame: &[u8]) -> Fate {
        let early = boot_ns();
        let fate = self.in_kernel(frame);
        let late = boot_ns();
        // The time left of a binding may have gone down by a second within the run.
        let on_host = self.on_host(frame, early);
        if fate != on_host {
            assert_eq!(fate, self.on_host(frame, late), "kernel and host disagree");
        }
        fate
    }

    pub fn binding_in_kernel(&self, key: &BindingKey) -> Option<Binding> {
        let all = self.kernel.bindings().unwrap();
        all.into_iter()
            .find(|(at, _)| at == key)
            .map(|(_, binding)| binding)
    }
}

/// The clock that bindings are measured in.
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}
