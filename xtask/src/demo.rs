//! `cargo xtask demo`: the main job with real parts, as a timeline; the last end-to-end test as well.
//!
//! ```text
//!  centre                        olt                                node            sub1 untagged
//!  nexus-server 10.99.0.1 ---- nexus-sidecar, RADIUS     access0 -- tags and  ----- sub2 VLAN 100
//!  (REST, gRPC)                XDP nexus_dhcp on access0            untags          sub3, sub4 QinQ
//! ```

mod edge;
mod json;
mod left;
mod report;
mod steps;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nexus_testkit::centre::{self, Centre};
use nexus_testkit::{interrupt, olt_host, programs};

use self::edge::Edge;
use self::left::Left;
pub use self::report::Step;
use self::report::{Out, Report};
use crate::{console, shell};

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Leave everything up afterwards.
    pub keep: bool,
    /// Print one JSON object on standard output.
    pub json: bool,
    /// Only remove what earlier demos have left.
    pub clean: bool,
}

/// Names of the steps, in order.
pub const STEPS: &[&str] = &[
    "prepare", "centre", "edge", "radius", "dhcp", "record", "survival",
];

/// The object that `--json` prints.
#[derive(serde::Serialize)]
struct Steps<'a> {
    steps: &'a [Step],
}

/// A step did not hold; what and why has been printed.
#[derive(Debug)]
pub struct StepsFailed;

impl std::fmt::Display for StepsFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a step of the demo did not hold")
    }
}

impl std::error::Error for StepsFailed {}

/// The stage: what the steps build up and use. Fields are dropped in this order.
pub struct Stage {
    root: PathBuf,
    edge: Option<Edge>,
    centre: Option<Centre>,
    left: Left,
}

impl Stage {
    fn new(root: &Path) -> Self {
        let prefix = format!("nexus-demo-{}", std::process::id());
        let left = Left {
            demo: std::process::id(),
            pin_root: olt_host::pin_root(&prefix),
            directory: std::env::temp_dir().join(&prefix),
            prefix,
        };
        Self {
            root: root.to_owned(),
            edge: None,
            centre: None,
            left,
        }
    }

    fn centre(&mut self) -> Result<&mut Centre> {
        self.centre.as_mut().context("the centre was not started")
    }

    fn edge(&mut self) -> Result<&mut Edge> {
        self.edge.as_mut().context("the edge was not started")
    }

    /// The ends of the logs, for a step that failed.
    fn last_words(&self) -> String {
        let processes = [
            self.centre
                .as_ref()
                .and_then(|centre| centre.server.as_ref()),
            self.edge
                .as_ref()
                .and_then(|edge| edge.host.sidecar.as_ref()),
        ];
        let mut text = String::new();
        for process in processes.into_iter().flatten() {
            text += &format!(
                "the end of {}'s log:\n{}\n",
                process.label(),
                process.log_tail(20)
            );
        }
        text
    }
}

/// `cargo xtask demo`
pub fn run(root: &Path, options: Options) -> Result<()> {
    if !shell::is_root() {
        bail!("the demo makes network namespaces and loads an XDP program: run it as root");
    }
    if options.clean {
        return left::clean();
    }
    let out = if options.json {
        Out::Error
    } else {
        Out::Standard
    };
    let steps = play(root, options.keep, out);
    if options.json {
        let text = serde_json::to_string(&Steps { steps: &steps }).context("cannot write JSON")?;
        println!("{text}");
    }
    if steps.iter().any(|step| !step.ok) {
        return Err(StepsFailed.into());
    }
    Ok(())
}

/// The demo as a test: its steps, everything removed afterwards.
pub fn run_as_test(root: &Path) -> Vec<Step> {
    play(root, false, Out::Error)
}

type Scene = (&'static str, fn(&mut Stage, &mut Report) -> Result<()>);

fn play(root: &Path, keep: bool, out: Out) -> Vec<Step> {
    let scenes: [Scene; 7] = [
        (
            "Prepare the machine, build everything",
            steps::prepare::play,
        ),
        ("Start the centre and create a pool", steps::centre::play),
        ("Build an access network, start the edge", steps::edge::play),
        ("Authenticate three subscribers", steps::radius::play),
        ("DHCP: the kernel answers", steps::dhcp::play),
        ("One binding, seen from both ends", steps::record::play),
        (
            "Stop the centre, kill the edge, bring both back",
            steps::survival::play,
        ),
    ];
    out.line(&format!(
        "{}\nRADIUS, an address of an own shard, the kernel's map, DHCP, the record: real parts, in \
         namespaces of their own.",
        console::bold("Nexus, one subscriber's way through it")
    ));
    let mut report = Report::new(out);
    let mut stage = Stage::new(root);
    for (name, (title, scene)) in STEPS.iter().copied().zip(scenes) {
        report.begin(name, title);
        let played = interrupt::check().and_then(|()| scene(&mut stage, &mut report));
        if let Err(error) = played {
            report.fail(&error);
            let last_words = stage.last_words();
            report.quote(&last_words);
            break;
        }
    }
    let steps = report.finish(STEPS);
    if keep {
        leave(stage, out)
    } else {
        remove(stage, out)
    }
    steps
}

fn remove(stage: Stage, out: Out) {
    let left = stage.left.clone();
    drop(stage);
    match left.remove() {
        Ok(()) => out.line(&format!(
            "{} namespaces, processes, pins and files are removed",
            console::tick()
        )),
        Err(error) => eprintln!("{} cleaning up: {error:#}", console::cross()),
    }
}

fn leave(mut stage: Stage, out: Out) {
    if let Some(edge) = &mut stage.edge {
        edge.keep();
    }
    if let Some(centre) = &mut stage.centre {
        centre.keep();
    }
    let Left {
        prefix,
        pin_root,
        directory,
        ..
    } = &stage.left;
    let (pins, files) = (pin_root.display(), directory.display());
    let binaries = programs::directory().display().to_string();
    let (olt, centre) = (format!("{prefix}-olt"), format!("{prefix}-centre"));
    out.line(&format!(
        "\nEverything stays up. Look around:\n\
         \x20 nsenter --net=/run/netns/{centre} {binaries}/nexusctl --server {} status\n\
         \x20 nsenter --net=/run/netns/{centre} {binaries}/nexusctl --server {0} allocations list\n\
         \x20 nsenter --net=/run/netns/{olt} {binaries}/nexus-sidecar status --config {files}/sidecar.yaml\n\
         \x20 bpftool map dump pinned {pins}/v{}/BINDINGS\n\
         \x20 nsenter --net=/run/netns/{prefix}-node tcpdump -n -e -i uplink0\n\
         \x20 ls {files}\n\
         Remove it: cargo xtask demo --clean",
        centre::REST,
        nexus_abi::ABI_VERSION,
    ));
}
