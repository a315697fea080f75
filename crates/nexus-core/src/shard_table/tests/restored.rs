//! The table out of its rows, and the lengths of leases that it remembers.

use super::*;

#[test]
fn after_a_restart_every_lease_is_counted_from_the_restart() {
    let table = table_with(vlans("v", 3));
    // The machine was rebooted as well: its clock starts again.
    let restart = ClusterTime::from_nanos(40_000_000_000);
    let mut again = ShardTable::restore(*table.rule(), table.snapshot(), restart).unwrap();
    assert_eq!(again.snapshot(), table.snapshot());
    let end = restart + Duration::from_secs(LEASE_END);
    let _ = again
        .apply(end.saturating_sub(Duration::from_nanos(1)), Command::Tick)
        .unwrap();
    assert_eq!(refs(&again, "a", "v").len(), 2);
    let _ = again.apply(end, Command::Tick).unwrap();
    assert!(refs(&again, "a", "v").is_empty());
}

#[test]
fn rows_that_do_not_fit_together_are_not_restored() {
    let table = table_with(vlans("v", 3));
    let rows = table
        .snapshot()
        .into_iter()
        .filter(|row| !matches!(row, Row::Pool(_)));
    let error = ShardTable::restore(*table.rule(), rows, at(0)).unwrap_err();
    assert!(matches!(error, RestoreError::StrayShard(_)), "{error}");
}

/// A day-long lease is granted; the grantor comes back with leases of a minute.
fn restarted_with_leases_of_a_minute() -> ShardTable {
    let table = table_with(vlans("v", 3));
    let short = LeaseRule::new(Duration::from_secs(60), Duration::from_secs(10)).unwrap();
    ShardTable::restore(short, table.snapshot(), at(10)).unwrap()
}

#[test]
fn a_grantor_that_restarts_with_a_shorter_lease_waits_for_the_longer_ones_it_granted() {
    let mut table = restarted_with_leases_of_a_minute();
    let applied = table.apply(at(10 + LEASE_END - 1), Command::Tick).unwrap();
    assert!(applied.moves.is_empty(), "{:?}", applied.moves);
    let applied = table.apply(at(10 + LEASE_END), Command::Tick).unwrap();
    assert_eq!(applied.moves[0].reason, MoveReason::LeaseEnded);
}

#[test]
fn a_shorter_renewal_whose_answer_may_be_lost_does_not_end_the_longer_lease() {
    let mut table = restarted_with_leases_of_a_minute();
    let heartbeat = renew(&table, "a", "s1");
    let _ = table.apply(at(20), Command::Renew(heartbeat)).unwrap();
    let applied = table.apply(at(1000), Command::Tick).unwrap();
    assert!(applied.moves.is_empty(), "{:?}", applied.moves);
}

#[test]
fn a_length_that_no_lease_has_any_more_is_forgotten() {
    let mut table = restarted_with_leases_of_a_minute();
    for secs in [10 + LEASE_END - 1, 10 + LEASE_END] {
        let _ = table.apply(at(secs), Command::Tick).unwrap();
    }
    let again = *table.rule();
    let _ = table
        .apply(at(90_000), Command::Register(register("a", "s1")))
        .unwrap();
    let mut table = ShardTable::restore(again, table.snapshot(), at(90_010)).unwrap();
    let applied = table.apply(at(90_100), Command::Tick).unwrap();
    assert!(!applied.moves.is_empty(), "a minute is over");
}
