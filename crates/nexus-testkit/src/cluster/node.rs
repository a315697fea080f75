//! One node: nexus-server with its files, its clock and its disk, and everything that can be done to it.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::clock::Clock;
use super::config::NodePlan;
use super::disk::SmallDisk;
use super::network::Host;
use super::rest::Client;
use crate::process::{self, Process};
use crate::programs;

/// Far more than a start takes.
const START_LIMIT: Duration = Duration::from_secs(60);
/// More than `graceful_shutdown.timeout`.
const STOP_LIMIT: Duration = Duration::from_secs(150);

/// The node. Fields are dropped in this order.
#[derive(Debug)]
pub struct Node {
    process: Option<Process>,
    paused: bool,
    disk: Option<SmallDisk>,
    clock: Option<Clock>,
    plan: NodePlan,
    address: Ipv4Addr,
    namespace: PathBuf,
    directory: PathBuf,
}

impl Node {
    /// Makes the node's directory below `root`; nothing runs yet.
    ///
    /// # Errors
    /// If a file cannot be written, or the disk not be mounted.
    pub fn create(plan: NodePlan, host: &Host, root: &Path) -> Result<Self> {
        let directory = root.join(&plan.name);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let disk = plan
            .disk
            .map(|size| SmallDisk::create(&directory.join("store"), size))
            .transpose()?;
        let clock = plan
            .own_clock
            .then(|| Clock::create(&directory))
            .transpose()?;
        Ok(Self {
            process: None,
            paused: false,
            disk,
            clock,
            plan,
            address: host.address(),
            namespace: host.namespace().path(),
            directory,
        })
    }

    /// Its name, `node.id`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What it was made from; a change counts from the next start.
    pub fn plan_mut(&mut self) -> &mut NodePlan {
        &mut self.plan
    }

    /// Its small disk, if it has one.
    ///
    /// # Errors
    /// If it has none.
    pub fn disk(&self) -> Result<&SmallDisk> {
        self.disk
            .as_ref()
            .with_context(|| format!("{} has the machine's disk", self.name()))
    }

    /// Its own clock, if it has one.
    ///
    /// # Errors
    /// If it has none.
    pub fn clock(&self) -> Result<&Clock> {
        self.clock
            .as_ref()
            .with_context(|| format!("{} has the machine's clock", self.name()))
    }

    /// Where its store lies.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// Its process id; 0 if it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Starts it and waits until it answers. Returns how long that took.
    ///
    /// # Errors
    /// If it is not built, ends, or does not answer.
    pub fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.launch()?;
        self.wait_answers(START_LIMIT)?;
        Ok(began.elapsed())
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// If it runs already or is not built.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name());
        let config = self.write_files()?;
        let program = programs::path("nexus-server")?;
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.display()))
            .args(["--", &program, "--config"])
            .arg(&config)
            .env_remove("NEXUS_CONFIG");
        if let Some(clock) = &self.clock {
            clock.apply(&mut command);
        }
        let process = Process::spawn(self.name(), &mut command, &self.log_file())?;
        self.process = Some(process);
        self.paused = false;
        Ok(())
    }

    /// Waits until it answers requests, whatever it says of itself.
    ///
    /// # Errors
    /// If it ends before, or does not answer within `timeout`.
    pub fn wait_answers(&mut self, timeout: Duration) -> Result<()> {
        let client = Client::new(self.namespace.clone(), self.address);
        let process = self.process.as_mut().context("it does not run")?;
        process.wait_until("answers", timeout, || {
            Ok(client.get("/health").ok().map(drop))
        })
    }

    fn write_files(&self) -> Result<PathBuf> {
        if let Some(key) = &self.plan.key {
            let file = self.directory.join("cluster.key");
            std::fs::write(&file, format!("{}\n", key.as_hex()))
                .and_then(|()| {
                    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))
                })
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let config = self.directory.join("nexus.yaml");
        // Addresses follow the places of nodes; see Network.
        let addresses: Vec<Ipv4Addr> = (0..100).filter_map(super::network::address).collect();
        let text = self.plan.yaml(self.address, &self.directory, &addresses);
        std::fs::write(&config, text)
            .with_context(|| format!("cannot write {}", config.display()))?;
        Ok(config)
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Everything that it has written, over all starts.
    #[must_use]
    pub fn log(&self) -> String {
        process::read_log(&self.log_file())
    }

    /// The last lines that it has written, under its name.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        let tail = process::last_lines(&self.log(), count);
        format!("--- {}:\n{tail}", self.name())
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// If the kernel cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.process {
            None => Ok(false),
            Some(process) => process.is_running(),
        }
    }

    /// Asks it to end (SIGTERM) and waits for that. Returns how it ended and how long that took.
    ///
    /// # Errors
    /// If it does not run, or does not end.
    pub fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        let began = Instant::now();
        let mut process = self.process.take().context("it does not run")?;
        let pid = process.pid();
        let status = process.terminate(STOP_LIMIT)?;
        self.forget(pid);
        Ok((status, began.elapsed()))
    }

    /// As [`Node::stop`], and no error if it has ended by itself.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop_or_ended(&mut self) -> Result<()> {
        if self.is_running()? {
            return self.stop().map(drop);
        }
        if let Some(process) = self.process.take() {
            self.forget(process.pid());
        }
        Ok(())
    }

    /// How it stands: "runs", "does not run", or how it ended by itself.
    pub fn fate(&mut self) -> String {
        let Some(process) = &mut self.process else {
            return "does not run".to_owned();
        };
        match process.is_running() {
            Ok(true) => "runs".to_owned(),
            _ => match process.wait_exit(Duration::ZERO) {
                Ok(status) => format!("has ended by itself: {status}"),
                Err(error) => format!("{error:#}"),
            },
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it does not run, or does not end within `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let mut process = self.process.take().context("it does not run")?;
        let pid = process.pid();
        let status = process.wait_exit(timeout)?;
        self.forget(pid);
        Ok(status)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        let pid = process.pid();
        process.kill()?;
        self.forget(pid);
        Ok(())
    }

    fn forget(&mut self, pid: u32) {
        self.paused = false;
        if self.clock.is_some() {
            Clock::sweep(pid);
        }
    }

    /// SIGSTOP: it hangs, its connections stay.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.process
            .as_ref()
            .context("it does not run")?
            .signal(Signal::SIGSTOP)?;
        self.paused = true;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.process
            .as_ref()
            .context("it does not run")?
            .signal(Signal::SIGCONT)?;
        self.paused = false;
        Ok(())
    }

    /// Loses its disk: whatever it has kept is gone. It must not run.
    ///
    /// # Errors
    /// If it runs, or the store cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} still runs", self.name());
        let store = self.store();
        for entry in std::fs::read_dir(&store).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            }
            .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Runs a task of the program on this node's files, such as `recover`: whether it succeeded, and all that it said.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn task(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let config = self.write_files()?;
        let mut command = std::process::Command::new(programs::path("nexus-server")?);
        command.arg("--config").arg(&config).args(arguments);
        let done = crate::command::run(command.env_remove("NEXUS_CONFIG"), START_LIMIT)?;
        let said = format!("{}{}", done.stdout, done.stderr);
        Ok((done.status.success(), said))
    }

    /// Resident memory in bytes, as the kernel counts it; 0 if it does not run.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0).saturating_mul(1024)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.paused {
            // Stopped, it would not hear that it shall end.
            let _ = self.resume();
        }
        if let Some(process) = &mut self.process {
            let pid = process.pid();
            // Nothing of it is needed any more.
            let _ = process.kill();
            self.forget(pid);
        }
    }
}
