//! Real DHCP clients of Debian, with scripts and files that tell what they got.

mod lease;
mod program;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

pub use self::lease::{Event, Lease};
use self::program::Files;
use crate::access_node::Subscriber;
use crate::command;
use crate::process::Process;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// busybox `udhcpc`.
    Udhcpc,
    /// ISC `dhclient`, with Debian's configuration.
    Dhclient,
    /// `dhcpcd`, with Debian's configuration.
    Dhcpcd,
    /// `systemd-networkd`; it needs no systemd around it.
    Networkd,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Udhcpc, Self::Dhclient, Self::Dhcpcd, Self::Networkd];

    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udhcpc => "udhcpc",
            Self::Dhclient => "dhclient",
            Self::Dhcpcd => "dhcpcd",
            Self::Networkd => "networkd",
        }
    }
}

/// How a client is to behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it does by itself; of these only `dhcpcd` looks then whether its address is free.
    Plain,
    /// It looks whether somebody else uses its address, and declines it then; `dhclient` leaves that
    /// to its script, and this one declines every address.
    Suspicious,
    /// `dhcpcd` only: it has this address (with a mask of 24 bits) already, and informs itself.
    Informs(Ipv4Addr),
}

/// A running DHCP client in a subscriber's namespace.
#[derive(Debug)]
pub struct DhcpClient {
    kind: Kind,
    process: Process,
    events: PathBuf,
    /// Of networkd.
    lease_files: PathBuf,
    /// Of dhclient: the words that make it release.
    release: Vec<String>,
    netns: String,
}

impl DhcpClient {
    /// Starts it in the foreground. Script, logs and lease files go to `directory`, which keeps them
    /// for a client that is started again: it then asks for the address it had.
    ///
    /// # Errors
    /// If a file cannot be written or the program cannot be started.
    pub fn start(kind: Kind, subscriber: &Subscriber, directory: &Path) -> Result<Self> {
        Self::start_as(kind, Manner::Plain, subscriber, directory)
    }

    /// The same, with a manner of its own.
    ///
    /// # Errors
    /// As [`DhcpClient::start`], and if the program has no such manner.
    pub fn start_as(
        kind: Kind,
        manner: Manner,
        subscriber: &Subscriber,
        directory: &Path,
    ) -> Result<Self> {
        if kind != Kind::Dhcpcd && matches!(manner, Manner::Informs(_)) {
            bail!("{} cannot be made to send INFORM", kind.name());
        }
        let files = Files::new(kind, subscriber, directory);
        let mut command = program::command(kind, subscriber, &files, manner)?;
        let release = match kind {
            Kind::Dhclient => program::dhclient_release(&files)?,
            Kind::Udhcpc | Kind::Dhcpcd | Kind::Networkd => Vec::new(),
        };
        Ok(Self {
            kind,
            process: Process::spawn(kind.name(), &mut command, &files.log())?,
            events: files.events(),
            lease_files: files.state().join("leases"),
            release,
            netns: format!("--net={}", subscriber.namespace.path().display()),
        })
    }

    /// Which program it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What the client has told its script so far; networkd has none.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        lease::parse_events(&std::fs::read_to_string(&self.events).unwrap_or_default())
    }

    /// Waits for the `count`th time that the client has a lease (1: the first lease; 2: the first
    /// renewal), and returns it as the client wrote it down.
    ///
    /// # Errors
    /// If the client ends, or does not get that far within `timeout`.
    pub fn wait_for_lease(&mut self, count: usize, timeout: Duration) -> Result<Lease> {
        let what = format!("lease event {count}");
        if self.kind == Kind::Networkd {
            return self.wait_for_networkd(&what, count, timeout);
        }
        let path = self.events.clone();
        let lease = self.process.wait_until(&what, timeout, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let events = lease::parse_events(&text);
            let mut with_lease = events.iter().filter(|event| event.has_lease());
            let event = with_lease.nth(count.saturating_sub(1));
            Ok(event.and_then(Event::lease))
        })?;
        if self.kind == Kind::Dhclient {
            // It calls its script first and then writes its lease file, which it needs when it is
            // started again.
            let bound = format!("bound to {}", lease.address);
            self.process.wait_for_line(&bound, timeout)?;
        }
        Ok(lease)
    }

    /// It tells nobody, but logs each ACK, and writes its lease down when it has set the address.
    fn wait_for_networkd(&mut self, what: &str, count: usize, timeout: Duration) -> Result<Lease> {
        let (log, files) = (self.process.log_file().to_owned(), self.lease_files.clone());
        self.process.wait_until(what, timeout, || {
            let text = std::fs::read(&log).unwrap_or_default();
            let acks = String::from_utf8_lossy(&text)
                .matches("DHCPv4 client: ACK")
                .count();
            if acks < count {
                return Ok(None);
            }
            let written = std::fs::read_dir(&files).into_iter().flatten().flatten();
            let mut leases = written.filter_map(|file| {
                lease::parse_networkd(&std::fs::read_to_string(file.path()).ok()?)
            });
            Ok(leases.next())
        })
    }

    /// Makes `udhcpc` renew now, by unicast to its server; the others do so at T1 only.
    ///
    /// # Errors
    /// If it is another program, or the client is gone.
    pub fn renew_now(&self) -> Result<()> {
        if self.kind != Kind::Udhcpc {
            bail!("{} renews at T1 only", self.kind.name());
        }
        self.process.signal(Signal::SIGUSR1)
    }

    /// Makes the client give back its lease. All but `udhcpc` end with it.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn release_now(&mut self) -> Result<()> {
        match self.kind {
            Kind::Udhcpc => self.process.signal(Signal::SIGUSR2),
            Kind::Dhcpcd => self.process.signal(Signal::SIGALRM),
            Kind::Networkd => self.process.signal(Signal::SIGTERM),
            Kind::Dhclient => {
                let mut release = Command::new("nsenter");
                release.arg(&self.netns).arg("--").args(&self.release);
                command::output(&mut release).map(drop)
            }
        }
    }
}
