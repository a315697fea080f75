//! Step 2: nexus-server runs with the customer's YAML, and the pool exists.

use anyhow::{Context as _, Result};
use nexus_testkit::centre::{self, Centre};
use serde_json::json;

use crate::demo::Stage;
use crate::demo::json::at;
use crate::demo::report::Report;

/// The pool of the customer's document.
pub const POOL: &str = "residential-ipv4";
/// Length of a DHCP lease in that pool, in seconds.
pub const LEASE: u32 = 3600;
/// DNS servers of that pool.
pub const DNS: [&str; 2] = ["9.9.9.9", "149.112.112.112"];

/// Plays it.
pub fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let created = Centre::create(&stage.left.prefix, &stage.left.directory)?;
    let centre = stage.centre.insert(created);
    let took = centre.start()?;
    report.evidence(format!(
        "nexus-server is ready after {} ms: one node, sled store, REST on {}",
        took.as_millis(),
        centre::REST
    ));

    let pool = json!({
        "id": POOL,
        "type": "ipv4",
        "cidr": "100.64.0.0/10",
        "sharding_factor": 100,
        "exclusions": ["100.64.0.0/24"],
        "metadata": { "region": "east", "service_type": "residential" },
        "dhcp": { "router": "100.64.0.1", "dns": DNS, "lease_time": format!("{}m", LEASE / 60) },
    });
    let answer = centre.post("/api/v1/pools", &pool)?;
    report
        .expect(
            answer.status == 201,
            format!(
                "POST /api/v1/pools: {} for {POOL} 100.64.0.0/10 without 100.64.0.0/24",
                answer.status
            ),
        )
        .with_context(|| format!("the answer was {}", answer.body))?;

    let path = format!("/api/v1/pools/{POOL}/stats");
    let answer = centre.get(&path)?;
    let (available, shards) = (at(&answer.body, "available"), at(&answer.body, "shards"));
    report.expect(
        answer.status == 200 && available.as_u64().is_some_and(|count| count > 4_000_000),
        format!("GET {path}: {available} addresses free, in {shards} shards"),
    )?;

    let again = centre.post("/api/v1/pools", &pool)?;
    report.expect(
        again.status == 409,
        format!("the same pool again: {}, refused", again.status),
    )
}
