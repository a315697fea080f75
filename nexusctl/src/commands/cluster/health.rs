//! The health of the cluster in words: the verdict first, then why, then who.

use super::document::{Bootstrap, Document, Member, Members};
use crate::table::Table;

/// Characters of the bar that shows how far a server is with fetching the record.
const BAR: u64 = 30;

/// The overview's line.
pub fn one_line(cluster: &Document) -> String {
    let servers = cluster
        .members
        .iter()
        .filter(|m| m.state != "pending")
        .count();
    let leader = cluster.leader.as_deref().unwrap_or("NONE");
    let verdict = match cluster.why_not.first() {
        _ if cluster.converged => "converged".to_owned(),
        Some(why) => format!("NOT CONVERGED ({why}; `nexusctl cluster status` says more)"),
        None => "NOT CONVERGED (`nexusctl cluster status` says more)".to_owned(),
    };
    format!(
        "cluster {verdict}, {}, leader {leader}, this is {}",
        number(servers, "server"),
        cluster.node
    )
}

/// All that an operator reads first.
pub fn text(cluster: &Document) -> String {
    let mut lines = vec![verdict(cluster)];
    lines.extend(cluster.why_not.iter().map(|why| format!("  - {why}")));
    let mut table = Table::plain();
    let mut say = |what: &str, text: String| table.row(vec![what.to_owned(), text]);
    say("server", server(cluster));
    say("writes", writes(cluster));
    if let Some(seconds) = cluster.moves_frozen_seconds {
        say("moves", frozen(seconds));
    }
    say("leader", leader(cluster));
    say("record", record(cluster));
    // A picture taken just after the founding may have both.
    if let Some(bootstrap) = cluster.bootstrap.as_ref().filter(|_| !cluster.converged) {
        say("fetching", progress(bootstrap));
    }
    say("clock", clock(cluster));
    for member in by_name(&cluster.members)
        .into_iter()
        .filter(|m| m.state == "pending")
    {
        let name = &member.name;
        say(
            "waits",
            format!(
                "{name} ({}) to be let in: nexusctl cluster add {name}",
                member.role
            ),
        );
    }
    lines.push(table.text().trim_end().to_owned());
    let listed: Vec<&Member> = by_name(&cluster.members)
        .into_iter()
        .filter(|member| member.state != "pending" && !member.is_self)
        .collect();
    let mut text = lines.join("\n");
    text.push('\n');
    if !listed.is_empty() {
        let mut table = Table::new(&["other server", "role", "state", "vote", "lag"]);
        for member in listed {
            table.row(vec![
                member.name.clone(),
                member.role.clone(),
                member.state.clone(),
                yes(member.votes).to_owned(),
                lag(member),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

/// The list of all members.
pub fn members(list: &Members) -> String {
    let mut table = Table::new(&[
        "name", "role", "state", "vote", "leader", "lag", "ahead", "rtt", "protocol", "rest",
        "number",
    ]);
    for member in by_name(&list.members) {
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            member.name.clone(),
            member.role.clone(),
            member.state.clone(),
            yes(member.votes).to_owned(),
            yes(member.leader).to_owned(),
            if member.is_self {
                "(asked)".to_owned()
            } else {
                lag(member)
            },
            known(member.ahead_entries.map(|entries| entries.to_string())),
            known(member.rtt_ms.map(|rtt| format!("{rtt:.1} ms"))),
            known(member.version.map(|version| version.to_string())),
            if member.http.is_empty() {
                "-".to_owned()
            } else {
                member.http.clone()
            },
            member.number.to_string(),
        ]);
    }
    let mut text = table.text();
    if !list.removed.is_empty() {
        let removed: Vec<String> = list
            .removed
            .iter()
            .map(|removed| format!("{} ({})", removed.name, removed.number))
            .collect();
        text.push_str(&format!(
            "\nremoved, refused from now on: {}\n",
            removed.join(", ")
        ));
    }
    text
}

/// As people look for them; the server's order is that of their numbers.
fn by_name(members: &[Member]) -> Vec<&Member> {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
    members
}

fn verdict(cluster: &Document) -> String {
    let node = &cluster.node;
    if cluster.state.is_none() {
        return format!("NO MEMBER: {node} belongs to no cluster, or does not know of it yet");
    }
    if !cluster.converged {
        return "NOT CONVERGED".to_owned();
    }
    let others = cluster
        .members
        .iter()
        .filter(|m| !m.is_self && m.state != "pending")
        .count();
    match others {
        0 => format!("converged: {node} is the only server"),
        others => format!(
            "converged: {node} and {} have the same record",
            number(others, "other server")
        ),
    }
}

fn server(cluster: &Document) -> String {
    let state = cluster.state.as_deref().unwrap_or("no member");
    format!("{}, {}, {state}", cluster.node, cluster.role)
}

fn writes(cluster: &Document) -> String {
    match cluster.writes.as_str() {
        "taken" => "taken".to_owned(),
        reason => format!("NOT TAKEN: {reason}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn frozen(seconds: u64) -> String {
    format!(
        "FROZEN for another {}: part of what was decided is missing; OLT hosts keep what cannot have moved",
        duration(seconds as f64)
    )
}

fn leader(cluster: &Document) -> String {
    let votes = cluster.voters().count();
    let there = cluster.voters().filter(|member| member.is_there()).count();
    let quorum = &cluster.quorum;
    let [committed, applied] = [quorum.committed, quorum.applied].map(Option::unwrap_or_default);
    let log = match committed.saturating_sub(applied) {
        0 => String::new(),
        lacks => format!("; {lacks} decisions not carried out here yet"),
    };
    match &cluster.leader {
        Some(leader) => format!(
            "{leader} (term {}); {there} of {} there{log}",
            cluster.term,
            number(votes, "voter")
        ),
        None if votes == 0 => "NONE: no cluster is known here".to_owned(),
        None => {
            let needed = votes / 2 + 1;
            let hope = if there < needed {
                format!("{needed} are needed")
            } else {
                "one should be elected soon".to_owned()
            };
            format!(
                "NONE (term {}); {there} of {} there, {hope}; until then nothing is decided: no shard moves, no new pools or members{log}",
                cluster.term,
                number(votes, "voter"),
            )
        }
    }
}

fn record(cluster: &Document) -> String {
    format!(
        "{}, {} of them deleted and still remembered; fingerprint {}",
        entries(cluster.root.count),
        cluster.tombstones,
        cluster.root.sum
    )
}

fn clock(cluster: &Document) -> String {
    let off = match cluster.clock.off_ms {
        Some(off) => format!("{off:.0} ms off those of the other servers"),
        None => "not compared: no other server is connected".to_owned(),
    };
    if cluster.clock.ok {
        off
    } else {
        format!("WRONG: {off}")
    }
}

/// A bar with figures. Never full before all is there.
fn progress(bootstrap: &Bootstrap) -> String {
    let Bootstrap {
        entries,
        expected,
        bytes: received,
        from,
    } = bootstrap;
    let Some(from) = from else {
        return "not begun: no server that has the record is connected".to_owned();
    };
    let share = |of: u64| {
        let done = u128::from(*entries).saturating_mul(u128::from(of));
        let done = done.checked_div(u128::from(*expected)).unwrap_or(0);
        u64::try_from(done).unwrap_or(of).min(of)
    };
    let bar: String = (0..BAR)
        .map(|place| if place < share(BAR) { '#' } else { '.' })
        .collect();
    format!(
        "[{bar}] {}%, {entries} of {expected} entries, {} from {from}",
        share(100),
        bytes(*received)
    )
}

fn lag(member: &Member) -> String {
    if member.is_self {
        return "-".to_owned();
    }
    let mut parts = Vec::new();
    if !member.connected {
        parts.push("NOT CONNECTED".to_owned());
    }
    match (member.behind_entries, member.in_sync) {
        (Some(behind), _) if behind > 0 => {
            let time = member.behind_seconds.map_or_else(String::new, |seconds| {
                format!(", for {}", duration(seconds))
            });
            parts.push(format!("{}{time}", entries(behind)));
        }
        (_, Some(true)) if member.connected => parts.push("none".to_owned()),
        (_, Some(false)) => parts.push("records differ".to_owned()),
        _ if member.connected => parts.push("not compared yet".to_owned()),
        _ => {}
    }
    if let Some(ahead) = member.ahead_entries.filter(|ahead| *ahead > 0) {
        parts.push(format!("has {} more", entries(ahead)));
    }
    parts.join("; ")
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "-" }
}

fn entries(count: u64) -> String {
    match count {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    }
}

fn number(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Bytes as people say them, in powers of 1000.
fn bytes(count: u64) -> String {
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => format!("{:.1} KB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
