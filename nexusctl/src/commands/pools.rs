//! Pools: what is handed out.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{array, pool_path, query, rows, shards, shown};
use crate::api::{Answer, Api};
use crate::cli::Pools;
use crate::table::{Table, cell, fields};

/// Largest file with pools, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Carries out a command about pools.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, json: bool, command: &Pools) -> anyhow::Result<String> {
    match command {
        Pools::List => {
            let answer = api.get("/api/v1/pools")?;
            Ok(shown(json, &answer.body, pool_rows))
        }
        Pools::Get { id } => {
            let answer = api.get(&pool_path(id))?;
            Ok(shown(json, &answer.body, |body| {
                with_etag(&answer, fields(body))
            }))
        }
        Pools::Create { file } => {
            let mut made = Vec::new();
            for pool in read_pools(file)? {
                let name = cell(pool.get("id").unwrap_or(&Value::Null));
                let answer = api
                    .send("POST", "/api/v1/pools", Some(&pool), &[])
                    .with_context(|| format!("pool {name} was not created"))?;
                made.push(answer.body);
            }
            let body = json!({ "pools": made });
            Ok(shown(json, &body, pool_rows))
        }
        Pools::Update {
            id,
            file,
            if_match,
            dry_run,
            drain,
        } => {
            let mut pools = read_pools(file)?;
            let (Some(mut pool), true) = (pools.pop(), pools.is_empty()) else {
                bail!(
                    "{} must hold exactly one pool for an update",
                    file.display()
                );
            };
            if let Some(pool) = pool.as_object_mut() {
                pool.entry("id").or_insert_with(|| json!(id));
            }
            let headers: Vec<(&str, &str)> = if_match
                .iter()
                .map(|tag| ("if-match", tag.as_str()))
                .collect();
            let flags = flags(&[("dry_run", *dry_run), ("drain", *drain)]);
            let path = format!("{}{flags}", pool_path(id));
            let answer = api.send("PUT", &path, Some(&pool), &headers)?;
            Ok(shown(json, &answer.body, |body| {
                if *dry_run {
                    return change_text(body);
                }
                let text = with_etag(&answer, fields(body));
                match body.get("draining").and_then(Value::as_u64) {
                    Some(left) => format!(
                        "{text}\n{left} allocations of what goes are still held and were asked back; `nexusctl pools stats {id}` shows how many are left\n"
                    ),
                    None => text,
                }
            }))
        }
        Pools::Delete { id, dry_run, force } => {
            let flags = flags(&[("dry_run", *dry_run), ("force", *force)]);
            let path = format!("{}{flags}", pool_path(id));
            let answer = api.send("DELETE", &path, None, &[])?;
            Ok(shown(json, &answer.body, |body| match answer.status {
                200 => change_text(body),
                202 => {
                    format!("pool {id} goes as soon as the OLT hosts have given back its shards\n")
                }
                _ => format!("pool {id} removed\n"),
            }))
        }
        Pools::Stats { id } => {
            let answer = api.get(&format!("{}/stats", pool_path(id)))?;
            Ok(shown(json, &answer.body, stats_text))
        }
    }
}

/// Those of the flags that are set, as a query.
fn flags(all: &[(&str, bool)]) -> String {
    let set: Vec<(&str, Option<&str>)> = all
        .iter()
        .map(|(name, set)| (*name, set.then_some("true")))
        .collect();
    query(&set)
}

/// What a change would do, for people.
fn change_text(change: &Value) -> String {
    let value = |name: &str| cell(change.get(name).unwrap_or(&Value::Null));
    let mut text = format!(
        "pool {}: {}, {} shards now, {} then\n{} allocations are held of what goes",
        value("pool_id"),
        value("change"),
        value("shards_before"),
        value("shards_after"),
        value("affected_allocations"),
    );
    let named = array(change, "allocations");
    if named.is_empty() {
        text.push('\n');
    } else {
        text.push_str(&format!(", the first {} of them:\n", named.len()));
        text.push_str(&rows(
            &["resource", "subscriber_id", "olt_id"],
            change,
            "allocations",
        ));
    }
    text.push('\n');
    text.push_str(&shards::plan_text(
        change.get("plan").unwrap_or(&Value::Null),
    ));
    text.push_str("\nnothing was changed (dry run)\n");
    text
}

/// How full a pool is: its figures, then each OLT's shards.
fn stats_text(stats: &Value) -> String {
    let mut of_pool = stats.clone();
    let olts = of_pool
        .as_object_mut()
        .and_then(|stats| stats.remove("olts"));
    let mut table = Table::new(&["olt", "shards", "allocated", "total", "utilization"]);
    for (olt, fill) in olts
        .as_ref()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let value = |name: &str| cell(fill.get(name).unwrap_or(&Value::Null));
        let part = fill.get("utilization_ratio").and_then(Value::as_f64);
        table.row(vec![
            olt.clone(),
            value("shards"),
            value("allocated"),
            value("total"),
            format!("{:.1}%", part.unwrap_or(0.0) * 100.0),
        ]);
    }
    format!("{}\n{}", fields(&of_pool), table.text())
}

fn pool_rows(body: &Value) -> String {
    let mut table = Table::new(&["id", "type", "space", "vrf", "exclusions", "metadata"]);
    for pool in array(body, "pools") {
        let value = |name: &str| cell(pool.get(name).unwrap_or(&Value::Null));
        let space = match (pool.get("cidr"), pool.get("addresses")) {
            (Some(_), _) => value("cidr"),
            (None, None) => value("range"),
            (None, Some(_)) => format!("{}:{}", value("addresses"), value("range")),
        };
        table.row(vec![
            value("id"),
            value("type"),
            space,
            value("vrf"),
            value("exclusions"),
            value("metadata"),
        ]);
    }
    table.text()
}

fn with_etag(answer: &Answer, text: String) -> String {
    match &answer.etag {
        Some(etag) => format!("{text}\netag  {etag}\n"),
        None => text,
    }
}

/// The pools of a file: one, a list, or a document with `pools:`.
pub fn read_pools(file: &Path) -> anyhow::Result<Vec<Value>> {
    let cannot = || format!("cannot read {}", file.display());
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_FILE).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .with_context(cannot)?
            .take(MAX_FILE)
            .read_to_string(&mut text)
    }
    .with_context(cannot)?;
    parse_pools(&text).with_context(|| format!("{} holds no pools", file.display()))
}

/// JSON is YAML, too.
fn parse_pools(text: &str) -> anyhow::Result<Vec<Value>> {
    let value: Value = serde_saphyr::from_str(text)?;
    let pools = match value {
        Value::Object(mut fields) => match fields.remove("pools") {
            Some(Value::Array(pools)) => pools,
            Some(_) => bail!("`pools` must be a list"),
            None => vec![Value::Object(fields)],
        },
        Value::Array(pools) => pools,
        _ => bail!("expected a pool, a list of pools, or `pools:` with a list"),
    };
    if pools.is_empty() || !pools.iter().all(Value::is_object) {
        bail!("expected at least one pool, each with fields such as id, type and cidr");
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_from_every_shape_of_file() {
        for text in [
            "id: a\ntype: ipv4\ncidr: 10.0.0.0/16\n",
            "- id: a\n  type: ipv4\n  cidr: 10.0.0.0/16\n",
            "pools:\n  - id: a\n    type: ipv4\n    cidr: 10.0.0.0/16\n",
            "{\"id\": \"a\", \"type\": \"ipv4\", \"cidr\": \"10.0.0.0/16\"}",
        ] {
            let pools = parse_pools(text).unwrap();
            assert_eq!(
                pools,
                [json!({"id": "a", "type": "ipv4", "cidr": "10.0.0.0/16"})]
            );
        }
        for bad in ["", "pools: 3", "[]", "[1]", "text", "a: [", "pools: []"] {
            assert!(parse_pools(bad).is_err(), "{bad}");
        }
    }
}
