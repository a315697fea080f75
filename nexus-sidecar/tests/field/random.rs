//! The random run: everything goes wrong at least once, in an order that the seed decides.

use std::time::Duration;

use nexus_testkit::field::plan::FieldPlan;
use nexus_testkit::field::run::{reason, run};

/// The seed of CI; `cargo xtask field --seed N` tries another one.
const SEED: u64 = 5;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn whatever_goes_wrong_nobody_shares_an_address_and_nothing_acknowledged_is_lost() {
    let mut plan = FieldPlan::short(number("NEXUS_FIELD_SEED").unwrap_or(SEED));
    if let Some(seconds) = number("NEXUS_FIELD_SECONDS") {
        plan.length = Duration::from_secs(seconds);
    }
    if let Some(count) = number("NEXUS_FIELD_SUBSCRIBERS") {
        plan = plan.subscribers(u32::try_from(count).unwrap());
    }
    if let Err(error) = run(&plan) {
        // The findings, a line each; all the rest has been printed before.
        let findings = error.root_cause().to_string();
        panic!("{}\n{findings}", reason(&error));
    }
}
