//! The OLT host: nexus-sidecar between an access network and the centre.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::access_node::{AccessNetwork, Line, OLT_INTERFACE, object_path};
use crate::bpf::BPFFS;
use crate::command;
use crate::link::{self, End};
use crate::netns::Namespace;
use crate::process::Process;
use crate::{centre, programs};

/// Id of the OLT.
pub const OLT_ID: &str = "olt-east-01";
/// Where the NAS finds the sidecar's RADIUS.
pub const RADIUS: &str = "127.0.0.1:1812";
/// The secret they share.
pub const SECRET: &str = "demo-secret";

const CORE_INTERFACE: &str = "core0";
const CORE_ADDRESS: &str = "10.99.1.2/30";
const CENTRE_SIDE: &str = "10.99.1.1";

/// Far more than a start takes.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A subscriber's account in the sidecar's users file.
#[derive(Clone, Debug)]
pub struct User {
    /// User-Name.
    pub name: String,
    /// User-Password.
    pub password: String,
    /// Subscriber id.
    pub subscriber: String,
    /// Pool of its address.
    pub pool: String,
}

/// The host. Fields are dropped in this order.
#[derive(Debug)]
pub struct OltHost {
    /// nexus-sidecar, while it runs.
    pub sidecar: Option<Process>,
    /// Subscribers, access node, OLT host.
    pub network: AccessNetwork,
    /// Where the sidecar's maps and links are pinned: a directory of one ABI version.
    pub pins: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// The sidecar's program, if it is not the one that cargo has built.
    installed: Option<PathBuf>,
}

impl OltHost {
    /// Builds the access network and joins the OLT host to the centre; nothing of ours runs yet. The
    /// sidecar will pin below [`pin_root`], which is left to the caller to remove.
    ///
    /// # Errors
    /// If the caller is not root, the kernel refuses something, or a file cannot be written.
    pub fn create(
        prefix: &str,
        directory: &Path,
        lines: &[Line],
        users: &[User],
        centre: &Namespace,
    ) -> Result<Self> {
        let network = AccessNetwork::create(prefix, &object_path(), lines)?;
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

        let users_file = directory.join("users.yaml");
        std::fs::write(&users_file, users_text(users)).context("cannot write users.yaml")?;
        let config = directory.join("sidecar.yaml");
        let text = config_text(directory, &pin_root(prefix), &users_file);
        std::fs::write(&config, text).context("cannot write sidecar.yaml")?;
        Ok(Self {
            sidecar: None,
            network,
            pins: pin_root(prefix).join(format!("v{}", nexus_abi::ABI_VERSION)),
            config,
            log: directory.join("nexus-sidecar.log"),
            installed: None,
        })
    }

    /// Starts nexus-sidecar and waits until its status satisfies `ready`. Returns how long that took.
    ///
    /// # Errors
    /// If it is not built, ends, or does not get that far.
    pub fn start(&mut self, what: &str, ready: impl Fn(&Value) -> bool) -> Result<Duration> {
        let began = Instant::now();
        let mut command = self.program()?;
        command.arg("run").arg("--config").arg(&self.config);
        let mut sidecar = Process::spawn("nexus-sidecar", &mut command, &self.log)?;
        sidecar.wait_until(what, START_LIMIT, || {
            Ok(self.status().ok().filter(|status| ready(status)))
        })?;
        self.sidecar = Some(sidecar);
        Ok(began.elapsed())
    }

    /// `kill -9` of the sidecar.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut sidecar = self.sidecar.take().context("nexus-sidecar does not run")?;
        sidecar.kill()
    }

    /// From now on the sidecar's program is this file; one that runs is left as it is.
    pub fn install(&mut self, program: &Path) {
        self.installed = Some(program.to_owned());
    }

    /// What `nexus-sidecar status --json` says.
    ///
    /// # Errors
    /// If no sidecar answers.
    pub fn status(&self) -> Result<Value> {
        let text = self.ask("status")?;
        serde_json::from_str(&text).context("`nexus-sidecar status --json` did not print JSON")
    }

    /// What `nexus-sidecar bindings --json` says, one value for each binding.
    ///
    /// # Errors
    /// If no sidecar answers.
    pub fn bindings(&self) -> Result<Vec<Value>> {
        let text = self.ask("bindings")?;
        text.lines()
            .filter(|line| !line.is_empty())
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .context("`nexus-sidecar bindings --json` did not print JSON")
    }

    /// Starts a command of `nexus-sidecar` that goes on until it is ended, such as `trace`; what it prints is
    /// in its log.
    ///
    /// # Errors
    /// If it is not built or cannot be started.
    pub fn watch(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = self.program()?;
        command.args(arguments).arg("--config").arg(&self.config);
        let label = format!("nexus-sidecar {}", arguments.join(" "));
        let log = self
            .log
            .with_extension(format!("{}.log", arguments.join("-")));
        Process::spawn(&label, &mut command, &log)
    }

    /// The pinned map of that name.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }

    /// Leaves everything running when this is dropped.
    pub fn keep(&mut self) {
        self.network.keep();
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.leave_running();
        }
    }

    fn ask(&self, what: &str) -> Result<String> {
        let mut command = self.program()?;
        command.args([what, "--json", "--config"]).arg(&self.config);
        command::output(&mut command)
    }

    fn program(&self) -> Result<std::process::Command> {
        let program = match &self.installed {
            Some(path) => path.display().to_string(),
            None => programs::path("nexus-sidecar")?,
        };
        Ok(self.network.olt.command(&program))
    }
}

/// Whether a sidecar's status says that nothing of it waits for the centre.
#[must_use]
pub fn nothing_waits(status: &Value) -> bool {
    ["unacked", "suspended", "pending_releases"]
        .iter()
        .all(|name| status.get(name).and_then(Value::as_u64) == Some(0))
}

/// Where the sidecar of the host with that prefix pins.
#[must_use]
pub fn pin_root(prefix: &str) -> PathBuf {
    Path::new(BPFFS).join(prefix)
}

fn users_text(users: &[User]) -> String {
    let mut text = "users:\n".to_owned();
    for User {
        name,
        password,
        subscriber,
        pool,
    } in users
    {
        text += &format!(
            "  - username: {name}\n    password: {password}\n    subscriber_id: {subscriber}\n    pool: {pool}\n"
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
  max_bindings: 1024

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
