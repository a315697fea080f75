//! What is acknowledged to an OLT that is not heard any more: when it is reclaimed, and what was promised before.

use super::*;
use crate::id::SubscriberId;
use crate::lease::Keeping;

const DAY: u64 = 86_400;
/// First second at which what an OLT heard at second 0 had is reclaimed: 7 days, 1% and 5 s behind [`LEASE_END`].
const RECLAIM: u64 = LEASE_END + 7 * DAY + 7 * 864 + 5;

fn says(rule: Option<u64>, id: &str, of: &str) -> Register {
    Register {
        keeping: rule,
        ..register(id, of)
    }
}

/// An OLT `a` that was told rule 1 at second 0 and says so, or `b`'s table with whatever it says.
fn table(rule: Option<u64>) -> ShardTable {
    let mut table = ShardTable::new(LeaseRule::default());
    let spec = vlans("v", 6);
    let _ = table.drive(at(0), Command::AddPool { spec }).unwrap();
    let first = Command::Register(says(rule, "a", "s1"));
    let applied = table.drive(at(0), first).unwrap();
    let week = Some(Duration::from_secs(7 * DAY));
    assert_eq!(
        applied.keeping,
        Some(Keeping {
            after: week,
            rule: 1
        })
    );
    table
}

fn beat(table: &mut ShardTable, secs: u64, rule: Option<u64>) -> Keeping {
    let renew = Renew {
        keeping: rule,
        ..renew(table, "a", "s1")
    };
    let applied = table.drive(at(secs), Command::Renew(renew)).unwrap();
    applied.keeping.unwrap()
}

fn set_reclaim(table: &mut ShardTable, secs: u64, after: Option<u64>) {
    let after = after.map(Duration::from_secs);
    let rule = LeaseRule::default().reclaiming_after(after).unwrap();
    let _ = table.drive(at(secs), Command::SetRule { rule }).unwrap();
}

fn tick(table: &mut ShardTable, secs: u64) -> Applied {
    table.drive(at(secs), Command::Tick).unwrap()
}

fn until(table: &ShardTable) -> Option<ClusterTime> {
    table.reclaimed_at(&olt("a"))
}

#[test]
fn what_a_dead_olt_had_is_reclaimed_a_week_behind_its_lease_and_not_a_second_earlier() {
    let mut table = table(Some(0));
    assert!(tick(&mut table, LEASE_END).reclaimed.is_empty());
    assert!(table.shards_of(&olt("a")).is_empty());
    assert!(tick(&mut table, RECLAIM - 1).reclaimed.is_empty());
    assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Kept);
    assert_eq!(tick(&mut table, RECLAIM).reclaimed, [olt("a")]);
    assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Running);
    assert!(tick(&mut table, RECLAIM + 1).reclaimed.is_empty(), "once");
}

#[test]
fn who_is_heard_before_keeps_everything_for_as_long_again() {
    let mut table = table(Some(0));
    let _ = tick(&mut table, RECLAIM - 10);
    let _ = beat(&mut table, RECLAIM - 9, Some(1));
    assert!(tick(&mut table, 2 * RECLAIM - 10).reclaimed.is_empty());
    assert_eq!(tick(&mut table, 2 * RECLAIM - 9).reclaimed, [olt("a")]);
}

#[test]
fn a_host_that_was_reclaimed_is_taken_in_only_when_all_of_it_is_released() {
    let mut table = table(Some(0));
    let _ = tick(&mut table, RECLAIM);
    let renew = renew(&table, "a", "s1");
    let error = table.drive(at(RECLAIM), Command::Renew(renew)).unwrap_err();
    assert!(
        matches!(error, Refusal::NotCurrentSession { .. }),
        "{error}"
    );
    for of in ["s1", "s2"] {
        let again = Command::Register(says(Some(1), "a", of));
        let error = table.drive(at(RECLAIM + 1), again).unwrap_err();
        assert!(matches!(error, Refusal::BeingReclaimed(_)), "{error}");
    }
    let end = until(&table).unwrap();
    // A word about another time says nothing.
    for until in [end + Duration::from_secs(1), end] {
        assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Running);
        let done = Command::Reclaimed {
            olt: olt("a"),
            until,
        };
        let _ = table.drive(at(RECLAIM + 2), done).unwrap();
    }
    assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Done);
    assert_eq!(table.reclaimed_olts().collect::<Vec<_>>(), [&olt("a")]);
    let before = table.olt(&olt("a")).unwrap().row.config_revision;
    let again = Command::Register(says(Some(1), "a", "s1"));
    let applied = table.drive(at(RECLAIM + 3), again).unwrap();
    assert!(applied.reconfigured.contains(&olt("a")));
    assert!(table.olt(&olt("a")).unwrap().row.config_revision > before);
    assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Kept);
    assert!(until(&table).unwrap() > at(RECLAIM + 3 + 8 * DAY));
}

#[test]
fn a_shorter_time_counts_from_when_the_host_says_that_it_has_heard_of_it() {
    let mut table = table(Some(0));
    set_reclaim(&mut table, 10, Some(DAY));
    assert_eq!(beat(&mut table, 20, Some(1)).rule, 2);
    // Cut off now, it may not have heard, and goes on under what it heard before.
    assert_eq!(until(&table), Some(at(RECLAIM)));
    let _ = beat(&mut table, 30, Some(2));
    let short = at(LEASE_END + DAY + 864 + 5 + 30);
    assert_eq!(until(&table), Some(short));
    // An older heartbeat that comes late promises the short time once more, and takes nothing back.
    let _ = beat(&mut table, 30, Some(1));
    assert_eq!(until(&table), Some(short));
}

#[test]
fn a_longer_time_counts_from_when_the_host_may_have_heard_of_it() {
    let mut table = table(Some(0));
    set_reclaim(&mut table, 10, Some(14 * DAY));
    assert_eq!(until(&table), Some(at(RECLAIM)), "nobody has told it yet");
    let _ = beat(&mut table, 20, Some(1));
    assert!(until(&table).unwrap() > at(RECLAIM + 7 * DAY));
}

#[test]
fn never_is_taken_back_only_once_the_host_has_heard_so() {
    let mut table = table(Some(0));
    set_reclaim(&mut table, 10, None);
    let _ = beat(&mut table, 20, Some(1));
    assert_eq!(until(&table), None);
    set_reclaim(&mut table, 30, Some(DAY));
    let _ = beat(&mut table, 40, Some(2));
    assert_eq!(until(&table), None);
    assert!(tick(&mut table, 100 * DAY).reclaimed.is_empty());
    let _ = beat(&mut table, 100 * DAY, Some(3));
    assert!(until(&table).is_some());
}

#[test]
fn a_host_that_does_not_count_is_never_reclaimed() {
    let mut table = table(None);
    assert_eq!(until(&table), None);
    // Started with a newer program, it counts as soon as it has heard.
    let _ = beat(&mut table, 20, Some(0));
    assert_eq!(until(&table), None);
    let _ = beat(&mut table, 30, Some(1));
    assert_eq!(until(&table), Some(at(RECLAIM + 30)));
    let _ = beat(&mut table, 40, None);
    assert_eq!(until(&table), None);
}

#[test]
fn a_lost_disk_takes_nothing_back_of_what_the_host_was_promised() {
    let mut table = table(None);
    let again = Command::Register(says(Some(0), "a", "s2"));
    let _ = table.drive(at(200), again).unwrap();
    assert_eq!(until(&table), None);
}

#[test]
fn pinned_units_on_a_reclaimed_olt_stay_with_their_subscribers_and_may_go_elsewhere() {
    let mut table = ShardTable::new(LeaseRule::default());
    let mut spec = vlans("v", 3);
    spec.pinned = true;
    let _ = table.drive(at(0), Command::AddPool { spec }).unwrap();
    for (id, of) in [("a", "s1"), ("b", "t1")] {
        let register = Command::Register(says(Some(0), id, of));
        let _ = table.drive(at(0), register).unwrap();
    }
    let shard = ShardKey {
        pool: pool_id("v"),
        shard: ShardId(0),
    };
    let pin = |id: &str| {
        Command::PinUnit(PinUnit {
            shard: shard.clone(),
            unit: 3,
            holder: SubscriberId::new("sub").unwrap(),
            server: 7,
            at: Some(Pin {
                olt: olt(id),
                session: None,
                after: Seq(0),
            }),
        })
    };
    let _ = table.drive(at(1), pin("a")).unwrap();
    let alive = Renew {
        keeping: Some(1),
        ..renew(&table, "b", "t1")
    };
    let _ = table.drive(at(RECLAIM - 1), Command::Renew(alive)).unwrap();
    let error = table.drive(at(RECLAIM - 1), pin("b")).unwrap_err();
    assert!(matches!(error, Refusal::UnitElsewhere { .. }), "{error}");
    assert_eq!(tick(&mut table, RECLAIM).reclaimed, [olt("a")]);
    assert_eq!(table.taken_unit(&shard, 3).unwrap().at, None);
    let error = table.drive(at(RECLAIM), pin("a")).unwrap_err();
    assert!(matches!(error, Refusal::UnknownOlt(_)), "{error}");
    let _ = table.drive(at(RECLAIM), pin("b")).unwrap();
}

#[test]
fn nothing_is_reclaimed_by_a_table_that_may_lack_a_promise() {
    let mut table = table(Some(0));
    let _ = tick(&mut table, RECLAIM);
    table.recover();
    assert_eq!(table.reclaim_of(&olt("a")), Reclaim::Kept);
    assert!(until(&table).unwrap() >= at(2 * RECLAIM));
    assert!(tick(&mut table, 2 * RECLAIM - 1).reclaimed.is_empty());
    // The number of the rule is one that nobody can have said.
    assert!(table.keeping().rule > 1 << 32);
}

#[test]
fn a_fenced_olt_is_not_reclaimed_and_one_that_is_reclaimed_can_be_fenced() {
    let mut fenced = table(Some(0));
    let fence = || Command::Fence {
        olt: olt("a"),
        reason: "burnt".into(),
    };
    let _ = fenced.drive(at(1), fence()).unwrap();
    assert!(tick(&mut fenced, RECLAIM).reclaimed.is_empty());
    let mut reclaimed = table(Some(0));
    let _ = tick(&mut reclaimed, LEASE_END);
    let _ = tick(&mut reclaimed, RECLAIM);
    // Its leases are over, so that there is nothing more to state; it is known all the same.
    let _ = reclaimed.drive(at(RECLAIM + 1), fence()).unwrap();
    assert_eq!(reclaimed.reclaim_of(&olt("a")), Reclaim::Kept);
    assert!(reclaimed.is_gone(&olt("a")));
}

#[test]
fn a_snapshot_keeps_what_was_promised() {
    let mut table = table(Some(0));
    let _ = tick(&mut table, RECLAIM);
    let again = ShardTable::from_image(table.image()).unwrap();
    assert_eq!(again, table);
    assert_eq!(again.reclaim_of(&olt("a")), Reclaim::Running);
}
