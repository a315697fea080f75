//! The cluster from the command line: founded, joined, watched, taken apart.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, command, free_port, nexusctl, server_program, until};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A file with a fresh key, as an operator makes it.
fn key_file(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("cluster.key");
    let key = nexusctl(NOWHERE, &["cluster", "key"]).stdout;
    std::fs::write(&path, key).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// One member of a list, by its name.
fn member(list: &Value, name: &str) -> Option<Value> {
    let members = list["members"].as_array().unwrap();
    members.iter().find(|m| m["name"] == name).cloned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The command on a terminal of its own, with somebody who types.
fn typed(server: &Server, arguments: &str, line: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_nexusctl");
    let mut child = Command::new("script")
        .args(["-qec", &format!("{program} {arguments}"), "/dev/null"])
        .env("NEXUS_SERVER", &server.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = child.stdin.take().unwrap();
    writeln!(terminal, "{line}").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_key_is_fresh_each_time_and_asks_no_server() {
    let keys: Vec<String> = (0..2)
        .map(|_| out(&nexusctl(NOWHERE, &["cluster", "key"])))
        .collect();
    for key in &keys {
        let digits = key.trim_end_matches('\n');
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    assert_ne!(keys[0], keys[1]);
    let json: Value =
        serde_json::from_str(&out(&nexusctl(NOWHERE, &["cluster", "key", "--json"]))).unwrap();
    assert_eq!(json["cluster_key"].as_str().unwrap().len(), 64);
}

#[test]
fn a_server_alone_is_a_cluster_that_is_converged() {
    let server = Server::start();
    let health = server.text(&["cluster", "status"]);
    assert!(health.starts_with("converged: "), "{health}");
    assert!(health.contains("is the only server"), "{health}");
    assert!(health.contains("writes  taken"), "{health}");
    assert!(health.contains("1 of 1 voter there"), "{health}");
    let json = server.json(&["cluster", "status"]);
    assert_eq!(
        (&json["converged"], &json["state"]),
        (&true.into(), &"active".into())
    );
    let name = json["node"].as_str().unwrap().to_owned();
    assert_eq!(json["leader"], name.as_str());
    let list = server.text(&["cluster", "members"]);
    assert!(list.contains(&name) && list.contains("(asked)"), "{list}");
    assert_eq!(
        member(&server.json(&["cluster", "members"]), &name).unwrap()["votes"],
        true
    );
    let overview = server.text(&["status"]);
    assert!(
        overview.contains("cluster converged, 1 server, leader "),
        "{overview}"
    );
    assert!(
        server
            .text(&["cluster", "init"])
            .contains("belongs to its cluster already")
    );

    let last = server.refusal(&["cluster", "remove", &name, "--yes"]);
    assert!(last.contains("last active member"), "{last}");
    let unknown = server.refusal(&["cluster", "add", "nobody"]);
    assert!(unknown.contains("no member is called nobody"), "{unknown}");
    let unknown = server.refusal(&["cluster", "remove", "nobody", "--yes"]);
    assert!(unknown.contains("no member is called nobody"), "{unknown}");
    let unsure = server.refusal(&["cluster", "remove", &name]);
    assert!(unsure.contains("say --yes if that is meant"), "{unsure}");
    for wrong in [["--watch", "0"], ["--wait", "never"]] {
        let output = server.run(&[["cluster", "status"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    let silent = nexusctl(NOWHERE, &["cluster", "status", "--wait", "0.1"]);
    assert_eq!(silent.status.code(), Some(3));
}

#[test]
fn watching_goes_on_until_nobody_reads() {
    let server = Server::start();
    let mut child = command(
        &server.url,
        &["cluster", "status", "--watch", "0.1", "--json"],
    )
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen: Vec<Value> = lines
        .take(3)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(seen.iter().all(|document| document["converged"] == true));
    // The reader is gone now.
    let status = until("the command ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_cluster_is_founded_joined_and_taken_apart() {
    let dir = TempDir::new().unwrap();
    let key = key_file(dir.path());
    let (port_1, port_2) = (free_port(), free_port());
    let first = Server::looking_for("n1", &key, port_1, port_2);
    let mut second = Server::looking_for("n2", &key, port_2, port_1);

    let outside = first.run(&["cluster", "status"]);
    assert_eq!(outside.status.code(), Some(2));
    assert!(
        out(&outside).starts_with("NO MEMBER: n1"),
        "{}",
        out(&outside)
    );
    let careful = first.run(&["cluster", "init", "--others", NOWHERE]);
    assert_eq!(careful.status.code(), Some(3));
    assert!(
        errors(&careful).contains("nothing is founded"),
        "{}",
        errors(&careful)
    );
    let founded = first.text(&["cluster", "init", "--others", &second.url]);
    assert!(founded.contains("n1 has founded the cluster"), "{founded}");
    let again = first.text(&["cluster", "init"]);
    assert!(again.contains("nothing was done"), "{again}");
    let twice = second.refusal(&["cluster", "init", "--others", &first.url]);
    assert!(twice.contains("belongs to a cluster already"), "{twice}");

    until("n2 asks to be let in", || {
        let waiting = member(&first.json(&["cluster", "members"]), "n2")?;
        (waiting["state"] == "pending").then_some(())
    });
    let health = out(&first.run(&["cluster", "status"]));
    assert!(health.contains("nexusctl cluster add n2"), "{health}");
    let added = first.text(&["cluster", "add", "n2"]);
    assert!(added.contains("n2 is let in"), "{added}");
    until("both vote", || {
        let list = second.run(&["cluster", "members", "--json"]);
        let list = serde_json::from_slice(&list.stdout).ok()?;
        let votes = |name| member(&list, name).is_some_and(|m| m["votes"] == true);
        (votes("n1") && votes("n2")).then_some(())
    });
    for server in [&first, &second] {
        let health = server.text(&["cluster", "status", "--wait", "60"]);
        assert!(health.starts_with("converged: "), "{health}");
        assert!(health.contains("2 of 2 voters there"), "{health}");
    }
    let overview = second.text(&["status"]);
    assert!(
        overview.contains("cluster converged, 2 servers"),
        "{overview}"
    );

    second.kill();
    until("n2 is missed", || {
        let output = first.run(&["cluster", "status"]);
        (output.status.code() == Some(2) && out(&output).contains("NOT CONNECTED")).then_some(())
    });
    let waited = first.run(&["cluster", "status", "--wait", "0.5"]);
    assert_eq!(waited.status.code(), Some(2));
    assert!(out(&waited).starts_with("NOT CONVERGED\n"));
    second.start_again();
    first.text(&["cluster", "status", "--wait", "60"]);

    let mistyped = typed(&first, "cluster remove n2", "n1");
    assert_eq!(mistyped.status.code(), Some(1), "{}", out(&mistyped));
    assert!(out(&mistyped).contains("`n1` is not its name"));
    let removed = typed(&first, "cluster remove n2", "n2");
    assert!(removed.status.success(), "{}", out(&removed));
    assert!(out(&removed).contains("goes out of the cluster for good"));
    let list = first.text(&["cluster", "members"]);
    assert!(
        list.contains("removed, refused from now on: n2 ("),
        "{list}"
    );
    let health = first.text(&["cluster", "status", "--wait", "60"]);
    assert!(
        health.starts_with("converged: n1 is the only server"),
        "{health}"
    );
}

#[test]
fn the_configurations_of_the_pods_are_valid_once_they_have_a_name() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes");
    let dir = TempDir::new().unwrap();
    for (template, pod) in [
        ("nexus.yaml", "nexus-server-0"),
        ("read/nexus.yaml", "nexus-read-1"),
    ] {
        let text = std::fs::read_to_string(base.join(template)).unwrap();
        let path = dir.path().join("nexus.yaml");
        std::fs::write(&path, text.replace("POD_NAME", pod)).unwrap();
        let checked = Command::new(server_program())
            .args(["check-config", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{template}: {}", errors(&checked));
    }
}
