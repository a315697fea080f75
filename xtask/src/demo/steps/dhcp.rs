//! Step 5: real DHCP clients get exactly that address, and every reply came from XDP.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_abi::Outcome;
use nexus_testkit::access_node::Line;
use nexus_testkit::capture::Seen;
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Lease};

use super::centre::{DNS, LEASE};
use super::radius::FIRST;
use crate::demo::Stage;
use crate::demo::edge::Edge;
use crate::demo::json::at;
use crate::demo::report::Report;

/// How long a client may take; it is there in well under a second if nothing is lost.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Which program each subscriber uses.
pub const KINDS: [Kind; 4] = [Kind::Udhcpc, Kind::Dhclient, Kind::Udhcpc, Kind::Dhclient];

const MASK: Ipv4Addr = Ipv4Addr::new(255, 192, 0, 0);
const ROUTER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let edge = stage.edge()?;
    for subscriber in 0..FIRST {
        let lease = connect(edge, report, subscriber)?;
        report.expect(
            lease.seconds == LEASE,
            format!("{:9} lease {} s", "", lease.seconds),
        )?;
    }

    let (requests, kernel, slow) = who_answered(edge)?;
    report.expect(
        requests > 0 && kernel == requests,
        format!("{requests} requests on the wire, {kernel} answered by XDP"),
    )?;
    report.expect(slow == 0, format!("{slow} answered by the slow path"))
}

/// DHCP requests on the wire, how many of them XDP has answered by its own counters, and how many the
/// slow path.
pub fn who_answered(edge: &Edge) -> Result<(u64, u64, u64)> {
    let seen = edge.capture.dhcp()?;
    let requests = seen.iter().filter(|seen| seen.message.op == 1).count() as u64;
    let status = edge.host.status()?;
    let answers = |outcomes| {
        let count = |label| at(outcomes, label).as_u64().unwrap_or(0);
        [
            Outcome::Offer,
            Outcome::Ack,
            Outcome::Nak,
            Outcome::InformAck,
        ]
        .map(|outcome| count(outcome.label()))
        .iter()
        .sum()
    };
    let kernel = answers(at(&status, "kernel_outcomes"));
    Ok((requests, kernel, answers(at(&status, "slow_outcomes"))))
}

/// Starts a subscriber's client; it must get the address that RADIUS gave it.
pub fn connect(edge: &mut Edge, report: &mut Report, subscriber: usize) -> Result<Lease> {
    let at = edge
        .host
        .network
        .subscribers
        .get(subscriber)
        .context("no such subscriber")?;
    let kind = *KINDS.get(subscriber).context("no such subscriber")?;
    let address = *edge
        .addresses
        .get(subscriber)
        .context("it has no address yet")?;
    let mut client = DhcpClient::start(kind, at, &edge.directory)?;
    let lease = client.wait_for_lease(1, PATIENCE)?;
    let (line, mac) = (at.line, at.mac);
    edge.clients.push(client);
    report.expect(
        lease.address == address,
        format!(
            "{:9} on {line}: {}, as RADIUS said",
            kind.name(),
            lease.address
        ),
    )?;
    let dns: Vec<String> = lease.dns.iter().map(Ipv4Addr::to_string).collect();
    let router = lease
        .router
        .map_or("none".to_owned(), |router| router.to_string());
    report.expect(
        lease.mask == MASK && lease.router == Some(ROUTER) && dns == DNS,
        format!(
            "{:9} mask {}, router {router}, DNS {}",
            "",
            lease.mask,
            dns.join(" ")
        ),
    )?;
    let done = |seen: &[Seen]| {
        let mut own = seen
            .iter()
            .filter(|seen| seen.message.mac() == mac && seen.message.op == 2);
        own.any(|seen| seen.message.message_type() == Some(5))
    };
    let seen = edge
        .capture
        .wait_for_dhcp("the ACK in the capture", PATIENCE, done)?;
    let own: Vec<Seen> = seen
        .into_iter()
        .filter(|seen| seen.message.mac() == mac)
        .collect();
    for text in exchanges(&own) {
        report.evidence(format!("{:9} {text}", ""));
    }
    let tagged = own.iter().all(|seen| vids(seen) == line.vids());
    report.expect(
        tagged,
        format!("{:9} every frame of it on {}", "", wire_text(line)),
    )?;
    Ok(lease)
}

/// Request and reply with the time between them on the wire: "DISCOVER 12:00:00.000001, OFFER +31 us".
pub fn exchanges(seen: &[Seen]) -> Vec<String> {
    let requests = seen.iter().filter(|seen| seen.message.op == 1);
    requests
        .map(|request| {
            let name = request.message.message_name();
            let at = clock(request.at);
            match seen.iter().find(|reply| reply.answers(request)) {
                Some(reply) => {
                    let micros = reply.at.saturating_sub(request.at).as_nanos() as f64 / 1000.0;
                    let answer = reply.message.message_name();
                    format!(
                        "{at} {name}, {answer} {} after {micros:.0} µs",
                        reply.message.yiaddr
                    )
                }
                None => format!("{at} {name}, no answer seen"),
            }
        })
        .collect()
}

/// Time of day in UTC, to the microsecond.
fn clock(at: Duration) -> String {
    let seconds = at.as_secs() % 86_400;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{:06}",
        at.subsec_micros()
    )
}

fn vids(seen: &Seen) -> (u16, u16) {
    let vid = |index: usize| seen.frame.tags.get(index).map_or(0, |tag| tag.vid());
    (vid(0), vid(1))
}

fn wire_text(line: Line) -> String {
    match line {
        Line::Untagged => "the wire without a tag".to_owned(),
        Line::Vlan(vid) => format!("the wire with 802.1Q tag {vid}"),
        Line::QinQ { s_vlan, c_vlan } => {
            format!("the wire with 802.1ad tag {s_vlan} and 802.1Q tag {c_vlan}")
        }
    }
}
