//! Pools: what is handed out.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{array, pool_path, shown};
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
        Pools::Update { id, file, if_match } => {
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
            let answer = api.send("PUT", &pool_path(id), Some(&pool), &headers)?;
            Ok(shown(json, &answer.body, |body| {
                with_etag(&answer, fields(body))
            }))
        }
        Pools::Delete { id } => {
            let answer = api.send("DELETE", &pool_path(id), None, &[])?;
            Ok(shown(json, &answer.body, |_| match answer.status {
                202 => {
                    format!("pool {id} goes as soon as the OLT hosts have given back its shards\n")
                }
                _ => format!("pool {id} removed\n"),
            }))
        }
        Pools::Stats { id } => {
            let answer = api.get(&format!("{}/stats", pool_path(id)))?;
            Ok(shown(json, &answer.body, fields))
        }
    }
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
