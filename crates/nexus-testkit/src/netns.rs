//! Network namespaces with names of their own, removed with everything in them.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{command, interrupt};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A prefix for names that nobody else on this machine uses now: `nx4711-0-{base}`. It names this
/// process, so that [`sweep`] can tell whether somebody still needs what carries it.
#[must_use]
pub fn unique_prefix(base: &str) -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("nx{}-{count}-{base}", std::process::id())
}

/// The process that a name by [`unique_prefix`] belongs to.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("nx")?.split_once('-')?.0.parse().ok()
}

/// Removes namespaces and pins of test processes that are gone: killed before they could clean up.
/// Returns their names.
pub fn sweep() -> Vec<String> {
    let names = |directory: &str| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut orphans: Vec<String> = names
            .filter(|name| {
                owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            })
            .collect();
        orphans.sort_unstable();
        orphans
    };
    let mut swept = Vec::new();
    swept.extend(
        names("/run/netns")
            .into_iter()
            .filter(|name| remove(name).is_ok()),
    );
    let unpinned =
        |name: &String| crate::bpf::unpin(&Path::new(crate::bpf::BPFFS).join(name)).is_ok();
    swept.extend(names(crate::bpf::BPFFS).into_iter().filter(unpinned));
    swept
}

/// A network namespace made with `ip netns`. Dropped, it is removed, and what still runs inside is
/// killed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    keep: bool,
}

impl Namespace {
    /// Makes the namespace `{prefix}-{role}` with its loopback up and IPv6 off, so that captures show
    /// only what a test does.
    ///
    /// # Errors
    /// If the name is taken, or the caller is not root.
    pub fn create(prefix: &str, role: &str) -> Result<Self> {
        let name = format!("{prefix}-{role}");
        command::output(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name, keep: false };
        namespace.enter(|| {
            // Absent where the kernel has no IPv6.
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        })?;
        namespace.run("ip", &["link", "set", "dev", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that runs inside. It keeps the mounts of the host: `ip netns exec` would hide bpffs.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a short command inside that must succeed, and returns its standard output.
    ///
    /// # Errors
    /// As [`command::output`].
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        command::output(self.command(program).args(arguments))
    }

    /// Gives rules to the packet filter inside.
    ///
    /// # Errors
    /// If it refuses; with what it says.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut nft = self.command("nft");
        let done = command::run_with_input(nft.args(["-f", "-"]), rules, command::SHORT)?;
        if !done.status.success() {
            let said = done.stderr.trim();
            bail!("nft refuses in {}: {said}: {rules}", self.name);
        }
        Ok(())
    }

    /// Runs `work` on a thread of its own inside: sockets that it opens belong to the namespace.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path())
            .with_context(|| format!("the namespace {} is gone", self.name))?;
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(&file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter the namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the work in {} panicked", self.name)))
        })
    }

    /// Waits until something inside accepts TCP connections.
    ///
    /// # Errors
    /// If nobody does within `timeout`.
    pub fn wait_for_port(&self, address: IpAddr, port: u16, timeout: Duration) -> Result<()> {
        let target = SocketAddr::new(address, port);
        interrupt::wait_until(
            &format!("a listener on {target} in {}", self.name),
            timeout,
            || {
                let connected = self.enter(|| {
                    TcpStream::connect_timeout(&target, Duration::from_millis(250)).is_ok()
                })?;
                Ok(connected.then_some(()))
            },
        )
    }

    /// Process ids of what runs inside.
    ///
    /// # Errors
    /// If `ip netns pids` fails.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let text = command::output(Command::new("ip").args(["netns", "pids", &self.name]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect())
    }

    /// Leaves it there when this is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep {
            let _ = remove(&self.name);
        }
    }
}

/// Removes a namespace by its name, and kills what still runs inside, each process by its own id.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    // Plain commands: cleaning up goes on after Ctrl-C, when `command::run` would refuse.
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).output();
    let inside = ip(&["netns", "pids", name]).context("cannot run ip")?;
    for line in String::from_utf8_lossy(&inside.stdout).lines() {
        if let Ok(pid) = line.trim().parse::<i32>() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let removed = ip(&["netns", "del", name]).context("cannot run ip")?;
    if !removed.status.success() {
        bail!(
            "cannot remove the namespace {name}: {}",
            String::from_utf8_lossy(&removed.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        assert_eq!(owner(&unique_prefix("x")), Some(std::process::id()));
        assert_eq!(owner("nx12-0-x-olt"), Some(12));
        assert_eq!(owner("nexus-demo-12-olt"), None);
        assert_eq!(owner("nx-olt"), None);
    }
}
