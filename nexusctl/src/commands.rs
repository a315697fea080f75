//! What each subcommand asks of the server, and how the answer looks.

mod cluster;

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::api::{Answer, Api, escape};
use crate::cli::{Allocate, Allocations, Cli, Command, ListFilter, Nodes, Pools};
use crate::table::{Table, cell, fields};

/// Columns of a list of allocations, as the server names them.
const ALLOCATION: &[&str] = &[
    "subscriber_id",
    "resource",
    "pool_id",
    "olt_id",
    "state",
    "timestamp",
];
/// Columns of a list of OLT hosts.
const NODE: &[&str] = &[
    "id",
    "state",
    "region",
    "capacity",
    "active_subscribers",
    "allocations",
    "last_heartbeat",
];
/// Largest file with pools, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Most allocations of one page.
const PAGE: usize = 1000;

/// What a command has to say.
#[derive(Debug)]
pub struct Shown {
    /// For standard output.
    pub text: String,
    /// Exit code.
    pub code: u8,
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// Carries out a command. Gives what to print, and the exit code.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, cli: &Cli) -> anyhow::Result<Shown> {
    let json = cli.json;
    let text = match &cli.command {
        Command::Pools(pools) => run_pools(api, json, pools),
        Command::Allocations(Allocations::List(filter)) => list(api, json, filter),
        Command::Allocations(Allocations::Get { subscriber }) => {
            let answer = api.get(&format!("/api/v1/allocations/{}", escape(subscriber)))?;
            Ok(shown(json, &answer.body, |body| {
                rows(ALLOCATION, body, "allocations")
            }))
        }
        Command::Allocate(request) => allocate(api, json, request),
        Command::Deallocate { subscriber, pool } => {
            let query = query(&[("pool_id", pool.as_deref())]);
            let path = format!("/api/v1/allocate/{}{query}", escape(subscriber));
            let answer = api.send("DELETE", &path, None, &[])?;
            Ok(shown(json, &answer.body, |body| {
                let word = match answer.status {
                    202 => "asked the OLT to release",
                    _ => "released",
                };
                let table = rows(ALLOCATION, body, "allocations");
                format!("{word}:\n{table}")
            }))
        }
        Command::Nodes(nodes) => run_nodes(api, json, nodes),
        Command::Cluster(command) => return cluster::run(api, json, command),
        Command::Status => status(api, json),
    }?;
    Ok(text.into())
}

fn run_pools(api: &Api, json: bool, command: &Pools) -> anyhow::Result<String> {
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

fn run_nodes(api: &Api, json: bool, command: &Nodes) -> anyhow::Result<String> {
    let path = |id: &str| format!("/api/v1/nodes/{}", escape(id));
    match command {
        Nodes::List => {
            let answer = api.get("/api/v1/nodes")?;
            Ok(shown(json, &answer.body, |body| rows(NODE, body, "nodes")))
        }
        Nodes::Get { id } => {
            let answer = api.get(&path(id))?;
            Ok(shown(json, &answer.body, node_fields))
        }
        Nodes::Drain { id } => {
            let answer = api.send("POST", &format!("{}/drain", path(id)), None, &[])?;
            Ok(shown(json, &answer.body, node_fields))
        }
        Nodes::Delete { id } => {
            let answer = api.send("DELETE", &path(id), None, &[])?;
            Ok(shown(json, &answer.body, |_| {
                format!("node {id} deleted\n")
            }))
        }
    }
}

fn allocate(api: &Api, json: bool, request: &Allocate) -> anyhow::Result<String> {
    let mut metadata = Map::new();
    for label in &request.metadata {
        let (name, value) = label
            .split_once('=')
            .with_context(|| format!("--metadata {label}: expected name=value"))?;
        metadata.insert(name.to_owned(), json!(value));
    }
    let mut body = json!({
        "pool_id": request.pool,
        "subscriber_id": request.subscriber,
        "metadata": metadata,
    });
    if let (Some(olt), Some(body)) = (&request.olt, body.as_object_mut()) {
        body.insert("olt_id".to_owned(), json!(olt));
    }
    let answer = api.send("POST", "/api/v1/allocate", Some(&body), &[])?;
    Ok(shown(json, &answer.body, |body| {
        fields(body.get("allocation").unwrap_or(&Value::Null))
    }))
}

/// Reads page after page until there is no more, or the limit is reached.
fn list(api: &Api, json: bool, filter: &ListFilter) -> anyhow::Result<String> {
    let wanted = filter.limit.unwrap_or(usize::MAX);
    let mut all: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let limit = wanted.saturating_sub(all.len()).min(PAGE).to_string();
        let query = query(&[
            ("pool_id", filter.pool.as_deref()),
            ("olt_id", filter.olt.as_deref()),
            ("subscriber_id", filter.subscriber.as_deref()),
            ("state", filter.state.as_deref()),
            ("resource", filter.resource.as_deref()),
            ("cursor", cursor.as_deref()),
            ("limit", Some(&limit)),
        ]);
        let mut page = api.get(&format!("/api/v1/allocations{query}"))?.body;
        if let Some(Value::Array(allocations)) = page.get_mut("allocations").map(Value::take) {
            all.extend(allocations);
        }
        cursor = page
            .get("next_cursor")
            .and_then(Value::as_str)
            .map(ToOwned::to_owned);
        if cursor.is_none() || all.len() >= wanted {
            break;
        }
    }
    let body = json!({ "allocations": all });
    Ok(shown(json, &body, |body| {
        rows(ALLOCATION, body, "allocations")
    }))
}

fn status(api: &Api, json: bool) -> anyhow::Result<String> {
    let health = api.get("/health")?.body;
    let is_ready = api.get("/ready").is_ok();
    let cluster = api.get(cluster::PATH)?.body;
    let audit = api.get("/api/v1/audit")?.body;
    let nodes = api.get("/api/v1/nodes")?.body;
    let pools = api.get("/api/v1/pools")?.body;
    let mut stats = Vec::new();
    for pool in array(&pools, "pools") {
        let id = cell(pool.get("id").unwrap_or(&Value::Null));
        stats.push(api.get(&format!("{}/stats", pool_path(&id)))?.body);
    }
    let body = json!({
        "server": api.server(),
        "version": health.get("version"),
        "ready": is_ready,
        "cluster": cluster,
        "duplicates": audit.get("duplicates"),
        "pools": stats,
        "nodes": nodes.get("nodes"),
    });
    Ok(shown(json, &body, |body| {
        let duplicates = array(body, "duplicates").len();
        let word = if is_ready { "ready" } else { "not ready" };
        let version = cell(body.get("version").unwrap_or(&Value::Null));
        let pools = rows(
            &[
                "pool_id",
                "type",
                "allocated",
                "available",
                "cooling",
                "shards_owned",
                "shards_free",
            ],
            body,
            "pools",
        );
        let nodes = rows(NODE, body, "nodes");
        let line = cluster::one_line(&cluster);
        format!(
            "{} {word}, version {version}, {duplicates} duplicate allocations\n{line}\n\n{pools}\n{nodes}",
            api.server()
        )
    }))
}

/// JSON if asked for, else what people like to read.
fn shown(json: bool, body: &Value, text: impl FnOnce(&Value) -> String) -> String {
    if json {
        format!("{body:#}\n")
    } else {
        text(body)
    }
}

fn array<'a>(body: &'a Value, name: &str) -> &'a [Value] {
    body.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn rows(columns: &[&str], body: &Value, name: &str) -> String {
    let mut table = Table::new(columns);
    for item in array(body, name) {
        let value = |column: &&str| cell(item.get(*column).unwrap_or(&Value::Null));
        table.row(columns.iter().map(value).collect());
    }
    table.text()
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

fn node_fields(body: &Value) -> String {
    let mut node = body.clone();
    let shards: Vec<String> = array(body, "assigned_shards")
        .iter()
        .map(|part| {
            let value = |name: &str| cell(part.get(name).unwrap_or(&Value::Null));
            format!("{}:{}", value("pool"), value("shards"))
        })
        .collect();
    if let Some(node) = node.as_object_mut() {
        node.insert("assigned_shards".to_owned(), json!(shards.join(" ")));
    }
    fields(&node)
}

fn with_etag(answer: &Answer, text: String) -> String {
    match &answer.etag {
        Some(etag) => format!("{text}\netag  {etag}\n"),
        None => text,
    }
}

fn pool_path(id: &str) -> String {
    format!("/api/v1/pools/{}", escape(id))
}

fn query(parts: &[(&str, Option<&str>)]) -> String {
    let given: Vec<String> = parts
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", escape((*value)?))))
        .collect();
    if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    }
}

/// The pools of a file: one, a list, or a document with `pools:`.
fn read_pools(file: &Path) -> anyhow::Result<Vec<Value>> {
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

    #[test]
    fn queries_hold_what_was_given_and_escape_it() {
        assert_eq!(query(&[("a", None), ("b", None)]), "");
        assert_eq!(
            query(&[
                ("a", Some("x y")),
                ("b", None),
                ("c", Some("2001:db8::/56"))
            ]),
            "?a=x%20y&c=2001%3Adb8%3A%3A%2F56"
        );
    }
}
