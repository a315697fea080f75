//! Step 7: without the centre, without the edge, and everything back: nothing lost, nothing blinked.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_testkit::capture::Seen;
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Lease};

use super::dhcp::{self, PATIENCE, exchanges};
use super::edge::shard_ranges;
use super::radius::{self, FIRST};
use super::record::wait_for_record;
use crate::demo::Stage;
use crate::demo::edge::{ACCOUNTS, Edge};
use crate::demo::json::{at, text};
use crate::demo::report::Report;
use crate::demo::watch::{Watch, Watched};

/// Longest lease of a binding that the centre does not know yet, in seconds.
const UNACKNOWLEDGED: u32 = 600;

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let took = stage.centre()?.stop()?;
    report.evidence(format!(
        "nexus-server stopped on SIGTERM ({} ms)",
        took.as_millis()
    ));

    let edge = stage.edge()?;
    let ranges = shard_ranges(&edge.host.status()?);
    radius::accept(edge, report, FIRST, &ranges)?;
    let lease = dhcp::connect(edge, report, FIRST)?;
    report.expect(
        lease.seconds <= UNACKNOWLEDGED,
        format!(
            "{:9} lease {} s: short, as the centre does not know it yet",
            "", lease.seconds
        ),
    )?;

    let (watch, entries) = Watch::start(edge.host.map("BINDINGS"))?;
    let played = without_edge(edge, report, entries).and_then(|()| back(stage, report));
    let watched = watch.stop()?;
    played?;
    nothing_blinked(report, &watched, entries)?;
    all_by_the_kernel(stage.edge()?, report)
}

/// `kill -9`; clients go on, because the kernel goes on.
fn without_edge(edge: &mut Edge, report: &mut Report, entries: usize) -> Result<()> {
    let mut sidecar = edge
        .host
        .sidecar
        .take()
        .context("nexus-sidecar does not run")?;
    let pid = sidecar.pid();
    sidecar.kill()?;
    report.evidence(format!(
        "kill -9 of nexus-sidecar ({pid}); watching {entries} bindings"
    ));

    let before = edge.capture.dhcp()?.len();
    let mut renewed = Vec::new();
    for (client, address) in edge.clients.iter_mut().zip(&edge.addresses) {
        if client.kind() == Kind::Udhcpc {
            client.renew_now()?;
            let lease = client.wait_for_lease(2, PATIENCE)?;
            anyhow::ensure!(lease.address == *address, "renewed to {}", lease.address);
            renewed.push(address.to_string());
        }
    }
    report.evidence(format!(
        "udhcpc renewed without a sidecar: {}",
        renewed.join(", ")
    ));
    let lease = restart_dhclient(edge)?;
    report.expect(
        edge.addresses.get(1) == Some(&lease.address),
        format!("dhclient started anew and has {} again", lease.address),
    )?;
    let done = |seen: &[Seen]| {
        let replies = seen.iter().skip(before).filter(|seen| seen.message.op == 2);
        replies.count() > renewed.len()
    };
    let seen = edge
        .capture
        .wait_for_dhcp("the replies in the capture", PATIENCE, done)?;
    for text in exchanges(seen.get(before..).unwrap_or_default()) {
        report.evidence(format!("{:9} {text}", ""));
    }
    Ok(())
}

/// The second subscriber's host is switched off and on.
fn restart_dhclient(edge: &mut Edge) -> Result<Lease> {
    let subscriber = edge
        .host
        .network
        .subscribers
        .get(1)
        .context("no such subscriber")?;
    let old = edge.clients.get_mut(1).context("no such client")?;
    old.process().kill()?;
    *old = DhcpClient::start(old.kind(), subscriber, &edge.directory)?;
    old.wait_for_lease(1, PATIENCE)
}

/// The edge comes back first, on its own; then the centre.
fn back(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let edge = stage.edge()?;
    let held = ACCOUNTS.len() as u64;
    let took = edge.host.start("back with all bindings", |status| {
        at(status, "acked").as_u64().unwrap_or(0) + at(status, "unacked").as_u64().unwrap_or(0)
            == held
    })?;
    report.evidence(format!(
        "nexus-sidecar is back after {} ms with all {held} bindings, still without a centre",
        took.as_millis()
    ));

    let took = stage.centre()?.start()?;
    report.evidence(format!(
        "nexus-server is back and ready after {} ms",
        took.as_millis()
    ));
    let began = Instant::now();
    let addresses = stage.edge()?.addresses.clone();
    let centre = stage.centre()?;
    for (account, address) in ACCOUNTS.iter().zip(&addresses) {
        let record = wait_for_record(centre, account.id, *address)?;
        report.evidence(format!(
            "the centre has {} {}",
            account.id,
            text(&record, "resource")
        ));
    }
    let edge = stage.edge()?;
    let connected = nexus_testkit::interrupt::wait_until(
        "the edge connected, everything acknowledged",
        Duration::from_secs(30),
        || {
            let status = edge.host.status()?;
            let done = *at(&status, "mode") == "connected"
                && *at(&status, "acked") == held
                && *at(&status, "unacked") == 0;
            Ok(done.then_some(status))
        },
    )?;
    report.evidence(format!(
        "the edge is {} again, {} acknowledged, 0 waiting ({} ms)",
        text(&connected, "mode"),
        text(&connected, "acked"),
        began.elapsed().as_millis()
    ));

    let again = edge.authenticate(0, ACCOUNTS.first().map_or("", |account| account.password))?;
    let same =
        again.get("Framed-IP-Address") == addresses.first().map(Ipv4Addr::to_string).as_deref();
    report.expect(
        again.kind == "Access-Accept" && same,
        "the first subscriber authenticates again and keeps its address",
    )?;
    let audit = stage.centre()?.get("/api/v1/audit")?;
    report.expect(
        audit.status == 200
            && at(&audit.body, "duplicates")
                .as_array()
                .is_some_and(Vec::is_empty),
        format!(
            "GET /api/v1/audit: {} allocations, none twice",
            text(&audit.body, "checked")
        ),
    )
}

fn nothing_blinked(report: &mut Report, watched: &Watched, entries: usize) -> Result<()> {
    let Watched {
        samples,
        longest_gap,
        blinks,
        unread,
    } = watched;
    report.expect(
        blinks.is_empty() && *unread == 0 && *samples > 10,
        format!(
            "no entry blinked: {entries} bindings the same in {samples} samples of the map, at most \
             {} ms apart{}",
            longest_gap.as_millis(),
            if *unread > 0 { format!(", {unread} could not be read") } else { blinks.join("; ") }
        ),
    )
}

/// The counters are pinned with the maps: they have counted through every stop.
fn all_by_the_kernel(edge: &Edge, report: &mut Report) -> Result<()> {
    let (requests, kernel, slow) = dhcp::who_answered(edge)?;
    report.expect(
        kernel == requests && slow == 0,
        format!(
            "{requests} DHCP requests in all, {kernel} answered by XDP, {slow} by the slow path"
        ),
    )
}
