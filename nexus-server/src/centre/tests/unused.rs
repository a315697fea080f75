//! Units that were taken for nothing, by a server that others may know better than.

use super::claims::join_others;
use super::*;

impl Bench {
    fn taken(&self) -> usize {
        self.centre.table().units_taken()
    }

    /// A server that has all of its cluster's record.
    fn complete() -> Self {
        let mut bench = Self::new();
        bench.centre.found().unwrap();
        bench.settle();
        bench
    }

    /// Takes a unit and does nothing with it.
    fn take_for(&mut self, who: u8) -> nexus_core::shard_table::UnitGrant {
        let now = self.now;
        let me = self.centre.replica.origin().node.0;
        match self.centre.prepare_central(&now, &central(None, who)) {
            Ok(Prepared::Take(unit)) => self
                .decide(unit.command(&subscriber(who), me))
                .unwrap()
                .unit
                .unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn seconds(&mut self, count: u32) {
        for _ in 0..count {
            self.pass(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_server_that_is_alone_frees_what_it_took_for_nothing_after_a_minute() {
    let mut bench = Bench::complete();
    bench.take_for(1);
    bench.seconds(50);
    assert_eq!(bench.taken(), 1);
    bench.seconds(75);
    assert_eq!(bench.taken(), 0);
}

#[test]
fn what_another_server_may_have_on_record_is_freed_only_when_a_majority_was_heard() {
    let mut bench = Bench::complete();
    join_others(&mut bench);
    let grant = bench.take_for(1);
    bench.seconds(125);
    assert_eq!(bench.taken(), 1, "nobody has answered yet");
    let asked = bench.centre.ask_majority();
    let nothing = [nexus_clset::VersionVector::default()];
    bench.centre.majority_had(asked, &nothing);
    bench.seconds(1);
    assert_eq!(bench.taken(), 0, "no majority has anything of {grant:?}");
}
