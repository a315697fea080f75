//! Planted violations: the checker finds each, and finds nothing in the same history without it.

use std::net::Ipv4Addr;

use super::*;
use crate::field::history::{
    Action, Disturbance, Entry, Finals, History, Kind, OltAt, Op, Outcome, Recorded, Who,
};
use crate::field::plan::{OltTrouble, ServerTrouble};
use crate::field::subscribers::{by_mac, mac};
use crate::field::tracker::Tracker;

const ONE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

/// A history that is written down second by second.
#[derive(Default)]
struct Story {
    history: History,
    tracker: Tracker,
}

impl Story {
    fn op(mut self, at: u64, who: Who, olt: OltAt, action: Action, outcome: Outcome) -> Self {
        self.history.ops.push(Op {
            who,
            olt,
            action,
            began: Moment::second(at),
            ended: Moment::second(at + 1),
            outcome,
        });
        self
    }

    fn accepted(self, at: u64, who: Who, olt: OltAt, address: Ipv4Addr) -> Self {
        let outcome = Outcome::Accepted(address);
        self.op(at, who, olt, Action::Authenticate, outcome)
    }

    /// A sample of one OLT's map; entries without end.
    fn map(self, at: u64, olt: OltAt, entries: &[(Who, Ipv4Addr)]) -> Self {
        let until = Moment::NEVER;
        self.map_until(at, olt, entries, until)
    }

    fn map_until(
        mut self,
        at: u64,
        olt: OltAt,
        entries: &[(Who, Ipv4Addr)],
        valid_until: Moment,
    ) -> Self {
        let entries: Vec<Entry> = entries
            .iter()
            .map(|(who, address)| Entry {
                address: *address,
                mac: mac(*who),
                valid_until,
            })
            .collect();
        let (from, until) = (Moment::second(at), Moment::second(at + 1));
        self.tracker.sample(olt, from, until, &entries);
        self
    }

    fn disturbed(mut self, from: u64, until: u64, olt: OltAt, kind: Kind) -> Self {
        self.history.disturbances.push(Disturbance {
            what: format!("{kind:?}"),
            olt: Some(olt),
            kind,
            from: Moment::second(from),
            until: Moment::second(until),
        });
        self
    }

    fn found(self, finals: Option<&Finals>) -> Vec<Finding> {
        let mut history = self.history;
        history.held = self.tracker.finish();
        check(&history, finals, &by_mac(100))
    }

    fn rules(self) -> Vec<&'static str> {
        self.found(None)
            .iter()
            .map(|finding| finding.rule)
            .collect()
    }
}

/// Subscriber 1 comes up at OLT 0, is acknowledged, and stays.
fn calm() -> Story {
    Story::default()
        .accepted(10, 1, 0, ONE)
        .map(12, 0, &[(1, ONE)])
        .map(14, 0, &[(1, ONE)])
}

#[test]
fn one_address_in_two_maps_at_once_is_found_and_one_after_the_other_is_not() {
    let after = calm().map(16, 0, &[]).map(18, 1, &[(2, ONE)]);
    let after = after.op(15, 1, 0, Action::Release(ONE), Outcome::Sent);
    assert!(after.rules().is_empty());
    let at_once = calm()
        .map(16, 1, &[(2, ONE)])
        .map(18, 0, &[(1, ONE)])
        .map(20, 1, &[(2, ONE)]);
    assert_eq!(at_once.rules(), ["one holder"]);
    let in_one_map = calm().map(16, 0, &[(1, ONE), (2, ONE)]);
    let in_one_map = in_one_map.map(18, 0, &[(1, ONE), (2, ONE)]);
    assert_eq!(in_one_map.rules(), ["one holder"]);
    let a_stranger = calm().map(16, 0, &[(1, ONE), (999, ONE)]);
    let a_stranger = a_stranger.map(18, 0, &[(1, ONE), (999, ONE)]);
    assert_eq!(a_stranger.rules(), ["one holder"]);
}

#[test]
fn an_entry_whose_end_has_come_shares_nothing() {
    let hung = |until| {
        Story::default()
            .accepted(10, 1, 0, ONE)
            .map_until(12, 0, &[(1, ONE)], Moment::second(until))
            .map_until(20, 0, &[(1, ONE)], Moment::second(until))
            .map(22, 1, &[(2, ONE)])
            .map_until(24, 0, &[(1, ONE)], Moment::second(until))
            .map(26, 1, &[(2, ONE)])
            .rules()
    };
    assert!(hung(21).is_empty());
    assert_eq!(hung(30), ["one holder"]);
}

#[test]
fn what_is_acknowledged_may_not_leave_its_map() {
    assert!(calm().rules().is_empty());
    assert_eq!(calm().map(16, 0, &[]).rules(), ["kept"]);
    let released = calm().op(15, 1, 0, Action::Release(ONE), Outcome::Sent);
    assert!(released.map(17, 0, &[]).rules().is_empty());
    let moved = calm().accepted(15, 1, 1, TWO).map(17, 0, &[]);
    assert!(moved.rules().is_empty());
    // An older store knows less; the centre does, so its subscriber has to ask only.
    let restored = calm().disturbed(15, 18, 0, Kind::Restored);
    assert!(restored.map(16, 0, &[]).rules().is_empty());
    let elsewhere = calm().disturbed(15, 18, 1, Kind::Restored);
    assert_eq!(elsewhere.map(16, 0, &[]).rules(), ["kept"]);
}

#[test]
fn what_is_acknowledged_may_not_be_given_to_another() {
    let given = calm().accepted(20, 2, 1, ONE);
    assert_eq!(given.rules(), ["kept"]);
    let stopped = |outcome| {
        calm()
            .op(17, 1, 0, Action::Stop, outcome)
            .accepted(20, 2, 1, ONE)
    };
    assert!(stopped(Outcome::Done).rules().is_empty());
    assert!(stopped(Outcome::Silent).rules().is_empty());
    let refused = Outcome::Refused("no-allocation".to_owned());
    assert_eq!(stopped(refused).rules(), ["kept"]);
}

#[test]
fn who_asks_again_gets_the_same_address() {
    assert!(calm().accepted(20, 1, 0, ONE).rules().is_empty());
    assert_eq!(calm().accepted(20, 1, 0, TWO).rules(), ["same address"]);
    let released = calm().op(17, 1, 0, Action::Release(ONE), Outcome::Sent);
    assert!(released.accepted(20, 1, 0, TWO).rules().is_empty());
    // What was not acknowledged may end with the lease, what was may not.
    let cut = |story: Story| {
        story
            .disturbed(15, 40, 0, Kind::Outage)
            .accepted(45, 1, 0, TWO)
    };
    assert!(
        cut(Story::default().accepted(10, 1, 0, ONE))
            .rules()
            .is_empty()
    );
    assert_eq!(cut(calm()).rules(), ["same address"]);
}

#[test]
fn who_was_given_something_else_behind_an_older_store_has_left_what_it_had() {
    let given = |story: Story| {
        let other = story.accepted(20, 1, 0, TWO).map(22, 0, &[(1, TWO)]);
        other.accepted(30, 2, 1, ONE).rules()
    };
    let older = || calm().disturbed(16, 18, 0, Kind::Restored);
    assert!(given(older().map(16, 0, &[])).is_empty());
    assert_eq!(older().accepted(30, 2, 1, ONE).rules(), ["kept"]);
    let outage = calm().disturbed(16, 18, 0, Kind::Outage);
    assert!(given(outage.map(16, 0, &[])).contains(&"same address"));
}

#[test]
fn a_gap_in_service_is_found() {
    let renewal = |outcome| calm().op(16, 1, 0, Action::Renew(ONE), outcome);
    for exchange in [
        Action::Renew(ONE),
        Action::Discover(ONE),
        Action::Reboot(ONE),
    ] {
        let asked = |outcome| calm().op(16, 1, 0, exchange, outcome).rules();
        assert!(asked(Outcome::Acked).is_empty());
        assert_eq!(asked(Outcome::Silent), ["served"]);
        assert_eq!(asked(Outcome::Nak(String::new())), ["served"]);
    }
    // Also while the sidecar hangs: the kernel answers.
    let hung = renewal(Outcome::Silent).disturbed(15, 40, 0, Kind::Outage);
    assert_eq!(hung.rules(), ["served"]);
    // Not acknowledged, and the lease may have ended.
    let unknown =
        Story::default()
            .accepted(10, 1, 0, ONE)
            .op(16, 1, 0, Action::Renew(ONE), Outcome::Silent);
    assert!(unknown.rules().is_empty());
}

#[test]
fn an_olt_that_is_cut_off_serves_everybody_while_its_lease_lives() {
    let asked = |outcome: Outcome| {
        let served_until = Moment::second(30);
        Story::default()
            .disturbed(15, 40, 0, Kind::CutOff { served_until })
            .op(20, 7, 0, Action::Authenticate, outcome.clone())
            .op(35, 8, 0, Action::Authenticate, outcome)
            .rules()
    };
    assert!(
        asked(Outcome::Accepted(ONE)).len() <= 1,
        "both have one address"
    );
    assert_eq!(asked(Outcome::Rejected("no".to_owned())), ["served"]);
    assert!(
        asked(Outcome::Silent).is_empty(),
        "everything may stand still"
    );
    // Others asked later and were answered before it was given up.
    let overtaken = |others: u8| {
        let served_until = Moment::second(30);
        let cut = Story::default().disturbed(15, 40, 0, Kind::CutOff { served_until });
        let mut story = cut.op(20, 7, 0, Action::Authenticate, Outcome::Silent);
        if let Some(op) = story.history.ops.last_mut() {
            op.ended = Moment::second(25);
        }
        for other in 0..others {
            let address = Ipv4Addr::new(100, 64, 1, other);
            story = story.accepted(22, Who::from(other) + 20, 0, address);
        }
        story.rules()
    };
    assert!(overtaken(2).is_empty());
    assert_eq!(overtaken(3), ["served"]);
}

#[test]
fn what_a_server_counts_while_the_run_goes_on_is_a_finding() {
    let mut story = calm();
    let seen = "a server counts 1 duplicate allocations".to_owned();
    story.history.seen.push((Moment::second(15), seen));
    assert_eq!(story.rules(), ["seen"]);
}

#[test]
fn a_trouble_that_never_took_effect_is_a_finding() {
    let mut effects: BTreeMap<Trouble, u32> = Trouble::all().map(|one| (one, 1)).collect();
    assert_eq!(without_effect(&effects), []);
    let hang = Trouble::Olt(OltTrouble::Hang);
    effects.insert(hang, 0);
    effects.remove(&Trouble::Server(ServerTrouble::Clock));
    let found = without_effect(&effects);
    let words: Vec<_> = found.iter().map(|one| one.what.as_str()).collect();
    assert!(matches!(words[..], [one, two] if one.contains("Hang") && two.contains("Clock")));
}

#[test]
fn who_comes_back_before_all_is_settled_keeps_what_it_has_like_everybody() {
    // At OLT 1 it was not acknowledged when it came to OLT 0: that claim may arrive later.
    let late = Story::default()
        .accepted(5, 1, 1, TWO)
        .accepted(10, 1, 0, ONE)
        .map(12, 0, &[(1, ONE)])
        .map(14, 0, &[(1, ONE)])
        .map(16, 0, &[]);
    assert_eq!(late.rules(), ["kept"]);
    // Its stop was asked for before it came again, and the OLT hears of that later.
    let stopped = calm()
        .op(15, 1, 0, Action::Stop, Outcome::Done)
        .accepted(17, 1, 0, ONE)
        .map(19, 0, &[(1, ONE)])
        .map(21, 0, &[]);
    assert_eq!(stopped.rules(), ["kept"]);
}

#[test]
fn who_comes_back_to_a_shard_that_may_have_moved_may_have_to_ask_again() {
    let back = |story: Story| {
        story
            .op(15, 1, 0, Action::Stop, Outcome::Done)
            .accepted(17, 1, 0, ONE)
            .map(19, 0, &[(1, ONE)])
            .map(21, 0, &[])
            .accepted(23, 1, 0, TWO)
            .rules()
    };
    assert_eq!(back(calm()), ["kept", "same address"]);
    let older_store = || calm().disturbed(11, 13, 0, Kind::Restored);
    assert!(back(older_store()).is_empty());
    assert!(back(calm().disturbed(1, 60, 0, Kind::Outage)).is_empty());
    let short = back(calm().disturbed(11, 13, 0, Kind::Outage));
    assert_eq!(short, ["kept", "same address"]);
    let elsewhere = back(calm().disturbed(1, 60, 1, Kind::Outage));
    assert_eq!(elsewhere, ["kept", "same address"]);
    // Who has never left is not one who comes back.
    let stayed = older_store()
        .accepted(17, 1, 0, ONE)
        .map(19, 0, &[(1, ONE)]);
    assert_eq!(stayed.map(21, 0, &[]).rules(), ["kept"]);
}

#[test]
fn who_was_given_something_under_a_clock_that_was_ahead_may_have_to_ask_again_elsewhere() {
    let moved = |from, kind| {
        Story::default()
            .disturbed(from, 8, 1, kind)
            .accepted(5, 1, 1, TWO)
            .accepted(10, 1, 0, ONE)
            .map(12, 0, &[(1, ONE)])
            .map(14, 0, &[(1, ONE)])
            .map(16, 0, &[])
            .rules()
    };
    assert!(moved(4, Kind::Ahead).is_empty());
    assert_eq!(moved(4, Kind::Outage), ["kept"]);
    assert_eq!(moved(7, Kind::Ahead), ["kept"]);
    // At the OLT itself nothing is compared with what others say.
    let stayed = calm().disturbed(9, 12, 0, Kind::Ahead);
    assert_eq!(stayed.map(16, 0, &[]).rules(), ["kept"]);
}

#[test]
fn a_question_that_waits_at_a_host_that_hangs_may_count_later() {
    let silent = |hangs| {
        let story = Story::default().op(5, 1, 1, Action::Authenticate, Outcome::Silent);
        story
            .disturbed(4, hangs, 1, Kind::Outage)
            .accepted(110, 1, 0, ONE)
            .map(112, 0, &[(1, ONE)])
            .map(114, 0, &[(1, ONE)])
            .map(116, 0, &[])
            .rules()
    };
    assert_eq!(silent(100), ["kept"]);
    assert!(silent(115).is_empty());
}

fn recorded(who: Who, olt: OltAt, address: Ipv4Addr) -> Recorded {
    Recorded {
        address,
        who,
        olt: Some(olt),
        state: "active".to_owned(),
    }
}

/// Everything as [`calm`] leaves it.
fn good() -> Finals {
    let server = |name: &str| (name.to_owned(), vec![recorded(1, 0, ONE)]);
    Finals {
        records: vec![server("n1"), server("n2")],
        bindings: vec![vec![(1, ONE, true)], Vec::new()],
        counted: vec![("n1".to_owned(), 1)],
        duplicates: vec![("n1".to_owned(), 0)],
    }
}

#[test]
fn what_waits_for_its_subscriber_behind_an_older_store_is_no_finding() {
    let mut finals = good();
    finals.records[0].1.push(recorded(2, 1, TWO));
    finals.records[1].1.push(recorded(2, 1, TWO));
    finals.counted[0].1 = 2;
    let restored = |olt| calm().disturbed(15, 18, olt, Kind::Restored);
    assert_eq!(restored(1).found(Some(&finals)), []);
    assert!(!restored(2).found(Some(&finals)).is_empty());
}

fn wrong(spoil: impl FnOnce(&mut Finals)) -> String {
    let mut finals = good();
    spoil(&mut finals);
    let found = calm().found(Some(&finals));
    assert!(!found.is_empty());
    found.iter().map(|one| format!("{}; ", one.what)).collect()
}

#[test]
fn the_end_is_compared_with_itself_and_with_what_was_acknowledged() {
    assert_eq!(calm().found(Some(&good())), []);
    assert!(wrong(|all| all.duplicates[0].1 = 1).contains("duplicate"));
    assert!(wrong(|all| all.counted[0].1 = 2).contains("counts 2"));
    let lost = wrong(|all| all.records[1].1.clear());
    assert!(lost.contains("n2 has lost what was acknowledged"), "{lost}");
    let more = wrong(|all| all.records[0].1.push(recorded(2, 1, TWO)));
    assert!(more.contains("no sidecar has bound"), "{more}");
    let twice = wrong(|all| all.records[0].1.push(recorded(2, 1, ONE)));
    assert!(twice.contains("twice"), "{twice}");
    let open = wrong(|all| all.bindings[0][0].2 = false);
    assert!(open.contains("has not acknowledged"), "{open}");
    let unbound = wrong(|all| all.bindings[0].clear());
    assert!(
        unbound.contains("not its subscriber's any more"),
        "{unbound}"
    );
    let unserved = wrong(|all| all.bindings[1].push((3, TWO, true)));
    assert!(unserved.contains("no kernel has"), "{unserved}");
}
