//! What a change would move, and that nothing moves by asking.

use proptest::prelude::*;

use super::histories::any_command;
use super::*;

fn owner_counts(plan: &Plan, of: impl Fn(&PlannedMove) -> Option<OltId>) -> BTreeMap<OltId, usize> {
    let mut counts = BTreeMap::new();
    for olt in plan.moves.iter().filter_map(of) {
        *counts.entry(olt).or_default() += 1;
    }
    counts
}

fn join(id: &str) -> PlannedChange {
    PlannedChange::Join {
        olt: olt(id),
        region: "east".into(),
        capacity: 2000,
    }
}

/// `a` gives back what it is asked for until it is asked for nothing.
fn rest(table: &mut ShardTable) {
    for secs in 2..20 {
        let mut shards = table.shards_of(&olt("a"));
        let shards = shards.remove(&pool_id("v")).unwrap_or_default();
        let draining = shards
            .into_iter()
            .filter(|shard| shard.state == ShardState::Draining);
        let shards = draining.map(|shard| ShardRef {
            pool: pool_id("v"),
            shard: shard.shard,
            epoch: shard.epoch,
        });
        let give = Command::GiveBack {
            olt: olt("a"),
            session: session("s1"),
            shards: shards.collect(),
        };
        let _ = table.drive(at(secs), give).unwrap();
        let _ = table.drive(at(secs), Command::Tick).unwrap();
    }
}

#[test]
fn a_plan_says_what_then_happens() {
    let mut table = table_with(vlans("v", 9));
    let before = table.clone();
    let plan = table.plan([join("b")]).unwrap();
    assert_eq!(table, before);
    assert!(plan.complete);
    assert!(owner_counts(&plan, |m| m.to.clone())[&olt("b")] > 0);

    let _ = table
        .drive(at(1), Command::Register(register("b", "s1")))
        .unwrap();
    rest(&mut table);
    for step in &plan.moves {
        let owner = table.shard(&step.key).and_then(|row| row.owner.clone());
        assert_eq!(owner.map(|owner| owner.olt), step.to, "{}", step.key);
    }
    assert_eq!(table.plan([join("b")]).unwrap().moves, []);
}

#[test]
fn a_leaving_olt_loses_everything_and_a_removed_pool_too() {
    let mut table = table_with(vlans("v", 9));
    let _ = table
        .drive(at(1), Command::Register(register("b", "s1")))
        .unwrap();
    rest(&mut table);
    let theirs = refs(&table, "a", "v").len();
    assert!(theirs > 0);
    let plan = table
        .plan([PlannedChange::Leave { olt: olt("a") }])
        .unwrap();
    assert!(owner_counts(&plan, |m| m.from.clone())[&olt("a")] == theirs);
    assert!(plan.moves.iter().all(|m| m.to != Some(olt("a"))));

    let pool = pool_id("v");
    let owned = table.shards(&pool).filter(|row| row.owner.is_some());
    let owned = owned.count();
    let plan = table.plan([PlannedChange::RemovePool { pool }]).unwrap();
    assert!(plan.complete && plan.moves.len() >= owned);
    assert!(plan.moves.iter().all(|m| m.to.is_none()));
}

#[test]
fn several_changes_are_planned_together_and_their_balance_is_said() {
    let table = table_with(vlans("v", 40));
    let leave = PlannedChange::Leave { olt: olt("a") };
    let plan = table.plan([join("b"), join("c"), leave]).unwrap();
    let (before, after) = plan.balance[&pool_id("v")];
    let (before, after) = (before.unwrap(), after.unwrap());
    // 40 shards: one is the cluster's, two are the reserve.
    assert_eq!((before.olts, before.shards), (1, 37));
    assert_eq!((before.least, before.most), (1000, 1000));
    assert_eq!((after.olts, after.shards), (2, 37));
    assert!(after.most <= 1250 && after.least >= 800, "{after:?}");
    assert!(plan.moves.iter().all(|m| m.to != Some(olt("a"))));
    let spec = vlans("w", 3);
    let new = table.plan([PlannedChange::AddPool { spec }]).unwrap();
    assert_eq!(new.balance[&pool_id("w")].0, None);
}

#[test]
fn a_change_that_would_be_refused_has_no_plan() {
    let table = table_with(vlans("v", 3));
    let spec = vlans("v", 3);
    let error = table.plan([PlannedChange::AddPool { spec }]).unwrap_err();
    assert!(matches!(error, Refusal::PoolExists(_)), "{error}");
    let gone = PlannedChange::Leave { olt: olt("x") };
    assert!(matches!(table.plan([gone]), Err(Refusal::UnknownOlt(_))));
    let reserved = table.plan([join("nexus")]).unwrap_err();
    assert!(matches!(reserved, Refusal::ReservedId(_)), "{reserved}");
}

proptest! {
    #[test]
    fn whatever_happened_before_a_plan_comes_to_rest(
        commands in proptest::collection::vec((any_command(), 0u64..60_000), 1..40),
    ) {
        let mut table = ShardTable::default();
        let mut secs = 0;
        for (command, wait) in commands {
            secs += wait;
            let _ = table.drive(at(secs), command);
        }
        for change in [join("x"), PlannedChange::Leave { olt: olt("olt-1") }] {
            if let Ok(plan) = table.plan([change]) {
                prop_assert!(plan.complete);
            }
        }
    }
}
