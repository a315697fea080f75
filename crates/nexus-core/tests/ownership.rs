//! Every life of two small hosts and a centre: the real machine of the edge and the real shard table, and a model
//! checker that tries all orders of messages, crashes, ends of leases and statements of operators, as many of
//! each as a budget allows. Clocks run as wrong as the rules allow: those of hosts slow, cluster time fast.
//!
//! `NEXUS_MODEL=deep` goes further than CI does (`cargo xtask simulate --ownership --model`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "ownership/bug.rs"]
mod bug;
#[path = "ownership/centre.rs"]
mod centre;
#[path = "ownership/check.rs"]
mod check;
#[path = "ownership/host.rs"]
mod host;
#[path = "ownership/step.rs"]
mod step;
#[path = "ownership/world.rs"]
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use bug::Bug;
use step::Step;
use world::{Budget, World};

/// A counterexample of it is a failure.
const ALWAYS: &str = "one holder, nothing lost";

type Condition = fn(&Search, &World) -> bool;

/// Where a search begins, and how far it goes.
#[derive(Clone)]
struct Search {
    budget: Budget,
    /// What has happened before, from the moment at which all were registered.
    before: Vec<Step>,
    bug: Option<Bug>,
    /// What some life must get to: else the search proves nothing.
    reaches: Vec<(&'static str, Condition)>,
}

impl Model for Search {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        // Nothing goes wrong before the search begins.
        let mut world = World::new();
        for step in &self.before {
            world = step::next(&world, step).unwrap();
        }
        assert_eq!(world.fault, None);
        world.left = Budget {
            either: deep(),
            ..self.budget
        };
        world.bug = self.bug;
        world.seal();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        step::steps(world, actions);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        step::next(world, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let holds = |_: &Self, world: &World| world.fault.is_none();
        let mut all = vec![Property::always(ALWAYS, holds)];
        let reaches = self.reaches.iter();
        all.extend(reaches.map(|(name, condition)| Property::sometimes(name, *condition)));
        all
    }
}

impl Search {
    fn of(budget: Budget) -> Self {
        Self {
            budget,
            before: Vec::new(),
            bug: None,
            reaches: Vec::new(),
        }
    }

    fn after(mut self, before: &[Step]) -> Self {
        self.before = before.to_vec();
        self
    }

    fn reaches(mut self, name: &'static str, condition: Condition) -> Self {
        self.reaches.push((name, condition));
        self
    }

    /// Tries everything; says how much that was.
    fn holds(self, name: &str) {
        let checker = self.check(name);
        checker.assert_properties();
    }

    /// Sees that a planted bug is found; prints how it comes about.
    fn finds(mut self, bug: Bug) {
        self.bug = Some(bug);
        self.reaches.clear();
        let checker = self.check(&format!("{bug:?}"));
        let Some(path) = checker.discovery(ALWAYS) else {
            panic!("{bug:?} breaks nothing");
        };
        for step in self.before.iter().chain(&path.clone().into_actions()) {
            println!("    {step:?}");
        }
        println!("    {}", path.last_state().fault.clone().unwrap());
    }

    fn check(&self, name: &str) -> impl Checker<Self> + use<> {
        let began = Instant::now();
        let checker = self.clone().checker();
        let checker = checker
            .threads(if deep() { 2 } else { 1 })
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        println!(
            "{name}: {} steps to {} different states, at most {} deep, {:.1} s",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth(),
            began.elapsed().as_secs_f64()
        );
        checker
    }
}

/// Whether to go further than CI does: minutes, and gigabytes of memory.
fn deep() -> bool {
    std::env::var("NEXUS_MODEL").is_ok_and(|how| how == "deep")
}

const NOTHING: Budget = Budget {
    authorizes: 0,
    ends: 0,
    beats: 0,
    waits: 0,
    lapses: 0,
    copies: 0,
    losses: 0,
    restarts: 0,
    reboots: 0,
    lost_disks: 0,
    old_disks: 0,
    drains: 0,
    fences: 0,
    hangs: 0,
    either: false,
};

/// A lease ends, and whoever gets the shard gives what it can.
const LAPSE: Budget = Budget {
    authorizes: 1,
    lapses: 1,
    ..NOTHING
};

/// The first subscriber comes up on the first host.
const FIRST: Step = Step::Authorize { host: 0, sub: 0 };
/// It is recorded, and the host knows.
const RECORDED: [Step; 2] = [FIRST, Step::Rest];
/// Its shard is asked back, which the host knows.
const DRAINING: [Step; 3] = [FIRST, Step::Drain(0), Step::Configure(0)];

fn moved(_: &Search, world: &World) -> bool {
    world.moved > 0
}

fn healed(_: &Search, world: &World) -> bool {
    world.healed > 0
}

/// One more of what a budget has, in the larger searches.
fn more(of: u8) -> u8 {
    of + u8::from(deep())
}

#[test]
fn nobody_meets_when_a_lease_ends_and_its_shard_moves() {
    let budget = Budget {
        authorizes: more(1),
        beats: more(0),
        waits: more(0),
        ..LAPSE
    };
    Search::of(budget)
        .after(&[FIRST, Step::Beat(0)])
        .reaches("a shard has moved", moved)
        .holds("a lease ends");
    Search::of(Budget { beats: 1, ..budget })
        .after(&RECORDED)
        .reaches("a shard has moved", moved)
        .holds("a lease ends after an acknowledgement");
}

#[test]
fn late_lost_and_repeated_commands_change_nothing() {
    let copied = Budget {
        authorizes: 1,
        ends: 1,
        copies: 1,
        ..NOTHING
    };
    Search::of(copied)
        .after(&[FIRST])
        .holds("repeated commands");
    Search::of(Budget { copies: 1, ..LAPSE })
        .after(&[FIRST])
        .reaches("a shard has moved", moved)
        .holds("repeated and late commands");
    let lost = Budget {
        losses: 1,
        waits: more(0),
        ..LAPSE
    };
    Search::of(lost)
        .after(&[FIRST])
        .reaches("a shard has moved", moved)
        .holds("lost commands");
}

#[test]
fn a_host_that_stops_or_starts_again_goes_on_as_it_may() {
    let budget = Budget {
        ends: more(0),
        ..LAPSE
    };
    let once = |what, one: Budget| {
        let first = Budget {
            authorizes: more(0),
            ..one
        };
        Search::of(first)
            .after(&[FIRST])
            .holds(&format!("a host {what}"));
        Search::of(one)
            .after(&RECORDED)
            .holds(&format!("a host {what} after an acknowledgement"));
    };
    once(
        "restarts",
        Budget {
            restarts: 1,
            ..budget
        },
    );
    once(
        "reboots",
        Budget {
            reboots: 1,
            ..budget
        },
    );
    once("hangs", Budget { hangs: 1, ..budget });
}

#[test]
fn a_host_whose_disk_was_lost_gives_nothing_that_it_gave_before() {
    let budget = Budget {
        authorizes: more(1),
        lost_disks: 1,
        ..LAPSE
    };
    Search::of(budget)
        .after(&[FIRST])
        .holds("a lost disk, while a command is on its way");
    Search::of(budget)
        .after(&RECORDED)
        .reaches("a shard has moved", moved)
        .holds("a lost disk after an acknowledgement");
}

#[test]
fn a_host_that_starts_from_an_old_disk_is_found_out_and_put_right() {
    let budget = Budget {
        old_disks: 1,
        ends: more(0),
        ..LAPSE
    };
    Search::of(budget)
        .after(&[Step::Copy(0), FIRST, Step::Rest])
        .reaches("an old disk was found out", healed)
        .holds("an old disk without a binding");
    Search::of(budget)
        .after(&[FIRST, Step::Copy(0), Step::Rest])
        .reaches("an old disk was found out", healed)
        .holds("an old disk with a binding that was not acknowledged");
}

#[test]
fn a_draining_host_gives_back_only_what_nobody_uses() {
    let budget = Budget {
        authorizes: 1,
        beats: 2,
        waits: 1,
        ..NOTHING
    };
    Search::of(Budget {
        ends: 1,
        beats: more(1),
        waits: more(0),
        ..budget
    })
    .after(&DRAINING)
    .holds("a drain while a command is on its way");
    let mut before = DRAINING.to_vec();
    before.push(Step::End { host: 0, sub: 0 });
    for _ in 0..6 {
        before.extend([Step::Rest, Step::Wait, Step::Wait]);
    }
    Search::of(budget)
        .after(&before)
        .reaches("the heir has the shard", |_, world| {
            world.centre.shards_of(&world.hosts[1].olt).len() == 2
        })
        .holds("a drain while an address rests");
}

#[test]
fn a_host_that_is_dead_as_stated_has_heirs_at_once() {
    let budget = Budget {
        authorizes: 2,
        fences: 1,
        ..NOTHING
    };
    Search::of(budget).after(&[FIRST]).holds("a fence");
}

#[test]
fn a_subscriber_that_moves_gets_another_address_before_the_old_one_ends() {
    let budget = Budget {
        authorizes: 2,
        ends: 1,
        copies: more(0),
        ..NOTHING
    };
    Search::of(budget).after(&RECORDED).holds("roaming");
}

#[test]
fn a_lease_that_is_counted_from_receipt_is_found() {
    Search::of(Budget { waits: 1, ..LAPSE })
        .after(&[FIRST, Step::Beat(0)])
        .finds(Bug::CountsFromReceipt);
}

#[test]
fn a_lease_that_is_counted_in_full_is_found() {
    Search::of(LAPSE)
        .after(&[FIRST, Step::Wait, Step::Beat(0)])
        .finds(Bug::NoDriftMargin);
}

#[test]
fn an_unacknowledged_binding_that_outlives_the_lease_is_found() {
    Search::of(Budget {
        authorizes: 2,
        ..LAPSE
    })
    .finds(Bug::UnackedHasNoEnd);
}

#[test]
fn a_release_without_sequence_is_found() {
    let budget = Budget {
        authorizes: 2,
        ends: 1,
        copies: 1,
        ..NOTHING
    };
    Search::of(budget).finds(Bug::ReleaseWithoutSequence);
}

#[test]
fn a_claim_that_is_taken_under_whatever_epoch_is_found() {
    // The late claim itself is not believed by who made it; but the record then is its, and so is the release.
    Search::of(Budget { ends: 1, ..LAPSE })
        .after(&[FIRST])
        .finds(Bug::NoEpochCheck);
}

#[test]
fn an_heir_that_does_not_wait_for_the_records_is_found() {
    Search::of(LAPSE)
        .after(&RECORDED)
        .finds(Bug::NoWaitForRecords);
}

#[test]
fn a_host_that_does_not_wait_for_the_records_after_amnesia_is_found() {
    let mut before = RECORDED.to_vec();
    before.push(Step::LoseDisk(0));
    before.extend((0..6).map(|_| Step::Wait));
    before.extend([
        Step::Register(0),
        Step::Rest,
        Step::Wait,
        Step::Rest,
        Step::Wait,
        Step::Rest,
    ]);
    before.push(Step::Wait);
    let budget = Budget {
        authorizes: 1,
        ..NOTHING
    };
    Search::of(budget)
        .after(&before)
        .finds(Bug::NoWaitForRecords);
}

#[test]
fn a_shard_that_moves_before_the_lease_ends_is_found() {
    Search::of(Budget {
        authorizes: 2,
        ..LAPSE
    })
    .finds(Bug::MovedBeforeLeaseEnd);
}

#[test]
fn a_shard_that_is_given_back_while_something_rests_is_found() {
    let budget = Budget {
        authorizes: 1,
        ends: 1,
        beats: 1,
        ..NOTHING
    };
    Search::of(budget)
        .after(&DRAINING)
        .finds(Bug::GivesBackWhileResting);
}

#[test]
fn a_rollback_that_nobody_notices_is_found() {
    let budget = Budget {
        authorizes: 1,
        old_disks: 1,
        ..NOTHING
    };
    Search::of(budget)
        .after(&[Step::Copy(0), FIRST, Step::Rest])
        .finds(Bug::RollbackUnnoticed);
}

#[test]
fn an_answer_before_it_is_durable_is_found() {
    let budget = Budget {
        authorizes: 1,
        restarts: 1,
        ..NOTHING
    };
    Search::of(budget).finds(Bug::AnswersBeforeDurable);
}
