//! `kill -9` of a real process at any moment: what it had acknowledged is there afterwards. The child is this same test
//! program, told by the environment what to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "cluster/ledger.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod ledger;
#[path = "cluster/net.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod net;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger::{Op, read};
use net::{Net, Node, SOON};
use nexus_quorum::Limits;
use rand::Rng as _;

const FULL: &str = "NEXUS_QUORUM_FULL_DIRECTORY";
const DIRECTORY: &str = "NEXUS_QUORUM_CRASH_DIRECTORY";

fn node(directory: &Path) -> Node {
    let mut node = Node::new(&Net::default(), directory, 1);
    // Snapshots and purges are under way all the time, too.
    node.limits = Limits {
        snapshot_entries: 8,
        keep_entries: 2,
        ..Limits::default()
    };
    node
}

fn add() -> Vec<u8> {
    Op::Add("n".to_owned(), 1).bytes()
}

/// What the child does: propose without end, and say what was acknowledged.
fn child(directory: &Path) -> ! {
    let mut node = node(directory);
    node.start().unwrap();
    // Already founded from the second round on.
    let _ = node.found();
    let quorum = node.quorum().clone();
    node.run(move |_| async move {
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let quorum = quorum.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    let applied = quorum.propose(add(), SOON).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "done {}", read(&applied.answer).1).unwrap();
                    out.flush().unwrap();
                }
            }));
        }
        futures::future::join_all(tasks).await
    });
    std::process::exit(1);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        child(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = rand::rng();
    let mut before = 0;
    let rounds: u32 = std::env::var("QUORUM_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(24);
    for round in 0..rounds {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "what_was_acknowledged_before_a_kill_is_there_after_it",
                "--exact",
                "--nocapture",
            ])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut highest = None;
        let said = |line: &str| {
            line.split("done ")
                .nth(1)
                .and_then(|number| number.trim().parse::<i64>().ok())
        };
        // From the first acknowledgement on, any moment.
        while highest.is_none() {
            let line = lines
                .next()
                .expect("the child ended before it did anything")
                .unwrap();
            highest = said(&line);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        let acknowledged = lines
            .map_while(Result::ok)
            .filter_map(|line| said(&line))
            .chain(highest)
            .max()
            .unwrap();
        assert!(
            acknowledged > before,
            "round {round}: {acknowledged} after {before}"
        );

        let mut node = node(directory.path());
        node.start().unwrap();
        // Agreed on after everything before it, so that all of that is applied.
        let counted = read(&node.propose(&Op::Add("n".to_owned(), 0)).unwrap().answer).1;
        assert!(
            counted >= acknowledged,
            "round {round}: {acknowledged} were acknowledged, {counted} are there"
        );
        // Four were on their way, so no more than those can be there unheard of.
        assert!(
            counted <= acknowledged + 4,
            "round {round}: {counted} after {acknowledged}"
        );
        before = counted;
        node.kill();
    }
    println!("{before} acknowledged over {rounds} kills");
}

/// What the other child does: write until the disk takes no more.
fn filling_child(directory: &Path) -> ! {
    let mut node = node(directory);
    node.limits = Limits::default();
    node.start().unwrap();
    node.found().unwrap();
    let mut number = 0_u32;
    let error = loop {
        let keep = Op::Keep(number.to_string(), vec![7; 20_000]);
        match node.propose(&keep) {
            Ok(_) => println!("done {number}"),
            Err(error) => break error,
        }
        number += 1;
    };
    println!("refused {error}");
    let later = node.propose(&Op::Add("n".to_owned(), 1)).unwrap_err();
    println!("later {later}");
    std::process::exit(0);
}

#[test]
fn a_full_disk_stops_the_quorum_with_its_reason_and_loses_nothing() {
    if let Some(directory) = std::env::var_os(FULL) {
        filling_child(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    // A file that may not grow further fails like a disk without room. The signal for it is ignored, not fatal.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 3000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "a_full_disk_stops_the_quorum_with_its_reason_and_loses_nothing",
            "--exact",
            "--nocapture",
        ])
        .env(FULL, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let done = said.lines().filter(|line| line.contains("done ")).count();
    let refused = said
        .lines()
        .find(|line| line.starts_with("refused "))
        .unwrap();
    let later = said
        .lines()
        .find(|line| line.starts_with("later "))
        .unwrap();
    assert!(done > 10, "{said}");
    for line in [refused, later] {
        assert!(
            line.contains("File too large") && line.contains("check the disk"),
            "{line}"
        );
    }
    // With room again it goes on, and all that was acknowledged is there.
    let mut node = node(directory.path());
    node.start().unwrap();
    node.propose(&Op::Add("n".to_owned(), 1)).unwrap();
    let kept = node.ledger.state.lock().unwrap().kept.len();
    assert!(kept == done || kept == done + 1, "{kept} of {done}");
}
