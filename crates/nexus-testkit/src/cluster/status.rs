//! What a node says of the cluster, `GET /api/v1/cluster`, as far as tests and benches look at it.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::rest::Client;

/// A node's view.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// Its number, never used twice.
    #[serde(default)]
    pub number: u32,
    /// Its role.
    #[serde(default)]
    pub role: String,
    /// Its state: `active`, `joining`, `pending`, ...; nothing if it is on no list of members.
    #[serde(default)]
    pub state: Option<String>,
    /// Name of the leader, if it knows one.
    #[serde(default, deserialize_with = "name")]
    pub leader: Option<String>,
    /// Term of the leader.
    #[serde(default)]
    pub term: u64,
    /// Whether it has what all members have.
    #[serde(default)]
    pub converged: bool,
    /// All members that it knows of.
    #[serde(default)]
    pub members: Vec<Member>,
    /// What it holds, as one figure.
    #[serde(default)]
    pub root: Root,
    /// How far it is with a bootstrap, if one is under way.
    #[serde(default)]
    pub bootstrap: Option<Value>,
    /// What is left out above.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// A member, as another node sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number.
    #[serde(default)]
    pub number: u32,
    /// Its role.
    #[serde(default)]
    pub role: String,
    /// Its state.
    #[serde(default)]
    pub state: String,
    /// Whether there is a connection.
    #[serde(default)]
    pub connected: bool,
    /// Entries that it lacks, as far as is known.
    #[serde(default)]
    pub behind_entries: Option<u64>,
    /// How old the oldest of them is.
    #[serde(default)]
    pub behind_seconds: Option<f64>,
    /// Whether its root was the same when it was compared last; nothing of the node that is asked.
    #[serde(default)]
    pub in_sync: Option<bool>,
}

/// Count and sum of all entries: equal only if two replicas hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Root {
    /// Entries, tombstones among them.
    pub count: u64,
    /// Sum of their hashes, in hexadecimal digits.
    pub sum: String,
}

impl Status {
    /// Asks a node.
    ///
    /// # Errors
    /// If it does not answer, or with something else.
    pub fn ask(client: &Client) -> Result<Self> {
        let body = client.get("/api/v1/cluster")?.ok()?;
        let mut status: Self = serde_json::from_value(body.clone())
            .with_context(|| format!("not what /api/v1/cluster should say: {body}"))?;
        // By number or by name, as the server likes.
        let leader = status.leader.take();
        status.leader = leader.map(|leader| {
            let known = status
                .members
                .iter()
                .find(|member| member.number.to_string() == leader);
            known.map_or(leader, |member| member.name.clone())
        });
        Ok(status)
    }

    /// Whether it is a full member, knows a leader, and is connected to all members of these names but itself.
    #[must_use]
    pub fn reaches(&self, names: &[&str]) -> bool {
        let connected = |name: &&str| {
            **name == self.node || self.member(name).is_some_and(|member| member.connected)
        };
        self.state.as_deref() == Some("active")
            && self.leader.is_some()
            && names.iter().all(connected)
    }

    /// A member by its name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

fn name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(name) => Some(name),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(fields) => fields
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        _ => None,
    })
}

/// A view in one line, for messages.
pub(super) fn brief(status: &Result<Status>) -> String {
    match status {
        Err(error) => format!("(no answer: {error:#})"),
        Ok(status) => format!(
            "{} is {}, leader {}, converged {}, {} entries {:.8}, sees {}{}",
            status.node,
            status.state.as_deref().unwrap_or("no member"),
            status.leader.as_deref().unwrap_or("none"),
            status.converged,
            status.root.count,
            status.root.sum,
            status
                .members
                .iter()
                .map(|member| format!(
                    "{} {}{}",
                    member.name,
                    member.state,
                    if member.connected { "" } else { " (away)" }
                ))
                .collect::<Vec<_>>()
                .join(", "),
            status
                .rest
                .get("why_not")
                .map_or_else(String::new, |why| format!(", because {why}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_may_say_more_or_less_than_is_looked_at() {
        let text = r#"{"node": "n1", "number": 7, "leader": "n2", "term": 3, "converged": true, "why_not": ["x"],
            "members": [{"name": "n2", "number": 9, "connected": true, "in_sync": true, "peer_id": "x"},
                {"name": "n3", "connected": false, "in_sync": null, "behind_seconds": null}],
            "root": {"count": 2, "sum": "0a"}, "bootstrap": null, "clock": {"offset_ms": 1}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.leader.as_deref(), Some("n2"));
        assert!(
            status.member("n2").unwrap().in_sync == Some(true) && status.member("n1").is_none()
        );
        assert_eq!(status.rest.len(), 2);
        assert!(brief(&Ok(status)).contains("because ["));
    }
}
