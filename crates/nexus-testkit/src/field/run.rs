//! A run: build, populate, let the nemesis loose, heal, ask everybody once more, compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::bench::{BenchPlan, Field, may_allocate, servers};
use super::checker::{AT_THE_END, Finding, around, check, rights, without_effect};
use super::doors::Doors;
use super::finals;
use super::history::{Finals, History, OltAt, Outcome, Who};
use super::host::read_map;
use super::journal::Journal;
use super::nemesis::{Lane, rest};
use super::plan::{FieldPlan, OLTS, PATIENCE, SERVERS, Trouble};
use super::subscribers::by_mac;
use super::tracker::Tracker;
use super::workload::{Board, STOPS, Workload, operator};
use crate::cluster::Client;
use crate::interrupt::wait_until;
use crate::olt_host::nothing_waits;
use crate::packet::Mac;

/// Time between two rounds of samples.
const SAMPLES: Duration = Duration::from_millis(400);
/// Rounds of samples between two looks at the servers' audits.
const AUDITS: u64 = 8;
/// Findings that a message shows.
const SHOWN: usize = 6;
/// What around a finding is shown.
const AROUND: Duration = Duration::from_secs(40);

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// What was done and held.
    pub history: History,
    /// What is wrong.
    pub found: Vec<Finding>,
    /// Samples of maps that were taken.
    pub samples: u64,
    /// Of so many Accepts (the second number) the checker could not expect anything, see [`Right::doubtful`].
    ///
    /// [`Right::doubtful`]: super::checker::Right::doubtful
    pub doubtful: (usize, usize),
    /// How often each trouble was seen to do what it is meant to do.
    pub effects: BTreeMap<Trouble, u32>,
}

impl Report {
    /// Counts in a few lines.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for op in &self.history.ops {
            let action = format!("{:?}", op.action);
            let action = action.split('(').next().unwrap_or_default();
            let outcome = match &op.outcome {
                Outcome::Rejected(why) | Outcome::Refused(why) | Outcome::Nak(why) => {
                    format!("refused ({why:.30})")
                }
                other => format!("{other:?}")
                    .split('(')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            };
            *counts.entry(format!("{action}: {outcome}")).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        let effects = self.effects.iter();
        let effects: Vec<String> = effects
            .map(|(trouble, n)| format!("{trouble:?} {n}"))
            .collect();
        format!(
            "{} operations, {} samples of maps, {} entries followed, {} disturbances, {} of {} Accepts doubtful\nwhat took effect: {}\n{}",
            self.history.ops.len(),
            self.samples,
            self.history.held.len(),
            self.history.disturbances.len(),
            self.doubtful.0,
            self.doubtful.1,
            effects.join(", "),
            counts.join("\n")
        )
    }

    /// The first findings with all that happened around them; nothing if nothing is wrong.
    #[must_use]
    pub fn details(&self, who: &BTreeMap<Mac, Who>) -> String {
        let mut text = String::new();
        for finding in self.found.iter().take(SHOWN) {
            let Finding {
                at,
                rule,
                whose,
                what,
            } = finding;
            text += &format!("\n[{rule}] {at}: {what}\n");
            for line in around(&self.history, whose, who, *at, AROUND)
                .iter()
                .take(60)
            {
                text += &format!("    {line}\n");
            }
        }
        text
    }

    /// Fails if something is wrong; the text has a line for each of the first findings.
    ///
    /// # Errors
    /// The first findings.
    pub fn verdict(&self) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let first = self.found.iter().take(SHOWN);
        let first = first.map(|one| format!("\n[{}] {}: {:.300}", one.rule, one.at, one.what));
        bail!(
            "{} findings, the first:{}",
            self.found.len(),
            first.collect::<String>()
        )
    }
}

/// Runs the plan on a new bench. On failure stores and logs are kept; where, and what happened around the findings,
/// stands on standard error, and the error itself is short.
///
/// # Errors
/// What is wrong, or what could not be done.
pub fn run(plan: &FieldPlan) -> Result<Report> {
    eprintln!(
        "field: seed {}, {} subscribers, {} s",
        plan.seed,
        plan.subscribers,
        plan.length.as_secs()
    );
    let mut field = Field::start(&BenchPlan::field(plan.subscribers))?;
    let done = on(&mut field, plan, |_| Ok(()));
    let verdict = match &done {
        Ok(report) => {
            eprintln!("{}", report.brief());
            report.verdict()
        }
        Err(error) => Err(anyhow!("{}", reason(error))),
    };
    if let Err(error) = verdict {
        let kept = field.cluster.keep_directory();
        eprintln!("{}", field.logs(8));
        match &done {
            Ok(report) => {
                write_history(&kept, report)?;
                eprintln!("{}", report.details(&by_mac(plan.subscribers)));
            }
            Err(error) => eprintln!("{error:#}"),
        }
        eprintln!(
            "logs, stores and history are kept in {}, see `findings`",
            kept.display()
        );
        return Err(error.context(format!("seed {}", plan.seed)));
    }
    done
}

/// The first line of each part of an error, the cause last: short enough to be the last line of a test's output.
#[must_use]
pub fn reason(error: &anyhow::Error) -> String {
    let parts = error.chain().map(|part| {
        let part = part.to_string();
        let line = part.lines().next().unwrap_or_default();
        format!("{line:.400}")
    });
    parts.collect::<Vec<_>>().join(": ")
}

fn write_history(directory: &Path, report: &Report) -> Result<()> {
    let lines = |all: Vec<String>| all.join("\n");
    let History {
        ops,
        held,
        disturbances,
        ..
    } = &report.history;
    for (name, text) in [
        (
            "history-ops",
            lines(ops.iter().map(|one| format!("{one:?}")).collect()),
        ),
        (
            "history-maps",
            lines(held.iter().map(|one| format!("{one:?}")).collect()),
        ),
        (
            "history-nemesis",
            lines(disturbances.iter().map(|one| format!("{one:?}")).collect()),
        ),
        (
            "findings",
            lines(report.found.iter().map(|one| format!("{one:?}")).collect()),
        ),
    ] {
        std::fs::write(directory.join(name), text)
            .with_context(|| format!("cannot write {name} in {}", directory.display()))?;
    }
    Ok(())
}

/// Samples of all maps so far.
#[derive(Debug)]
struct Samples {
    tracker: Tracker,
    taken: u64,
}

/// What a test has at hand while the run goes on.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The bench.
    pub field: &'a mut Field,
    /// What the checker is told of disturbances.
    pub journal: &'a Journal,
    /// What subscribers have met with.
    pub board: &'a Board,
    samples: &'a Mutex<Samples>,
}

impl Scene<'_> {
    /// Waits until every map has been read as often again, from the beginning.
    ///
    /// # Errors
    /// If that does not happen within [`PATIENCE`].
    pub fn more_samples(&self, rounds: u64) -> Result<()> {
        more_samples(self.samples, rounds)
    }
}

/// The round that is under way does not count.
fn more_samples(samples: &Mutex<Samples>, rounds: u64) -> Result<()> {
    let taken = || samples.lock().unwrap_or_else(PoisonError::into_inner).taken;
    let enough = taken() + rounds + 1;
    wait_until("more rounds of samples", PATIENCE, || {
        Ok((taken() >= enough).then_some(()))
    })
}

/// Runs the plan on this bench. `meanwhile` is done once everybody has had time to come up, before the nemesis.
///
/// # Errors
/// What could not be done; what is wrong stands in the report.
pub fn on(
    field: &mut Field,
    plan: &FieldPlan,
    meanwhile: impl FnOnce(&mut Scene<'_>) -> Result<()>,
) -> Result<Report> {
    let olts: Vec<OltAt> = (0..OLTS).collect();
    field.start_sidecars(&olts)?;
    let doors: Vec<Doors> = olts
        .iter()
        .map(|at| field.doors(*at))
        .collect::<Result<_>>()?;
    let maps: Vec<PathBuf> = field.hosts.iter().map(|host| host.map()).collect();
    let clients = field.clients()?;
    let (board, journal) = (Board::default(), Journal::default());
    let samples = Mutex::new(Samples {
        tracker: Tracker::default(),
        taken: 0,
    });
    let who = by_mac(plan.subscribers);
    let (stops, asked) = sync_channel(STOPS);
    let (told, stopped) = sync_channel(STOPS);
    let rate = (plan.seed, plan.per_second);
    let done = std::thread::scope(|scope| {
        let (board, journal, samples, clients) = (&board, &journal, &samples, &clients);
        let workload = Workload::new(doors, board, plan.subscribers, rate, stops, stopped);
        let workload = scope.spawn(move || workload.run());
        scope.spawn(move || operator(&asked, &told, clients));
        scope.spawn(move || sample(&maps, clients, (board, journal), samples));
        let finals = story(field, plan, (board, journal, samples), &who, meanwhile);
        board.stop.store(true, Ordering::Relaxed);
        let ops = workload
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the workload panicked")));
        finals.and_then(|finals| Ok((finals, ops?)))
    });
    let (finals, ops) = done?;
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    let effects = journal.effects();
    let (disturbances, seen) = journal.finish();
    let history = History {
        ops,
        held: samples.tracker.finish(),
        disturbances,
        seen,
    };
    let all = rights(&history, &who);
    let mut found = check(&history, Some(&finals), &who);
    if plan.troubles {
        found.extend(without_effect(&effects));
    }
    Ok(Report {
        doubtful: (all.iter().filter(|one| one.doubtful).count(), all.len()),
        found,
        history,
        samples: samples.taken,
        effects,
    })
}

type Told<'a> = (&'a Board, &'a Journal, &'a Mutex<Samples>);

/// Everything between the first and the last operation. Returns how all stands in the end.
fn story(
    field: &mut Field,
    plan: &FieldPlan,
    (board, journal, samples): Told<'_>,
    who: &BTreeMap<Mac, Who>,
    meanwhile: impl FnOnce(&mut Scene<'_>) -> Result<()>,
) -> Result<Finals> {
    wait_until("everybody has asked for an address", PATIENCE, || {
        Ok(board.up.load(Ordering::Relaxed).then_some(()))
    })?;
    journal.tell("subscribers are up");
    meanwhile(&mut Scene {
        field: &mut *field,
        journal,
        board,
        samples,
    })?;
    if plan.troubles {
        troubles(field, plan, board, journal)?;
        journal.tell("the nemesis rests");
    }
    for (at, host) in field.hosts.iter_mut().enumerate().take(OLTS) {
        host.wait("connected in the end", may_allocate)
            .with_context(|| format!("OLT {at}"))?;
    }
    board.resting.store(true, Ordering::Relaxed);
    settled(field)?;
    board.closing.store(true, Ordering::Relaxed);
    wait_until("everybody has asked once more", PATIENCE, || {
        Ok(board.closed.load(Ordering::Relaxed).then_some(()))
    })?;
    journal.tell("everybody has asked once more");
    settled(field)?;
    journal.tell("nothing waits for the centre");
    // What was asked back last is on its way still; and the maps are read once more.
    let end = Instant::now() + plan.last_wait;
    loop {
        more_samples(samples, 1)?;
        let finals = finals::read(field, OLTS)?;
        let held = samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tracker
            .clone()
            .finish();
        let history = History {
            held,
            disturbances: journal.disturbances(),
            ..History::default()
        };
        let found = check(&history, Some(&finals), who);
        if !found.iter().any(|one| one.rule == AT_THE_END) || Instant::now() >= end {
            return Ok(finals);
        }
        rest(Duration::from_secs(1))?;
    }
}

/// Waits until servers agree and sidecars have nothing that they do not know.
fn settled(field: &mut Field) -> Result<()> {
    let all: Vec<usize> = (0..SERVERS).collect();
    field.cluster.wait_converged(&all, PATIENCE)?;
    for host in field.hosts.iter_mut().take(OLTS) {
        host.wait("nothing waits for the centre", nothing_waits)?;
    }
    Ok(())
}

/// Both lanes of the hosts and that of the servers, side by side.
fn troubles(field: &mut Field, plan: &FieldPlan, board: &Board, journal: &Journal) -> Result<()> {
    let addresses = servers(&field.cluster)?;
    let directory = field.cluster.directory().to_owned();
    let clients = field.clients()?;
    let Field { hosts, cluster } = field;
    let (active, standby) = hosts.split_at_mut(OLTS);
    let [first_twin, second_twin] = standby else {
        bail!("the field has two hosts that stand by");
    };
    let mut hosts: Vec<_> = active.iter_mut().enumerate().collect();
    let upper = hosts.split_off(OLTS / 2);
    let lanes = [(hosts, first_twin), (upper, second_twin)];
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, (hosts, twin)) in lanes.into_iter().enumerate() {
            let lane = Lane {
                number,
                hosts,
                twin,
                journal,
                board,
                clients: clients.clone(),
                servers: addresses.clone(),
                directory: &directory,
            };
            threads.push(scope.spawn(move || lane.run(plan)));
        }
        threads.push(scope.spawn(move || super::servers::run(cluster, journal, plan)));
        let ended = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a nemesis panicked")))
        });
        ended.collect()
    });
    results.into_iter().collect()
}

/// Reads all maps again and again, and now and then what the servers' own audits say.
fn sample(
    maps: &[PathBuf],
    clients: &[Client],
    (board, journal): (&Board, &Journal),
    samples: &Mutex<Samples>,
) {
    for round in 0.. {
        if board.stop.load(Ordering::Relaxed) {
            return;
        }
        let began = Instant::now();
        for (olt, map) in maps.iter().enumerate() {
            // Not there before the first start.
            if let Ok((from, until, entries)) = read_map(map) {
                let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.tracker.sample(olt, from, until, &entries);
            }
        }
        samples.lock().unwrap_or_else(PoisonError::into_inner).taken += 1;
        if round % AUDITS == 0 {
            for client in clients {
                // One that is away does not answer; it is asked again in the end.
                let count = finals::duplicates(&client.clone().patience(Duration::from_secs(1)));
                if let Ok(count @ 1..) = count {
                    journal.wrong(format!("a server counts {count} duplicate allocations"));
                }
            }
        }
        std::thread::sleep(SAMPLES.saturating_sub(began.elapsed()));
    }
}
