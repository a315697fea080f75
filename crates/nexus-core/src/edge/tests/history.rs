//! Whole histories: two hosts and a model centre under loss, duplication, reordering, drifting clocks, process
//! restarts that lose what was not durable yet, reboots, ended leases and moving shards.

mod centre;
mod checks;
mod steps;
mod world;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::lease::{grantor_end, holder_end};
use crate::time::ClusterTime;
use centre::*;
use steps::*;
use world::*;

const LEASE: Duration = Duration::from_secs(60);
const SHARDS: u32 = 4;
/// Shards that the pool has or has not.
const MORE: u32 = 2;
/// Length of DHCP leases: a client that hears nothing goes on for so long.
const DHCP_LEASE: Duration = Duration::from_secs(100);

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn no_history_gives_one_address_to_two_subscribers_or_loses_an_accepted_binding(
        drifts in [-9_i64..10, -9_i64..10],
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut world = World::new(drifts);
        for host in 0..2 {
            world.run(Op::Register(host));
        }
        for op in ops {
            world.run(op);
        }
        world.heal();
    }
}

#[test]
fn the_model_centre_counts_leases_as_the_rules_say() {
    let sent = BootTime::ZERO;
    assert!(holder_end(sent, LEASE) < given_away_from(sent));
}
