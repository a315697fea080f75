//! `cargo xtask kernels`: the kernel program's own tests on the kernels of Debian, in an emulator.
//!
//! Neither root nor a virtual machine of the host's kind is needed: the processor is emulated too.

mod cpio;
mod guest;
mod packages;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_testkit::{command, interrupt};

use self::packages::Kernel;
use crate::test::{self, Part, Results};
use crate::{build_ebpf, prepare, shell};

/// Many times what one kernel takes on processors of its own.
const LIMIT: Duration = Duration::from_secs(30 * 60);

const NAME: &str = "the kernel program on Debian's kernels";

/// `cargo xtask kernels`
pub fn run(root: &Path) -> Result<()> {
    build_ebpf::run(root)?;
    test::summary(&parts(root))
}

/// One part for every kernel; one that says why if there is none to be had.
pub fn parts(root: &Path) -> Vec<Part> {
    let tests = match TestBinary::build(root) {
        Ok(tests) => tests,
        Err(error) => return vec![failed(NAME, &error)],
    };
    let ready = prepare::ensure(prepare::EMULATOR).and_then(|()| {
        let busybox = packages::busybox()?;
        Ok((busybox, packages::kernels()?))
    });
    match ready {
        Ok((busybox, kernels)) => {
            let run = |kernel| {
                on(root, kernel, &busybox, &tests)
                    .unwrap_or_else(|error| failed(&name_on(kernel), &error))
            };
            // Side by side: an emulated processor keeps one of ours busy. Their lines mingle.
            std::thread::scope(|scope| {
                let run = &run;
                let started: Vec<_> = kernels
                    .iter()
                    .map(|kernel| (kernel, scope.spawn(move || run(kernel))))
                    .collect();
                started
                    .into_iter()
                    .map(|(kernel, guest)| {
                        guest.join().unwrap_or_else(|_| {
                            failed(&name_on(kernel), &anyhow::anyhow!("its thread panicked"))
                        })
                    })
                    .collect()
            })
        }
        Err(error) if interrupt::requested() => vec![failed(NAME, &error)],
        Err(error) => vec![tests.skipped(&format!("{error:#}"))],
    }
}

/// What is told of all kernels if none can be tried.
pub fn skipped(root: &Path, why: &str) -> Part {
    match TestBinary::build(root) {
        Ok(tests) => tests.skipped(why),
        Err(error) => failed(NAME, &error),
    }
}

fn failed(name: &str, error: &anyhow::Error) -> Part {
    let mut part = Part::new(name);
    part.counts.failed = 1;
    part.failures.push(format!("{name}: {error:#}"));
    part
}

fn name_on(kernel: &Kernel) -> String {
    format!("the kernel program on Linux {}", kernel.release)
}

fn on(root: &Path, kernel: &Kernel, busybox: &Path, tests: &TestBinary) -> Result<Part> {
    let began = Instant::now();
    let folder = root.join("target/kernels");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let log = folder.join(format!("{}.log", kernel.release));
    let initramfs = folder.join(format!("{}.cpio", kernel.release));
    guest::initramfs(root, kernel, busybox, &tests.path, &initramfs)?;
    let read = test::tee(&mut guest::boot(kernel, &initramfs, &log), LIMIT);
    // Tens of megabytes; what it is made of stays.
    let _ = std::fs::remove_file(&initramfs);
    let (Results { counts, failures }, _) = read?;
    let mut part = Part {
        name: name_on(kernel),
        counts,
        failures,
        why_skipped: None,
        took: began.elapsed(),
    };
    let ran = part.counts.passed + part.counts.failed;
    if ran < tests.count && part.counts.failed == 0 {
        part.counts.failed += 1;
        part.failures.push(format!(
            "{ran} of {} tests ended; what the kernel says is in {}",
            tests.count,
            log.display()
        ));
    }
    for failure in &mut part.failures {
        *failure = format!("Linux {}: {failure}", kernel.release);
    }
    Ok(part)
}

/// The golden tests of the sidecar as one program.
struct TestBinary {
    path: PathBuf,
    /// How many of its tests run on every kernel.
    count: usize,
}

impl TestBinary {
    fn build(root: &Path) -> Result<Self> {
        let mut cargo = shell::cargo(root);
        cargo.args(["test", "--locked", "--workspace"]);
        cargo.args(["--test", "golden", "--no-run"]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        let messages = shell::read(&mut cargo)?;
        let path = messages
            .lines()
            .find_map(executable)
            .context("cargo does not say where the golden tests of nexus-sidecar are")?;
        let mut list = Command::new(&path);
        list.args(guest::FILTER).arg("--list");
        let listed = command::output(&mut list)?;
        let count = listed
            .lines()
            .filter(|line| line.ends_with(": test"))
            .count();
        Ok(Self { path, count })
    }

    fn skipped(&self, why: &str) -> Part {
        let mut part = Part::new(NAME);
        part.counts.skipped = self.count * packages::SERIES.len();
        part.why_skipped = Some(why.to_owned());
        part
    }
}

/// The program that a message of cargo's names, if it is the golden tests.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    let path = message.get("executable")?.as_str()?;
    (name == "golden").then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_tests_are_told_from_what_else_cargo_builds() {
        let message = |name: &str, executable: &str| {
            format!("{{\"target\":{{\"name\":\"{name}\"}},\"executable\":{executable}}}")
        };
        assert_eq!(
            executable(&message("golden", "\"/a/golden-1\"")),
            Some("/a/golden-1".into())
        );
        assert_eq!(executable(&message("nexus-sidecar", "\"/a/b\"")), None);
        assert_eq!(executable(&message("golden", "null")), None);
        assert_eq!(executable("warning: something"), None);
    }
}
