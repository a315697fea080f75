//! The measures, each of one server once; the rounds are the caller's.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::interrupt;
use nexus_testkit::load::search::Search;
use nexus_testkit::load::{Exchange, Pace, Plan, Report};

use super::generator;
use super::line::SERVER_END;
use super::machine::{self, Setting};
use super::perfdhcp;
use super::stage::{Contestant, FIRST_STRANGER, STRANGERS, Server, Stage};

/// Share of exchanges that may get lost.
const MOST_LOST: f64 = 0.01;
/// Exchanges under way when the rate is first looked for.
const WINDOW: u32 = 64;
const SECONDS: f64 = 1.0;
/// Trials of one search of the own generator, and of perfdhcp, whose are longer.
const TRIALS: u32 = 5;
const PERFDHCP_TRIALS: u32 = 5;
/// What perfdhcp cannot do on any machine.
const PERFDHCP_MOST: f64 = 60_000.0;
/// How long a storm is watched, in seconds: the first retry after 4 seconds and the second after 8 more lie within.
const STORM_LIMIT: f64 = 20.0;
/// How long the clients may take to come once.
const INTRODUCTION_LIMIT: f64 = 30.0;
/// How long new subscribers are waited for.
const FIRST_CONTACT_LIMIT: f64 = 8.0;

/// What was measured is only worth something if the frames were right.
fn check(contestant: &Contestant, report: &Report) -> Result<()> {
    let wrong = report.counts.wrong;
    ensure!(
        wrong == 0,
        "{} gave {wrong} replies with another client's MAC or address",
        contestant.server.name()
    );
    Ok(())
}

fn run(contestant: &Contestant, plan: &Plan) -> Result<Report> {
    interrupt::check()?;
    let report = generator::run(&contestant.line, plan)?;
    check(contestant, &report)?;
    Ok(report)
}

/// The most full exchanges per second with less than 1% lost, by the own generator: a closed loop says where to search,
/// then rates are tried in an open loop. What counts is the rate that was answered, until the last ACK.
pub fn most_exchanges(contestant: &Contestant) -> Result<f64> {
    let probe = run(
        contestant,
        &contestant.plan(Pace::Closed { window: WINDOW }, SECONDS / 2.0),
    )?;
    let about = probe.per_second().max(10.0);
    let mut search = Search::new(about * 0.9, about * 1.8, TRIALS);
    let mut best = 0.0;
    while let Some(per_second) = search.next() {
        let report = run(
            contestant,
            &contestant.plan(Pace::Open { per_second }, SECONDS),
        )?;
        let holds = report.loss() < MOST_LOST;
        if holds {
            best = report.per_second().max(best);
        }
        search.record(holds);
    }
    Ok(best)
}

/// The same by perfdhcp; `about` is where the search begins.
pub fn most_by_perfdhcp(contestant: &Contestant, macs: &Path, about: f64) -> Result<f64> {
    let mut search = Search::new(about.min(8000.0), PERFDHCP_MOST, PERFDHCP_TRIALS);
    let mut best = 0.0;
    while let Some(rate) = search.next() {
        let trial = perfdhcp_trial(contestant, macs, rate)?;
        let holds = trial.loss() < MOST_LOST;
        if holds {
            best = trial.per_second().max(best);
        }
        // A rate that it cannot even send needs no doubling.
        search.record(holds && trial.per_second() > rate * 0.9);
    }
    Ok(best)
}

fn perfdhcp_trial(contestant: &Contestant, macs: &Path, rate: f64) -> Result<perfdhcp::Trial> {
    interrupt::check()?;
    perfdhcp::run(&contestant.line, macs, rate)
}

/// Round trips at a moderate rate, with a generator that never sleeps on one processor, so that the other is the
/// server's.
pub fn round_trips(contestant: &Contestant, per_second: f64) -> Result<Report> {
    let plan = Plan {
        threads: 1,
        busy: true,
        ..contestant.plan(Pace::Open { per_second }, 1.5 * SECONDS)
    };
    run(contestant, &plan)
}

/// Nanoseconds of processor time for one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The server's processes.
    pub processes: f64,
    /// The XDP program, if it has one.
    pub program: Option<f64>,
    /// Everything that the kernel did in softirq on either end of the line: receiving, and the XDP program in it.
    pub softirq: f64,
}

/// What an exchange costs at a rate that the server can do well.
pub fn cost(stage: &Stage, contestant: &Contestant, per_second: f64) -> Result<Cost> {
    let _statistics = Setting::set("kernel/bpf_stats_enabled", "1")?;
    let program = || {
        let has_one = contestant.server.is_in_kernel();
        has_one
            .then(|| machine::program_time(&contestant.line.server, SERVER_END))
            .transpose()
    };
    let before = (
        stage.process_time(contestant)?,
        machine::softirq_time()?,
        program()?,
    );
    let plan = contestant.plan(Pace::Open { per_second }, 1.5 * SECONDS);
    let report = run(contestant, &plan)?;
    let exchanges = report.counts.completed as f64;
    ensure!(
        exchanges > 0.0,
        "{} completed no exchange at {per_second:.0} per second",
        contestant.server.name()
    );
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / exchanges;
    let softirq = machine::softirq_time()?;
    let program = program()?
        .zip(before.2)
        .map(|(after, before)| each(before, after));
    Ok(Cost {
        processes: each(before.0, stage.process_time(contestant)?),
        program,
        softirq: each(before.1, softirq),
    })
}

/// What a storm came to.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Seconds until the last one was served, or the limit.
    pub seconds: f64,
    /// Who was not, within the limit.
    pub unserved: u64,
}

/// `clients` that the server knows come back at once, with the retry timers of RFC 2131.
pub fn storm(contestant: &Contestant, clients: u32) -> Result<Storm> {
    let plan = Plan {
        clients,
        once: true,
        retry: true,
        ..contestant.plan(Pace::Closed { window: clients }, STORM_LIMIT)
    };
    let report = run(contestant, &plan)?;
    let unserved = u64::from(clients).saturating_sub(report.counts.completed);
    Ok(Storm {
        seconds: if unserved == 0 {
            report.seconds
        } else {
            STORM_LIMIT
        },
        unserved,
    })
}

/// Renewals per second of clients that have their address, in a closed loop.
pub fn renewals(contestant: &Contestant) -> Result<f64> {
    let plan = Plan {
        clients: 2000,
        exchange: Exchange::Renew,
        ..contestant.plan(Pace::Closed { window: WINDOW }, SECONDS)
    };
    let report = run(contestant, &plan)?;
    ensure!(
        report.loss() < MOST_LOST,
        "{} lost {:.0}% of the renewals",
        contestant.server.name(),
        report.loss() * 100.0
    );
    Ok(report.per_second())
}

/// What new subscribers came to.
#[derive(Clone, Copy, Debug)]
pub struct FirstContacts {
    /// New subscribers per second.
    pub per_second: f64,
    /// Whether all were served within the limit.
    pub all: bool,
}

/// Subscribers that nobody knows: the first packet of each makes the server allocate and, ours, ask who it is. `round`
/// of `rounds` counts from 0 and takes other subscribers each time.
pub fn first_contacts(contestant: &Contestant, round: u32, rounds: u32) -> Result<FirstContacts> {
    let clients = STRANGERS / rounds;
    let window = 4 * WINDOW;
    let plan = contestant.plan(Pace::Closed { window }, FIRST_CONTACT_LIMIT);
    let plan = Plan {
        threads: 1,
        clients,
        first_mac: nexus_testkit::load::plan::mac(FIRST_STRANGER, round * clients),
        once: true,
        retry: true,
        ..plan
    };
    let report = run(contestant, &plan)?;
    let completed = report.counts.completed;
    let all = completed == u64::from(clients);
    Ok(FirstContacts {
        per_second: if all {
            report.per_second()
        } else {
            completed as f64 / FIRST_CONTACT_LIMIT
        },
        all,
    })
}

/// All clients come once, a few at a time, so that the server knows them.
pub fn introduce(contestant: &Contestant) -> Result<()> {
    let pace = Pace::Closed { window: 8 };
    let plan = Plan {
        threads: 1,
        once: true,
        retry: true,
        ..contestant.plan(pace, INTRODUCTION_LIMIT)
    };
    let report = run(contestant, &plan)?;
    if report.counts.lost > 0 {
        eprintln!(
            "- {}: {} of {} clients have no address after {INTRODUCTION_LIMIT:.0} s",
            contestant.server.name(),
            report.counts.lost,
            report.counts.begun
        );
    }
    Ok(())
}

/// Looks up a contestant.
pub fn of(stage: &Stage, server: Server) -> Result<&Contestant> {
    stage
        .contestants
        .iter()
        .find(|contestant| contestant.server == server)
        .with_context(|| format!("{} was not started", server.name()))
}
