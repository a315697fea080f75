//! A simulation of several OLT hosts, servers that allocate, and a grantor whose leaders change: clocks drift
//! by up to 1%, messages are lost, doubled, delayed for hours and overtake each other, everybody restarts,
//! stores are lost.
//!
//! After each event a checker that sees true time asks every host what it believes. Hosts behave as
//! the protocol demands, or break one rule on purpose, to prove that the checker would notice.

mod central;
mod grantor;
mod host;
mod world;

use world::World;

/// A rule that somebody breaks on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// The lease is counted from the receipt of the answer.
    CountsFromReceipt,
    /// The lease is counted in full, as if clocks did not drift.
    NoDriftMargin,
    /// Renewals pretend to know the newest configuration.
    HidesItsRevision,
    /// A shard that was given back is taken from an old configuration again.
    ForgetsWhatItGaveBack,
    /// A new leader stamps with its own boot time, so that cluster time jumps.
    LeaderCountsFromItsOwnBoot,
    /// A server takes a grant of a unit for good however late it hears of it.
    BelievesLateAnswers,
    /// A server frees what nobody has on record although its answer may be on its way.
    SweepsAtOnce,
}

/// Runs one world; the error says which two hosts believed in one shard, and when.
fn run(seed: u64, bug: Bug, events: u32) -> Result<World, String> {
    let mut world = World::new(seed, bug);
    for _ in 0..events {
        world.step();
        world.check().map_err(|why| format!("seed {seed}: {why}"))?;
    }
    Ok(world)
}

/// How many worlds: `NEXUS_SIM_SEEDS`, or few enough for every run.
fn seeds() -> u64 {
    let given = std::env::var("NEXUS_SIM_SEEDS").ok();
    given.map_or(120, |text| text.parse().unwrap())
}

fn first_violation(bug: Bug) -> Option<String> {
    (0..400).find_map(|seed| run(seed, bug, 3000).err())
}

#[test]
fn no_two_sessions_ever_believe_that_they_may_allocate_from_one_shard() {
    let mut moved = 0;
    let mut ended = 0;
    let mut restarts = 0;
    let mut leaders = 0;
    let (mut granted, mut freed) = (0, 0);
    for seed in 0..seeds() {
        let world = run(seed, Bug::None, 3000).unwrap_or_else(|why| panic!("{why}"));
        moved += world.moved;
        ended += world.leases_ended;
        restarts += world.grantor_restarts;
        leaders += world.leader_changes;
        granted += world.units_granted;
        freed += world.units_freed;
    }
    // A run in which nothing happens would prove nothing.
    assert!(
        moved > 2000 && ended > 200 && restarts > 200,
        "{moved} {ended} {restarts}"
    );
    assert!(
        leaders > 200 && granted > 2000 && freed > 2000,
        "{leaders} {granted} {freed}"
    );
}

#[test]
fn the_checker_notices_a_lease_that_is_counted_from_receipt() {
    assert!(first_violation(Bug::CountsFromReceipt).is_some());
}

#[test]
fn the_checker_notices_a_missing_drift_margin() {
    assert!(first_violation(Bug::NoDriftMargin).is_some());
}

#[test]
fn the_checker_notices_a_renewal_under_an_old_configuration() {
    assert!(first_violation(Bug::HidesItsRevision).is_some());
}

#[test]
fn the_checker_notices_a_host_that_forgets_what_it_gave_back() {
    assert!(first_violation(Bug::ForgetsWhatItGaveBack).is_some());
}

#[test]
fn the_checker_notices_a_leader_that_does_not_go_on_from_the_newest_stamp() {
    assert!(first_violation(Bug::LeaderCountsFromItsOwnBoot).is_some());
}

#[test]
fn the_checker_notices_a_server_that_believes_an_answer_that_comes_too_late() {
    assert!(first_violation(Bug::BelievesLateAnswers).is_some());
}

#[test]
fn the_checker_notices_a_server_that_frees_what_may_just_have_been_granted() {
    assert!(first_violation(Bug::SweepsAtOnce).is_some());
}
