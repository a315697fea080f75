//! Packet sockets: frames as they are on an interface of this thread's namespace.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{bind, setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// Opens one on `interface`, with so many bytes for frames that wait to be read, behind a filter (classic BPF; none: it
/// receives everything). It does not block.
///
/// # Errors
/// If there is no such interface, or the caller is not root.
pub fn open(interface: &str, buffer: usize, filter: &[SockFilter]) -> Result<Socket> {
    let address = getifaddrs()
        .context("cannot list interfaces")?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface} in this namespace"))?;
    let all = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    let protocol = Protocol::from(i32::from(all));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
        .context("cannot open a packet socket: that needs root")?;
    if !filter.is_empty() {
        socket
            .attach_filter(filter)
            .context("cannot filter the packet socket")?;
    }
    setsockopt(&socket, RcvBufForce, &buffer)
        .context("cannot give the packet socket its buffer")?;
    socket.set_nonblocking(true).context("a packet socket")?;
    bind(socket.as_raw_fd(), &address)
        .with_context(|| format!("cannot bind a packet socket to {interface}"))?;
    Ok(socket)
}
