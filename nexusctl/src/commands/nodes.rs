//! The OLT hosts.

use serde_json::{Value, json};

use super::{NODE, array, rows, shown};
use crate::api::{Api, escape};
use crate::cli::Nodes;
use crate::table::{cell, fields};

/// Carries out a command about OLT hosts.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, json: bool, command: &Nodes) -> anyhow::Result<String> {
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
