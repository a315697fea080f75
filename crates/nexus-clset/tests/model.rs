//! Every life of a small cluster: the real replicas, and a model checker that tries all orders of writes,
//! messages, crashes, rounds of collection and changes of membership, as many of each as a budget allows.
//!
//! `NEXUS_MODEL=deep` goes further than CI does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "model/node.rs"]
mod node;
#[path = "model/properties.rs"]
mod properties;
#[path = "model/state.rs"]
mod state;
#[path = "model/step.rs"]
mod step;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use state::{Budget, Bug, State};
use step::{Answer, Step};

/// Properties of which a counterexample is a failure.
const ALWAYS: [(&str, Condition); 7] = [
    ("no fault", |_, state| properties::no_fault(state)),
    ("no resurrection", |_, state| {
        properties::no_resurrection(state)
    }),
    ("collected is seen", |_, state| {
        properties::collected_is_seen(state)
    }),
    ("seen is held", |_, state| properties::seen_is_held(state)),
    ("nothing accepted is lost", |_, state| {
        properties::nothing_accepted_is_lost(state)
    }),
    ("equal knowledge is equal state", |_, state| {
        properties::equal_knowledge_is_equal_state(state)
    }),
    ("floor is above collected", |_, state| {
        properties::floor_is_above_collected(state)
    }),
];

type Condition = fn(&Cluster, &State) -> bool;

/// Where a search begins, and how far it goes.
#[derive(Clone)]
struct Cluster {
    members: usize,
    budget: Budget,
    /// What has happened before.
    before: Vec<Step>,
    bug: Option<Bug>,
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let start = State::new(self.members, self.budget);
        let state = self.before.iter().fold(start, |state, step| {
            step::next(&state, step, self.bug).unwrap()
        });
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        step::steps(state, self.bug, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        step::next(state, &step, self.bug)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all: Vec<_> = ALWAYS
            .into_iter()
            .map(|(name, condition)| Property::always(name, condition))
            .collect();
        // A check that never gets to what it is about proves nothing.
        all.push(Property::sometimes("collected and removed", |_, state| {
            properties::collected_and_removed(state)
        }));
        if self.budget.crashes > 0 {
            all.push(Property::sometimes("a writer is forgotten", |_, state| {
                properties::forgotten(state)
            }));
        }
        if self.budget.writes > 2 {
            all.push(Property::sometimes("put again", |_, state| {
                properties::put_again(state)
            }));
        }
        if self.budget.joins + self.budget.evictions + self.budget.wipes > 0 {
            all.push(Property::sometimes("a newcomer completes", |_, state| {
                properties::newcomer_completes(state)
            }));
        }
        all
    }
}

impl Cluster {
    fn of(members: usize, budget: Budget) -> Self {
        Self {
            members,
            budget,
            before: Vec::new(),
            bug: None,
        }
    }

    fn after(mut self, before: &[Step]) -> Self {
        self.before = before.to_vec();
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
        let checker = self.check(&format!("{bug:?}"));
        let found = checker
            .discoveries()
            .into_iter()
            .filter(|(name, _)| ALWAYS.iter().any(|(always, _)| name == always))
            .min_by_key(|(name, path)| (path.clone().into_actions().len(), *name));
        let Some((property, path)) = found else {
            panic!("{bug:?} breaks nothing");
        };
        println!("  breaks \"{property}\":");
        for step in self.before.iter().chain(&path.clone().into_actions()) {
            println!("    {step:?}");
        }
        if let Some(fault) = &path.last_state().fault {
            println!("    {fault}");
        }
    }

    fn check(&self, name: &str) -> impl Checker<Self> + use<> {
        let began = Instant::now();
        let checker = self.clone().checker();
        let checker = checker
            .threads(threads())
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

/// In CI tests run beside each other; one thread also makes what is found the shortest there is.
fn threads() -> usize {
    if deep() { 2 } else { 1 }
}

/// No trouble but that of the network.
const CALM: Budget = Budget {
    keys: 1,
    writes: 2,
    crashes: 0,
    wipes: 0,
    evictions: 0,
    joins: 0,
    partial_pulls: 0,
    late_answers: 0,
};

/// The first member puts a key and deletes it.
const DELETED: [Step; 2] = [
    Step::Put { node: 0, key: b"a" },
    Step::Delete { node: 0, key: b"a" },
];

fn budget(writes: u8, more: Budget) -> Budget {
    Budget { writes, ..more }
}

#[test]
fn deleted_keys_stay_deleted_whatever_is_lost_repeated_or_reordered() {
    Cluster::of(3, CALM).holds("three members, two writes");
    Cluster::of(2, budget(3, CALM)).holds("two members, three writes");
    if deep() {
        Cluster::of(2, budget(4, CALM)).holds("two members, four writes");
        Cluster::of(3, budget(3, CALM)).holds("three members, three writes");
    }
}

#[test]
fn tombstones_of_several_keys_are_collected_together() {
    let two = Budget { keys: 2, ..CALM };
    Cluster::of(2, budget(3, two)).holds("two keys, three writes");
    if deep() {
        Cluster::of(2, budget(4, two)).holds("two keys, four writes");
    }
}

#[test]
fn a_crash_that_loses_the_tail_of_the_writes_brings_nothing_back() {
    let crash = Budget { crashes: 1, ..CALM };
    Cluster::of(2, crash).holds("a crash, two writes");
    if deep() {
        Cluster::of(2, budget(2, Budget { crashes: 2, ..CALM })).holds("two crashes, two writes");
        Cluster::of(2, budget(3, crash)).holds("a crash, three writes");
        Cluster::of(3, crash).holds("three members, a crash, two writes");
    }
}

#[test]
fn an_evicted_member_comes_back_and_nothing_with_it() {
    let evict = Budget {
        evictions: 1,
        ..CALM
    };
    Cluster::of(2, evict).holds("an eviction, two writes");
    let before = [&DELETED[..], &[Step::Evict(2), Step::Learn(0)]].concat();
    let told = Step::Pull {
        from: 0,
        to: 1,
        answer: Answer::Whole,
    };
    Cluster::of(3, evict)
        .after(&[&before[..], &[told]].concat())
        .holds("an eviction of three members, after a deletion");
    if deep() {
        Cluster::of(2, budget(3, evict)).holds("an eviction, three writes");
        Cluster::of(3, budget(3, evict))
            .after(&before)
            .holds("an eviction of three members, after a deletion, and one write");
        let both = Budget {
            crashes: 1,
            ..evict
        };
        Cluster::of(2, both).holds("an eviction and a crash, two writes");
    }
}

#[test]
fn a_newcomer_gets_nothing_that_was_deleted() {
    let join = Budget { joins: 1, ..CALM };
    Cluster::of(1, budget(3, join)).holds("a newcomer to one member, three writes");
    let before = [&DELETED[..], &[Step::Join(2)]].concat();
    Cluster::of(2, join)
        .after(&before)
        .holds("a newcomer to two members, after a deletion");
    if deep() {
        Cluster::of(2, join).holds("a newcomer to two members, two writes");
        Cluster::of(2, budget(3, join))
            .after(&before)
            .holds("a newcomer to two members, after a deletion, and one write");
    }
}

#[test]
fn a_lost_disk_brings_nothing_back() {
    let wipe = Budget { wipes: 1, ..CALM };
    Cluster::of(2, wipe).holds("a lost disk, two writes");
    if deep() {
        Cluster::of(2, budget(3, wipe)).holds("a lost disk, three writes");
        Cluster::of(3, wipe)
            .after(&DELETED)
            .holds("a lost disk of three, after a deletion");
    }
}

#[test]
fn answers_that_are_cut_off_late_or_repeated_claim_nothing_that_is_not_there() {
    let odd = Budget {
        partial_pulls: 1,
        late_answers: 1,
        ..CALM
    };
    Cluster::of(2, odd).holds("odd answers, two writes");
    if deep() {
        Cluster::of(2, budget(3, odd)).holds("odd answers, three writes");
        let crash = Budget { crashes: 1, ..odd };
        Cluster::of(2, crash).holds("odd answers and a crash, two writes");
        Cluster::of(3, odd)
            .after(&DELETED)
            .holds("odd answers of three members");
    }
}

#[test]
fn collecting_what_all_have_without_a_barrier_is_found() {
    Cluster::of(3, CALM).finds(Bug::CollectsWithoutBarrier);
}

#[test]
fn collecting_by_age_alone_is_found() {
    Cluster::of(3, CALM).finds(Bug::CollectsByAge);
}

#[test]
fn an_evicted_member_that_returns_without_wiping_is_found() {
    Cluster::of(
        2,
        Budget {
            evictions: 1,
            ..CALM
        },
    )
    .finds(Bug::ReturnsWithoutWiping);
}

#[test]
fn an_evicted_member_that_wipes_only_if_it_was_left_behind_is_found() {
    Cluster::of(
        2,
        Budget {
            evictions: 1,
            ..CALM
        },
    )
    .finds(Bug::ReturnsUnlessLeftBehind);
}

#[test]
fn a_floor_that_is_not_carried_is_found() {
    Cluster::of(2, Budget { joins: 1, ..CALM }).finds(Bug::FloorNotCarried);
}

#[test]
fn an_incarnation_that_is_used_again_after_a_lost_tail_is_found() {
    Cluster::of(2, Budget { crashes: 1, ..CALM }).finds(Bug::IncarnationReused);
}

#[test]
fn a_word_given_before_it_is_durable_is_found() {
    Cluster::of(2, Budget { crashes: 1, ..CALM }).finds(Bug::SpeaksBeforeDurable);
}

#[test]
fn a_lost_disk_that_keeps_its_place_is_found() {
    Cluster::of(2, Budget { wipes: 1, ..CALM }).finds(Bug::LostDiskKeepsItsPlace);
}

#[test]
fn words_of_members_that_know_other_members_are_found_to_count() {
    let evict = Budget {
        evictions: 1,
        ..CALM
    };
    Cluster::of(3, budget(3, evict))
        .after(&[&DELETED[..], &[Step::Evict(2), Step::Learn(0)]].concat())
        .finds(Bug::MembershipIgnored);
    let join = Budget { joins: 1, ..CALM };
    Cluster::of(2, join)
        .after(&[&DELETED[..], &[Step::Join(2)]].concat())
        .finds(Bug::MembershipIgnored);
}
