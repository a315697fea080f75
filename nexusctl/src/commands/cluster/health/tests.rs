//! What an operator reads, in the cases that matter.

use serde_json::{Value, json};

use super::*;

fn member(name: &str, more: Value) -> Value {
    let mut member = json!({
        "name": name, "number": 7, "role": "core", "state": "active", "votes": true, "leader": false,
        "self": false, "peer_id": "p", "addresses": [], "http": "http://h:9000", "grpc": "h:9001",
        "connected": true, "rtt_ms": 0.42, "version": 1, "behind_entries": 0, "behind_seconds": 0.0,
        "ahead_entries": 0, "in_sync": true,
    });
    merge(&mut member, more);
    member
}

fn document(more: Value) -> Document {
    let mut document = json!({
        "node": "n1", "number": 1, "role": "core", "state": "active", "leader": "n2", "term": 3,
        "converged": true, "why_not": [], "writes": "taken",
        "root": {"count": 1204, "sum": "00ff"},
        "members": [
            member("n1", json!({"self": true, "connected": false, "in_sync": null})),
            member("n2", json!({"leader": true})),
            member("n3", json!({})),
        ],
        "bootstrap": null, "clock": {"off_ms": -2, "ok": true}, "tombstones": 4,
        "quorum": {"last_index": 9, "committed": 9, "applied": 9, "voters": [1, 2, 3], "learners": []},
    });
    merge(&mut document, more);
    serde_json::from_value(document).unwrap()
}

fn merge(into: &mut Value, more: Value) {
    for (name, value) in more.as_object().unwrap() {
        into[name] = value.clone();
    }
}

#[test]
fn a_healthy_cluster_is_a_few_lines() {
    let cluster = document(json!({}));
    assert_eq!(
        text(&cluster),
        "converged: n1 and 2 other servers have the same record\n\
         server  n1, core, active\n\
         writes  taken\n\
         leader  n2 (term 3); 3 of 3 voters there\n\
         record  1204 entries, 4 of them deleted and still remembered; fingerprint 00ff\n\
         clock   -2 ms off those of the other servers\n\
         \n\
         OTHER SERVER  ROLE  STATE   VOTE  LAG\n\
         n2            core  active  yes   none\n\
         n3            core  active  yes   none\n"
    );
    assert_eq!(
        one_line(&cluster),
        "cluster converged, 3 servers, leader n2, this is n1"
    );
}

#[test]
fn a_server_that_lags_or_is_away_is_named_with_its_lag() {
    let cluster = document(json!({
        "converged": false,
        "why_not": ["n3 is not connected", "n2 lacks 120 entries"],
        "members": [
            member("n1", json!({"self": true})),
            member("n2", json!({"behind_entries": 120, "behind_seconds": 3.21, "in_sync": false})),
            member("n3", json!({"connected": false, "behind_entries": 1, "behind_seconds": 7300.0, "in_sync": false})),
        ],
    }));
    let text = text(&cluster);
    assert!(
        text.starts_with("NOT CONVERGED\n  - n3 is not connected\n  - n2 lacks 120 entries\n"),
        "{text}"
    );
    assert!(
        text.contains("n2            core  active  yes   120 entries, for 3.2 s\n"),
        "{text}"
    );
    assert!(
        text.contains("NOT CONNECTED; 1 entry, for 2.0 h\n"),
        "{text}"
    );
    assert!(text.contains("2 of 3 voters there"), "{text}");
    assert!(
        one_line(&cluster)
            .contains("NOT CONVERGED (n3 is not connected; `nexusctl cluster status`")
    );
}

#[test]
fn a_cluster_without_a_leader_says_what_that_stops() {
    let away = json!({"connected": false});
    let cluster = document(json!({
        "leader": null, "converged": false, "writes": "no majority of the servers can be reached",
        "members": [member("n1", json!({"self": true})), member("n2", away.clone()), member("n3", away)],
        "quorum": {"last_index": 9, "committed": 9, "applied": 7, "voters": [1, 2, 3], "learners": []},
    }));
    let text = text(&cluster);
    assert!(
        text.contains(
            "leader  NONE (term 3); 1 of 3 voters there, 2 are needed; until then nothing is decided"
        ),
        "{text}"
    );
    assert!(
        text.contains("; 2 decisions not carried out here yet"),
        "{text}"
    );
    assert!(
        text.contains("writes  NOT TAKEN: no majority of the servers can be reached"),
        "{text}"
    );
}

#[test]
fn a_server_that_waits_is_shown_with_the_command_that_lets_it_in() {
    let cluster = document(json!({
        "members": [member("n1", json!({"self": true})), member("n4", json!({"state": "pending", "votes": false, "role": "read"}))],
    }));
    let text = text(&cluster);
    assert!(
        text.contains("waits   n4 (read) to be let in: nexusctl cluster add n4"),
        "{text}"
    );
    assert!(
        text.starts_with("converged: n1 is the only server"),
        "{text}"
    );
    assert!(!text.contains("OTHER SERVER"), "{text}");
}

#[test]
fn a_server_outside_says_that_it_is_no_member() {
    let cluster = document(json!({
        "state": null, "converged": false, "leader": null, "members": [],
        "why_not": ["no server of the cluster can be reached"], "clock": {"off_ms": null, "ok": true},
    }));
    let text = text(&cluster);
    assert!(text.starts_with("NO MEMBER: n1"), "{text}");
    assert!(!cluster.belongs() && text.contains("clock   not compared"));
}

#[test]
fn fetching_the_record_is_a_bar_that_is_full_only_at_the_end() {
    let progress = |entries, expected| {
        progress(&Bootstrap {
            entries,
            expected,
            bytes: 88_240_000,
            from: Some("n2".to_owned()),
        })
    };
    assert_eq!(
        progress(520_000, 1_000_000),
        "[###############...............] 52%, 520000 of 1000000 entries, 88.2 MB from n2"
    );
    assert!(progress(999_999, 1_000_000).contains("#.] 99%"));
    assert!(progress(10, 0).contains("] 0%"));
    assert!(progress(u64::MAX, 3).contains("#] 100%"));
    let cluster = document(
        json!({"converged": false, "bootstrap": {"entries": 0, "expected": 0, "bytes": 0, "from": null}}),
    );
    assert!(text(&cluster).contains("fetching  not begun: "));
    let cluster = document(
        json!({"converged": false, "bootstrap": {"entries": 1, "expected": 2, "bytes": 999, "from": "n2"}}),
    );
    assert!(text(&cluster).contains("fetching  [###############....."));
}

#[test]
fn a_wrong_clock_cannot_be_overlooked() {
    let cluster = document(json!({"clock": {"off_ms": 1800.0, "ok": false}}));
    assert!(text(&cluster).contains("clock   WRONG: 1800 ms off"));
}

#[test]
fn the_list_of_members_has_all_of_them_and_those_that_are_gone() {
    let list = serde_json::from_value(json!({
        "members": [member("n1", json!({"self": true, "rtt_ms": null, "version": null})), member("n2", json!({"leader": true, "ahead_entries": 3}))],
        "removed": [{"name": "n0", "number": 5}],
    }))
    .unwrap();
    let text = members(&list);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[1].starts_with("n1    core  active  yes   -       (asked)"),
        "{text}"
    );
    assert!(
        lines[2].contains(
            "yes     none; has 3 entries more  3      0.4 ms  1         http://h:9000  7"
        ),
        "{text}"
    );
    assert!(text.ends_with("removed, refused from now on: n0 (5)\n"));
}
