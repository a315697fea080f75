//! `cargo xtask test`: every test there is, and an honest count of what ran and what did not.

mod results;
mod tee;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nexus_testkit::netns;

pub use self::results::{Counts, Results};
pub use self::tee::tee;
use crate::{build_ebpf, console, demo, kernels, prepare, shell};

/// Far more than any pass takes, also beside others; a test that hangs must not hang CI.
const PASS_LIMIT: Duration = Duration::from_secs(30 * 60);

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
pub struct Part {
    /// What a person calls it.
    pub name: String,
    /// How many tests of it did what.
    pub counts: Counts,
    /// Names of what failed.
    pub failures: Vec<String>,
    /// Why what was skipped was skipped.
    pub why_skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Part {
    /// One of which nothing has run.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            counts: Counts::default(),
            failures: Vec::new(),
            why_skipped: None,
            took: Duration::ZERO,
        }
    }
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
        // The emulators keep processors busy that would be idle otherwise: they run with a low priority beside
        // tests that wait most of the time. Lines mingle.
        let (passes, on_kernels) = std::thread::scope(|scope| {
            let on_kernels = scope.spawn(|| kernels::parts(root));
            (beside_the_kernels(root), on_kernels.join())
        });
        let passes = passes?;
        let on_kernels = joined(on_kernels.map(Ok))?;
        let done: usize = passes
            .iter()
            .map(|part| part.counts.passed + part.counts.failed)
            .sum();
        everywhere.counts.skipped = everywhere.counts.skipped.saturating_sub(done);
        let why = "marked as ignored, and not among the tests for root either";
        everywhere.why_skipped = Some(why.to_owned());
        sweep();
        parts.push(everywhere);
        parts.extend(passes);
        parts.extend(on_kernels);
        parts.push(demo_pass(root));
    } else {
        everywhere.why_skipped = Some(NEEDS_ROOT.to_owned());
        parts.push(everywhere);
        let why = "not root: `cargo xtask kernels` runs them, if qemu-system-x86 is installed";
        parts.push(kernels::skipped(root, why));
        let mut demo = Part::new(DEMO);
        demo.counts.skipped = demo::STEPS.len();
        demo.why_skipped = Some(NEEDS_ROOT.to_owned());
        parts.push(demo);
    }
    summary(&parts)
}

/// What needs root. Each pass selects the same targets of the whole workspace and then tests by their names: for fewer
/// targets cargo would build libraries with other features once more, in each pass.
///
/// All of it waits most of the time. What runs one by one goes on beside what has networks of its own, so that a
/// machine of two processors is busy; no test may depend on being alone on it.
fn beside_the_kernels(root: &Path) -> Result<Vec<Part>> {
    let (beside, one_by_one) = std::thread::scope(|scope| {
        let one_by_one = scope.spawn(|| one_by_one(root));
        (networks_of_their_own(root), one_by_one.join())
    });
    let mut parts = vec![joined(one_by_one)?];
    parts.extend(beside?);
    Ok(parts)
}

/// They share the machine's interfaces and bpffs: one after the other.
fn one_by_one(root: &Path) -> Result<Part> {
    test_pass(
        root,
        "tests with namespaces, XDP and real clients",
        &ignored(&["--test-threads=1", "--skip", CLUSTERS, "--skip", FIELD]),
    )
}

/// Each has a network of its own: several at a time.
fn networks_of_their_own(root: &Path) -> Result<[Part; 2]> {
    Ok([
        test_pass(
            root,
            "tests with clusters of real servers",
            &ignored(&["--test-threads=3", CLUSTERS]),
        )?,
        // They wait for the ends of leases most of the time.
        test_pass(
            root,
            "tests in the field",
            &ignored(&["--test-threads=4", FIELD]),
        )?,
    ])
}

fn joined<T>(joined: std::thread::Result<Result<T>>) -> Result<T> {
    joined.map_err(|_| anyhow!("a thread that runs tests panicked"))?
}

/// The command that runs what is marked as ignored, of that what these arguments choose.
fn ignored(tests: &[&'static str]) -> Vec<&'static str> {
    let mut command = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    command.extend(["--lib", "--bins", "--tests", "--", "--ignored"]);
    command.extend(tests);
    command
}

/// How the names of tests begin that have a pass of their own, for the one that runs one test at a time.
const CLUSTERS: &str = "clusters::";
const FIELD: &str = "field::";

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
    let mut part = Part::new(DEMO);
    for step in demo::run_as_test(root) {
        if step.ok {
            part.counts.passed += 1;
        } else {
            part.counts.failed += 1;
            part.failures.push(format!(
                "demo step {}: {}",
                step.name,
                step.evidence.join("; ")
            ));
        }
    }
    part.took = began.elapsed();
    part
}

fn test_pass(root: &Path, name: &'static str, arguments: &[&str]) -> Result<Part> {
    let began = Instant::now();
    let mut cargo = shell::cargo(root);
    let (results, succeeded) = tee(cargo.args(arguments), PASS_LIMIT)?;
    let Results {
        mut counts,
        mut failures,
    } = results;
    if !succeeded && counts.failed == 0 {
        counts.failed += 1;
        failures.push(format!(
            "`cargo {}` ended without a result",
            arguments.join(" ")
        ));
    }
    Ok(Part {
        name: name.to_owned(),
        counts,
        failures,
        why_skipped: None,
        took: began.elapsed(),
    })
}

/// Prints what ran and what did not, and the count as the last line; fails if a test did.
pub fn summary(parts: &[Part]) -> Result<()> {
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
        let why = part
            .why_skipped
            .as_deref()
            .unwrap_or("the output does not say why");
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

    #[test]
    fn a_failed_part_makes_the_run_fail() {
        let part = |failed| {
            let mut part = Part::new("a part");
            part.counts.passed = 1;
            part.counts.failed = failed;
            part
        };
        assert!(summary(&[part(0), part(0)]).is_ok());
        assert!(
            summary(&[part(0), part(1)])
                .unwrap_err()
                .is::<TestsFailed>()
        );
    }
}
