//! Hosts that come back: after their shards have moved, after they stood still, and as two with one id.

use std::path::Path;

use anyhow::{Result, ensure};
use nexus_testkit::field::bench::may_allocate;
use nexus_testkit::field::plan::PATIENCE;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::nas::Reply;

use super::stage::{hosts, lease_lives, on, shards, within};

const MOVED: &str = "an address out of a shard that has moved";

/// Waits until a log says so.
fn told(log: &Path, what: &str) -> Result<()> {
    wait_until(&format!("a log says \"{what}\""), PATIENCE, || {
        let log = std::fs::read_to_string(log)?;
        Ok(log.contains(what).then_some(()))
    })
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn an_olt_that_comes_back_after_its_shards_have_moved_keeps_its_subscribers_and_shares_nothing() {
    on(&hosts(&["olt-1", "olt-2"]), 2, |stage| {
        let ranges = stage.cut(0)?;
        let newcomers = stage.doors.answers(20..26)?;
        if lease_lives(&stage.host(0)?.status()?) {
            // The lease lives still: whoever came meanwhile has an address.
            let all = newcomers
                .values()
                .all(|reply| matches!(reply, Reply::Accept(Some(_))));
            ensure!(all, "cut off with a lease, and refused: {newcomers:?}");
        }
        // The other one takes over what is free, as soon as it may.
        stage.fill_until(1, MOVED, |address| within(address, &ranges))?;
        stage.known_are_renewed()?;
        let refused = stage.doors.answers([30])?;
        ensure!(
            matches!(refused.get(&30), Some(Reply::Reject(_))),
            "it allocates from shards that are not its own any more: {refused:?}"
        );
        stage.nobody_shares()?;
        stage.connected_again(0)?;
        stage.known_keep_their_addresses()?;
        stage.known_are_renewed()?;
        stage.settled()
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_host_that_stood_still_for_longer_than_its_lease_gives_nothing_that_has_moved() {
    on(&hosts(&["olt-1", "olt-2"]), 2, |stage| {
        let host = stage.host(0)?;
        host.wait("it may allocate", may_allocate)?;
        let ranges = shards(&host.status()?)?;
        host.pause(true)?;
        let next = stage.fill_until(1, MOVED, |address| within(address, &ranges))?;
        // Nobody but the kernel answers.
        stage.known_are_renewed()?;
        // What waits in its socket is the first thing that it sees when it goes on.
        for who in 20..40 {
            let account = nexus_testkit::field::subscribers::account(who);
            let now = std::time::Instant::now();
            stage.doors.nas.ask(now, u64::from(who), &account)?;
        }
        stage.host(0)?.pause(false)?;
        stage.doors.authenticate(40..60)?;
        stage.nobody_shares()?;
        stage.connected_again(0)?;
        stage.field.doors(1)?.authenticate(100..next)?;
        stage.known_keep_their_addresses()?;
        stage.settled()
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn of_two_hosts_with_one_id_the_second_is_refused_and_both_are_told() {
    // The first one is alive for as long as it takes.
    on(&hosts(&["olt-1", "olt-1"]).long_lived(), 1, |stage| {
        stage.host(1)?.launch()?;
        told(&stage.host(1)?.log_file(), "another host")?;
        told(
            &stage.host(0)?.log_file(),
            "another host tries to be this OLT",
        )?;
        let answers = stage.field.doors(1)?.authenticate(30..33)?;
        ensure!(
            !answers
                .values()
                .any(|reply| matches!(reply, Reply::Accept(_))),
            "the second host gives addresses: {answers:?}"
        );
        stage.known_are_renewed()?;
        stage.doors.addresses(40..50)?;
        stage.host(0)?.wait("the first one goes on", may_allocate)?;
        stage.nobody_shares()
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_second_host_that_takes_over_an_id_shares_nothing_with_the_first_one_that_comes_back() {
    on(&hosts(&["olt-1", "olt-1"]), 1, |stage| {
        stage.cut(0)?;
        // It is taken in once the first one counts as offline, whose lease lives on; it may not have its shards yet.
        stage.host(1)?.launch()?;
        let mut second = stage.field.doors(1)?;
        let mut next = 100;
        wait_until("the second one has shards and addresses", PATIENCE, || {
            let replies = second.authenticate(next..next + 5)?;
            let all = replies
                .values()
                .all(|reply| matches!(reply, Reply::Accept(Some(_))));
            next += if all { 5 } else { 0 };
            stage.nobody_shares()?;
            Ok((next >= 120).then_some(()))
        })?;
        stage.known_are_renewed()?;
        stage.host(0)?.heal()?;
        told(&stage.host(0)?.log_file(), "another host")?;
        stage.nobody_shares()?;
        let mut allocate = 0;
        for at in [0, 1] {
            let status = stage.host(at)?.status();
            allocate += usize::from(status.is_ok_and(|status| may_allocate(&status)));
        }
        ensure!(allocate < 2, "two hosts with one id allocate");
        second.addresses(100..110)?;
        stage.nobody_shares()
    });
}
