//! `cargo xtask bench fastpath`: nanoseconds per frame and replies per second, against trivial programs.
//!
//! Time is the kernel's own `run_time_ns / run_cnt` over live traffic. Ours and the reference take
//! turns with the same frames, several rounds long, on one processor.

mod cases;
mod rig;
mod stream;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::{bpf, command, interrupt, netns};

use self::cases::Case;
use self::rig::{Measured, Meter, Rig, Target};
use super::{Goal, Report, Row, median};
use crate::{build_ebpf, console, prepare, shell};

/// Bindings, and slots of the map that holds them: the default, unless it has to be larger.
const POPULATIONS: [(u32, u32); 3] = [(1, 65_536), (65_536, 65_536), (1 << 20, 1 << 20)];
const ROUNDS: usize = 9;
/// Frames of one run with the kernel's clock, and of one without.
const TIMED_FRAMES: u32 = 32_768;
const UNTIMED_FRAMES: u32 = 131_072;
/// Bytes that the source cuts off each frame, for the kernel to take note of its length.
const EXCESS: usize = 64;
/// Share of the frames that may get lost in the veth's ring.
const MOST_LOST: f64 = 0.05;

const NS: &str = "ns/run";
const REPLIES: &str = "replies/s";

/// Measures everything.
pub fn run(root: &Path) -> Result<Report> {
    if !shell::is_root() {
        bail!("this makes network namespaces and loads kernel programs: run it as root");
    }
    prepare::ensure(prepare::TOOLS)?;
    bpf::ensure_bpffs()?;
    netns::sweep();
    build_ebpf::run(root)?;
    let mut build = shell::cargo(root);
    build.args(["build", "--locked", "-p", "nexus-sidecar"]);
    shell::show(build.args(["--example", "fastpath_meter"]))?;

    let rig = Rig::build(root)?;
    let mut bench = Figures::default();
    for tagged in [false, true] {
        for (clients, max_bindings) in POPULATIONS {
            interrupt::check()?;
            let population = Population { tagged, clients };
            eprintln!("- {}", population.name());
            let mut meter = rig.meter(tagged, clients, max_bindings)?;
            bench.verified = meter.ready.verified_instructions.or(bench.verified);
            for case in Case::ALL {
                bench.rows.push(population.time(&rig, &mut meter, case)?);
                if case.is_reply() && clients == 1 {
                    bench
                        .rows
                        .push(population.throughput(&rig, &mut meter, case)?);
                }
            }
        }
    }
    drop(rig);
    bench.report(root)
}

/// Who sends, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Population {
    tagged: bool,
    clients: u32,
}

impl Population {
    fn name(self) -> String {
        let line = if self.tagged { "QinQ" } else { "untagged" };
        let bindings = match self.clients {
            1 => "1 binding".to_owned(),
            many => format!("{many} bindings"),
        };
        format!("{line}, {bindings}")
    }

    /// Nanoseconds per run.
    fn time(self, rig: &Rig, meter: &mut Meter, case: Case) -> Result<Figure> {
        let reference = if case == Case::NotDhcp {
            Target::BarePass
        } else {
            Target::SwapTx
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (target, into) in [(Target::Nexus, &mut ours), (reference, &mut theirs)] {
                let measured = self.send(rig, meter, case, target, true)?;
                into.push(measured.run_ns as f64 / measured.runs as f64);
            }
        }
        let name = format!("{}, {}", case.name(), self.name());
        Ok(Figure {
            case,
            population: self,
            row: Row::compared(name, NS, median(ours), median(theirs)),
        })
    }

    /// Replies per second that come back over the veth.
    fn throughput(self, rig: &Rig, meter: &mut Meter, case: Case) -> Result<Figure> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (target, into) in [(Target::Nexus, &mut ours), (Target::SwapTx, &mut theirs)] {
                let before = rig.returned()?;
                let measured = self.send(rig, meter, case, target, false)?;
                let replies = rig.returned()? - before;
                into.push(replies as f64 * 1e9 / measured.elapsed_ns as f64);
            }
        }
        let name = format!("{}, {}, over veth", case.name(), self.name());
        Ok(Figure {
            case,
            population: self,
            row: Row::compared(name, REPLIES, median(ours), median(theirs)),
        })
    }

    /// One run, of which is made sure that it measured what it was meant to.
    fn send(
        self,
        rig: &Rig,
        meter: &mut Meter,
        case: Case,
        target: Target,
        counting: bool,
    ) -> Result<Measured> {
        interrupt::check()?;
        let stream = case.stream(self.tagged);
        rig.set_stream(&stream.encode(self.clients, rig.entrance(target)?)?)?;
        let frames = if counting {
            TIMED_FRAMES
        } else {
            UNTIMED_FRAMES
        };
        let watch = rig.watch(target);
        let measured = meter.run(
            frames,
            stream.frame.len() + EXCESS,
            counting,
            watch.as_deref(),
        )?;
        let least = f64::from(frames) * (1.0 - MOST_LOST);
        if counting && (measured.runs as f64) < least {
            bail!(
                "{}: only {} of {frames} frames arrived",
                case.name(),
                measured.runs
            );
        }
        let counted: u64 = measured.outcomes.values().sum();
        let right = case
            .outcome()
            .and_then(|outcome| measured.outcomes.get(outcome))
            .copied()
            .unwrap_or(0);
        let expected = if target == Target::Nexus && case.outcome().is_some() {
            least
        } else {
            0.0
        };
        if counted != right || (right as f64) < expected {
            bail!(
                "{} to {target:?} did not end as it should: {:?}",
                case.name(),
                measured.outcomes
            );
        }
        Ok(measured)
    }
}

/// One figure, and what it is of.
struct Figure {
    case: Case,
    population: Population,
    row: Row,
}

#[derive(Default)]
struct Figures {
    rows: Vec<Figure>,
    verified: Option<u32>,
}

impl Figures {
    fn select(&self, unit: &str, keep: impl Fn(&Figure) -> bool) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(move |figure| figure.row.unit == unit && keep(figure))
            .map(|figure| &figure.row)
    }

    fn replies(&self, clients: u32) -> impl Iterator<Item = &Row> {
        self.select(NS, move |figure| {
            figure.case.is_reply() && figure.population.clients == clients
        })
    }

    fn report(self, root: &Path) -> Result<Report> {
        let of = |case: Case| move |figure: &Figure| figure.case == case;
        let goals = [
            Goal::at_most(
                "any reply, 1 binding, times trivial XDP_TX",
                4.5,
                self.replies(1),
            ),
            Goal::at_most(
                "any reply, 64 thousand bindings, times trivial XDP_TX",
                9.0,
                self.replies(65_536),
            ),
            Goal::at_most(
                "any reply, 1 million bindings, times trivial XDP_TX",
                14.0,
                self.replies(1 << 20),
            ),
            Goal::at_most(
                "not DHCP, times bare XDP_PASS",
                1.2,
                self.select(NS, of(Case::NotDhcp)),
            ),
            Goal::at_most(
                "miss, 1 binding, times trivial XDP_TX",
                4.0,
                self.select(NS, |figure| {
                    figure.case == Case::Miss && figure.population.clients == 1
                }),
            ),
            Goal::at_most(
                "miss, any number of bindings, times trivial XDP_TX",
                4.0,
                self.select(NS, of(Case::Miss)),
            ),
            Goal::at_least(
                "replies per second over veth, of trivial XDP_TX's",
                0.75,
                self.select(REPLIES, |_| true),
            ),
        ];
        let goals = goals.into_iter().flatten().collect();
        let mut rows: Vec<Row> = self.rows.into_iter().map(|figure| figure.row).collect();
        if let Some(verified) = self.verified {
            rows.push(Row::alone(
                "verified instructions",
                "instructions",
                f64::from(verified),
            ));
        }
        match stack_depth(root) {
            Ok(bytes) => rows.push(Row::alone("stack depth", "bytes", bytes)),
            Err(error) => eprintln!("{} no stack depth: {error:#}", console::cross()),
        }
        Ok(Report {
            bench: "fastpath",
            rows,
            goals,
        })
    }
}

/// The verifier says it only in its whole log, which takes the kernel a while to write.
fn stack_depth(root: &Path) -> Result<f64> {
    const LIMIT: Duration = Duration::from_secs(300);
    eprintln!("- stack depth, out of the verifier's log");
    let name = netns::unique_prefix("bench");
    let pin = Path::new(bpf::BPFFS).join(&name);
    let mut load = Command::new("bpftool");
    load.args(["-d", "prog", "load"])
        .arg(root.join("target/bpf/nexus-ebpf"))
        .arg(&pin);
    let finished = command::run(&mut load, LIMIT);
    // A pin of this kind is a file; `bpf::unpin` is for directories of them.
    let _ = std::fs::remove_file(&pin);
    let finished = finished?;
    let lines = finished.stdout.lines().chain(finished.stderr.lines());
    let depth = lines
        .filter_map(|line| line.strip_prefix("stack depth "))
        .next_back()
        .context("the verifier's log does not say it")?;
    // One number for each function; they are on the stack together.
    depth
        .split('+')
        .map(|part| part.trim().parse::<f64>().context("not a stack depth"))
        .sum()
}
