//! Real DHCP relays of Debian between a subscriber and its line.
//!
//! ```text
//! client eth0 --- dslam{n} [relay] eth0 --- line of the access node
//! ```
//!
//! It relays as access nodes do: what clients broadcast goes through the relay program, which puts
//! itself into `giaddr`; everything else, ARP and unicast renewals, is bridged with the client's own MAC.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::access_node::{SUBSCRIBER_INTERFACE, Subscriber};
use crate::command::SHORT;
use crate::link::{self, End};
use crate::netns::Namespace;
use crate::packet::{Mac, mac_text};
use crate::process::Process;
use crate::programs;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `dhcrelay -a` of isc-dhcp-relay: it appends option 82, the circuit-id being the name of the
    /// interface towards the client.
    Dhcrelay,
    /// `dnsmasq --dhcp-relay`: no option 82.
    Dnsmasq,
    /// `dhcp-helper`: no option 82. Debian does not let it be installed beside `dhcrelay`, so it is
    /// unpacked into a folder by `cargo xtask prepare`.
    DhcpHelper,
}

impl Kind {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcrelay => "dhcrelay",
            Self::Dnsmasq => "dnsmasq",
            Self::DhcpHelper => "dhcp-helper",
        }
    }
}

/// The server that a relay sends to.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// Where that is: what is on the relay's line need not answer ARP to a host without a binding.
    pub mac: Mac,
}

/// A running relay and the client side of it.
#[derive(Debug)]
pub struct Relay {
    /// The subscriber behind it, whose frames the relay's line carries.
    pub client: Subscriber,
    /// Interface of the relay towards the client, which `dhcrelay` sends as the circuit-id.
    pub circuit: String,
    process: Process,
}

impl Relay {
    /// Makes `at` (a host on a line) a relay for one client, a new host behind it. `address` with a
    /// prefix length is the relay's own towards the client, and so its `giaddr`.
    ///
    /// # Errors
    /// If the kernel refuses something, or the program does not come up.
    pub fn start(
        kind: Kind,
        at: &Subscriber,
        prefix: &str,
        address: (Ipv4Addr, u8),
        server: Server,
        directory: &Path,
    ) -> Result<Self> {
        let [.., number] = at.mac;
        let circuit = format!("dslam{number}");
        let client = Subscriber {
            namespace: Namespace::create(prefix, &format!("behind{number}"))?,
            mac: [2, 0, 0, 0, 1, number],
            line: at.line,
        };
        let relay = &at.namespace;
        link::veth(
            End::new(relay, &circuit),
            End::new(&client.namespace, SUBSCRIBER_INTERFACE).mac(client.mac),
        )?;
        link::deliver_later(&client.namespace, SUBSCRIBER_INTERFACE)?;
        join(at, &circuit, address, server)?;
        let process = spawn(kind, at, &circuit, address.0, server.address, directory)?;
        Ok(Self {
            client,
            circuit,
            process,
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Addresses, the way to the server, and the bridge for all that the relay program does not take.
fn join(at: &Subscriber, circuit: &str, address: (Ipv4Addr, u8), server: Server) -> Result<()> {
    let relay = &at.namespace;
    let ip = |arguments: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        relay.run("ip", &words).map(drop)
    };
    let tc = |arguments: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        relay.run("tc", &words).map(drop)
    };
    let (up, to) = (SUBSCRIBER_INTERFACE, server.address);
    let ((own, bits), own_mac) = (address, mac_text(at.mac));
    let [.., number] = at.mac;
    ip(&format!("address add {own}/{bits} dev {circuit}"))?;
    ip(&format!("address add 192.0.2.{number}/32 dev {up}"))?;
    ip(&format!("route add {to} dev {up} src {own}"))?;
    let server_mac = mac_text(server.mac);
    ip(&format!(
        "neigh add {to} lladdr {server_mac} dev {up} nud permanent"
    ))?;
    for interface in [circuit, up] {
        tc(&format!("qdisc add dev {interface} clsact"))?;
    }
    // A match without an action goes on to the relay's own IP.
    tc(&format!(
        "filter add dev {circuit} ingress prio 1 protocol ip u32 match ip dst 255.255.255.255/32 \
         match ip protocol 17 0xff match ip dport 67 0xffff flowid 1:1"
    ))?;
    tc(&format!(
        "filter add dev {up} ingress prio 1 protocol all u32 match ether dst {own_mac} flowid 1:1"
    ))?;
    for (from, to) in [(circuit, up), (up, circuit)] {
        tc(&format!(
            "filter add dev {from} ingress prio 2 protocol all u32 match u32 0 0 \
             action mirred egress redirect dev {to}"
        ))?;
    }
    Ok(())
}

fn spawn(
    kind: Kind,
    at: &Subscriber,
    circuit: &str,
    own: Ipv4Addr,
    server: Ipv4Addr,
    directory: &Path,
) -> Result<Process> {
    let log = directory.join(format!("{}-{}.log", at.namespace.name(), kind.name()));
    let (program, arguments, up) = match kind {
        Kind::Dhcrelay => (
            kind.name().to_owned(),
            format!("-4 -d -a -iu {SUBSCRIBER_INTERFACE} -id {circuit} {server}"),
            format!("Listening on LPF/{circuit}"),
        ),
        Kind::Dnsmasq => (
            kind.name().to_owned(),
            format!("-d -C /dev/null --port=0 --dhcp-relay={own},{server}"),
            "DHCP relay from".to_owned(),
        ),
        Kind::DhcpHelper => {
            let program = dhcp_helper()?.display().to_string();
            (
                program,
                format!("-d -s {server} -i {circuit}"),
                String::new(),
            )
        }
    };
    let mut command = at.namespace.command(&program);
    command.args(arguments.split_whitespace());
    let mut process = Process::spawn(kind.name(), &mut command, &log)?;
    if up.is_empty() {
        // It says nothing; it is up when it listens.
        process.wait_until("its socket", SHORT, || {
            let sockets = at.namespace.run("ss", &["-Huln", "sport", "=", ":67"])?;
            Ok((!sockets.trim().is_empty()).then_some(()))
        })?;
    } else {
        process.wait_for_line(&up, SHORT)?;
    }
    Ok(process)
}

/// Where `cargo xtask prepare` unpacks `dhcp-helper`.
///
/// # Errors
/// If there is no home directory.
pub fn dhcp_helper() -> Result<PathBuf> {
    let cache = programs::cache().context("no place for dhcp-helper")?;
    Ok(cache.join("dhcp-helper/dhcp-helper"))
}
