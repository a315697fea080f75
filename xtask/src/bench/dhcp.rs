//! `cargo xtask bench dhcp`: ours, Kea, dnsmasq and ISC dhcpd in one run, over the same line, by the same load.
//!
//! ```text
//!  load namespace                     server's namespace
//!  dhcp_load or perfdhcp -- load0 ==== line0 -- nexus-sidecar's XDP program | kea-dhcp4 | dnsmasq | dhcpd | swap_tx
//! ```
//!
//! Every server has such a line; all run the whole time and are measured in turns, round by round.

mod generator;
mod line;
pub mod machine;
mod measure;
mod ours;
mod perfdhcp;
mod reference;
mod series;
mod stage;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use nexus_testkit::{bpf, netns, programs};

use self::series::Series;
use self::stage::{CLIENTS, Server, Stage};
use super::{Goal, Report, Row};
use crate::{build_ebpf, prepare, shell};

const ROUNDS: u32 = 3;
/// More than of the others: it waits for the disk, which others use too.
const FIRST_CONTACT_ROUNDS: u32 = 5;
/// Clients that come back at once.
const STORM: u32 = 2000;
/// Round trips are measured at a third of what the slowest can do, and at so many exchanges per second.
const CALM: f64 = 1000.0;

/// New subscribers per second (issue 3).
const FIRST_CONTACT_GOAL: f64 = 5000.0;

/// Measures everything.
pub fn run(root: &Path) -> Result<Report> {
    if !shell::is_root() {
        bail!("this makes network namespaces and starts DHCP servers: run it as root");
    }
    prepare::ensure(prepare::TOOLS)?;
    prepare::ensure(prepare::SERVERS)?;
    bpf::ensure_bpffs()?;
    netns::sweep();
    build_ebpf::run(root)?;
    build(root)?;
    programs::use_profile("release");

    let began = Instant::now();
    eprintln!("- {}", machine::description());
    let _precedence = machine::Precedence::take()?;
    let stage = Stage::build(root)?;
    eprintln!(
        "- all servers run after {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let (rows, goals) = measure_all(&stage)?;
    eprintln!(
        "- measured in {:.0} s; {}",
        began.elapsed().as_secs_f64(),
        machine::description()
    );
    Ok(Report {
        bench: "dhcp",
        rows,
        goals,
    })
}

/// Optimised, both what is measured and what measures.
fn build(root: &Path) -> Result<()> {
    let mut programs = shell::cargo(root);
    programs.args(["build", "--locked", "--release"]);
    shell::show(programs.args(["-p", "nexus-server", "-p", "nexus-sidecar"]))?;
    let mut generator = shell::cargo(root);
    generator.args(["build", "--locked", "--release", "-p", "nexus-testkit"]);
    shell::show(generator.args(["--example", "dhcp_load"]))
}

fn measure_all(stage: &Stage) -> Result<(Vec<Row>, Vec<Goal>)> {
    for contestant in &stage.contestants {
        if contestant.server.is_server() {
            measure::introduce(contestant)?;
        }
    }
    let mut rows = Vec::new();
    let exchanges = exchanges(stage)?;
    rows.extend(exchanges.rows());
    rows.extend(by_perfdhcp(stage, &exchanges)?.rows());
    rows.extend(renewals(stage)?.rows());
    for series in round_trips(stage, &exchanges)? {
        rows.extend(series.rows());
    }
    rows.extend(cost(stage, &exchanges)?);
    rows.extend(storms(stage)?);
    rows.push(Row::alone(
        "authorised through RADIUS, durable, by radclient -p 200",
        "subscribers/s",
        f64::from(CLIENTS) / stage.authorised_in.max(1e-9),
    ));
    let contacts = first_contacts(stage)?;
    let goal = Goal::figure_at_least(
        "first contact, new subscribers per second, durable",
        FIRST_CONTACT_GOAL,
        contacts.median(Server::Nexus),
    );
    rows.extend(contacts.rows());
    Ok((rows, vec![goal]))
}

/// Ours asks the users file who it is, allocates, writes it to the disk and answers; the others allocate and answer.
fn first_contacts(stage: &Stage) -> Result<Series> {
    eprintln!("- first contact");
    let mut series = Series::new("first contact, own generator", "new subscribers/s");
    for contestant in &stage.contestants {
        if !contestant.server.is_server() {
            continue;
        }
        for round in 0..FIRST_CONTACT_ROUNDS {
            let contacts = measure::first_contacts(contestant, round, FIRST_CONTACT_ROUNDS)?;
            series.add(contestant.server, contacts.per_second);
            if !contacts.all {
                // Once is enough of what takes so long.
                break;
            }
        }
    }
    Ok(series)
}

fn exchanges(stage: &Stage) -> Result<Series> {
    eprintln!("- full exchanges, own generator");
    let mut series = Series::new("full exchanges, <1% lost, own generator", "exchanges/s");
    for _ in 0..ROUNDS {
        for contestant in &stage.contestants {
            series.add(contestant.server, measure::most_exchanges(contestant)?);
        }
    }
    Ok(series)
}

fn by_perfdhcp(stage: &Stage, exchanges: &Series) -> Result<Series> {
    eprintln!("- full exchanges, perfdhcp");
    let mut series = Series::new("full exchanges, <1% lost, perfdhcp", "exchanges/s");
    for contestant in &stage.contestants {
        if contestant.server.is_server() {
            let about = exchanges.median(contestant.server) * 0.8;
            let most = measure::most_by_perfdhcp(contestant, &stage.macs, about)?;
            series.add(contestant.server, most);
        }
    }
    Ok(series)
}

fn renewals(stage: &Stage) -> Result<Series> {
    eprintln!("- renewals");
    let mut series = Series::new("renewals, closed loop of 64", "renewals/s");
    for _ in 0..ROUNDS {
        for server in [Server::Nexus, Server::Nothing] {
            let renewals = measure::renewals(measure::of(stage, server)?)?;
            series.add(server, renewals);
        }
    }
    Ok(series)
}

/// At a rate that all can do, and at one that leaves out who cannot.
fn round_trips(stage: &Stage, exchanges: &Series) -> Result<Vec<Series>> {
    let servers = || stage.contestants.iter().map(|contestant| contestant.server);
    let slowest = servers()
        .map(|server| exchanges.median(server))
        .fold(f64::INFINITY, f64::min);
    let mut all = Vec::new();
    for rate in [(slowest / 3.0).clamp(10.0, CALM), CALM] {
        eprintln!("- round trips at {rate:.0} exchanges/s");
        let [mut p50, mut p99, mut max] = ["p50", "p99", "max"].map(|what| {
            let name = format!("round trip of a message, {what} at {rate:.0} exchanges/s");
            Series::new(name, "µs")
        });
        for _ in 0..ROUNDS {
            for contestant in &stage.contestants {
                if exchanges.median(contestant.server) < rate * 2.0 {
                    continue;
                }
                let times = measure::round_trips(contestant, rate)?.round_trip;
                for (series, nanoseconds) in [
                    (&mut p50, times.p50),
                    (&mut p99, times.p99),
                    (&mut max, times.max),
                ] {
                    series.add(contestant.server, nanoseconds as f64 / 1000.0);
                }
            }
        }
        all.extend([p50, p99, max]);
        if slowest >= CALM * 3.0 {
            break;
        }
    }
    Ok(all)
}

fn cost(stage: &Stage, exchanges: &Series) -> Result<Vec<Row>> {
    eprintln!("- processor time at half of each server's own rate");
    let mut server = Series::new(
        "processor time of the server per exchange, its XDP program included",
        "µs",
    );
    let mut softirq = Series::new("softirq time of both ends per exchange", "µs");
    let mut program = Series::new("XDP program per exchange", "µs");
    for _ in 0..ROUNDS {
        for contestant in &stage.contestants {
            let rate = (exchanges.median(contestant.server) / 2.0).max(10.0);
            let cost = measure::cost(stage, contestant, rate)?;
            let own = cost.processes + cost.program.unwrap_or(0.0);
            server.add(contestant.server, own / 1000.0);
            softirq.add(contestant.server, cost.softirq / 1000.0);
            if let Some(nanoseconds) = cost.program {
                program.add(contestant.server, nanoseconds / 1000.0);
            }
        }
    }
    let mut rows = server.rows();
    rows.extend(program.rows());
    rows.extend(softirq.rows());
    Ok(rows)
}

fn storms(stage: &Stage) -> Result<Vec<Row>> {
    eprintln!("- {STORM} subscribers come back at once");
    let name = format!("{STORM} subscribers come back at once, until the last is served");
    let mut series = Series::new(name, "s");
    let mut unserved = Vec::new();
    for contestant in &stage.contestants {
        for _ in 0..ROUNDS {
            let storm = measure::storm(contestant, STORM)?;
            series.add(contestant.server, storm.seconds);
            if storm.unserved > 0 {
                let name = contestant.server.name();
                unserved.push(Row::alone(
                    format!(
                        "of these not served by {name} within {:.0} s",
                        storm.seconds
                    ),
                    "subscribers",
                    storm.unserved as f64,
                ));
                // Once is enough of what takes so long.
                break;
            }
        }
    }
    let mut rows = series.rows();
    rows.extend(unserved);
    Ok(rows)
}
