//! Seeing frames: `tcpdump` on an interface, read back with times and tags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::SHORT;
use crate::interrupt;
use crate::netns::Namespace;
use crate::packet::{Bootp, Frame};
use crate::pcap::{self, Captured};
use crate::process::Process;

/// A running capture. Frames can be read while it runs.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures everything on `interface` into `{directory}/{interface}.pcap` from now on.
    ///
    /// # Errors
    /// If `tcpdump` does not begin to listen.
    pub fn start(namespace: &Namespace, interface: &str, directory: &Path) -> Result<Self> {
        Self::start_filtered(namespace, interface, directory, "")
    }

    /// The same for frames that `filter` lets through (pcap-filter(7)): a flood would drown the rest.
    ///
    /// # Errors
    /// As [`Capture::start`], and if the filter is wrong.
    pub fn start_filtered(
        namespace: &Namespace,
        interface: &str,
        directory: &Path,
        filter: &str,
    ) -> Result<Self> {
        let name = format!("{}-{interface}", namespace.name());
        let file = directory.join(format!("{name}.pcap"));
        let mut command = namespace.command("tcpdump");
        // It would drop its privileges otherwise, and then could not write into our directory.
        command.args(["-Z", "root", "--immediate-mode", "--packet-buffered", "-n"]);
        command.args([
            "--time-stamp-precision=nano",
            "-s",
            "0",
            "-i",
            interface,
            "-w",
        ]);
        // Room for bursts, in KiB: a frame that tcpdump misses looks like one that was not answered.
        command.arg(&file).args(["-B", "16384"]).arg(filter);
        let log = directory.join(format!("{name}.tcpdump.log"));
        let mut process = Process::spawn("tcpdump", &mut command, &log)?;
        process.wait_for_line("listening on", SHORT)?;
        Ok(Self { process, file })
    }

    /// What has been seen so far.
    ///
    /// # Errors
    /// If the capture file cannot be read.
    pub fn frames(&self) -> Result<Vec<Captured>> {
        let bytes = std::fs::read(&self.file)
            .with_context(|| format!("cannot read the capture {}", self.file.display()))?;
        Ok(pcap::read(&bytes))
    }

    /// The DHCP messages seen so far; other frames, and such with a wrong checksum, are left out.
    ///
    /// # Errors
    /// If the capture file cannot be read.
    pub fn dhcp(&self) -> Result<Vec<Seen>> {
        Ok(self.frames()?.iter().filter_map(Seen::of).collect())
    }

    /// Waits until `enough` holds for the DHCP messages seen so far, and returns them.
    ///
    /// # Errors
    /// If it does not within `timeout`.
    pub fn wait_for_dhcp(
        &self,
        what: &str,
        timeout: Duration,
        enough: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>> {
        interrupt::wait_until(what, timeout, || {
            let seen = self.dhcp()?;
            Ok(enough(&seen).then_some(seen))
        })
    }

    /// The capture file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Ends the capture and returns all frames.
    ///
    /// # Errors
    /// If `tcpdump` has ended before.
    pub fn stop(mut self) -> Result<Vec<Captured>> {
        self.process.terminate(SHORT)?;
        self.frames()
    }
}

/// A DHCP message on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When, since 1970.
    pub at: Duration,
    /// Around the message.
    pub frame: Frame,
    /// The message.
    pub message: Bootp,
}

impl Seen {
    /// Reads a captured frame; `None` if it is not DHCP over IPv4 with right checksums.
    #[must_use]
    pub fn of(captured: &Captured) -> Option<Self> {
        let frame = Frame::parse(&captured.bytes).ok()?;
        let dhcp_ports = [67, 68];
        if !dhcp_ports.contains(&frame.source_port) || !dhcp_ports.contains(&frame.destination_port)
        {
            return None;
        }
        let message = frame.bootp().ok()?;
        Some(Self {
            at: captured.at,
            frame,
            message,
        })
    }

    /// Whether this is the reply to `request`.
    #[must_use]
    pub fn answers(&self, request: &Self) -> bool {
        self.message.op == 2
            && request.message.op == 1
            && self.message.xid == request.message.xid
            && self.message.chaddr == request.message.chaddr
            && self.at >= request.at
    }
}
