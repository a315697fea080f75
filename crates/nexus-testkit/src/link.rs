//! veth pairs that carry frames as real lines do: no offload, tags inside the frame.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::command;
use crate::netns::Namespace;
use crate::packet::Mac;

/// Offloads that a veth only pretends to do: a checksum that is never filled in, segments that are
/// never cut, tags that travel beside the frame, where XDP cannot see them.
const OFFLOADS: &[&str] = &[
    "rx",
    "tx",
    "tso",
    "gso",
    "gro",
    "tx-vlan-hw-insert",
    "tx-vlan-stag-hw-insert",
];

/// One end of a veth pair.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its name, at most 15 characters.
    pub name: &'a str,
    /// Its MAC address; random if not given.
    pub mac: Option<Mac>,
}

impl<'a> End<'a> {
    /// An end with a random MAC address.
    #[must_use]
    pub fn new(namespace: &'a Namespace, name: &'a str) -> Self {
        Self {
            namespace,
            name,
            mac: None,
        }
    }

    /// The same end with a given MAC address.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Self {
        Self {
            mac: Some(mac),
            ..self
        }
    }
}

/// Joins two namespaces with a veth pair, all offloads off, both ends up.
///
/// # Errors
/// If `ip` or `ethtool` refuses.
pub fn veth(left: End<'_>, right: End<'_>) -> Result<()> {
    let mut arguments = vec!["link", "add", "name", left.name];
    arguments.extend(["type", "veth", "peer", "name", right.name]);
    arguments.extend(["netns", right.namespace.name()]);
    left.namespace.run("ip", &arguments)?;
    for end in [left, right] {
        if let Some(mac) = end.mac {
            let text = crate::packet::mac_text(mac);
            end.namespace
                .run("ip", &["link", "set", "dev", end.name, "address", &text])?;
        }
        disable_offloads(end.namespace, end.name)?;
        end.namespace
            .run("ip", &["link", "set", "dev", end.name, "up"])?;
    }
    Ok(())
}

/// Turns the offloads off that a veth only pretends to do.
///
/// # Errors
/// If `ethtool` refuses.
pub fn disable_offloads(namespace: &Namespace, interface: &str) -> Result<()> {
    let mut arguments = vec!["-K", interface];
    for feature in OFFLOADS {
        arguments.extend([feature, "off"]);
    }
    namespace.run("ethtool", &arguments)?;
    Ok(())
}

/// Makes an interface of a veth take what arrives in a kernel thread on [`line_cpu`], where a DHCP
/// client of this bench runs with a higher priority: the thread waits until the client waits.
///
/// A reply out of XDP comes back within the very system call that sent the request. No real line is
/// that fast, and `udhcpc` misses it: it renews through a second, connected socket, which it
/// closes right after the call, and which until then takes the reply away from the listening one.
///
/// # Errors
/// If the kernel has no threaded packet reception (before 5.12).
pub fn deliver_later(namespace: &Namespace, interface: &str) -> Result<()> {
    // Only with GRO does a veth without XDP receive through NAPI at all.
    namespace.run("ethtool", &["-K", interface, "gro", "on"])?;
    let others = receiving_threads(interface);
    // `ip netns exec`, because it alone mounts a sysfs that shows the namespace's interfaces.
    let file = format!("/sys/class/net/{interface}/threaded");
    let write = format!("echo 1 >{file}");
    let mut threaded = Command::new("ip");
    threaded.args(["netns", "exec", namespace.name(), "sh", "-c", &write]);
    command::output(&mut threaded).context("cannot make packet reception threaded")?;
    for thread in receiving_threads(interface).difference(&others) {
        let thread = thread.to_string();
        let cpu = line_cpu().to_string();
        command::output(Command::new("taskset").args(["-c", "-p", &cpu, &thread]))?;
    }
    Ok(())
}

/// The processor that subscribers and their lines share: the first that this process may use.
#[must_use]
pub fn line_cpu() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0));
    let first = |allowed: CpuSet| (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    allowed.ok().and_then(first).unwrap_or(0)
}

/// The kernel threads that receive for interfaces of that name, whichever namespace they are in.
fn receiving_threads(interface: &str) -> BTreeSet<u32> {
    let begins = format!("napi/{interface}-");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with(&begins)
        })
        .collect()
}

/// Gives an interface an address, "10.0.0.1/24".
///
/// # Errors
/// If `ip` refuses.
pub fn add_address(namespace: &Namespace, interface: &str, address: &str) -> Result<()> {
    namespace.run("ip", &["address", "add", address, "dev", interface])?;
    Ok(())
}

/// The interface index.
///
/// # Errors
/// If there is no such interface.
pub fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    let shown = show(namespace, interface)?;
    let index = shown.get("ifindex").and_then(serde_json::Value::as_u64);
    index
        .and_then(|index| u32::try_from(index).ok())
        .with_context(|| format!("`ip link show {interface}` names no index"))
}

/// The MAC address.
///
/// # Errors
/// If there is no such interface.
pub fn mac(namespace: &Namespace, interface: &str) -> Result<Mac> {
    let shown = show(namespace, interface)?;
    shown
        .get("address")
        .and_then(serde_json::Value::as_str)
        .and_then(parse_mac)
        .with_context(|| format!("`ip link show {interface}` names no MAC address"))
}

/// Reads `02:00:00:00:00:01`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

fn show(namespace: &Namespace, interface: &str) -> Result<serde_json::Value> {
    let text = namespace.run("ip", &["-json", "link", "show", "dev", interface])?;
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&text).context("`ip -json link show` did not print JSON")?;
    list.into_iter()
        .next()
        .with_context(|| format!("no interface {interface}"))
}
