//! What is on record against what the quorum has decided: which of two rights counts, and when none does any more.

use super::*;

#[test]
fn a_server_whose_subscriber_has_just_got_another_right_leaves_its_own_unused() {
    let mut bench = Bench::new();
    let now = bench.now;
    let request = central(None, 1);
    let Ok(Prepared::Take(unit)) = bench.centre.prepare_central(&now, &request) else {
        panic!("nothing is held");
    };
    // Another server takes another unit for the same subscriber, first.
    let mut theirs = unit.clone();
    theirs.unit += 5;
    let first = bench
        .decide(theirs.command(&request.subscriber, 2))
        .unwrap();
    let second = bench.decide(unit.command(&request.subscriber, 1)).unwrap();
    assert!(first.unit_is_new && second.unit_is_new);
    let finish = |bench: &mut Bench, waits| {
        let done =
            bench
                .centre
                .finish_central(&now, &request, &unit, &granted(second, now.boot), waits);
        done.unwrap()
    };
    assert_eq!(finish(&mut bench, true), None);
    // What this server looks for next is the unit that the other one took.
    let Ok(Prepared::Take(next)) = bench.centre.prepare_central(&now, &request) else {
        panic!("nothing is held");
    };
    assert!([unit.unit, theirs.unit].contains(&next.unit));
    // The other one never answers: then this one does.
    assert!(finish(&mut bench, false).is_some());
}

#[test]
fn a_server_that_stood_still_uses_no_right_that_may_be_gone() {
    let mut bench = Bench::new();
    let request = central(None, 1);
    let Ok(Prepared::Take(unit)) = bench.centre.prepare_central(&bench.now.clone(), &request)
    else {
        panic!("nothing is held");
    };
    let right = bench.decide(unit.command(&request.subscriber, 1)).unwrap();
    let right = granted(right, bench.now.boot);
    bench.now.boot = bench.now.boot.saturating_add(Duration::from_secs(46));
    let now = bench.now;
    let done = bench
        .centre
        .finish_central(&now, &request, &unit, &right, true);
    assert!(matches!(done, Err(Refused::OutcomeUnknown(_))), "{done:?}");
    assert_eq!(bench.all(), [], "and nothing of it is on record");
}

#[test]
fn what_is_on_record_under_a_right_that_is_gone_is_not_an_answer() {
    let mut bench = Bench::new();
    let now = bench.now;
    let (first, _) = bench.central(central(None, 1)).unwrap();
    let unit = bench.centre.unit_of(&first).unwrap();
    // Another server takes it again, does not use it, and frees it.
    let again = bench.decide(unit.command(&subscriber(1), 2)).unwrap();
    let prepared = bench.centre.prepare_central(&now, &central(None, 1));
    assert_eq!(
        prepared.unwrap(),
        Prepared::Take(unit.clone()),
        "it is taken again"
    );
    let free = Command::FreeUnit {
        shard: unit.shard.clone(),
        unit: unit.unit,
        seq: again.unit.unwrap().seq,
    };
    bench.decide(free).unwrap();
    let prepared = bench.centre.prepare_central(&now, &central(None, 1));
    assert_eq!(
        prepared.unwrap(),
        Prepared::Take(unit.clone()),
        "it is still free"
    );
    // Somebody else gets it.
    bench.decide(unit.command(&subscriber(2), 2)).unwrap();
    let Ok(Prepared::Take(other)) = bench.centre.prepare_central(&now, &central(None, 1)) else {
        panic!("the record is no right");
    };
    assert_ne!(other, unit);
}

#[test]
fn a_unit_is_left_unused_if_the_subscriber_has_one_that_another_server_is_taking_again() {
    let mut bench = Bench::new();
    let now = bench.now;
    let request = central(None, 1);
    let (first, _) = bench.central(request.clone()).unwrap();
    let unit = bench.centre.unit_of(&first).unwrap();
    bench.decide(unit.command(&request.subscriber, 2)).unwrap();
    // This server had looked before it knew of that.
    let mut other = unit.clone();
    other.unit += 9;
    let right = bench.decide(other.command(&request.subscriber, 1)).unwrap();
    let right = granted(right, now.boot);
    let done = bench
        .centre
        .finish_central(&now, &request, &other, &right, true);
    assert_eq!(done.unwrap(), None);
}
