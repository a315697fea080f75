//! Traces and events over the control socket: packets as they come, until the asker hangs up.

use std::io;

use nexus_core::id::SubscriberId;
use nexus_radius::identity::mac_text;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::{Answer, Request, patiently, push};
use crate::edge_handle::EdgeHandle;
use crate::packet_events::{PacketEvents, PacketReport, Wanted};

/// What is watched, in words, and its packets.
pub(super) type Watching = Result<(String, mpsc::Receiver<PacketReport>), String>;

/// Begins to watch what a request asks for.
pub(super) async fn begin(
    request: serde_json::Result<Request>,
    edge: &EdgeHandle,
    packets: &PacketEvents,
) -> Watching {
    let (what, wanted) = match request {
        Ok(Request::Trace {
            subscriber: Some(subscriber),
            ..
        }) => {
            let mac = mac_of(edge, &subscriber).await?;
            (
                format!("{subscriber}, {}", mac_text(mac)),
                Wanted::Client(mac),
            )
        }
        Ok(Request::Trace { mac: Some(mac), .. }) => (mac_text(mac), Wanted::Client(mac)),
        Ok(Request::Events) => ("all interfaces".to_owned(), Wanted::Rare),
        _ => return Err("name a subscriber or a MAC address to trace".to_owned()),
    };
    let reports = packets.watch(wanted).await;
    reports
        .map(|reports| (what, reports))
        .map_err(|error| error.to_string())
}

/// The MAC address that stands in a subscriber's binding.
async fn mac_of(edge: &EdgeHandle, subscriber: &SubscriberId) -> Result<[u8; 6], String> {
    let bindings = edge
        .bindings(Some(subscriber.clone()))
        .await
        .map_err(|error| error.to_string())?;
    bindings.iter().find_map(|binding| binding.mac).ok_or_else(|| {
        format!(
            "{subscriber} has no binding on this host: give the MAC address of its client with --mac"
        )
    })
}

/// Sends what is watched until the asker hangs up.
pub(super) async fn show(
    watching: Watching,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
) -> io::Result<()> {
    let mut text = Vec::new();
    let mut reports = match watching {
        Ok((what, reports)) => {
            push(&mut text, &Answer::Watching(what))?;
            reports
        }
        Err(problem) => {
            push(&mut text, &Answer::Error(problem))?;
            return patiently(writer.write_all(&text)).await;
        }
    };
    patiently(writer.write_all(&text)).await?;
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            report = reports.recv() => {
                text.clear();
                match report {
                    Some(report) => push(&mut text, &Answer::Packet(report))?,
                    None => {
                        push(&mut text, &Answer::Error("nexus-sidecar is stopping".to_owned()))?;
                        return patiently(writer.write_all(&text)).await;
                    }
                }
                patiently(writer.write_all(&text)).await?;
            }
            read = reader.read(&mut ignored) => {
                // Nothing is said after the request, so this is the end.
                if read? == 0 {
                    return Ok(());
                }
            }
        }
    }
}
