//! What a client goes through so that it says everything it can, and which of its frames are kept.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::access_node::{SUBSCRIBER_INTERFACE, Subscriber};
use nexus_testkit::capture::{Capture, Seen};
use nexus_testkit::command;
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Manner};
use nexus_testkit::packet::{MAC_BROADCAST, Mac, mac_text};

/// Far more than any client needs for its next step.
const LIMIT: Duration = Duration::from_secs(90);

/// A state of RFC 2131 in which a client says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    Discover,
    Select,
    Reboot,
    Renew,
    Rebind,
    Release,
    Decline,
    Inform,
}

impl Situation {
    /// What the message is said in, as far as the message itself tells.
    pub fn of(seen: &Seen) -> Option<Self> {
        let message = &seen.message;
        Some(match message.message_type()? {
            1 => Self::Discover,
            3 if message.get(54).is_some() => Self::Select,
            3 if message.ciaddr.is_unspecified() => Self::Reboot,
            // A relay passes broadcasts on by unicast.
            3 if seen.frame.destination != MAC_BROADCAST && message.giaddr.is_unspecified() => {
                Self::Renew
            }
            3 => Self::Rebind,
            4 => Self::Decline,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }

    /// For a file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Select => "select",
            Self::Reboot => "reboot",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Release => "release",
            Self::Decline => "decline",
            Self::Inform => "inform",
        }
    }

    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Select => "REQUEST that accepts an offer (SELECTING)",
            Self::Reboot => "REQUEST of the address it had before (INIT-REBOOT)",
            Self::Renew => "REQUEST to its server alone (RENEWING)",
            Self::Rebind => "REQUEST to all servers (REBINDING)",
            Self::Release => "RELEASE",
            Self::Decline => "DECLINE",
            Self::Inform => "INFORM",
        }
    }
}

/// One of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A lease, renewing, rebinding, a start with what it remembers, and the lease's end.
    Life,
    /// The address is somebody else's.
    Decline,
    /// It has an address, and asks for the rest.
    Inform,
    /// A lease, renewing and rebinding, and no more.
    Lease,
}

/// Plays `part` with a client and waits until the uplink has seen what it should say.
pub fn play(
    part: Part,
    kind: Kind,
    at: &Subscriber,
    uplink: &Capture,
    server: Mac,
    directory: &Path,
) -> Result<()> {
    let wait = |situation| wait_for(situation, kind, at, uplink);
    match part {
        Part::Decline => {
            let _client = DhcpClient::start_as(kind, Manner::Suspicious, at, directory)?;
            wait(Situation::Decline)
        }
        Part::Inform => {
            let address = super::responder::address_of(at.mac);
            at.namespace.run(
                "ip",
                &[
                    "address",
                    "add",
                    &format!("{address}/24"),
                    "dev",
                    SUBSCRIBER_INTERFACE,
                ],
            )?;
            let _client = DhcpClient::start_as(kind, Manner::Informs(address), at, directory)?;
            wait(Situation::Inform)
        }
        Part::Lease => {
            let mut client = DhcpClient::start(kind, at, directory)?;
            client.wait_for_lease(1, LIMIT)?;
            wait(Situation::Rebind)
        }
        Part::Life => {
            let mut client = DhcpClient::start(kind, at, directory)?;
            client.wait_for_lease(1, LIMIT)?;
            wait(Situation::Renew)?;
            wait(Situation::Rebind)?;
            client.wait_for_lease(2, LIMIT)?;
            client = again(client, kind, at, directory)?;
            if kind != Kind::Udhcpc {
                // It always begins with a DISCOVER.
                wait(Situation::Reboot)?;
            }
            know_server(at, server)?;
            client.release_now()?;
            wait(Situation::Release)
        }
    }
}

/// `udhcpc` gives up its address while its RELEASE still waits for an ARP reply, and the kernel drops it.
fn know_server(at: &Subscriber, server: Mac) -> Result<()> {
    let (address, mac) = (super::responder::SERVER.to_string(), mac_text(server));
    let mut words = vec!["neigh", "replace", &address, "lladdr", &mac];
    words.extend(["dev", SUBSCRIBER_INTERFACE, "nud", "permanent"]);
    at.namespace.run("ip", &words).map(drop)
}

/// The client begins anew, with its lease in mind: the program is started again, or the line was cut,
/// which is what networkd remembers its lease over.
fn again(
    mut client: DhcpClient,
    kind: Kind,
    at: &Subscriber,
    directory: &Path,
) -> Result<DhcpClient> {
    if kind == Kind::Networkd {
        // It still sets the address that it has just rebound, and fails if the line is cut then.
        std::thread::sleep(Duration::from_secs(2));
        for state in ["down", "up"] {
            at.namespace
                .run("ip", &["link", "set", "dev", SUBSCRIBER_INTERFACE, state])?;
            std::thread::sleep(Duration::from_secs(1));
        }
        client.wait_for_lease(3, LIMIT)?;
        return Ok(client);
    }
    client.process().kill()?;
    drop(client);
    let mut client = DhcpClient::start(kind, at, directory)?;
    client.wait_for_lease(1, LIMIT)?;
    Ok(client)
}

fn wait_for(situation: Situation, kind: Kind, at: &Subscriber, uplink: &Capture) -> Result<()> {
    let what = format!("{} of {}", situation.text(), kind.name());
    uplink
        .wait_for_dhcp(&what, LIMIT, |seen| {
            let mut own = seen.iter().filter(|seen| seen.message.mac() == at.mac);
            own.any(|seen| Situation::of(seen) == Some(situation))
        })
        .map(drop)
}

/// Name and version of the package that a program comes from.
pub fn package(kind: &str) -> Result<String> {
    let package = match kind {
        "udhcpc" => "udhcpc",
        "dhclient" => "isc-dhcp-client",
        "dhcpcd" => "dhcpcd-base",
        "networkd" => "systemd",
        "dhcrelay" => "isc-dhcp-relay",
        "dnsmasq" => "dnsmasq-base",
        "dhcp-helper" => "dhcp-helper",
        other => bail!("{other} is in no package"),
    };
    let version = if package == "dhcp-helper" {
        // Not installed, so only apt knows.
        let policy = command::output(Command::new("apt-cache").args(["show", package]))?;
        let mut lines = policy.lines();
        let version = lines.find_map(|line| line.strip_prefix("Version: "));
        version.context("apt does not know dhcp-helper")?.to_owned()
    } else {
        let mut query = Command::new("dpkg-query");
        command::output(query.args(["-W", "-f", "${Version}", package]))?
    };
    Ok(format!("{package} {version}"))
}
