//! Servers that have recorded one resource for two subscribers before they heard of each other: what the audit says, and
//! until when; and what only looks like it.

use nexus_clset::{Digest, Input, Member, NodeId, Output};
use nexus_core::cluster::MemberCommand;

use super::claims::member;
use super::*;
use crate::allocation::tests::example;
use crate::centre::audit::{Duplicate, DuplicateKind};

const HERE: NodeId = NodeId(7);

/// Another server's replica, and what it says to this one.
struct Other {
    node: NodeId,
    memory: Memory,
    replica: Replica,
    outputs: Vec<Output>,
}

/// This server and two others, of which each alone is a majority with this one. All have the same.
fn three() -> (Bench, [Other; 2]) {
    let mut bench = Bench::new();
    bench.centre.found().unwrap();
    bench.settle();
    let join = |number| MemberCommand::Join {
        node: member(number),
        admit: true,
        replace: false,
    };
    let caught_up = |number| MemberCommand::CaughtUp { number };
    for command in [
        MemberCommand::Found(member(HERE.0)),
        join(8),
        join(9),
        caught_up(8),
        caught_up(9),
    ] {
        let command = ClusterCommand::from(command).encode().unwrap();
        let at = ClusterTime(bench.now.boot.0);
        let outcome = bench.centre.decided(&bench.now, at, &command).unwrap();
        decode_outcome(&outcome).unwrap().unwrap();
        bench.settle();
    }
    let mut others = [8, 9].map(|number| Other::new(&bench, number));
    for other in &mut others {
        other.meet(&mut bench);
    }
    (bench, others)
}

impl Other {
    fn new(bench: &Bench, number: u32) -> Self {
        let memory = Memory::default();
        let rows = Arc::new(memory.clone());
        let options = nexus_clset::Options::default();
        let (replica, (ticket, rows)) = Replica::open(rows, number, options, &bench.now).unwrap();
        let mut other = Self {
            node: NodeId(number),
            memory,
            replica,
            outputs: Vec::new(),
        };
        other.write(&bench.now, ticket, rows);
        let all = bench.centre.members();
        let members: Vec<Member> = all
            .iter()
            .map(|member| Member {
                node: NodeId(member.node.number),
                admitted: member.admitted,
            })
            .collect();
        let epoch = all.revision();
        let members = Input::Members {
            epoch,
            members: &members,
        };
        other.step(&bench.now, members);
        other
    }

    fn write(&mut self, now: &Now, ticket: nexus_clset::Ticket, rows: Vec<effects::Write>) {
        let mut on_disk = self.memory.0.lock().unwrap();
        for row in rows {
            match row.value {
                Some(value) => on_disk.insert((row.kind.0, row.key), value),
                None => on_disk.remove(&(row.kind.0, row.key)),
            };
        }
        drop(on_disk);
        self.replica.settle(ticket);
        self.step(now, Input::Durable(ticket));
        while let Some(delta) = self.replica.next_durable() {
            self.step(now, Input::Wrote(delta));
        }
    }

    fn step(&mut self, now: &Now, input: Input<'_>) {
        for output in self.replica.step(now, input).unwrap() {
            match output {
                Output::Write(change) => {
                    let (ticket, rows) = self.replica.written(change);
                    self.write(now, ticket, rows);
                }
                other => self.outputs.push(other),
            }
        }
    }

    fn put(&mut self, now: &Now, allocation: &Allocation) {
        let fence = Fence {
            epoch: allocation.epoch.0,
            seq: allocation.seq.0,
        };
        let (key, value) = (allocation.place.key(), allocation.encode());
        let (ticket, rows) = self.replica.put(now, &key, fence, &value).unwrap();
        self.write(now, ticket, rows);
    }

    fn forget(&mut self, now: &Now, place: &Place) {
        let (ticket, rows) = self.replica.delete(now, &place.key()).unwrap();
        self.write(now, ticket, rows);
    }

    /// The two reach each other for a while; what was said before is lost. Both have the same then.
    fn meet(&mut self, bench: &mut Bench) {
        bench.outputs.clear();
        self.outputs.clear();
        self.step(&bench.now, Input::Up(HERE));
        bench.hear(Heard::Up(self.node));
        for _ in 0..200 {
            bench.now.boot = bench.now.boot.saturating_add(Duration::from_millis(100));
            bench.hear(Heard::Tick);
            self.step(&bench.now, Input::Tick);
            while !bench.outputs.is_empty() || !self.outputs.is_empty() {
                for output in std::mem::take(&mut bench.outputs) {
                    self.take(&bench.now, output);
                }
                for output in std::mem::take(&mut self.outputs) {
                    bench.take(self.node, output);
                }
            }
        }
        self.step(&bench.now, Input::Down(HERE));
        bench.hear(Heard::Down(self.node));
        let seen = |replica: &Replica| Digest::decode(&replica.digest()).unwrap().seen;
        assert!(self.replica.has_seen(&seen(&bench.centre.replica)));
        assert!(bench.centre.replica.has_seen(&seen(&self.replica)));
    }

    fn take(&mut self, now: &Now, output: Output) {
        let from = HERE;
        match &output {
            Output::Publish(bytes) => self.step(now, Input::Gossip { from, bytes }),
            Output::Ask { to, id, bytes } if *to == self.node => {
                let id = *id;
                self.step(now, Input::Question { from, id, bytes });
            }
            Output::Answer { id, bytes } => {
                let id = *id;
                self.step(now, Input::Answer { from, id, bytes });
            }
            Output::Ask { .. } | Output::Report(_) => {}
            Output::Write(_) | Output::Misbehaved { .. } => panic!("{output:?}"),
        }
    }
}

impl Bench {
    fn hear(&mut self, heard: Heard) {
        let now = self.now;
        self.centre.hear(&now, heard);
        self.settle();
    }

    fn take(&mut self, from: NodeId, output: Output) {
        match output {
            Output::Publish(bytes) => self.hear(Heard::Gossip { from, bytes }),
            Output::Ask { id, bytes, .. } => self.hear(Heard::Question { from, id, bytes }),
            Output::Answer { id, bytes } => self.hear(Heard::Answer { from, id, bytes }),
            Output::Report(_) => {}
            Output::Write(_) | Output::Misbehaved { .. } => panic!("{output:?}"),
        }
    }

    fn duplicates(&self) -> Vec<Duplicate> {
        let found = self.centre.audit().duplicates;
        assert_eq!(self.centre.gauges("core").duplicates, found.len());
        found
    }

    /// What a claim of `olt-1` for `sub-1` has become on record here.
    fn claimed(&mut self) -> (Claim, Allocation) {
        let first = self.register("olt-1", "s-1");
        self.register("olt-2", "s-2");
        let claim = claim_of(&first, 1, 9, 1);
        let recorded = self.claim(claim.clone()).unwrap().0;
        (claim, (*recorded).clone())
    }
}

/// The same resource as another server has recorded it, for `sub-2` on `olt-2`.
fn elsewhere(known: &Allocation, epochs_later: u64) -> Allocation {
    Allocation {
        subscriber: subscriber(2),
        olt: olt("olt-2"),
        session: Some(SessionId::new("s-2").unwrap()),
        epoch: Epoch(known.epoch.0 + epochs_later),
        seq: Seq(known.seq.0 + 1),
        ..known.clone()
    }
}

fn displaced(known: &Allocation) -> Duplicate {
    Duplicate {
        place: known.place.clone(),
        kind: DuplicateKind::Displaced,
        holders: [("sub-2", "olt-2"), ("sub-1", "olt-1")]
            .map(|(who, olt)| (who.to_owned(), olt.to_owned()))
            .to_vec(),
    }
}

#[test]
fn who_was_displaced_by_a_claim_under_the_same_epoch_counts_until_its_olt_has_released_it() {
    let (mut bench, [mut other, _]) = three();
    let (claim, known) = bench.claimed();
    other.put(&bench.now, &elsewhere(&known, 0));
    assert_eq!(bench.duplicates(), []);
    bench.events.clear();
    other.meet(&mut bench);
    assert_eq!(bench.all(), [elsewhere(&known, 0)]);
    assert_eq!(bench.duplicates(), [displaced(&known)]);
    let told = bench.events.iter().any(|event| {
        matches!(event, Event::Allocation(to, change)
            if *to == olt("olt-1") && change.kind == ChangeKind::Deleted
                && change.allocation.as_deref() == Some(&known))
    });
    assert!(told, "{:?}", bench.events);
    assert!(matches!(
        bench.claim(Claim {
            seq: Seq(2),
            ..claim.clone()
        }),
        Err(Refused::ResourceTaken { .. })
    ));
    assert_eq!(bench.duplicates(), [displaced(&known)]);
    bench.release(release_of(&claim, 3)).unwrap();
    assert_eq!(bench.duplicates(), []);
}

#[test]
fn who_was_displaced_counts_until_a_lease_has_ended_and_its_host_was_heard_again() {
    let (mut bench, [mut other, _]) = three();
    let (_, known) = bench.claimed();
    other.put(&bench.now, &elsewhere(&known, 0));
    other.meet(&mut bench);
    bench.register("olt-1", "s-1");
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.duplicates(), [displaced(&known)], "the lease runs");
    bench.pass(Duration::from_secs(3700));
    assert_eq!(bench.duplicates(), []);
}

#[test]
fn who_was_displaced_and_is_not_heard_again_counts_until_its_host_is_fenced() {
    let (mut bench, [mut other, _]) = three();
    let (_, known) = bench.claimed();
    bench.pass(Duration::from_secs(1));
    other.put(&bench.now, &elsewhere(&known, 0));
    other.meet(&mut bench);
    bench.pass(Duration::from_secs(2 * 3600));
    assert_eq!(bench.duplicates(), [displaced(&known)]);
    let fence = Command::Fence {
        olt: olt("olt-1"),
        reason: "burnt".into(),
    };
    bench.decide(fence).unwrap();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.duplicates(), []);
}

#[test]
fn who_was_displaced_counts_against_whoever_holds_it_and_not_while_nobody_does() {
    let (mut bench, [mut other, _]) = three();
    let (_, known) = bench.claimed();
    let after = elsewhere(&known, 0);
    other.put(&bench.now, &after);
    other.meet(&mut bench);
    let released = Allocation {
        state: AllocationState::Released,
        seq: Seq(7),
        ..after.clone()
    };
    other.put(&bench.now, &released);
    other.meet(&mut bench);
    assert_eq!(bench.duplicates(), []);
    other.put(
        &bench.now,
        &Allocation {
            seq: Seq(8),
            ..after
        },
    );
    other.meet(&mut bench);
    assert_eq!(bench.duplicates(), [displaced(&known)]);
}

#[test]
fn a_claim_of_a_newer_epoch_that_a_server_took_without_knowing_what_a_majority_has_is_counted() {
    let (mut bench, [mut other, mut third]) = three();
    let (_, known) = bench.claimed();
    third.meet(&mut bench);
    other.put(&bench.now, &elsewhere(&known, 1));
    other.meet(&mut bench);
    assert_eq!(bench.duplicates(), [displaced(&known)]);
}

#[test]
fn what_no_majority_had_before_its_shard_moved_has_ended_with_its_lease() {
    let (mut bench, [mut other, _]) = three();
    let (_, known) = bench.claimed();
    other.put(&bench.now, &elsewhere(&known, 1));
    other.meet(&mut bench);
    assert_eq!(bench.all(), [elsewhere(&known, 1)]);
    assert_eq!(bench.duplicates(), []);
}

#[test]
fn a_release_between_that_this_server_has_not_seen_is_no_duplicate() {
    for (asked_back, forgotten) in [(false, false), (false, true), (true, false)] {
        let (mut bench, [mut other, _]) = three();
        let (_, known) = bench.claimed();
        other.meet(&mut bench);
        if asked_back {
            let now = bench.now;
            bench.centre.deallocate(&now, &subscriber(1), None).unwrap();
            bench.settle();
        }
        let released = Allocation {
            state: AllocationState::Released,
            seq: Seq(2),
            ..known.clone()
        };
        other.put(&bench.now, &released);
        if forgotten {
            other.forget(&bench.now, &known.place);
        }
        other.put(&bench.now, &elsewhere(&known, 1));
        bench.events.clear();
        other.meet(&mut bench);
        let skipped = !bench.events.iter().any(|event| {
            matches!(event, Event::Allocation(_, change)
                if change.allocation.as_ref().is_some_and(|a| !a.state.is_held()))
        });
        assert!(skipped, "the release was to be skipped: {:?}", bench.events);
        assert_eq!(bench.all(), [elsewhere(&known, 1)]);
        assert_eq!(bench.duplicates(), [], "{asked_back} {forgotten}");
    }
}

#[test]
fn disputes_are_bounded_and_what_is_beyond_is_not_counted() {
    let mut disputes = disputes::Disputes::default();
    let place = example("sub-1", "p", "10.0.0.1").place;
    for n in 0..100 {
        disputes.refused(&place, &subscriber(n), &olt("olt-1"));
    }
    let all: Vec<usize> = disputes.iter().map(|(_, others)| others.len()).collect();
    assert_eq!(all, [16]);
}
