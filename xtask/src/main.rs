//! Every task of this repository; `cargo xtask` alone lists them.

mod bench;
mod build_ebpf;
mod captures;
mod ci;
mod console;
mod demo;
mod differential;
mod field;
mod fuzz;
mod kernels;
mod lint;
mod prepare;
mod shell;
mod simulate;
mod test;
mod unpack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Every task of the Nexus repository. What CI runs is what a person runs.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Measure ours and the reference in one run: medians, ratios, goals (root).
    Bench {
        /// What to measure.
        name: bench::Bench,
        /// Print one JSON object on standard output instead of tables.
        #[arg(long)]
        json: bool,
        /// cluster: ten million entries, and ten million keys created and deleted; takes hours.
        #[arg(long)]
        large: bool,
    },
    /// Compile the kernel programs to BPF objects (needs no root).
    BuildEbpf,
    /// Make the captures of real DHCP clients and relays anew, with their programs (root).
    Captures,
    /// Everything that CI checks, in its order: fmt --check, clippy, lint, test.
    Ci,
    /// The main job with real parts, as a timeline with evidence (root).
    Demo {
        /// Leave everything up afterwards, and say how to look around.
        #[arg(long)]
        keep: bool,
        /// Print one JSON object on standard output, the timeline on standard error.
        #[arg(long)]
        json: bool,
        /// Only remove what an earlier demo has left: after --keep, or a crash.
        #[arg(long, conflicts_with_all = ["keep", "json"])]
        clean: bool,
    },
    /// Kernel and host over millions of generated and spoilt frames: one verdict, the same bytes (root).
    Differential(differential::Options),
    /// Everything goes wrong with real servers, sidecars and kernels' maps, in an order that a seed decides (root).
    Field(field::Options),
    /// Fuzz the parsers and the reply writer; what is found becomes part of the corpus.
    Fuzz(fuzz::Options),
    /// Format all Rust code, the kernel programs included.
    Fmt {
        /// Change nothing; fail if something is not formatted.
        #[arg(long)]
        check: bool,
    },
    /// The kernel program's tests on the kernels of Debian, each booted in an emulator.
    Kernels,
    /// The house rules that clippy cannot know: file lengths, gates, arrows between crates.
    Lint,
    /// Install the tools that tests and the demo need (Debian packages; needs root if one is missing).
    Prepare,
    /// Random lives of a cluster in virtual time; one seed again, or many more than in CI.
    Simulate(simulate::Options),
    /// Run every test; as root also those that make network namespaces, those on other kernels,
    /// and the demo.
    Test,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = repository();
    if let Err(error) = nexus_testkit::interrupt::install() {
        eprintln!("{} {error:#}", console::cross());
        return ExitCode::FAILURE;
    }
    let done = match arguments.task {
        None => {
            let _ = Arguments::command().print_help();
            println!();
            return ExitCode::SUCCESS;
        }
        Some(Task::Bench { name, json, large }) => bench::run(&root, name, json, large),
        Some(Task::BuildEbpf) => build_ebpf::run(&root),
        Some(Task::Captures) => captures::run(&root),
        Some(Task::Ci) => ci::run(&root),
        Some(Task::Demo { keep, json, clean }) => {
            demo::run(&root, demo::Options { keep, json, clean })
        }
        Some(Task::Differential(options)) => differential::run(&root, &options),
        Some(Task::Field(options)) => field::run(&root, &options),
        Some(Task::Fuzz(options)) => fuzz::run(&root, &options),
        Some(Task::Fmt { check }) => ci::format(&root, check),
        Some(Task::Kernels) => kernels::run(&root),
        Some(Task::Lint) => lint::run(&root),
        Some(Task::Prepare) => prepare::all(),
        Some(Task::Simulate(options)) => simulate::run(&root, &options),
        Some(Task::Test) => test::run(&root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // It has said what and why, and its count is the last line.
        Err(error) if error.is::<test::TestsFailed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{} {error:#}", console::cross());
            ExitCode::FAILURE
        }
    }
}

/// The repository that this program was built in.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
