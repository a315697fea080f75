//! `cargo xtask fuzz`: libFuzzer over the parsers and the reply writer, with the stable compiler alone.
//!
//! libFuzzer comes as C++ source in a crate; the compiler's coverage counters are a pass of LLVM's that
//! stable options switch on. Neither a nightly toolchain nor `cargo-fuzz` is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{console, shell};

/// What to fuzz and how long.
#[derive(Args)]
pub struct Options {
    /// One of the targets; all of them, one after the other, if none is named.
    target: Option<String>,
    /// Time for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards put what reaches code that the corpus does not reach into the corpus.
    #[arg(long)]
    keep: bool,
}

/// Name and most bytes of an input, as `nexus_fuzz::TARGETS` has them.
const TARGETS: [(&str, u32); 5] = [
    ("options", 1300),
    ("frame", 1600),
    ("exchange", 1600),
    ("circuit", 260),
    ("radius", 4100),
];

/// Coverage as libFuzzer wants it, and every check that a development build has.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on \
    -Coverflow-checks=on";

/// Builds the engine and runs it.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let chosen: Vec<_> = TARGETS
        .into_iter()
        .filter(|(name, _)| {
            options
                .target
                .as_deref()
                .is_none_or(|target| target == *name)
        })
        .collect();
    if chosen.is_empty() {
        let names = TARGETS.map(|(name, _)| name).join(", ");
        bail!("no such target: {names} are the ones there are");
    }
    if shell::find("c++").is_none() {
        bail!("libFuzzer is C++: install a compiler (Debian: `apt-get install g++`)");
    }
    let engine = build(root)?;
    for (name, max_len) in chosen {
        fuzz(root, &engine, name, max_len, options)?;
    }
    Ok(())
}

/// The triple of the machine. It is named to cargo, so that build scripts get no counters.
fn triple(root: &Path) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root).arg("-vV");
    let text = nexus_testkit::command::output(&mut rustc)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say what it builds for")?
        .to_owned())
}

fn build(root: &Path) -> Result<PathBuf> {
    let triple = triple(root)?;
    let folder = root.join("target/fuzz");
    let mut cargo = shell::cargo(root);
    cargo.args(["build", "--locked", "--release", "-p", "nexus-fuzz"]);
    cargo.args(["--features", "engine", "--bin", "engine"]);
    cargo
        .args(["--target", &triple, "--target-dir"])
        .arg(&folder);
    // One name for what would otherwise be split between two places with different precedence.
    cargo
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    shell::show(&mut cargo)?;
    Ok(folder.join(triple).join("release/engine"))
}

fn fuzz(root: &Path, engine: &Path, name: &str, max_len: u32, options: &Options) -> Result<()> {
    let corpus = root.join("fuzz/corpus").join(name);
    let found = root.join("target/fuzz/found").join(name);
    let seeds = root.join("target/fuzz/seeds").join(name);
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut seeder = shell::cargo(root);
    seeder.args([
        "run",
        "--locked",
        "-q",
        "-p",
        "nexus-fuzz",
        "--bin",
        "seeds",
        "--",
        name,
    ]);
    shell::show(seeder.arg(&seeds))?;
    let start = |mode: &str| {
        let mut command = Command::new(engine);
        command.env("NEXUS_FUZZ_TARGET", name).current_dir(root);
        command.arg(format!("-max_len={max_len}")).arg(mode);
        command.args(["-timeout=5", "-rss_limit_mb=1024"]);
        // What breaks a rule becomes part of the corpus, and of the tests.
        command.arg(format!("-artifact_prefix={}/", corpus.display()));
        command
    };
    let mut run = start(&format!("-max_total_time={}", options.seconds));
    run.args([&found, &corpus, &seeds]);
    if let Err(error) = shell::show(&mut run) {
        eprintln!(
            "{} an input that broke a rule is in {}",
            console::cross(),
            corpus.display()
        );
        return Err(error);
    }
    if options.keep {
        shell::show(start("-merge=1").args([&corpus, &found, &seeds]))?;
    }
    Ok(())
}
