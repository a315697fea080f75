//! The edge of the demo: its OLT host with subscribers who have accounts and DHCP clients.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nexus_testkit::access_node::Line;
use nexus_testkit::capture::Capture;
use nexus_testkit::dhcp_client::DhcpClient;
use nexus_testkit::netns::Namespace;
use nexus_testkit::olt_host::{OltHost, RADIUS, SECRET, User};
use nexus_testkit::radclient::{self, AccessRequest, Answer};

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
    /// The OLT host with nexus-sidecar, and its access network.
    pub host: OltHost,
    /// Addresses by RADIUS, in the order of [`ACCOUNTS`].
    pub addresses: Vec<Ipv4Addr>,
    /// Files of the demo.
    pub directory: PathBuf,
}

impl Edge {
    /// Builds the access network and joins the OLT host to the centre; nothing of ours runs yet.
    pub fn create(prefix: &str, directory: &Path, centre: &Namespace) -> Result<Self> {
        let lines: Vec<Line> = ACCOUNTS.iter().map(|account| account.line).collect();
        let users: Vec<User> = ACCOUNTS.iter().map(Account::user).collect();
        let host = OltHost::create(prefix, directory, &lines, &users, centre)?;
        Ok(Self {
            clients: Vec::new(),
            capture: host.network.capture(directory)?,
            host,
            addresses: Vec::new(),
            directory: directory.to_owned(),
        })
    }

    /// Sends an Access-Request from the OLT's own NAS function.
    pub fn authenticate(&self, subscriber: usize, password: &str) -> Result<Answer> {
        let account = ACCOUNTS.get(subscriber).context("no such account")?;
        let network = &self.host.network;
        let at = network
            .subscribers
            .get(subscriber)
            .context("no such subscriber")?;
        let request = AccessRequest::new(account.user, password, at.mac, account.port_id);
        radclient::authenticate(&network.olt, RADIUS, SECRET, &request)
    }

    /// Leaves everything running when this is dropped, the capture excepted.
    pub fn keep(&mut self) {
        self.host.keep();
        for client in &mut self.clients {
            client.process().leave_running();
        }
    }
}

impl Account {
    fn user(&self) -> User {
        User {
            name: self.user.to_owned(),
            password: self.password.to_owned(),
            subscriber: self.id.to_owned(),
            pool: super::steps::centre::POOL.to_owned(),
        }
    }
}
