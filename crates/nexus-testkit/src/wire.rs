//! Putting frames onto an interface as they are: a packet socket that only sends.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
};

use crate::netns::Namespace;

/// One interface.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    to: LinkAddr,
}

impl Wire {
    /// Opens `interface` of `namespace`.
    ///
    /// # Errors
    /// If there is no such interface, or the caller is not root.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| {
            let to = getifaddrs()
                .context("cannot list interfaces")?
                .filter(|found| found.interface_name == interface)
                .find_map(|found| found.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {interface}"))?;
            debug_assert_eq!(to.family(), Some(AddressFamily::Packet));
            // No protocol: it receives nothing.
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .context("cannot open a packet socket")?;
            Ok(Self { socket, to })
        })?
    }

    /// Sends a whole frame, tags included.
    ///
    /// # Errors
    /// If the interface does not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.to, MsgFlags::empty())
            .context("cannot send a frame")?;
        ensure!(
            sent == frame.len(),
            "only {sent} bytes of a frame were sent"
        );
        Ok(())
    }
}
