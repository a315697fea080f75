//! All servers, each on a line of its own, started once and measured in turns.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nexus_testkit::bpf::{Pinned, Pins};
use nexus_testkit::load::{self, Pace, Plan};
use nexus_testkit::packet::Mac;
use nexus_testkit::process::Process;
use nexus_testkit::{interrupt, netns, olt_host};
use tempfile::TempDir;

use super::line::{LOAD_END, Line, SERVER_END, attach};
use super::machine::{self, Setting};
use super::ours::Ours;
use super::reference;

/// Clients that all servers know before the first round: ours through RADIUS, the others because each has come once.
pub const CLIENTS: u32 = 4000;
/// MAC address of the first of them.
pub const FIRST_MAC: Mac = [2, 0, 0, 1, 0, 0];
/// MAC address of the first client that nobody has seen before.
pub const FIRST_STRANGER: Mac = [2, 0x80, 0, 0, 0, 0];
/// Clients that nobody has seen before; each is new once only.
pub const STRANGERS: u32 = 20_000;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// Ours.
    Nexus,
    /// kea-dhcp4.
    Kea,
    /// dnsmasq, which writes all its leases anew when one has changed.
    Dnsmasq,
    /// dnsmasq told not to write its leases: it forgets them when it ends.
    DnsmasqForgetful,
    /// ISC dhcpd.
    Dhcpd,
    /// An XDP program that sends every frame back with its MAC addresses swapped: the ceiling of line and generator.
    Nothing,
}

impl Server {
    /// All of them, ours first.
    pub const ALL: [Self; 6] = [
        Self::Nexus,
        Self::Kea,
        Self::Dnsmasq,
        Self::DnsmasqForgetful,
        Self::Dhcpd,
        Self::Nothing,
    ];

    /// In the names of rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nexus => "Nexus",
            Self::Kea => "Kea",
            Self::Dnsmasq => "dnsmasq",
            Self::DnsmasqForgetful => "dnsmasq that writes nothing",
            Self::Dhcpd => "ISC dhcpd",
            Self::Nothing => "a trivial XDP_TX",
        }
    }

    /// In the names of namespaces and directories.
    fn short(self) -> &'static str {
        match self {
            Self::Nexus => "nexus",
            Self::Kea => "kea",
            Self::Dnsmasq => "dnsmasq",
            Self::DnsmasqForgetful => "dnsmasq-ro",
            Self::Dhcpd => "dhcpd",
            Self::Nothing => "nothing",
        }
    }

    /// Whether it is a DHCP server.
    pub fn is_server(self) -> bool {
        self != Self::Nothing
    }

    /// Whether the kernel answers: then every processor that sends also answers, and the generator uses all of them.
    pub fn is_in_kernel(self) -> bool {
        matches!(self, Self::Nexus | Self::Nothing)
    }
}

/// A server on its line.
pub struct Contestant {
    /// Which.
    pub server: Server,
    /// Where it is reached.
    pub line: Line,
    process: Option<Process>,
}

impl Contestant {
    /// A plan for its line: of clients that it knows, at full speed or slowly, for `seconds`.
    pub fn plan(&self, pace: Pace, seconds: f64) -> Plan {
        let threads = if self.server.is_in_kernel() { 2 } else { 1 };
        Plan {
            threads,
            seconds,
            echo: self.server == Server::Nothing,
            ..Plan::new(LOAD_END, FIRST_MAC, CLIENTS, pace)
        }
    }
}

/// Everything that runs. Fields are dropped in this order.
pub struct Stage {
    /// In the order of [`Server::ALL`].
    pub contestants: Vec<Contestant>,
    /// Ours, beyond what its contestant has.
    pub ours: Ours,
    /// For perfdhcp: the MAC addresses of all clients.
    pub macs: PathBuf,
    /// Authorising all clients through RADIUS took so many seconds.
    pub authorised_in: f64,
    _traffic: Pinned,
    _pins: Pins,
    _settings: Vec<Setting>,
    _directory: TempDir,
}

impl Stage {
    /// Starts everything; `root` has the kernel programs.
    pub fn build(root: &Path) -> Result<Self> {
        let prefix = netns::unique_prefix("bench");
        // Not in memory, where /tmp may be: a server that writes its leases to the disk does so here.
        let target = root.join("target");
        std::fs::create_dir_all(&target).context("cannot make target/")?;
        let directory = tempfile::Builder::new()
            .prefix("bench-dhcp-")
            .tempdir_in(&target)
            .context("cannot make a directory in target/")?;
        let settings = machine::prepare()?;
        let pins = Pins(olt_host::pin_root(&prefix));
        let object = root.join("target/bpf/nexus-traffic");
        let traffic = Pinned::load(&object, &format!("{prefix}-traffic"))?;

        let plan = Plan::new(LOAD_END, FIRST_MAC, CLIENTS, Pace::Closed { window: 1 });
        let all = || (0..CLIENTS).map(|client| plan.mac(client));
        let strangers = (0..STRANGERS).map(|client| load::plan::mac(FIRST_STRANGER, client));

        let mut contestants = Vec::new();
        let mut ours = None;
        for server in Server::ALL {
            interrupt::check()?;
            let name = server.short();
            let line = Line::create(&prefix, name, &traffic)?;
            let home = directory.path().join(name);
            std::fs::create_dir(&home)
                .with_context(|| format!("cannot make {}", home.display()))?;
            if server.is_server() && server != Server::Nexus {
                line.address_server()?;
            }
            let process = match server {
                Server::Nexus => {
                    let subscribers = all().chain(strangers.clone());
                    ours = Some(Ours::start(&line, &prefix, &home, subscribers)?);
                    None
                }
                Server::Kea => Some(reference::kea(&line, &home)?),
                Server::Dnsmasq => Some(reference::dnsmasq(&line, &home, true)?),
                Server::DnsmasqForgetful => Some(reference::dnsmasq(&line, &home, false)?),
                Server::Dhcpd => Some(reference::dhcpd(&line, &home)?),
                Server::Nothing => {
                    attach(&line.server, &traffic.program("swap_tx"), SERVER_END)?;
                    None
                }
            };
            contestants.push(Contestant {
                server,
                line,
                process,
            });
        }
        let ours = ours.context("our own server is not among the contestants")?;
        let own = contestants.first().context("no contestants")?;
        let authorised_in = ours.authorise(&own.line, all())?.as_secs_f64();
        let macs = directory.path().join("macs");
        let text: String = all()
            .map(|mac| nexus_testkit::packet::mac_text(mac) + "\n")
            .collect();
        std::fs::write(&macs, text).context("cannot write the MAC addresses")?;
        Ok(Self {
            contestants,
            ours,
            macs,
            authorised_in,
            _traffic: traffic,
            _pins: pins,
            _settings: settings,
            _directory: directory,
        })
    }

    /// Nanoseconds that the server's processes have run.
    pub fn process_time(&self, contestant: &Contestant) -> Result<u64> {
        match (contestant.server, &contestant.process) {
            (Server::Nexus, _) => machine::process_time(self.ours.sidecar.pid()),
            (_, Some(process)) => machine::process_time(process.pid()),
            (_, None) => Ok(0),
        }
    }
}
