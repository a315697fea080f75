//! The far end of `cargo xtask bench fastpath`: fills and attaches the fast path, sends, and reads the clock.
//!
//! Runs inside the bench's network namespace, because only the sidecar has a gate to aya. It answers
//! each line on standard input, a [`Run`], with one line, a [`Measured`], and takes everything down
//! when the input ends.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_sidecar::fastpath::{
    AttachMode, Counting, FastPath, FastPathConfig, InterfaceConfig, PuntLimits, Source,
    Statistics, detach,
};
use serde::{Deserialize, Serialize};

/// Who is bound, and where.
#[derive(Parser)]
struct Arguments {
    /// Folder of the pins, on a bpffs.
    #[arg(long)]
    pins: PathBuf,
    /// Interface that the program is attached to, natively.
    #[arg(long)]
    interface: String,
    /// Slots of the binding map.
    #[arg(long)]
    max_bindings: u32,
    /// Clients that are bound.
    #[arg(long)]
    clients: u32,
    /// MAC address of client 0: its last four bytes, as a number; the first two are 02:5a.
    #[arg(long)]
    first_mac: u32,
    /// Address of client 0.
    #[arg(long)]
    first_address: Ipv4Addr,
    /// Server of all of them.
    #[arg(long)]
    server: Ipv4Addr,
    /// Object with the program `source`, which makes the frames.
    #[arg(long)]
    traffic: PathBuf,
    /// Pin of its map `STREAM`.
    #[arg(long)]
    stream: PathBuf,
    /// Each client has a pair of VLANs of its own, as the traffic's source makes it.
    #[arg(long)]
    tagged: bool,
}

/// Number of the interface in keys.
const INTERFACE: u8 = 0;

/// What to send, and what to look at.
#[derive(Deserialize)]
struct Run {
    frames: u32,
    len: usize,
    /// Whether the kernel counts runs and their time, which costs a little.
    counting: bool,
    /// Pin of the program that the frames meet; without it they meet the fast path.
    watch: Option<PathBuf>,
}

/// What it came to.
#[derive(Serialize)]
struct Measured {
    elapsed_ns: u128,
    runs: u64,
    run_ns: u128,
    /// What the fast path counted, by label.
    outcomes: BTreeMap<&'static str, u64>,
}

/// The first line: the program is loaded, filled and attached.
#[derive(Serialize)]
struct Ready {
    verified_instructions: Option<u32>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let pins = arguments.pins.clone();
    let done = serve(&arguments);
    detach(&pins).context("cannot take the fast path down")?;
    done
}

fn serve(arguments: &Arguments) -> Result<()> {
    let mut fast_path = FastPath::open(&FastPathConfig {
        pin_root: arguments.pins.clone(),
        max_bindings: arguments.max_bindings,
        max_circuits: 0,
        // Limits are kept, and out of reach, so that what is not answered is measured whole.
        punts: PuntLimits {
            line_rate: u32::MAX,
            line_burst: u32::MAX,
            interface_rate: u32::MAX,
            interface_burst: u32::MAX,
        },
    })?;
    fill(&mut fast_path, arguments)?;
    fast_path.attach(&InterfaceConfig {
        number: INTERFACE,
        name: arguments.interface.clone(),
        mode: AttachMode::Native,
        identity: vec![BindingKey::KIND_LINE, BindingKey::KIND_MAC],
        remote_id: false,
    })?;
    let mut source = Source::load(&arguments.traffic, "source", "STREAM", &arguments.stream)?;
    let verified_instructions = fast_path.verified_instructions(INTERFACE)?;
    say(&Ready {
        verified_instructions,
    })?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input")?;
        let run: Run = serde_json::from_str(&line).with_context(|| format!("not a run: {line}"))?;
        say(&measure(&mut fast_path, &mut source, &run)?)?;
    }
    Ok(())
}

fn say(line: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, line).context("cannot write standard output")?;
    writeln!(out)
        .and_then(|()| out.flush())
        .context("cannot write standard output")
}

fn fill(fast_path: &mut FastPath, arguments: &Arguments) -> Result<()> {
    let server_id = arguments.server.octets();
    let profile = encode(&ProfileParts {
        server_id,
        next_server: [0; 4],
        gateway_mac: [2, 0, 0x5e, 0, 0, 1],
        lease_secs: 3600,
        subnet_mask: [255, 192, 0, 0],
        routers: &[server_id],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: None,
        mtu: None,
        ntp: &[],
        rapid_commit: false,
        custom: &[],
    })
    .map_err(|error| anyhow::anyhow!("{error}"))?;
    fast_path.put_profile(0, &profile)?;
    for client in 0..arguments.clients {
        let [a, b, c, d] = arguments.first_mac.wrapping_add(client).to_be_bytes();
        let (outer_vid, inner_vid) = if arguments.tagged {
            vids(client)
        } else {
            (0, 0)
        };
        let mac = [0x02, 0x5a, a, b, c, d];
        let key = BindingKey::Line {
            interface: INTERFACE,
            outer_vid,
            inner_vid,
            mac,
        };
        let address = u32::from(arguments.first_address).wrapping_add(client);
        let binding = Binding {
            address: address.to_be_bytes(),
            valid_until_secs: NEVER_EXPIRES,
            mac,
            profile: 0,
            last_seen_jiffies: 0,
        };
        fast_path.put_binding(&key, &binding)?;
    }
    Ok(())
}

/// As the traffic's source has it: ids of 1 to 2048.
fn vids(client: u32) -> (u16, u16) {
    let vid = |number: u32| (number & 0x7ff) as u16 + 1;
    (vid(client >> 11), vid(client))
}

fn measure(fast_path: &mut FastPath, source: &mut Source, run: &Run) -> Result<Measured> {
    let statistics = |fast_path: &mut FastPath| match &run.watch {
        Some(pin) => Statistics::of_pinned(pin),
        None => fast_path.statistics(INTERFACE),
    };
    let counting = if run.counting {
        Some(Counting::begin()?)
    } else {
        None
    };
    let counters_before = fast_path.counters()?;
    let before = statistics(fast_path)?;
    let began = Instant::now();
    source.send(run.frames, run.len)?;
    let elapsed = began.elapsed();
    let Statistics { runs, time } = statistics(fast_path)?.since(before);
    drop(counting);
    let outcomes = fast_path
        .counters()?
        .into_iter()
        .zip(counters_before)
        .map(|((outcome, now), (_, then))| (outcome.label(), now.saturating_sub(then)))
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(Measured {
        elapsed_ns: elapsed.as_nanos(),
        runs,
        run_ns: time.as_nanos(),
        outcomes,
    })
}
