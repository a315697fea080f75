//! What each subcommand asks of the server, and how the answer looks.

mod cluster;
mod nodes;
mod pools;
mod shards;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::api::{Api, escape};
use crate::cli::{Allocate, Allocations, Cli, Command, ListFilter};
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
        Command::Pools(command) => pools::run(api, json, command),
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
        Command::Nodes(command) => return nodes::run(api, json, command),
        Command::Shard(command) => shards::run(api, json, command),
        Command::Cluster(command) => return cluster::run(api, json, command),
        Command::Status => status(api, json),
    }?;
    Ok(text.into())
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

#[cfg(test)]
mod tests {
    use super::*;

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
