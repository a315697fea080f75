//! The OLT hosts.

use std::io::{BufRead as _, IsTerminal as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::{NODE, Shown, array, rows, shown};
use crate::api::{Api, escape};
use crate::cli::Nodes;
use crate::table::{cell, fields};

/// How often it is looked how far a drain has come.
const LOOK: Duration = Duration::from_secs(1);
/// Exit code of `nodes drain --wait`: the host is not empty yet.
const NOT_EMPTY: u8 = 2;

/// Carries out a command about OLT hosts.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, json: bool, command: &Nodes) -> anyhow::Result<Shown> {
    match command {
        Nodes::List => {
            let answer = api.get("/api/v1/nodes")?;
            Ok(shown(json, &answer.body, |body| rows(NODE, body, "nodes")).into())
        }
        Nodes::Get { id } => {
            let answer = api.get(&path(id))?;
            Ok(shown(json, &answer.body, node_fields).into())
        }
        Nodes::Drain { id, wait } => {
            let answer = api.send("POST", &format!("{}/drain", path(id)), None, &[])?;
            match wait {
                None => Ok(shown(json, &answer.body, node_fields).into()),
                Some(limit) => wait_until_empty(api, json, id, *limit),
            }
        }
        Nodes::Activate { id } => {
            let answer = api.send("POST", &format!("{}/activate", path(id)), None, &[])?;
            Ok(shown(json, &answer.body, node_fields).into())
        }
        Nodes::Fence { id, reason, yes } => fence(api, json, id, reason, *yes),
        Nodes::Delete { id } => {
            let answer = api.send("DELETE", &path(id), None, &[])?;
            Ok(shown(json, &answer.body, |_| format!("node {id} deleted\n")).into())
        }
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/nodes/{}", escape(id))
}

/// Shows how far a drain has come until the host is empty, or the time is over.
fn wait_until_empty(api: &Api, json: bool, id: &str, limit: Duration) -> anyhow::Result<Shown> {
    let begin = Instant::now();
    let mut before = String::new();
    loop {
        let body = api.get(&path(id))?.body;
        let Some(left) = body.get("drain") else {
            bail!("{id} is not drained any more: somebody has activated it");
        };
        let number = |name: &str| left.get(name).and_then(Value::as_u64).unwrap_or(0);
        let done = left.get("done") == Some(&Value::Bool(true));
        let line = format!(
            "{id}: {} shards and {} allocations left",
            number("shards"),
            number("allocations")
        );
        if line != before {
            eprintln!("{line}");
            before = line;
        }
        if done || begin.elapsed() >= limit {
            let mut text = shown(json, &body, node_fields);
            if done && !json {
                text.push_str(&format!(
                    "\n{id} is empty: `nexusctl nodes delete {id}` forgets it\n"
                ));
            }
            let code = if done { 0 } else { NOT_EMPTY };
            return Ok(Shown { text, code });
        }
        sleep(LOOK);
    }
}

/// Declares a host fenced, if that is confirmed.
fn fence(api: &Api, json: bool, id: &str, reason: &str, yes: bool) -> anyhow::Result<Shown> {
    let node = api.get(&path(id))?.body;
    let value = |name: &str| cell(node.get(name).unwrap_or(&Value::Null));
    eprintln!(
        "{id} ({}, last heard {}) has {} allocations. To fence it means to state that its host hands out nothing and \
         serves nobody any more: its addresses are given to others. If the host still runs, two subscribers will \
         have one address.",
        value("state"),
        value("last_heartbeat"),
        value("allocations"),
    );
    if !yes {
        confirm(id)?;
    }
    let request = json!({ "reason": reason });
    let answer = api.send("POST", &format!("{}/fence", path(id)), Some(&request), &[])?;
    Ok(shown(json, &answer.body, node_fields).into())
}

/// Asks for the name.
fn confirm(id: &str) -> anyhow::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("{id} was not fenced: say --yes if that is meant");
    }
    eprint!("Type {id} to fence it: ");
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    if line.trim() != id {
        bail!("{id} was not fenced: `{}` is not its name", line.trim());
    }
    Ok(())
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
