//! Pins of one test, and what is put into them: a pool, clients, and their frames.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Profile};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_sidecar::fastpath::{
    AttachMode, FastPath, FastPathConfig, FastPathError, InterfaceConfig, PuntLimits,
};
use nexus_testkit::bpf;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::packet::{Bootp, Frame, Mac};

/// Profile of the pool.
pub const POOL: u16 = 3;
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Pins of one test, removed when it ends, however it ends.
pub struct Home(PathBuf);

impl Home {
    pub fn new(test: &str) -> Self {
        bpf::ensure_bpffs().unwrap();
        Self(Path::new(bpf::BPFFS).join(unique_prefix(test)))
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn config(&self, max_bindings: u32) -> FastPathConfig {
        config(&self.0, max_bindings)
    }

    pub fn try_open(&self, max_bindings: u32) -> Result<FastPath, FastPathError> {
        FastPath::open(&self.config(max_bindings))
    }

    pub fn open(&self, max_bindings: u32) -> FastPath {
        self.try_open(max_bindings).unwrap()
    }

    /// As `open`, with the pool.
    pub fn with_pool(&self, max_bindings: u32) -> FastPath {
        let mut fast_path = self.open(max_bindings);
        fast_path.put_profile(POOL, &pool(3600)).unwrap();
        fast_path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = bpf::unpin(&self.0);
    }
}

pub fn config(root: &Path, max_bindings: u32) -> FastPathConfig {
    FastPathConfig {
        pin_root: root.to_owned(),
        max_bindings,
        max_circuits: max_bindings,
        punts: PuntLimits::default(),
    }
}

/// An interface whose subscribers are known by line, circuit or MAC.
pub fn interface(number: u8, name: &str, mode: AttachMode) -> InterfaceConfig {
    InterfaceConfig {
        number,
        name: name.to_owned(),
        mode,
        identity: vec![
            BindingKey::KIND_LINE,
            BindingKey::KIND_CIRCUIT,
            BindingKey::KIND_MAC,
        ],
        remote_id: false,
    }
}

pub fn pool(lease_secs: u32) -> Profile {
    encode(&ProfileParts {
        server_id: SERVER.octets(),
        next_server: [0; 4],
        gateway_mac: [2, 0, 0x5e, 0, 0, 1],
        lease_secs,
        subnet_mask: [255, 224, 0, 0],
        routers: &[SERVER.octets()],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: None,
        mtu: None,
        ntp: &[],
        rapid_commit: false,
        custom: &[],
    })
    .unwrap()
}

pub fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// A client that is known by its MAC on interface `interface`.
pub fn by_mac(interface: u8, number: u32) -> BindingKey {
    BindingKey::Mac {
        interface,
        mac: mac(number),
    }
}

/// Address of a client: its number in 100.64.0.0/11.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number)
}

/// What a client holds.
pub fn binding(number: u32) -> Binding {
    Binding {
        address: address(number).octets(),
        valid_until_secs: NEVER_EXPIRES,
        mac: mac(number),
        profile: POOL,
        last_seen_jiffies: 0,
    }
}

/// A DISCOVER of a client that takes whatever options there are.
pub fn discover(number: u32, xid: u32) -> Bootp {
    Bootp::request(mac(number), xid).option(53, &[1])
}

/// The offer that the program of an interface makes to a message, untagged; `None`: none.
pub fn offered(fast_path: &mut FastPath, number: u8, message: &Bootp) -> Option<Ipv4Addr> {
    const XDP_TX: u32 = 3;
    let frame = Frame::from_client(message).build();
    let (verdict, reply) = fast_path.run_once(number, &frame).unwrap();
    (verdict == XDP_TX).then(|| Frame::parse(&reply).unwrap().bootp().unwrap().yiaddr)
}
