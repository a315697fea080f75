//! Step 4: RADIUS. The address comes out of a local shard and is in the kernel before the Accept leaves.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::edge::shard_ranges;
use crate::demo::Stage;
use crate::demo::edge::{ACCOUNTS, Edge};
use crate::demo::report::Report;
use crate::demo::watch::addresses;

/// Subscribers that authenticate while the centre is there.
pub const FIRST: usize = 3;

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let edge = stage.edge()?;
    let ranges = shard_ranges(&edge.host.status()?);
    for subscriber in 0..FIRST {
        accept(edge, report, subscriber, &ranges)?;
    }
    let refused = edge.authenticate(0, "a guess")?;
    report.expect(
        refused.kind == "Access-Reject",
        "a wrong password gets Access-Reject",
    )
}

/// One subscriber authenticates and must get an address.
pub fn accept(
    edge: &mut Edge,
    report: &mut Report,
    subscriber: usize,
    ranges: &[String],
) -> Result<()> {
    let account = ACCOUNTS.get(subscriber).context("no such account")?;
    let began = Instant::now();
    let answer = edge.authenticate(subscriber, account.password)?;
    let took = began.elapsed();
    // Looked at once, without waiting: it has to be there already.
    let bindings = addresses(&edge.host.map("BINDINGS"))?;
    let address: Ipv4Addr = answer
        .get("Framed-IP-Address")
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("no address for {}: {}", account.user, answer.output.trim()))?;
    report.expect(
        answer.kind == "Access-Accept" && ranges.iter().any(|range| contains(range, address)),
        format!(
            "{:8} NAS-Port-Id \"{}\": {}, Framed-IP-Address {address} of an own shard ({} ms)",
            account.user,
            account.port_id,
            answer.kind,
            took.as_millis()
        ),
    )?;
    report.expect(
        bindings.values().any(|bound| *bound == address.octets()),
        format!(
            "{:8} {address} stands in the kernel's BINDINGS as the Accept arrives",
            ""
        ),
    )?;
    edge.addresses.push(address);
    Ok(())
}

/// Whether "100.64.0.0/18" contains the address.
fn contains(range: &str, address: Ipv4Addr) -> bool {
    let Some((base, length)) = range.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(length)) = (base.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX
        .checked_shl(32_u32.saturating_sub(length))
        .unwrap_or(0);
    u32::from(base) & mask == u32::from(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_its_addresses_only() {
        assert!(contains("100.64.64.0/18", Ipv4Addr::new(100, 64, 127, 255)));
        assert!(!contains("100.64.64.0/18", Ipv4Addr::new(100, 64, 128, 0)));
        assert!(!contains("100-199", Ipv4Addr::new(100, 64, 0, 1)));
    }
}
