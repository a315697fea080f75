//! Where frames run: a veth pair for each program, the sources and sinks, and the meter at the far end.
//!
//! ```text
//! [source, over live frames] --redirect--> to-nexus --- nexus  (the fast path)
//!                                      \-> to-swap  --- swap   (swap_tx)
//!                                      \-> to-pass  --- pass   (bare_pass)
//! replies come back to to-*, where `sink` counts and drops them
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use nexus_testkit::bpf::{self, Pinned};
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::{self, Namespace};
use nexus_testkit::{command, programs};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cases::SERVER;
use super::stream::{ADDRESS, FIRST_MAC};

/// What a frame meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The fast path.
    Nexus,
    /// The trivial program that answers.
    SwapTx,
    /// The trivial program that does not.
    BarePass,
}

impl Target {
    const REFERENCES: [Self; 2] = [Self::SwapTx, Self::BarePass];

    /// Interface and program; the fast path is attached by the meter.
    fn parts(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Nexus => ("to-nexus", "nexus", None),
            Self::SwapTx => ("to-swap", "swap", Some("swap_tx")),
            Self::BarePass => ("to-pass", "pass", Some("bare_pass")),
        }
    }
}

/// The namespace with its links and the traffic's programs; dropped, it disappears.
pub struct Rig {
    namespace: Namespace,
    traffic: Pinned,
    stream: u64,
    /// Interfaces that frames go into, by target.
    entrances: Vec<(Target, u32)>,
    object: PathBuf,
    pins: PathBuf,
}

impl Rig {
    /// Builds it out of the objects below `root`.
    pub fn build(root: &Path) -> Result<Self> {
        let prefix = netns::unique_prefix("bench");
        let object = root.join("target/bpf/nexus-traffic");
        let namespace = Namespace::create(&prefix, "line")?;
        let traffic = Pinned::load(&object, &format!("{prefix}-traffic"))?;
        let mut entrances = Vec::new();
        for target in [Target::Nexus, Target::SwapTx, Target::BarePass] {
            let (near, far, program) = target.parts();
            link::veth(End::new(&namespace, near), End::new(&namespace, far))?;
            attach(&namespace, &traffic.program("sink"), near)?;
            if let Some(program) = program {
                attach(&namespace, &traffic.program(program), far)?;
            }
            entrances.push((target, link::index(&namespace, near)?));
        }
        Ok(Self {
            stream: bpf::map_id(&traffic.map("STREAM"))?,
            namespace,
            traffic,
            entrances,
            object,
            pins: Path::new(bpf::BPFFS).join(format!("{prefix}-nexus")),
        })
    }

    /// Interface that frames for `target` go into.
    pub fn entrance(&self, target: Target) -> Result<u32> {
        let found = self.entrances.iter().find(|(at, _)| *at == target);
        found
            .map(|(_, index)| *index)
            .with_context(|| format!("no way to {target:?}"))
    }

    /// Writes what is sent from now on.
    pub fn set_stream(&self, value: &[u8]) -> Result<()> {
        bpf::map_update(self.stream, &0_u32.to_ne_bytes(), value)
    }

    /// Frames that have come back since the rig was built.
    pub fn returned(&self) -> Result<u64> {
        let counters = bpf::counters(&self.traffic.map("RETURNED"))?;
        Ok(counters.values().sum())
    }

    /// Starts the meter with `clients` bound in a map of `max_bindings`.
    pub fn meter(&self, tagged: bool, clients: u32, max_bindings: u32) -> Result<Meter> {
        // A meter that was killed could not clean up.
        bpf::unpin(&self.pins)?;
        let program = programs::directory().join("examples/fastpath_meter");
        let mut meter = self.namespace.command("taskset");
        meter
            .args(["-c", &link::line_cpu().to_string(), "nice", "-n", "-15"])
            .arg(program)
            .arg("--pins")
            .arg(&self.pins)
            .arg("--traffic")
            .arg(&self.object)
            .arg("--stream")
            .arg(self.traffic.map("STREAM"))
            .args(["--interface", Target::Nexus.parts().1])
            .args(["--max-bindings", &max_bindings.to_string()])
            .args(["--clients", &clients.to_string()])
            .args(["--first-mac", &FIRST_MAC.to_string()])
            .args(["--first-address", &ADDRESS.to_string()])
            .args(["--server", &SERVER.to_string()]);
        if tagged {
            meter.arg("--tagged");
        }
        Meter::start(&mut meter)
    }

    /// Pin of the program that frames for `target` meet; `None` for the fast path.
    pub fn watch(&self, target: Target) -> Option<PathBuf> {
        let (.., program) = target.parts();
        program.map(|program| self.traffic.program(program))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = bpf::unpin(&self.pins);
        for target in Target::REFERENCES {
            let (near, far, _) = target.parts();
            for interface in [near, far] {
                let arguments = ["net", "detach", "xdpdrv", "dev", interface];
                let _ = self.namespace.run("bpftool", &arguments);
            }
        }
    }
}

fn attach(namespace: &Namespace, program: &Path, interface: &str) -> Result<()> {
    let program = program.to_str().context("a pin path that is not UTF-8")?;
    let arguments = [
        "net", "attach", "xdpdrv", "pinned", program, "dev", interface,
    ];
    namespace.run("bpftool", &arguments)?;
    Ok(())
}

/// What one run came to.
#[derive(Deserialize)]
pub struct Measured {
    /// From the first frame to the last.
    pub elapsed_ns: u64,
    /// Runs of the program that the frames met.
    pub runs: u64,
    /// Their time; 0 if it was not counted.
    pub run_ns: u64,
    /// What the fast path counted.
    pub outcomes: BTreeMap<String, u64>,
}

/// What the meter says first.
#[derive(Deserialize)]
pub struct Ready {
    /// Instructions that the verifier went through.
    pub verified_instructions: Option<u32>,
}

/// The process in the namespace that sends and reads the clock (`fastpath_meter` of the sidecar).
pub struct Meter {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// What it said first.
    pub ready: Ready,
}

impl Meter {
    fn start(command: &mut Command) -> Result<Self> {
        let line = command::text(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for us: the meter ends when its input does.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("`{line}` has no input and output");
        };
        let mut output = BufReader::new(output);
        match answer(&mut output) {
            Ok(ready) => Ok(Self {
                child,
                input: Some(input),
                output,
                ready,
            }),
            Err(error) => {
                drop(input);
                let _ = child.wait();
                Err(error.context(format!("`{line}` did not get ready")))
            }
        }
    }

    /// Sends `frames` of `len` bytes each to what `watch` names.
    pub fn run(
        &mut self,
        frames: u32,
        len: usize,
        counting: bool,
        watch: Option<&Path>,
    ) -> Result<Measured> {
        let run = json!({ "frames": frames, "len": len, "counting": counting, "watch": watch });
        let input = self.input.as_mut().context("the meter has no input")?;
        writeln!(input, "{run}").context("the meter has ended")?;
        answer(&mut self.output)
    }
}

fn answer<T: DeserializeOwned>(output: &mut BufReader<ChildStdout>) -> Result<T> {
    let mut line = String::new();
    output
        .read_line(&mut line)
        .context("cannot read what the meter says")?;
    if line.is_empty() {
        return Err(anyhow!("the meter has ended; why stands above"));
    }
    serde_json::from_str(&line).with_context(|| format!("the meter said {line}"))
}

impl Drop for Meter {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
