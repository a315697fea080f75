//! Taking a server out of the cluster: what it means is said before it is done, because it cannot be undone.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::bail;
use serde_json::json;

use super::document::{Document, Member};
use super::{PATH, member_path, understood};
use crate::api::Api;
use crate::commands::{Shown, shown};

/// Removes a server, if that is confirmed.
///
/// # Errors
/// If it is not confirmed, or the cluster refuses.
pub fn run(api: &Api, json: bool, name: &str, yes: bool) -> anyhow::Result<Shown> {
    let cluster: Document = understood(&api.get(PATH)?.body)?;
    // Of one that is not there the cluster itself says so.
    if let Some(member) = cluster.members.iter().find(|member| member.name == name) {
        eprintln!("{}", meaning(&cluster, member));
        if !yes {
            confirm(name)?;
        }
    }
    api.send("DELETE", &member_path(name), None, &[])?;
    let body = json!({ "removed": name });
    Ok(shown(json, &body, |_| format!("{name} is removed\n")).into())
}

/// Asks for the name.
fn confirm(name: &str) -> anyhow::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("{name} was not removed: say --yes if that is meant");
    }
    eprint!("Type {name} to remove it: ");
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    if line.trim() != name {
        bail!("{name} was not removed: `{}` is not its name", line.trim());
    }
    Ok(())
}

/// What follows, as far as it can be seen from here.
fn meaning(cluster: &Document, member: &Member) -> String {
    let Member {
        name, role, state, ..
    } = member;
    let mut text = format!(
        "{name} ({role}, {state}) goes out of the cluster for good: its number and its key are refused from now on. \
         To come back it needs an empty data directory, and then it is a new server."
    );
    if member.votes {
        let left = cluster.voters().count().saturating_sub(1);
        let spare = left.saturating_sub(left / 2 + 1);
        text.push_str(&format!(
            "\nIts vote goes with it: {left} of the voters are left, of which {spare} may be away."
        ));
    }
    if member.state != "pending" && !member.is_there() {
        text.push_str(&format!(
            "\n{name} is not connected: what it has accepted and told no other server is lost."
        ));
    }
    match member.ahead_entries {
        Some(ahead) if ahead > 0 => text.push_str(&format!(
            "\n{name} has {ahead} entries that {} lacks; without them on another server they are lost. \
             `nexusctl cluster status --wait 60` waits for them.",
            cluster.node
        )),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(changes: &Value) -> String {
        let member = |name: &str| {
            json!({
                "name": name, "number": 7, "role": "core", "state": "active", "votes": true,
                "leader": false, "self": false, "connected": true, "ahead_entries": 0,
            })
        };
        let mut gone = member("n3");
        for (name, value) in changes.as_object().unwrap() {
            gone[name] = value.clone();
        }
        let cluster: Document = serde_json::from_value(json!({
            "node": "n1", "role": "core", "state": "active", "leader": "n1", "term": 1, "converged": true,
            "writes": "taken", "root": {"count": 0, "sum": "0"}, "members": [member("n1"), member("n2"), gone],
            "bootstrap": null, "clock": {"off_ms": null, "ok": true}, "tombstones": 0,
            "quorum": {"committed": 0, "applied": 0},
        }))
        .unwrap();
        meaning(&cluster, cluster.members.last().unwrap())
    }

    #[test]
    fn the_votes_that_are_left_are_counted() {
        let text = said(&json!({}));
        assert!(
            text.contains("2 of the voters are left, of which 0 may be away"),
            "{text}"
        );
        assert!(!text.contains("lost"), "{text}");
        let text = said(&json!({"votes": false, "state": "pending", "connected": false}));
        assert!(!text.contains("vote") && !text.contains("lost"), "{text}");
    }

    #[test]
    fn what_may_be_lost_is_said() {
        let text = said(&json!({"connected": false}));
        assert!(
            text.contains("not connected") && text.contains("is lost"),
            "{text}"
        );
        let text = said(&json!({"ahead_entries": 5}));
        assert!(text.contains("has 5 entries that n1 lacks"), "{text}");
    }
}
