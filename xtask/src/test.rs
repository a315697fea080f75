//! `cargo xtask test`: every test there is, and an honest count of what ran and what did not.

mod results;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_testkit::{command, netns};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use self::results::{Counts, Results};
use crate::{build_ebpf, console, demo, prepare, shell};

/// Far more than any pass takes; a test that hangs must not hang CI.
const PASS_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Tests failed; what and why has been printed, and the count is the last line.
#[derive(Debug)]
pub struct TestsFailed;

impl std::fmt::Display for TestsFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("tests failed")
    }
}

impl std::error::Error for TestsFailed {}

/// One part of the run, for the summary.
struct Part {
    name: &'static str,
    counts: Counts,
    /// Names of what failed.
    failures: Vec<String>,
    /// Why what was skipped was skipped.
    why_skipped: Option<&'static str>,
    took: Duration,
}

const NEEDS_ROOT: &str = "not root: they make network namespaces and load kernel programs";

/// Runs everything, prints what ran, and the count as the last line.
pub fn run(root: &Path) -> Result<()> {
    let with_root = shell::is_root();
    if with_root {
        prepare::run()?;
        sweep();
    }
    build_ebpf::run(root)?;

    let mut everywhere = test_pass(
        root,
        "unit, property and documentation tests",
        &["test", "--workspace", "--locked", "--no-fail-fast"],
    )?;
    let mut parts = Vec::new();
    if with_root {
        // They share the machine's interfaces, bpffs and clocks: one after the other.
        let privileged = test_pass(
            root,
            "tests with namespaces, XDP and real clients",
            &[
                "test",
                "--workspace",
                "--locked",
                "--no-fail-fast",
                "--lib",
                "--bins",
                "--tests",
                "--",
                "--ignored",
                "--test-threads=1",
            ],
        )?;
        let done = privileged.counts.passed + privileged.counts.failed;
        everywhere.counts.skipped = everywhere.counts.skipped.saturating_sub(done);
        everywhere.why_skipped = Some("marked as ignored, and not among the tests for root either");
        sweep();
        parts.extend([everywhere, privileged, demo_pass(root)]);
    } else {
        everywhere.why_skipped = Some(NEEDS_ROOT);
        parts.push(everywhere);
        let counts = Counts {
            skipped: demo::STEPS.len(),
            ..Counts::default()
        };
        let why_skipped = Some(NEEDS_ROOT);
        let took = Duration::ZERO;
        parts.push(Part {
            name: DEMO,
            counts,
            failures: Vec::new(),
            why_skipped,
            took,
        });
    }
    summary(&parts)
}

const DEMO: &str = "the demo, end to end, step by step";

/// A test process that was killed could not clean up.
fn sweep() {
    for name in netns::sweep() {
        eprintln!("- {name}: left by a test that was killed, removed");
    }
}

/// The demo's steps count as tests.
fn demo_pass(root: &Path) -> Part {
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for step in demo::run_as_test(root) {
        if step.ok {
            counts.passed += 1;
        } else {
            counts.failed += 1;
            failures.push(format!(
                "demo step {}: {}",
                step.name,
                step.evidence.join("; ")
            ));
        }
    }
    Part {
        name: DEMO,
        counts,
        failures,
        why_skipped: None,
        took: began.elapsed(),
    }
}

fn test_pass(root: &Path, name: &'static str, arguments: &[&str]) -> Result<Part> {
    let began = Instant::now();
    let mut cargo = shell::cargo(root);
    let results = tee(cargo.args(arguments))?;
    let Results {
        mut counts,
        mut failures,
        ..
    } = results.0;
    if !results.1 && counts.failed == 0 {
        counts.failed += 1;
        failures.push(format!(
            "`cargo {}` ended without a result",
            arguments.join(" ")
        ));
    }
    Ok(Part {
        name,
        counts,
        failures,
        why_skipped: None,
        took: began.elapsed(),
    })
}

/// Runs a test command; passes its output on and reads it. Returns what was read and whether the
/// command succeeded.
fn tee(cargo: &mut Command) -> Result<(Results, bool)> {
    let line = command::text(cargo);
    eprintln!("{}", console::faint(&format!("$ {line}")));
    let mut child = cargo
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id out of range")?);
    let (sender, lines) = mpsc::sync_channel(1024);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let deadline = Instant::now() + PASS_LIMIT;
    let mut results = Results::default();
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                println!("{line}");
                results.read(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let interrupted = nexus_testkit::interrupt::requested();
        if interrupted || Instant::now() > deadline {
            let _ = killpg(group, Signal::SIGTERM);
            let _ = child.wait();
            let why = if interrupted {
                "interrupted"
            } else {
                "took longer than 20 minutes"
            };
            results.failures.push(format!("`{line}`: {why}"));
            results.counts.failed += 1;
            return Ok((results, false));
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for `{line}`"))?;
    Ok((results, status.success()))
}

fn summary(parts: &[Part]) -> Result<()> {
    let mut total = Counts::default();
    eprintln!("\n{}", console::bold("What ran"));
    for Part {
        name, counts, took, ..
    } in parts
    {
        let Counts {
            passed,
            failed,
            skipped,
        } = counts;
        total.passed += passed;
        total.failed += failed;
        total.skipped += skipped;
        let mark = match (passed, failed) {
            (_, 1..) => console::cross(),
            (0, 0) => "-".to_owned(),
            _ => console::tick(),
        };
        eprintln!(
            "  {mark} {name}: {passed} passed, {failed} failed ({} s)",
            took.as_secs()
        );
    }
    eprintln!("{}", console::bold("What was skipped"));
    let skipped: Vec<&Part> = parts
        .iter()
        .filter(|part| part.counts.skipped > 0)
        .collect();
    if skipped.is_empty() {
        eprintln!("  nothing");
    }
    for part in skipped {
        let why = part.why_skipped.unwrap_or("the output does not say why");
        eprintln!("  - {} of: {}; {why}", part.counts.skipped, part.name);
    }
    if total.failed > 0 {
        eprintln!("{}", console::bold("What failed"));
    }
    for failure in parts.iter().flat_map(|part| &part.failures) {
        eprintln!("  {} {failure}", console::cross());
    }
    let Counts {
        passed,
        failed,
        skipped,
    } = total;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    let _ = std::io::stdout().flush();
    if failed > 0 {
        return Err(TestsFailed.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str) -> (Results, bool) {
        tee(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn the_output_of_a_command_is_read_while_it_is_passed_on() {
        let (results, success) =
            run_script("echo 'test result: FAILED. 2 passed; 1 failed; 3 ignored; 0'; exit 101");
        assert_eq!(
            results.counts,
            Counts {
                passed: 2,
                failed: 1,
                skipped: 3
            }
        );
        assert!(!success);
    }

    #[test]
    fn a_failed_part_makes_the_run_fail() {
        let part = |failed| Part {
            name: "a part",
            counts: Counts {
                passed: 1,
                failed,
                skipped: 0,
            },
            failures: Vec::new(),
            why_skipped: None,
            took: Duration::ZERO,
        };
        assert!(summary(&[part(0), part(0)]).is_ok());
        assert!(
            summary(&[part(0), part(1)])
                .unwrap_err()
                .is::<TestsFailed>()
        );
    }
}
