//! The stamper's laws over many leaders, clocks that jump, terms that pass, restarts.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// One thing that happens to a cluster of five nodes.
#[derive(Clone, Debug)]
enum Step {
    /// Real time passes.
    Wait(u64),
    /// The leader stamps; the stamp is committed or, with its leader, lost.
    Stamp { commits: bool },
    /// Another node takes office (or the same one again).
    Office(usize),
    /// The leader hears no majority for a while, then does again.
    Pause(u64),
    /// A node restarts: its clock begins somewhere else.
    Restart(usize, u64),
    /// A node's clock jumps back, which CLOCK_BOOTTIME never should.
    Back(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_000_u64).prop_map(Step::Wait),
        6 => any::<bool>().prop_map(|commits| Step::Stamp { commits }),
        2 => (0..5_usize).prop_map(Step::Office),
        1 => (0..9_000_u64).prop_map(Step::Pause),
        1 => (0..5_usize, 0..1_000_000_u64).prop_map(|(node, at)| Step::Restart(node, at)),
        1 => (0..5_usize, 0..3_000_u64).prop_map(|(node, by)| Step::Back(node, by)),
    ]
}

proptest! {
    #[test]
    fn committed_stamps_rise_and_never_outrun_real_time(steps in prop::collection::vec(step(), 1..200)) {
        let mut real = 0_u64;
        // What each clock shows ahead of real time, in milliseconds; a node keeps to it until it restarts.
        let mut clocks = [0_i64, 500_000, 7, 90_000_000, 12];
        let mut leader: Option<(usize, Stamper)> = None;
        // Committed stamps with the real time they were given at.
        let mut committed: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            let show = |clocks: &[i64; 5], node: usize, real: u64| {
                Duration::from_millis(u64::try_from(i64::try_from(real).unwrap() + clocks[node]).unwrap_or(0))
            };
            let greatest = committed.last().map_or(0, |(stamp, _)| *stamp);
            match step {
                Step::Wait(millis) => real += millis,
                Step::Office(node) => leader = Some((node, Stamper::new(greatest, show(&clocks, node, real)))),
                Step::Pause(millis) => {
                    real += millis;
                    if let Some((node, stamper)) = &mut leader {
                        stamper.resume(show(&clocks, *node, real));
                    }
                }
                Step::Restart(node, at) => {
                    clocks[node] = i64::try_from(at).unwrap() - i64::try_from(real).unwrap();
                    if leader.as_ref().is_some_and(|(leads, _)| *leads == node) {
                        leader = None;
                    }
                }
                Step::Back(node, by) => {
                    clocks[node] -= i64::try_from(by).unwrap();
                }
                Step::Stamp { commits } => {
                    let Some((node, stamper)) = &mut leader else { continue };
                    let stamp = stamper.stamp(show(&clocks, *node, real));
                    if commits {
                        committed.push((stamp, real));
                    } else {
                        // What was not committed is not known to the next leader.
                        leader = None;
                    }
                }
            }
        }
        for pair in committed.windows(2) {
            let [(before, began), (after, ended)] = pair else { unreachable!() };
            prop_assert!(before <= after, "never backwards");
            let passed = (ended - began) * 1_000_000;
            prop_assert!(after - before <= passed, "{} in {} of real time", after - before, passed);
        }
        // The same over the whole, which the pairs imply.
        if let (Some((first, began)), Some((last, ended))) = (committed.first(), committed.last()) {
            prop_assert!(last - first <= (ended - began) * 1_000_000);
        }
    }
}

#[test]
fn time_counts_on_from_the_greatest_stamp() {
    let mut stamper = Stamper::new(5_000, Duration::from_secs(100));
    assert_eq!(stamper.stamp(Duration::from_secs(100)), 5_000);
    assert_eq!(stamper.stamp(Duration::from_nanos(100_000_000_700)), 5_700);
}

#[test]
fn time_without_a_majority_is_not_counted() {
    let mut stamper = Stamper::new(0, Duration::ZERO);
    assert_eq!(stamper.stamp(Duration::from_nanos(50)), 50);
    stamper.resume(Duration::from_secs(3600));
    assert_eq!(stamper.stamp(Duration::from_secs(3600)), 50);
    assert_eq!(
        stamper.stamp(Duration::from_secs(3600) + Duration::from_nanos(9)),
        59
    );
}

#[test]
fn a_clock_that_jumps_back_or_far_ahead_breaks_nothing() {
    let mut stamper = Stamper::new(10, Duration::from_secs(50));
    assert_eq!(stamper.stamp(Duration::from_secs(51)), 1_000_000_010);
    assert_eq!(stamper.stamp(Duration::ZERO), 1_000_000_010);
    assert_eq!(stamper.stamp(Duration::MAX), u64::MAX);
    assert_eq!(stamper.stamp(Duration::MAX), u64::MAX);
}
