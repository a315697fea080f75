//! Reads how everything stands: servers' records and counts, sidecars' bindings.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::bench::Field;
use super::history::{Finals, OltAt, Recorded, Who};
use super::plan::{PATIENCE, POOL};
use super::subscribers::number;
use crate::cluster::Client;
use crate::interrupt::wait_until;

/// Reads all of it, again until everybody has answered. `olts` are the hosts that count.
///
/// # Errors
/// If that does not happen within [`PATIENCE`]; with what was wrong last.
pub fn read(field: &Field, olts: OltAt) -> Result<Finals> {
    let mut last = None;
    let done = wait_until("everybody says what it has", PATIENCE, || {
        Ok(read_once(field, olts)
            .map_err(|error| last = Some(error))
            .ok())
    });
    match (done, last) {
        (Err(error), Some(last)) => Err(last.context(error)),
        (done, _) => done,
    }
}

fn read_once(field: &Field, olts: OltAt) -> Result<Finals> {
    let mut finals = Finals::default();
    let ids: Vec<&str> = field
        .hosts
        .iter()
        .take(olts)
        .map(|host| host.id())
        .collect();
    for at in 0..field.cluster.size() {
        let name = field.cluster.node(at)?.name().to_owned();
        let client = field.cluster.client(at)?;
        finals.records.push((name.clone(), records(&client, &ids)?));
        let stats = client.get(&format!("/api/v1/pools/{POOL}/stats"))?.ok()?;
        let counted = stats.get("allocated").and_then(Value::as_u64);
        let counted = counted.context("statistics without `allocated`")?;
        finals.counted.push((name.clone(), counted));
        finals.duplicates.push((name, duplicates(&client)?));
    }
    for host in field.hosts.iter().take(olts) {
        let mut all = Vec::new();
        for row in host.bindings()? {
            let line = binding(&row).with_context(|| format!("not a binding: {row}"))?;
            all.push(line);
        }
        finals.bindings.push(all);
    }
    Ok(finals)
}

/// `nexus_duplicate_allocations` of a server.
///
/// # Errors
/// If it does not answer, or without that metric.
pub fn duplicates(client: &Client) -> Result<u64> {
    let text = client.metrics()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("nexus_duplicate_allocations"));
    let value = line.and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok());
    value
        .map(|value| value as u64)
        .context("no nexus_duplicate_allocations among the metrics")
}

fn records(client: &Client, ids: &[&str]) -> Result<Vec<Recorded>> {
    let mut all = Vec::new();
    for row in client.allocations()? {
        let record = record(&row, ids);
        let record = record.with_context(|| format!("not an allocation: {row}"))?;
        if record.state != "released" {
            all.push(record);
        }
    }
    Ok(all)
}

fn record(row: &Value, ids: &[&str]) -> Option<Recorded> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let olt = text("olt_id")?;
    Some(Recorded {
        address: text("resource")?.parse().ok()?,
        who: number(text("subscriber_id")?)?,
        olt: ids.iter().position(|id| *id == olt),
        state: text("state")?.to_owned(),
    })
}

fn binding(row: &Value) -> Option<(Who, Ipv4Addr, bool)> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    Some((
        number(text("subscriber")?)?,
        text("address").or_else(|| text("resource"))?.parse().ok()?,
        row.get("acked")?.as_bool()?,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_read_by_their_names() {
        let row = json!({"resource": "100.64.0.9", "subscriber_id": "sub-7", "olt_id": "olt-2",
            "state": "active", "pool_id": "p"});
        let record = record(&row, &["olt-1", "olt-2"]).unwrap();
        assert_eq!((record.who, record.olt), (7, Some(1)));
        let row = json!({"subscriber": "sub-7", "address": "100.64.0.9", "acked": true});
        let address = Ipv4Addr::new(100, 64, 0, 9);
        assert_eq!(binding(&row), Some((7, address, true)));
    }
}
