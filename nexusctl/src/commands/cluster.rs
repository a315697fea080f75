//! The servers of the cluster: their health, who belongs to it, and the key that they share.

mod document;
mod follow;
mod health;
mod remove;

use anyhow::{Context as _, bail};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::{Value, json};

use self::document::{Document, Members};
use super::{Shown, shown};
use crate::api::{Api, escape};
use crate::cli::{Cluster, ClusterStatus};
use crate::table::fields;

/// Where the API tells of the cluster.
pub const PATH: &str = "/api/v1/cluster";
/// Where it tells of the members.
const MEMBERS: &str = "/api/v1/cluster/members";
/// Exit code of `cluster status`: the servers do not have the same record, or nobody knows.
const NOT_CONVERGED: u8 = 2;
/// Bytes of a cluster key.
const KEY_BYTES: usize = 32;

/// Carries out a command about the cluster.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, json: bool, command: &Cluster) -> anyhow::Result<Shown> {
    match command {
        Cluster::Status(ClusterStatus { watch, wait }) => match (watch, wait) {
            (Some(pause), _) => follow::watch(api, json, *pause),
            (None, Some(limit)) => follow::wait(api, json, *limit),
            (None, None) => status(api, json),
        },
        Cluster::Members => {
            let body = api.get(MEMBERS)?.body;
            let members: Members = understood(&body)?;
            Ok(shown(json, &body, |_| health::members(&members)).into())
        }
        Cluster::Add { name } => {
            let request = json!({ "name": name });
            let body = api.send("POST", MEMBERS, Some(&request), &[])?.body;
            Ok(shown(json, &body, |member| {
                format!(
                    "{name} is let in; `nexusctl cluster status --watch` shows how it fetches the record\n\n{}",
                    fields(member)
                )
            })
            .into())
        }
        Cluster::Remove { name, yes } => remove::run(api, json, name, *yes),
        Cluster::Init { others } => init(api, json, others),
        Cluster::Key => key(json).map(Shown::from),
    }
}

/// One line on the cluster for the overview.
pub fn one_line(body: &Value) -> String {
    match understood::<Document>(body) {
        Ok(cluster) => health::one_line(&cluster),
        Err(error) => format!("cluster: {error:#}"),
    }
}

fn status(api: &Api, json: bool) -> anyhow::Result<Shown> {
    let body = api.get(PATH)?.body;
    let cluster: Document = understood(&body)?;
    Ok(Shown {
        text: shown(json, &body, |_| health::text(&cluster)),
        code: code(&cluster),
    })
}

fn code(cluster: &Document) -> u8 {
    if cluster.converged { 0 } else { NOT_CONVERGED }
}

/// Founds a cluster, unless it can be seen that there is one.
fn init(api: &Api, json: bool, others: &[String]) -> anyhow::Result<Shown> {
    let own: Document = understood(&api.get(PATH)?.body)?;
    if !own.belongs() {
        for url in others {
            let cannot = || {
                format!("nothing is founded, because the other server {url} cannot be asked first")
            };
            let other = Api::new(url).with_context(cannot)?;
            let answer = other.get(PATH).with_context(cannot)?;
            let other: Document = understood(&answer.body).with_context(cannot)?;
            if other.belongs() {
                bail!(
                    "nothing is founded, because {} at {url} belongs to a cluster already: {} has to join that one",
                    other.node,
                    own.node
                );
            }
        }
    }
    let body = api.send("POST", "/api/v1/cluster/init", None, &[])?.body;
    let cluster: Document = understood(&body)?;
    Ok(shown(json, &body, |_| {
        let what = if own.belongs() {
            "belongs to its cluster already; nothing was done"
        } else {
            "has founded the cluster; other servers can join now"
        };
        format!("{} {what}\n\n{}", cluster.node, health::text(&cluster))
    })
    .into())
}

/// A key that nobody knows yet.
fn key(json: bool) -> anyhow::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    OsRng
        .try_fill_bytes(&mut bytes)
        .context("the system has no randomness to give")?;
    let key = hex::encode(bytes);
    Ok(if json {
        format!("{:#}\n", json!({ "cluster_key": key }))
    } else {
        format!("{key}\n")
    })
}

fn understood<T: serde::de::DeserializeOwned>(body: &Value) -> anyhow::Result<T> {
    serde_json::from_value(body.clone()).context(
        "the server's answer about the cluster cannot be understood: use the nexusctl of its version",
    )
}

fn member_path(name: &str) -> String {
    format!("{MEMBERS}/{}", escape(name))
}
