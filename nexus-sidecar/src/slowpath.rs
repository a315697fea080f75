//! The DHCP slow path: what the kernel program has passed on, answered by the same code out of the same bindings.
//!
//! One thread per interface: it reads one frame at a time from its packet socket and answers it
//! before it reads the next. The socket's buffer is its only queue; frames beyond that are dropped
//! by the kernel, and clients repeat theirs.

mod filter;
mod packet_socket;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use nexus_abi::{Binding, BindingKey, Outcome, Profile};
use nexus_dhcp::{
    Answer, Bytes, OptionTable, Reply, Request, decide, inform, parse_link, parse_message,
    wire::message,
};
use nix::time::{ClockId, clock_gettime};

use crate::edge_handle::{EdgeError, EdgeHandle};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use packet_socket::{PacketSocket, Received};

/// Serves one interface until told to stop.
///
/// Errors: the packet socket cannot be opened (the message says which capability it takes) or
/// stops working.
pub async fn run(
    interface: &str,
    ifindex: u32,
    edge: EdgeHandle,
    metrics: Metrics,
    shutdown: Shutdown,
) -> io::Result<()> {
    let socket = PacketSocket::open(interface, ifindex)?;
    let runtime = tokio::runtime::Handle::current();
    let path = SlowPath {
        socket,
        interface: interface.to_owned(),
        ifindex,
        edge,
        metrics,
    };
    tokio::task::spawn_blocking(move || {
        while !shutdown.is_stopped() {
            if let Some(frame) = path.socket.receive()? {
                runtime.block_on(path.handle(&frame));
            }
        }
        Ok(())
    })
    .await
    .map_err(io::Error::other)?
}

/// The slow path of one interface.
struct SlowPath {
    socket: PacketSocket,
    interface: String,
    ifindex: u32,
    edge: EdgeHandle,
    metrics: Metrics,
}

impl SlowPath {
    async fn handle(&self, frame: &Received) {
        let interface = self.interface.as_str();
        let outcome = match serve(&self.edge, self.ifindex, &frame.bytes).await {
            Ok(Served::Reply(outcome, reply)) => match self.socket.send(&reply, frame) {
                Ok(()) => outcome,
                Err(error) => {
                    tracing::warn!(interface, %error, "a DHCP reply could not be sent");
                    Outcome::NoRoom
                }
            },
            Ok(Served::Silently(outcome)) => outcome,
            Err(error) => {
                tracing::warn!(interface, %error, "a DHCP message could not be served");
                Outcome::Internal
            }
        };
        self.metrics.dhcp_slow(outcome);
    }
}

/// What became of a frame.
enum Served {
    Reply(Outcome, Vec<u8>),
    Silently(Outcome),
}

async fn serve(edge: &EdgeHandle, ifindex: u32, frame: &[u8]) -> Result<Served, EdgeError> {
    let packet = Bytes(frame);
    let request = match read(&packet) {
        Ok(request) => request,
        Err(outcome) => return Ok(Served::Silently(outcome)),
    };
    let Some((key, binding, profile)) = find(edge, &request, ifindex) else {
        return Ok(Served::Silently(Outcome::UnknownClient));
    };
    let now_ns = boot_ns().map_err(|error| EdgeError::Map(error.to_string()))?;
    let answer = match request.options.message {
        message::INFORM => inform(&request, &binding, &profile, now_ns),
        message::RELEASE => return release(edge, key, &request, &profile).await,
        message::DECLINE => return decline(edge, key, &request, &profile).await,
        _ => decide(&request, &binding, &profile, now_ns),
    };
    Ok(
        match answer.and_then(|answer| write(&packet, &request, &answer, &profile)) {
            Ok((outcome, reply)) => Served::Reply(outcome, reply),
            Err(outcome) => Served::Silently(outcome),
        },
    )
}

fn read(packet: &Bytes<'_>) -> Result<Request, Outcome> {
    let link = parse_link(packet)?;
    parse_message(packet, link)?.into_request(packet, &mut OptionTable::default())
}

fn write(
    packet: &Bytes<'_>,
    request: &Request,
    answer: &Answer,
    profile: &Profile,
) -> Result<(Outcome, Vec<u8>), Outcome> {
    let mut reply = Reply::default();
    let span = reply.write(packet, request, answer, profile)?;
    Ok((answer.outcome, reply.frame(span).to_vec()))
}

/// The binding of the client: by its line and MAC, else by its MAC, as in the kernel.
fn find(
    edge: &EdgeHandle,
    request: &Request,
    ifindex: u32,
) -> Option<(BindingKey, Binding, Arc<Profile>)> {
    for key in [request.line_key(ifindex), request.mac_key(ifindex)] {
        if let Some((binding, profile)) = edge.binding(&key) {
            return Some((key, binding, profile));
        }
    }
    None
}

/// DHCPRELEASE is never answered (RFC 2131 4.3.4).
async fn release(
    edge: &EdgeHandle,
    key: BindingKey,
    request: &Request,
    profile: &Profile,
) -> Result<Served, EdgeError> {
    if !is_for(request, profile) {
        return Ok(Served::Silently(Outcome::OtherServer));
    }
    let address = Ipv4Addr::from(request.client_address().to_ne_bytes());
    let released = edge.dhcp_release(key, address).await?;
    tracing::info!(%address, released, "DHCPRELEASE");
    Ok(Served::Silently(if released {
        Outcome::SlowMessage
    } else {
        Outcome::Malformed
    }))
}

/// DHCPDECLINE is never answered (RFC 2131 4.3.3): the client starts again with a DISCOVER.
async fn decline(
    edge: &EdgeHandle,
    key: BindingKey,
    request: &Request,
    profile: &Profile,
) -> Result<Served, EdgeError> {
    if !is_for(request, profile) {
        return Ok(Served::Silently(Outcome::OtherServer));
    }
    let address = Ipv4Addr::from(request.options.requested.to_ne_bytes());
    let instead = edge.dhcp_decline(key, address).await?;
    tracing::warn!(%address, ?instead, "DHCPDECLINE: somebody else answers for the address");
    Ok(Served::Silently(if instead.is_some() {
        Outcome::SlowMessage
    } else {
        Outcome::Malformed
    }))
}

/// RELEASE and DECLINE name the server they are meant for (RFC 2131 table 5). One that is on its way to
/// another address only passes through here, whatever it names.
fn is_for(request: &Request, profile: &Profile) -> bool {
    request.is_for(profile.server_id)
        && request.options.server == u32::from_ne_bytes(profile.server_id)
}

fn boot_ns() -> nix::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let (seconds, nanos) = (now.tv_sec(), now.tv_nsec());
    Ok(u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0))
}
