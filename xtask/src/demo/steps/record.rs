//! Step 6: one binding in the kernel's map, with named fields, and the same allocation at the centre.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_testkit::centre::Centre;
use nexus_testkit::olt_host::OLT_ID;
use nexus_testkit::{bpf, interrupt};
use serde_json::Value;

use super::radius::FIRST;
use crate::demo::Stage;
use crate::demo::edge::ACCOUNTS;
use crate::demo::json::{at, text};
use crate::demo::report::Report;
use crate::demo::watch::formatted;

/// How long the record may take to reach the centre.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    // The last of the first three is the one with two tags.
    let shown = FIRST - 1;
    let edge = stage.edge()?;
    let address = *edge.addresses.get(shown).context("it has no address yet")?;
    let pin = edge.host.map("BINDINGS");
    let dump = bpf::map_dump(&pin)?;
    let entry = formatted(&dump, address)
        .with_context(|| format!("{address} is not in {} by name", pin.display()))?;
    report.evidence(format!("bpftool map dump pinned {}", pin.display()));
    report.quote(&entry.to_string());
    report.expect(
        *at(entry, "outer_vid") == 200 && *at(entry, "inner_vid") == 30,
        "it names the VLAN pair 200.30 and the MAC address",
    )?;

    let addresses = edge.addresses.clone();
    let centre = stage.centre()?;
    for (account, address) in ACCOUNTS.iter().zip(&addresses) {
        let record = wait_for_record(centre, account.id, *address)?;
        report.evidence(format!(
            "GET /api/v1/allocations/{}: {} of {} on {}, shard {} epoch {}",
            account.id,
            text(&record, "resource"),
            text(&record, "pool_id"),
            text(&record, "olt_id"),
            text(&record, "shard"),
            text(&record, "epoch")
        ));
    }
    Ok(())
}

/// Waits until the centre's record of a subscriber shows this address on our OLT.
pub fn wait_for_record(centre: &Centre, subscriber: &str, address: Ipv4Addr) -> Result<Value> {
    let path = format!("/api/v1/allocations/{subscriber}");
    let expected = address.to_string();
    let what = format!("the record of {subscriber} at the centre with {expected}");
    interrupt::wait_until(&what, PATIENCE, || {
        let answer = centre.get(&path)?;
        // One, and no other.
        let record = match at(&answer.body, "allocations")
            .as_array()
            .map(Vec::as_slice)
        {
            Some([record]) if answer.status == 200 => record,
            _ => return Ok(None),
        };
        let same = *at(record, "resource") == expected.as_str() && *at(record, "olt_id") == OLT_ID;
        Ok(same.then(|| record.clone()))
    })
}
