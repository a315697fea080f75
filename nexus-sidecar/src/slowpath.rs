//! The DHCP slow path: what the kernel program has passed on, answered by the same code out of the same bindings.
//!
//! One thread per interface: it reads one frame at a time from its packet socket and answers it
//! before it reads the next. The socket's buffer is its only queue; frames beyond that are dropped
//! by the kernel, and clients repeat theirs.

mod filter;
mod packet_socket;

use std::io;
use std::net::Ipv4Addr;

use nexus_abi::{Binding, BindingKey, Outcome, Profile, Template};
use nexus_dhcp::{Request, exchange, wire::message};
use nix::time::{ClockId, clock_gettime};

use crate::edge_handle::{EdgeError, EdgeHandle};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use packet_socket::{PacketSocket, Received};

/// Serves one interface, of this index and this number in keys, until told to stop.
///
/// Errors: the packet socket cannot be opened (the message says which capability it takes) or
/// stops working.
pub async fn run(
    interface: &str,
    (ifindex, number): (u32, u8),
    edge: EdgeHandle,
    metrics: Metrics,
    shutdown: Shutdown,
) -> io::Result<()> {
    let socket = PacketSocket::open(interface, ifindex)?;
    let runtime = tokio::runtime::Handle::current();
    let path = SlowPath {
        socket,
        interface: interface.to_owned(),
        number,
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
    number: u8,
    edge: EdgeHandle,
    metrics: Metrics,
}

impl SlowPath {
    async fn handle(&self, frame: &Received) {
        let interface = self.interface.as_str();
        let outcome = match serve(&self.edge, self.number, &frame.bytes).await {
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

async fn serve(edge: &EdgeHandle, number: u8, frame: &[u8]) -> Result<Served, EdgeError> {
    let request = match exchange::read(frame) {
        Ok(request) => request,
        Err(outcome) => return Ok(Served::Silently(outcome)),
    };
    let Some((key, binding, profile, template)) = find(edge, &request, number).await? else {
        return Ok(Served::Silently(Outcome::UnknownClient));
    };
    let now_secs = boot_secs().map_err(|error| EdgeError::Map(error.to_string()))?;
    match request.options.message {
        message::RELEASE => return release(edge, key, &request, &profile).await,
        message::DECLINE => return decline(edge, key, &request, &profile).await,
        _ => {}
    }
    let reply = exchange::reply(frame, &request, &binding, &profile, &template, now_secs);
    Ok(match reply {
        Ok((outcome, reply)) => Served::Reply(outcome, reply),
        Err(outcome) => Served::Silently(outcome),
    })
}

/// The binding of the client: by its line and MAC, else by its MAC, as in the kernel.
async fn find(
    edge: &EdgeHandle,
    request: &Request,
    number: u8,
) -> Result<Option<(BindingKey, Binding, Profile, Template)>, EdgeError> {
    let kinds = [BindingKey::KIND_LINE, BindingKey::KIND_MAC];
    for key in kinds
        .iter()
        .filter_map(|kind| request.key(*kind, number, None))
    {
        if let Some((binding, profile, template)) = edge.binding(key).await? {
            return Ok(Some((key, binding, profile, template)));
        }
    }
    Ok(None)
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

fn boot_secs() -> nix::Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    Ok(u32::try_from(now.tv_sec()).unwrap_or(u32::MAX))
}
