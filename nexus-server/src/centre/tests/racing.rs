//! Servers that look for a free unit at the same time: who lost a race looks elsewhere, and finds what there is.

use std::collections::BTreeSet;

use super::*;

impl Bench {
    /// The unit that is found after so many lost races.
    fn found_after(&mut self, who: u8, losses: usize) -> Option<u64> {
        let now = self.now;
        self.centre
            .look_elsewhere(&pool(), &subscriber(who), losses);
        match self.centre.prepare_central(&now, &central(None, who)) {
            Ok(Prepared::Take(unit)) => Some(unit.unit),
            Ok(Prepared::Done(..)) => panic!("nobody has anything"),
            Err(Refused::Exhausted { .. }) => None,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn who_lost_a_race_looks_elsewhere_and_each_somewhere_else() {
    let mut bench = Bench::new();
    let found: BTreeSet<u64> = (1..=8)
        .flat_map(|who| (1..=4).map(move |losses| (who, losses)))
        .filter_map(|(who, losses)| bench.found_after(who, losses))
        .collect();
    assert!(found.len() >= 26, "32 searches found only {found:?}");
    assert!(
        found.first().is_some_and(|unit| *unit < 64)
            && found.last().is_some_and(|unit| *unit > 191),
        "not all over the 256 units: {found:?}"
    );
}

#[test]
fn the_last_free_unit_is_found_from_everywhere() {
    let mut bench = Bench::new();
    let now = bench.now;
    let mut last = None;
    for who in 1..=255 {
        last = Some(bench.central(central(None, who)).unwrap().0);
    }
    assert_eq!(bench.found_after(0, 1), None, "the shard is full");
    let last = last.unwrap();
    bench
        .centre
        .deallocate(&now, &last.subscriber, None)
        .unwrap();
    bench.settle();
    bench.pass(REST);
    let free = bench.found_after(0, 1);
    assert!(free.is_some());
    for losses in 2..40 {
        assert_eq!(bench.found_after(0, losses), free, "after {losses} losses");
    }
}

#[test]
fn looking_elsewhere_in_a_pool_that_is_not_there_does_nothing() {
    let mut bench = Bench::new();
    let nowhere = PoolId::new("nowhere").unwrap();
    bench.centre.look_elsewhere(&nowhere, &subscriber(1), 1);
    assert_eq!(
        bench.central(central(None, 1)).unwrap().0.seq,
        Seq(1),
        "the first of the pool"
    );
}
