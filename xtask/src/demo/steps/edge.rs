//! Step 3: an access network, XDP in native mode, and an OLT that is registered and has shards.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_testkit::access_node::OLT_INTERFACE;
use nexus_testkit::interrupt;
use nexus_testkit::olt_host::OLT_ID;
use nexus_testkit::packet::mac_text;
use serde_json::Value;

use crate::demo::Stage;
use crate::demo::edge::{ACCOUNTS, Edge};
use crate::demo::json::{at, text};
use crate::demo::report::Report;

/// `XDP_ATTACHED_DRV` in the kernel's `if_link.h`: in the driver, before a packet buffer is made.
const NATIVE: u64 = 1;

/// How long the first heartbeat may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let centre = stage
        .centre
        .as_ref()
        .context("the centre was not started")?;
    let left = &stage.left;
    let created = Edge::create(&left.prefix, &left.directory, &centre.namespace)?;
    let edge = stage.edge.insert(created);
    for (account, subscriber) in ACCOUNTS.iter().zip(&edge.host.network.subscribers) {
        report.evidence(format!(
            "subscriber {:8} {} on {} (namespace {})",
            account.user,
            mac_text(subscriber.mac),
            subscriber.line,
            subscriber.namespace.name(),
        ));
    }

    let took = edge
        .host
        .start("registered, with shards to allocate from", |status| {
            *at(status, "mode") == "connected"
                && at(status, "cannot_allocate").is_null()
                && !shard_ranges(status).is_empty()
        })?;
    let status = edge.host.status()?;
    report.evidence(format!(
        "nexus-sidecar registered as {OLT_ID} and got its configuration, {} ms after its start",
        took.as_millis()
    ));
    report.evidence(format!("it owns {}", shard_ranges(&status).join(", ")));

    let link = edge
        .host
        .network
        .olt
        .run("ip", &["-json", "link", "show", "dev", OLT_INTERFACE])?;
    let link: Value = serde_json::from_str(&link).context("`ip -json` did not print JSON")?;
    let mode = at(&link, "0/xdp/mode").as_u64();
    let program = at(&link, "0/xdp/prog/id").as_u64().unwrap_or(0);
    report.expect(
        mode == Some(NATIVE),
        format!("XDP program {program} runs on {OLT_INTERFACE} in native mode"),
    )?;

    let path = format!("/api/v1/nodes/{OLT_ID}");
    let centre = stage.centre()?;
    let node = interrupt::wait_until("the OLT's first heartbeat at the centre", PATIENCE, || {
        let node = centre.get(&path)?;
        Ok((node.status == 200 && *at(&node.body, "state") == "active").then_some(node))
    })?;
    report.evidence(format!(
        "GET {path}: {}, capacity {}, assigned shards {}",
        text(&node.body, "state"),
        text(&node.body, "capacity"),
        text(&node.body, "assigned_shards/0/shards")
    ));
    Ok(())
}

/// The IPv4 ranges that the host may allocate from: "100.64.0.0/18".
pub fn shard_ranges(status: &Value) -> Vec<String> {
    let shards = at(status, "shards")
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    shards
        .iter()
        .filter_map(|shard| at(shard, "range").as_str())
        .map(str::to_owned)
        .collect()
}
