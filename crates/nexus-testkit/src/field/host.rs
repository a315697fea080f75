//! One OLT host: nexus-sidecar with its XDP program on a line, joined to the servers' switch; and all that can be done
//! to it.
//!
//! ```text
//! {prefix}-switch br0 === olt{n} --- core0 {prefix}-o{n} access0 [XDP] --- line0 {prefix}-s{n}
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::history::Entry;
use super::moment::Moment;
use super::plan::PATIENCE;
use crate::bpf::{self, BPFFS, Pinned, Pins};
use crate::cluster::{Clock, GRPC_PORT, SmallDisk};
use crate::command;
use crate::link::{self, End};
use crate::netns::Namespace;
use crate::packet::Mac;
use crate::process::{self, Process};
use crate::programs;

/// Its interface towards the subscribers.
pub const ACCESS: &str = "access0";
/// The subscribers' end of that line.
pub const LINE: &str = "line0";
/// The secret that NAS and sidecar share.
pub const SECRET: &str = "field-secret";
const CORE: &str = "core0";

/// Drops whatever comes from or goes to a server that is cut.
const FILTER: &str = "table inet field {
  set cut { type ipv4_addr; }
  chain hear { type filter hook input priority 0; policy accept; ip saddr @cut drop; }
  chain say { type filter hook output priority 0; policy accept; ip daddr @cut drop; }
}
";

/// How a host is made.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// `olt.id`.
    pub id: String,
    /// Number of the host, from 1: names and address follow from it.
    pub number: u8,
    /// `olt.capacity`.
    pub capacity: u32,
    /// Servers, in the order in which they are tried.
    pub servers: Vec<Ipv4Addr>,
    /// The users file.
    pub users: PathBuf,
    /// Size of its disk in MiB.
    pub disk: u32,
    /// Whether it has a wall clock of its own, which can be stepped.
    pub own_clock: bool,
    /// Most entries of the kernel's map.
    pub bindings: u32,
}

/// The host. Fields are dropped in this order.
#[derive(Debug)]
pub struct Host {
    sidecar: Option<Process>,
    paused: bool,
    disk: SmallDisk,
    clock: Option<Clock>,
    pins: Pins,
    /// Where the sidecar runs.
    pub namespace: Namespace,
    /// Where the subscribers are.
    pub stations: Namespace,
    plan: HostPlan,
    directory: PathBuf,
}

impl Host {
    /// Makes namespaces, links, disk and configuration; nothing of ours runs yet. `passing` has the access node's
    /// program `pass`.
    ///
    /// # Errors
    /// If the caller is not root, the kernel refuses something, or a file cannot be written.
    pub fn create(
        plan: HostPlan,
        prefix: &str,
        root: &Path,
        switch: &Namespace,
        passing: &Pinned,
    ) -> Result<Self> {
        let number = plan.number;
        let namespace = Namespace::create(prefix, &format!("o{number}"))?;
        let stations = Namespace::create(prefix, &format!("s{number}"))?;
        let port = format!("olt{number}");
        link::veth(End::new(switch, &port), End::new(&namespace, CORE))?;
        switch.run("ip", &["link", "set", "dev", &port, "master", "br0"])?;
        let own = address(number);
        link::add_address(&namespace, CORE, &format!("{own}/24"))?;
        link::veth(End::new(&namespace, ACCESS), End::new(&stations, LINE))?;
        // Without a program at this end the kernel does not wake the receiver of what XDP sends back.
        let mut attach = stations.command("bpftool");
        attach.args(["net", "attach", "xdpdrv", "pinned"]);
        command::output(attach.arg(passing.program("pass")).args(["dev", LINE]))?;
        namespace.nft(FILTER)?;
        let directory = root.join(format!("o{number}"));
        let disk = SmallDisk::create(&directory.join("disk"), plan.disk)?;
        let clock = plan.own_clock.then(|| Clock::create(&directory));
        let clock = clock.transpose()?;
        let host = Self {
            sidecar: None,
            paused: false,
            disk,
            clock,
            pins: Pins(Path::new(BPFFS).join(format!("{prefix}-o{number}"))),
            namespace,
            stations,
            plan,
            directory,
        };
        std::fs::write(host.config(), host.yaml()).context("cannot write sidecar.yaml")?;
        Ok(host)
    }

    /// Its `olt.id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.plan.id
    }

    /// Where its RADIUS listens, inside its namespace.
    #[must_use]
    pub fn radius() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1812))
    }

    /// MAC address that subscribers send to.
    ///
    /// # Errors
    /// If the interface is gone.
    pub fn gateway(&self) -> Result<Mac> {
        link::mac(&self.namespace, ACCESS)
    }

    /// Where the map of bindings is pinned.
    #[must_use]
    pub fn map(&self) -> PathBuf {
        let version = format!("v{}", nexus_abi::ABI_VERSION);
        self.pins.0.join(version).join(nexus_abi::map::BINDINGS)
    }

    /// Where the sidecar keeps its rows.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.join("disk/store")
    }

    /// Where its log is.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Everything that its sidecars have written.
    #[must_use]
    pub fn log(&self) -> String {
        process::read_log(&self.log_file())
    }

    /// How often its sidecars have written these words.
    #[must_use]
    pub fn said(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// Its small disk.
    #[must_use]
    pub fn disk(&self) -> &SmallDisk {
        &self.disk
    }

    /// Its wall clock.
    ///
    /// # Errors
    /// If it has that of the machine.
    pub fn clock(&self) -> Result<&Clock> {
        let clock = self.clock.as_ref();
        clock.with_context(|| format!("{} has the machine's clock", self.plan.id))
    }

    /// Starts the sidecar and waits for nothing.
    ///
    /// # Errors
    /// If it runs already, or is not built.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.sidecar.is_none(), "{} runs already", self.plan.id);
        let mut command = self.namespace.command(&programs::path("nexus-sidecar")?);
        command.arg("run").arg("--config").arg(self.config());
        if let Some(clock) = &self.clock {
            clock.apply(&mut command);
        }
        let label = format!("nexus-sidecar {}", self.plan.number);
        self.sidecar = Some(Process::spawn(&label, &mut command, &self.log_file())?);
        self.paused = false;
        Ok(())
    }

    /// Waits until the status is such.
    ///
    /// # Errors
    /// If the sidecar ends, or does not get that far within [`PATIENCE`].
    pub fn wait(&mut self, what: &str, ready: impl Fn(&Value) -> bool) -> Result<()> {
        let mut sidecar = self.sidecar.take().context("it does not run")?;
        let mut last = String::new();
        let done = sidecar.wait_until(what, PATIENCE, || {
            // Each look is a program that starts.
            std::thread::sleep(Duration::from_millis(250));
            let status = self.status();
            last = format!("{status:?}");
            Ok(status.ok().filter(|status| ready(status)).map(drop))
        });
        self.sidecar = Some(sidecar);
        done.with_context(|| format!("it said last: {last:.1500}"))
    }

    /// Whether the sidecar runs.
    ///
    /// # Errors
    /// If the kernel cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        self.sidecar.as_mut().map_or(Ok(false), Process::is_running)
    }

    /// `kill -9`; nothing if it does not run.
    pub fn kill(&mut self) {
        if let Some(mut sidecar) = self.sidecar.take() {
            let pid = sidecar.pid();
            // It may have ended by itself.
            let _ = sidecar.kill();
            if self.clock.is_some() {
                Clock::sweep(pid);
            }
        }
        self.paused = false;
    }

    /// SIGSTOP, or SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self, stop: bool) -> Result<()> {
        let signal = if stop {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        self.sidecar
            .as_ref()
            .context("it does not run")?
            .signal(signal)?;
        self.paused = stop;
        Ok(())
    }

    /// Cuts it off from these servers; nobody is told.
    ///
    /// # Errors
    /// If the packet filter refuses.
    pub fn cut(&self, servers: &[Ipv4Addr]) -> Result<()> {
        let all: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let rule = format!("add element inet field cut {{ {} }}\n", all.join(", "));
        self.namespace.nft(&rule)
    }

    /// Hears and is heard by everybody again.
    ///
    /// # Errors
    /// If the packet filter refuses.
    pub fn heal(&self) -> Result<()> {
        self.namespace.nft("flush set inet field cut\n")
    }

    /// What `nexus-sidecar status --json` says.
    ///
    /// # Errors
    /// If no sidecar answers.
    pub fn status(&self) -> Result<Value> {
        let text = self.ask("status")?;
        serde_json::from_str(&text).context("`nexus-sidecar status --json` did not print JSON")
    }

    /// What `nexus-sidecar bindings --json` says.
    ///
    /// # Errors
    /// If no sidecar answers.
    pub fn bindings(&self) -> Result<Vec<Value>> {
        let text = self.ask("bindings")?;
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .context("`nexus-sidecar bindings --json` did not print JSON")
    }

    /// Copies its store to `to`, as an image of the disk would be taken: the sidecar stands still meanwhile.
    ///
    /// # Errors
    /// If it does not run, or a file cannot be copied.
    pub fn copy_store(&mut self, to: &Path) -> Result<()> {
        self.pause(true)?;
        let copied = copy(&self.store(), to);
        self.pause(false)?;
        copied
    }

    /// Replaces its store by a copy. The sidecar must not run.
    ///
    /// # Errors
    /// If it runs, or a file cannot be copied.
    pub fn replace_store(&mut self, from: &Path) -> Result<()> {
        ensure!(self.sidecar.is_none(), "{} still runs", self.plan.id);
        std::fs::remove_dir_all(self.store()).context("cannot remove the store")?;
        copy(from, &self.store())
    }

    fn ask(&self, what: &str) -> Result<String> {
        if self.paused {
            bail!("the sidecar stands still");
        }
        let mut command = self.namespace.command(&programs::path("nexus-sidecar")?);
        command
            .args([what, "--json", "--config"])
            .arg(self.config());
        command::output(&mut command)
    }

    /// Boot and number of the newest flush of its store, as the sidecar writes them beside its control socket.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn mark(&self) -> Result<String> {
        let path = self.socket().with_extension("mark");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("sidecar.yaml")
    }

    fn yaml(&self) -> String {
        let servers = self.plan.servers.iter();
        let servers: Vec<String> = servers
            .map(|server| format!("\"{server}:{GRPC_PORT}\""))
            .collect();
        format!(
            "olt: {{id: {}, name: host {}, region: east, address: \"{}:9000\", capacity: {}}}\n\
             nexus_endpoints: [{}]\n\
             interfaces: [{{name: {ACCESS}, mode: native}}]\n\
             storage: {{path: \"{}\"}}\n\
             fast_path: {{pin_path: \"{}\", max_bindings: {}}}\n\
             control: {{socket: \"{}\"}}\n\
             radius:\n  listen: {}\n  clients: [{{address: 127.0.0.1, secret: {SECRET}}}]\n  users_file: \"{}\"\n",
            self.plan.id,
            self.plan.number,
            address(self.plan.number),
            self.plan.capacity,
            servers.join(", "),
            self.store().display(),
            self.pins.0.display(),
            self.plan.bindings,
            self.socket().display(),
            Self::radius(),
            self.plan.users.display(),
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.paused {
            // Stopped, it would not hear that it shall end.
            let _ = self.pause(false);
        }
        self.kill();
    }
}

/// Address of a host in the servers' network.
#[must_use]
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, 0, number.saturating_add(200))
}

/// Reads a pinned map of bindings; between which moments, and what it has.
///
/// # Errors
/// If `bpftool` refuses, or the map is another one.
pub fn read_map(pin: &Path) -> Result<(Moment, Moment, Vec<Entry>)> {
    let began = Moment::now();
    let buckets = bpf::map_values(pin)?;
    let ended = Moment::now();
    let each = buckets
        .iter()
        .flat_map(|bucket| bucket.chunks_exact(size_of::<nexus_abi::Entry>()));
    let entries = each.filter_map(entry).collect();
    Ok((began, ended, entries))
}

/// An entry by its bytes, which stand as `nexus_abi::Entry` says; `None`: the place is free.
fn entry(bytes: &[u8]) -> Option<Entry> {
    let mac: Mac = bytes.get(..6)?.try_into().ok()?;
    let held = nexus_abi::Entry::HELD;
    let address: [u8; 4] = bytes.get(held..held + 4)?.try_into().ok()?;
    let until: [u8; 4] = bytes.get(held + 4..held + 8)?.try_into().ok()?;
    let valid_until = match u32::from_ne_bytes(until) {
        0 => return None,
        nexus_abi::NEVER_EXPIRES => Moment::NEVER,
        seconds => Moment::second(u64::from(seconds)),
    };
    Some(Entry {
        address: Ipv4Addr::from(address),
        mac,
        valid_until,
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    command::output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}
