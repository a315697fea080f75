//! An access network of namespaces: subscribers on veth, an access node that tags, an OLT interface.
//!
//! ```text
//! subscriber 1 eth0 --- port1 \                                    / OLT namespace
//! subscriber 2 eth0 --- port2  > access node (tc BPF) uplink0 --- access0 (XDP, native)
//! subscriber 3 eth0 --- port3 /
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bpf::{self, Pinned};
use crate::capture::Capture;
use crate::link::{self, End};
use crate::netns::Namespace;
use crate::packet::Mac;
use crate::wire::Wire;

/// Name of the OLT's interface towards the subscribers.
pub const OLT_INTERFACE: &str = "access0";
/// Name of a subscriber's interface.
pub const SUBSCRIBER_INTERFACE: &str = "eth0";
/// Name of the access node's interface towards the OLT.
pub const UPLINK: &str = "uplink0";

/// Ports of one line, as the kernel program has them.
const LINE_PORTS: usize = 16;

/// How a subscriber's line is told apart on the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// No tag.
    Untagged,
    /// One 802.1Q tag.
    Vlan(u16),
    /// An 802.1ad tag outside and an 802.1Q tag inside.
    QinQ {
        /// VLAN id of the outer tag.
        s_vlan: u16,
        /// VLAN id of the inner tag.
        c_vlan: u16,
    },
}

impl Line {
    /// (outer, inner) VLAN id, 0 where there is no tag.
    #[must_use]
    pub fn vids(self) -> (u16, u16) {
        match self {
            Self::Untagged => (0, 0),
            Self::Vlan(vid) => (vid, 0),
            Self::QinQ { s_vlan, c_vlan } => (s_vlan, c_vlan),
        }
    }

    fn bytes(self) -> [u8; 4] {
        let (outer, inner) = self.vids();
        let ([a, b], [c, d]) = (outer.to_ne_bytes(), inner.to_ne_bytes());
        [a, b, c, d]
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged => f.write_str("untagged"),
            Self::Vlan(vid) => write!(f, "VLAN {vid}"),
            Self::QinQ { s_vlan, c_vlan } => write!(f, "QinQ {s_vlan}.{c_vlan}"),
        }
    }
}

/// A subscriber with an Ethernet interface, [`SUBSCRIBER_INTERFACE`].
#[derive(Debug)]
pub struct Subscriber {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its MAC address: `02:00:00:00:00:01` for the first, and so on.
    pub mac: Mac,
    /// Its line.
    pub line: Line,
}

/// The whole access network; dropped, it disappears.
#[derive(Debug)]
pub struct AccessNetwork {
    /// The subscribers, in the order of the lines given.
    pub subscribers: Vec<Subscriber>,
    /// The namespace of the OLT host, with [`OLT_INTERFACE`].
    pub olt: Namespace,
    node: Namespace,
}

impl AccessNetwork {
    /// Builds it. `prefix` (see [`crate::netns::unique_prefix`]) begins all names; `object` is the
    /// access node's BPF object, see [`object_path`].
    ///
    /// # Errors
    /// If the caller is not root, the object is not built, or the kernel refuses something.
    pub fn create(prefix: &str, object: &Path, lines: &[Line]) -> Result<Self> {
        let network = Self {
            olt: Namespace::create(prefix, "olt")?,
            node: Namespace::create(prefix, "node")?,
            subscribers: subscribers(prefix, lines)?,
        };
        let uplink = End::new(&network.node, UPLINK);
        link::veth(uplink, End::new(&network.olt, OLT_INTERFACE))?;

        // The programs live as long as they are attached, and their maps with them.
        let pinned = Pinned::load(object, &format!("{prefix}-access-node"))?;
        let ports = bpf::map_id(&pinned.map("PORTS"))?;
        let lines_map = bpf::map_id(&pinned.map("LINES"))?;
        let uplink_index = link::index(&network.node, UPLINK)?;

        let mut members: Vec<(Line, Vec<u32>)> = Vec::new();
        for (number, subscriber) in (1_u32..).zip(&network.subscribers) {
            let port = format!("port{number}");
            link::veth(
                End::new(&network.node, &port),
                End::new(&subscriber.namespace, SUBSCRIBER_INTERFACE).mac(subscriber.mac),
            )?;
            link::deliver_later(&subscriber.namespace, SUBSCRIBER_INTERFACE)?;
            let index = link::index(&network.node, &port)?;
            let mut value = Vec::from(uplink_index.to_ne_bytes());
            value.extend(subscriber.line.bytes());
            bpf::map_update(ports, &index.to_ne_bytes(), &value)?;
            network.attach(&port, &pinned.program("port_in"))?;
            match members
                .iter_mut()
                .find(|(line, _)| *line == subscriber.line)
            {
                Some((_, indices)) => indices.push(index),
                None => members.push((subscriber.line, vec![index])),
            }
        }
        for (line, mut indices) in members {
            if indices.len() > LINE_PORTS {
                bail!(
                    "the access node takes at most {LINE_PORTS} subscribers on one line ({line})"
                );
            }
            indices.resize(LINE_PORTS, 0);
            let value: Vec<u8> = indices.into_iter().flat_map(u32::to_ne_bytes).collect();
            bpf::map_update(lines_map, &line.bytes(), &value)?;
        }
        network.attach(UPLINK, &pinned.program("uplink_in"))?;
        let pass = pinned.program("pass");
        let pass = pass.to_str().context("a pin path that is not UTF-8")?;
        network.node.run(
            "bpftool",
            &["net", "attach", "xdpdrv", "pinned", pass, "dev", UPLINK],
        )?;
        Ok(network)
    }

    /// Captures the uplink: what goes to the OLT and what comes back, tags included.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture(&self, directory: &Path) -> Result<Capture> {
        Capture::start(&self.node, UPLINK, directory)
    }

    /// The uplink, to put frames with tags of any kind onto the line to the OLT.
    ///
    /// # Errors
    /// As [`Wire::open`].
    pub fn uplink(&self) -> Result<Wire> {
        Wire::open(&self.node, UPLINK)
    }

    /// The access node, with [`UPLINK`].
    #[must_use]
    pub const fn node(&self) -> &Namespace {
        &self.node
    }

    /// Names of all its namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let own = [self.olt.name().to_owned(), self.node.name().to_owned()];
        let subscribers = self
            .subscribers
            .iter()
            .map(|one| one.namespace.name().to_owned());
        own.into_iter().chain(subscribers).collect()
    }

    /// Leaves everything there when this is dropped.
    pub fn keep(&mut self) {
        self.olt.keep();
        self.node.keep();
        for subscriber in &mut self.subscribers {
            subscriber.namespace.keep();
        }
    }

    fn attach(&self, interface: &str, program: &Path) -> Result<()> {
        let program = program.to_str().context("a pin path that is not UTF-8")?;
        self.node
            .run("tc", &["qdisc", "add", "dev", interface, "clsact"])?;
        let filter = [
            "filter", "add", "dev", interface, "ingress", "bpf", "da", "pinned", program,
        ];
        self.node.run("tc", &filter)?;
        Ok(())
    }
}

/// Where `cargo xtask build-ebpf` puts the access node's object.
#[must_use]
pub fn object_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf/nexus-access-node")
}

fn subscribers(prefix: &str, lines: &[Line]) -> Result<Vec<Subscriber>> {
    (1_u8..)
        .zip(lines)
        .map(|(number, line)| {
            Ok(Subscriber {
                namespace: Namespace::create(prefix, &format!("sub{number}"))?,
                mac: [2, 0, 0, 0, 0, number],
                line: *line,
            })
        })
        .collect()
}
