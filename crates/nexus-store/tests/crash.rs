//! What survives when the process is killed or the disk fails. Children of these tests are this same
//! test program, told by the environment what to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nexus_store::{Batch, Kind, Options, Store, StoreError};

const ROW: Kind = Kind(b'r');
const ROWS_PER_BATCH: u8 = 8;
const WRITERS: u8 = 4;
const PATH: &str = "NEXUS_STORE_TEST_PATH";
const FIRST: &str = "NEXUS_STORE_TEST_FIRST";

/// (writer, number of the batch)
type Batches = BTreeSet<(u8, u64)>;

fn options() -> Options {
    Options {
        cache_bytes: 16 * 1024 * 1024,
        ..Options::default()
    }
}

fn batch(writer: u8, number: u64, value_bytes: usize) -> Batch {
    let mut batch = Batch::new();
    for part in 0..ROWS_PER_BATCH {
        let mut key = vec![writer];
        key.extend_from_slice(&number.to_be_bytes());
        key.push(part);
        batch.put(ROW, &key, &vec![part; value_bytes]);
    }
    batch
}

/// All batches in the store; fails if one is there in part.
fn batches(store: &Store) -> Batches {
    let mut parts = BTreeMap::<_, u8>::new();
    for row in store.scan(ROW, b"").unwrap() {
        let row = row.unwrap();
        let number = u64::from_be_bytes(row.key[1..9].try_into().unwrap());
        *parts.entry((row.key[0], number)).or_default() += 1;
    }
    for (batch, parts) in &parts {
        assert_eq!(*parts, ROWS_PER_BATCH, "batch {batch:?} is torn");
    }
    parts.into_keys().collect()
}

fn this_program(child: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The acknowledged batches out of a child's output lines; a torn last line is none.
fn acknowledged(line: &str) -> Option<(u8, u64)> {
    let (writer, number) = line
        .strip_suffix(" durable")?
        .strip_prefix("batch ")?
        .split_once(' ')?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}

/// Not a test by itself: writes batches from several threads and prints each one that is durable.
#[test]
#[ignore = "the child of other tests"]
fn child_writes_until_it_is_killed_or_fails() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else {
        return;
    };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = Store::open(&path, options()).unwrap();
    println!();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            thread::spawn(move || {
                for number in first..first + 1_000_000 {
                    match store.commit_blocking(batch(writer, number, 400)) {
                        Ok(()) => println!("batch {writer} {number} durable"),
                        Err(error) => {
                            println!("failed: {error}");
                            return error;
                        }
                    }
                }
                panic!("nobody killed this child");
            })
        })
        .collect();
    let errors: BTreeSet<String> = writers
        .into_iter()
        .map(|w| w.join().unwrap().to_string())
        .collect();
    assert_eq!(errors.len(), 1, "all get the first failure: {errors:?}");
    for refused in [
        store.commit_blocking(Batch::new()).unwrap_err(),
        store.get(ROW, b"k").unwrap_err(),
        store.health().unwrap_err(),
        store.try_submit(Batch::new()).unwrap_err(),
    ] {
        assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused}");
    }
    assert!(store.flush_and_close().is_err());
    println!("poisoned as it should be");
}

/// Kills the child after it has acknowledged `lines` batches and a little longer.
fn kill_after(mut child: Child, lines: u64, linger: Duration) -> Batches {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acked = Batches::new();
    let mut line = String::new();
    while (acked.len() as u64) < lines {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "child ended early");
        acked.extend(acknowledged(line.trim_end_matches('\n')));
    }
    thread::sleep(linger);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let whole = rest
        .rsplit_once('\n')
        .map_or("", |(whole, _)| whole)
        .to_owned();
    acked.extend(whole.lines().filter_map(acknowledged));
    acked
}

#[test]
fn every_acknowledged_batch_survives_kill_9_and_none_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut random = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    println!("seed {random}");
    let mut acked = Batches::new();
    for round in 0..10_u64 {
        let child = this_program("child_writes_until_it_is_killed_or_fails", &path)
            .env(FIRST, (round * 1_000_000).to_string())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let linger = Duration::from_micros(u64::from(random >> 8) % 60_000);
        acked.extend(kill_after(child, u64::from(random >> 24), linger));

        let store = Store::open(&path, options()).unwrap();
        assert_eq!(store.opened().moved_aside, None);
        let found = batches(&store);
        let lost: Vec<_> = acked.difference(&found).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
    }
    assert!(acked.len() > 100, "only {} batches were tried", acked.len());
}

/// Runs the writing child under `shell`, which limits the disk and then executes "$@".
fn write_until_the_disk_fails(path: &Path, shell: &[&str]) -> (Batches, String) {
    let direct = this_program("child_writes_until_it_is_killed_or_fails", path);
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(direct.get_program())
        .args(direct.get_args())
        .env(PATH, path)
        .env(FIRST, "0")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let tail: Vec<_> = log.lines().rev().take(30).collect();
    assert!(text.contains("poisoned as it should be"), "{tail:#?}");
    (text.lines().filter_map(acknowledged).collect(), log)
}

#[test]
fn a_write_error_poisons_the_store_and_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    // Without the signal, writing behind the limit of the file size fails with EFBIG.
    let (acked, log) = write_until_the_disk_fails(
        &path,
        &[
            "timeout",
            "120",
            "sh",
            "-c",
            "trap '' XFSZ; ulimit -f 40960; exec \"$@\"",
            "sh",
        ],
    );
    assert!(!acked.is_empty());
    assert!(log.contains("File too large"), "{log}");
    let store = Store::open(&path, options()).unwrap();
    assert_eq!(store.opened().moved_aside, None);
    assert!(acked.is_subset(&batches(&store)));
    store.commit_blocking(batch(0, 999_999_999, 400)).unwrap();
}

#[test]
fn a_full_disk_poisons_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mount = format!(
        "mount -t tmpfs -o size=48m nexus-store-test {} && exec \"$@\"",
        directory.path().display()
    );
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let flags = if root { "-m" } else { "-rm" };
    let possible = Command::new("unshare")
        .args([flags, "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !possible {
        eprintln!("skipped: `unshare {flags}` is not allowed here, run it as root");
        return;
    }
    let (acked, log) = write_until_the_disk_fails(
        &path,
        &["timeout", "120", "unshare", flags, "sh", "-c", &mount, "sh"],
    );
    assert!(!acked.is_empty());
    assert!(log.contains("No space left on device"), "{log}");
}
