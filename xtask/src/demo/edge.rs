//! The edge of the demo: the OLT host with nexus-sidecar, the access network, the subscribers.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nexus_abi::ABI_VERSION;
use nexus_testkit::access_node::{AccessNetwork, Line, OLT_INTERFACE, object_path};
use nexus_testkit::capture::Capture;
use nexus_testkit::command;
use nexus_testkit::dhcp_client::DhcpClient;
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::Namespace;
use nexus_testkit::process::Process;
use nexus_testkit::radclient::{self, AccessRequest, Answer};
use serde_json::Value;

use super::centre;

/// Id of the OLT.
pub const OLT_ID: &str = "olt-east-01";
/// Where the NAS finds the sidecar's RADIUS.
pub const RADIUS: &str = "127.0.0.1:1812";
/// The secret they share.
pub const SECRET: &str = "demo-secret";

const CORE_INTERFACE: &str = "core0";
const CORE_ADDRESS: &str = "10.99.1.2/30";
const CENTRE_SIDE: &str = "10.99.1.1";

/// A subscriber's account and line.
pub struct Account {
    /// Subscriber id.
    pub id: &'static str,
    /// User-Name.
    pub user: &'static str,
    /// User-Password.
    pub password: &'static str,
    /// What the NAS writes into NAS-Port-Id.
    pub port_id: &'static str,
    /// The line.
    pub line: Line,
}

/// All subscribers; the last one comes when the centre is gone.
pub const ACCOUNTS: &[Account] = &[
    Account {
        id: "sub-10001",
        user: "ada",
        password: "lovelace",
        port_id: "olt 1/1",
        line: Line::Untagged,
    },
    Account {
        id: "sub-10002",
        user: "grace",
        password: "hopper",
        port_id: "olt 1/2:100",
        line: Line::Vlan(100),
    },
    Account {
        id: "sub-10003",
        user: "radia",
        password: "perlman",
        port_id: "olt 1/3:200.30",
        line: Line::QinQ {
            s_vlan: 200,
            c_vlan: 30,
        },
    },
    Account {
        id: "sub-10004",
        user: "barbara",
        password: "liskov",
        port_id: "olt 1/3:200.31",
        line: Line::QinQ {
            s_vlan: 200,
            c_vlan: 31,
        },
    },
];

/// The edge. Fields are dropped in this order.
pub struct Edge {
    /// DHCP clients in the order of the subscribers that have one.
    pub clients: Vec<DhcpClient>,
    /// The access node's uplink.
    pub capture: Capture,
    /// nexus-sidecar, while it runs.
    pub sidecar: Option<Process>,
    /// Subscribers, access node, OLT host.
    pub network: AccessNetwork,
    /// Addresses by RADIUS, in the order of [`ACCOUNTS`].
    pub addresses: Vec<Ipv4Addr>,
    /// Where the sidecar pins its maps.
    pub pins: PathBuf,
    /// Files of the demo.
    pub directory: PathBuf,
    config: PathBuf,
}

impl Edge {
    /// Builds the access network and joins the OLT host to the centre; nothing of ours runs yet.
    pub fn create(
        prefix: &str,
        directory: &Path,
        pin_root: &Path,
        centre: &Namespace,
    ) -> Result<Self> {
        let lines: Vec<Line> = ACCOUNTS.iter().map(|account| account.line).collect();
        let network = AccessNetwork::create(prefix, &object_path(), &lines)?;
        link::veth(
            End::new(centre, "olt0"),
            End::new(&network.olt, CORE_INTERFACE),
        )?;
        link::add_address(centre, "olt0", &format!("{CENTRE_SIDE}/30"))?;
        link::add_address(&network.olt, CORE_INTERFACE, CORE_ADDRESS)?;
        let to_centre = centre::ADDRESS.to_string();
        network
            .olt
            .run("ip", &["route", "add", &to_centre, "via", CENTRE_SIDE])?;

        let users = directory.join("users.yaml");
        std::fs::write(&users, users_text()).context("cannot write users.yaml")?;
        let config = directory.join("sidecar.yaml");
        std::fs::write(&config, config_text(directory, pin_root, &users))
            .context("cannot write sidecar.yaml")?;
        Ok(Self {
            clients: Vec::new(),
            capture: network.capture(directory)?,
            sidecar: None,
            network,
            addresses: Vec::new(),
            pins: pin_root.join(format!("v{ABI_VERSION}")),
            directory: directory.to_owned(),
            config,
        })
    }

    /// Starts nexus-sidecar and waits until its status satisfies `ready`. Returns how long that took.
    pub fn start(&mut self, what: &str, ready: impl Fn(&Value) -> bool) -> Result<Duration> {
        let began = Instant::now();
        let mut command = self.network.olt.command(&program("nexus-sidecar")?);
        command.arg("run").arg("--config").arg(&self.config);
        let log = self.directory.join("nexus-sidecar.log");
        let mut sidecar = Process::spawn("nexus-sidecar", &mut command, &log)?;
        sidecar.wait_until(what, Duration::from_secs(30), || {
            Ok(self.status().ok().filter(|status| ready(status)))
        })?;
        self.sidecar = Some(sidecar);
        Ok(began.elapsed())
    }

    /// What `nexus-sidecar status --json` says.
    pub fn status(&self) -> Result<Value> {
        let mut command = self.network.olt.command(&program("nexus-sidecar")?);
        command
            .args(["status", "--json", "--config"])
            .arg(&self.config);
        let text = command::output(&mut command)?;
        serde_json::from_str(&text).context("`nexus-sidecar status --json` did not print JSON")
    }

    /// Sends an Access-Request from the OLT's own NAS function.
    pub fn authenticate(&self, subscriber: usize, password: &str) -> Result<Answer> {
        let account = ACCOUNTS.get(subscriber).context("no such account")?;
        let at = self
            .network
            .subscribers
            .get(subscriber)
            .context("no such subscriber")?;
        let request = AccessRequest::new(account.user, password, at.mac, account.port_id);
        radclient::authenticate(&self.network.olt, RADIUS, SECRET, &request)
    }

    /// The pinned map of that name.
    pub fn map(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }

    /// Leaves everything running when this is dropped, the capture excepted.
    pub fn keep(&mut self) {
        self.network.keep();
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.leave_running();
        }
        for client in &mut self.clients {
            client.process().leave_running();
        }
    }
}

/// Where cargo has put our programs: beside this one.
pub fn binaries() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.parent()
        .unwrap_or(Path::new("target/debug"))
        .to_owned()
}

/// One of our programs.
pub fn program(name: &str) -> Result<String> {
    let path = binaries().join(name);
    if !path.is_file() {
        bail!("{} is not built", path.display());
    }
    path.to_str()
        .map(str::to_owned)
        .context("a path that is not UTF-8")
}

fn users_text() -> String {
    let mut text = "users:\n".to_owned();
    for Account {
        id, user, password, ..
    } in ACCOUNTS
    {
        text += &format!(
            "  - username: {user}\n    password: {password}\n    subscriber_id: {id}\n    pool: {}\n",
            super::steps::centre::POOL
        );
    }
    text
}

fn config_text(directory: &Path, pin_root: &Path, users: &Path) -> String {
    format!(
        r#"olt:
  id: {OLT_ID}
  name: East Data Center OLT
  region: east
  address: "10.99.1.2:9000"
  capacity: 2000

nexus_endpoints:
  - "{}:9001"

interfaces:
  - name: {OLT_INTERFACE}
    mode: native

storage:
  path: {files}/edge

fast_path:
  pin_path: {}

control:
  socket: {files}/control.sock

radius:
  listen: {RADIUS}
  clients:
    - address: 127.0.0.1
      secret: {SECRET}
  users_file: {}
"#,
        centre::ADDRESS,
        pin_root.display(),
        users.display(),
        files = directory.display(),
    )
}
