//! The line between the load and one server: two namespaces and a veth pair, the same for every server.

use std::path::Path;

use anyhow::{Context as _, Result};
use nexus_testkit::bpf::Pinned;
use nexus_testkit::command;
use nexus_testkit::link;
use nexus_testkit::netns::Namespace;
use nexus_testkit::packet::{Mac, mac_text};

/// The load's end.
pub const LOAD_END: &str = "load0";
/// The server's end.
pub const SERVER_END: &str = "line0";
/// MAC address of the server's end.
pub const SERVER_MAC: Mac = [2, 0, 0x5e, 0, 0, 1];
/// Address of the server and gateway.
pub const SERVER: &str = "100.64.0.1";
/// Address of the load's end, where perfdhcp plays a relay.
pub const RELAY: &str = "100.64.0.2";
/// Length of the network's prefix.
pub const PREFIX: u8 = 10;

/// Transmission queues of each end, one for each processor.
const QUEUES: usize = 2;

/// A line.
pub struct Line {
    /// Where the load runs.
    pub load: Namespace,
    /// Where the server runs.
    pub server: Namespace,
}

impl Line {
    /// Makes the line `{prefix}-{name}`. Both processors can send at the same time, because each has a queue of its
    /// own. `traffic` is pinned: its program at the load's end does nothing, but without one the kernel (6.18) does not
    /// wake the receiver of what a program at the other end sends back.
    pub fn create(prefix: &str, name: &str, traffic: &Pinned) -> Result<Self> {
        let load = Namespace::create(prefix, &format!("{name}-load"))?;
        let server = Namespace::create(prefix, name)?;
        let queues = QUEUES.to_string();
        let queues = ["numtxqueues", &queues, "numrxqueues", &queues];
        let mut pair = vec!["link", "add", "name", LOAD_END];
        pair.extend(queues);
        pair.extend(["type", "veth", "peer", "name", SERVER_END]);
        pair.extend(queues);
        pair.extend(["netns", server.name()]);
        load.run("ip", &pair)?;
        let mac = mac_text(SERVER_MAC);
        server.run("ip", &["link", "set", "dev", SERVER_END, "address", &mac])?;
        for (namespace, end) in [(&load, LOAD_END), (&server, SERVER_END)] {
            link::disable_offloads(namespace, end)?;
            namespace.run("ip", &["link", "set", "dev", end, "up"])?;
            one_queue_per_processor(namespace, end)?;
        }
        attach(&load, &traffic.program("bare_pass"), LOAD_END)?;
        link::add_address(&load, LOAD_END, &format!("{RELAY}/{PREFIX}"))?;
        // Nobody has to ask who the server is.
        let mut neighbour = vec!["neigh", "replace", SERVER, "lladdr", &mac];
        neighbour.extend(["dev", LOAD_END, "nud", "permanent"]);
        load.run("ip", &neighbour)?;
        Ok(Self { load, server })
    }

    /// Gives the server's end its address, for a server that uses the host's.
    pub fn address_server(&self) -> Result<()> {
        link::add_address(&self.server, SERVER_END, &format!("{SERVER}/{PREFIX}"))
    }
}

/// Attaches a pinned XDP program in the driver.
pub fn attach(namespace: &Namespace, program: &Path, interface: &str) -> Result<()> {
    let mut attach = namespace.command("bpftool");
    attach.args(["net", "attach", "xdpdrv", "pinned"]);
    command::output(attach.arg(program).args(["dev", interface]))?;
    Ok(())
}

/// XPS: what a processor sends goes into its own queue. `ip netns exec`, because it alone mounts a sysfs that shows the
/// namespace's interfaces.
fn one_queue_per_processor(namespace: &Namespace, interface: &str) -> Result<()> {
    for queue in 0..QUEUES {
        let file = format!("/sys/class/net/{interface}/queues/tx-{queue}/xps_cpus");
        let write = format!("echo {:x} >{file}", 1 << queue);
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", namespace.name(), "sh", "-c", &write]);
        command::output(&mut command).context("cannot give each processor its queue")?;
    }
    Ok(())
}
