//! Hosts that come back: after their shards have moved, after they stood still, and as two with one id.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use nexus_testkit::cluster::LIMIT;
use nexus_testkit::field::bench::{Field, may_allocate};
use nexus_testkit::field::history::{OltAt, Who};
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::nas::Reply;

use super::stage::{SUBSCRIBERS, acknowledged, connected, cut, on, record_and_hosts_agree, shards};

/// Whether an address lies in one of these ranges of 16 addresses.
fn within(address: Ipv4Addr, ranges: &BTreeSet<String>) -> bool {
    let [a, b, c, d] = address.octets();
    let network = Ipv4Addr::new(a, b, c, d & 0xf0);
    ranges.contains(&format!("{network}/28"))
}

/// Subscribers from `first` on come up at a host until one of them gets an address out of these ranges, which were
/// another's. Returns how far it has come.
fn fill_until(field: &mut Field, at: OltAt, first: Who, ranges: &BTreeSet<String>) -> Result<Who> {
    let mut doors = field.doors(at)?;
    let mut next = first;
    wait_until("an address out of a shard that has moved", LIMIT, || {
        let until = (next + 10).min(SUBSCRIBERS);
        let replies = doors.authenticate(next..until)?;
        let addresses = replies.values().filter_map(|reply| match reply {
            Reply::Accept(address) => *address,
            _ => None,
        });
        let moved = addresses.clone().any(|address| within(address, ranges));
        // Who was refused asks again: shards come only when they are needed.
        if addresses.count() == replies.len() {
            next = until;
        } else {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        Ok(moved.then_some(()))
    })?;
    Ok(next)
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn an_olt_that_comes_back_after_its_shards_have_moved_keeps_its_subscribers_and_shares_nothing() {
    on(&["olt-1", "olt-2"], |field| {
        field.start_sidecars(&[0, 1])?;
        let mut doors = field.doors(0)?;
        let known = doors.addresses(0..20)?;
        acknowledged(field, 0)?;
        let ranges = shards(field, 0)?;
        cut(field, 0)?;
        let newcomers = doors.authenticate(20..26)?;
        if field.host(0)?.status()?["lease_left_secs"].as_u64() > Some(0) {
            // The lease lives still: whoever came meanwhile has an address.
            let all = newcomers
                .values()
                .all(|reply| matches!(reply, Reply::Accept(Some(_))));
            ensure!(all, "cut off with a lease, and refused: {newcomers:?}");
        }
        // The other one takes over what is free, as soon as it may.
        fill_until(field, 1, 100, &ranges)?;
        doors.renew(&known)?;
        let refused = doors.authenticate([30])?;
        ensure!(
            matches!(refused.get(&30), Some(Reply::Reject(_))),
            "it allocates from shards that are not its own any more: {refused:?}"
        );
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        field.host(0)?.heal()?;
        field
            .host(0)?
            .wait("it is connected again", LIMIT, connected)?;
        acknowledged(field, 0)?;
        ensure!(doors.addresses(known.keys().copied())? == known);
        doors.renew(&known)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        record_and_hosts_agree(field, 2)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_host_that_stood_still_for_longer_than_its_lease_gives_nothing_that_has_moved() {
    on(&["olt-1", "olt-2"], |field| {
        field.start_sidecars(&[0, 1])?;
        let mut doors = field.doors(0)?;
        let known = doors.addresses(0..20)?;
        acknowledged(field, 0)?;
        let ranges = shards(field, 0)?;
        field.host(0)?.pause(true)?;
        let next = fill_until(field, 1, 100, &ranges)?;
        // Nobody but the kernel answers.
        doors.renew(&known)?;
        // What waits in its socket is the first thing that it sees when it goes on.
        for who in 20..40 {
            let account = nexus_testkit::field::subscribers::account(who);
            doors
                .nas
                .ask(std::time::Instant::now(), u64::from(who), &account)?;
        }
        field.host(0)?.pause(false)?;
        doors.authenticate(40..60)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        field
            .host(0)?
            .wait("it is connected again", LIMIT, connected)?;
        acknowledged(field, 0)?;
        field.doors(1)?.authenticate(100..next)?;
        ensure!(doors.addresses(known.keys().copied())? == known);
        acknowledged(field, 1)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        record_and_hosts_agree(field, 2)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn of_two_hosts_with_one_id_the_second_is_refused_and_both_are_told() {
    on(&["olt-1", "olt-1"], |field| {
        field.start_sidecars(&[0])?;
        let mut doors = field.doors(0)?;
        let known = doors.addresses(0..20)?;
        acknowledged(field, 0)?;
        field.host(1)?.launch()?;
        let second = field.host(1)?.log_file();
        wait_until("the second host is told", LIMIT, || {
            let log = std::fs::read_to_string(&second)?;
            Ok(log.contains("another host").then_some(()))
        })?;
        let first = field.host(0)?.log_file();
        wait_until("the first host is told", LIMIT, || {
            let log = std::fs::read_to_string(&first)?;
            Ok(log
                .contains("another host tries to be this OLT")
                .then_some(()))
        })?;
        let answers = field.doors(1)?.authenticate(30..33)?;
        ensure!(
            !answers
                .values()
                .any(|reply| matches!(reply, Reply::Accept(_))),
            "the second host gives addresses: {answers:?}"
        );
        doors.renew(&known)?;
        doors.addresses(40..50)?;
        field
            .host(0)?
            .wait("the first one goes on", LIMIT, may_allocate)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn a_second_host_that_takes_over_an_id_shares_nothing_with_the_first_one_that_comes_back() {
    on(&["olt-1", "olt-1"], |field| {
        field.start_sidecars(&[0])?;
        let mut doors = field.doors(0)?;
        let known = doors.addresses(0..20)?;
        acknowledged(field, 0)?;
        cut(field, 0)?;
        // It is taken in once the first one counts as offline, whose lease lives on; it may not have its shards yet.
        field.host(1)?.launch()?;
        let mut second = field.doors(1)?;
        let mut next = 100;
        wait_until("the second one has shards and addresses", LIMIT, || {
            let replies = second.authenticate(next..next + 5)?;
            let all = replies
                .values()
                .all(|reply| matches!(reply, Reply::Accept(Some(_))));
            next += if all { 5 } else { 0 };
            field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
            Ok((next >= 120).then_some(()))
        })?;
        doors.renew(&known)?;
        field.host(0)?.heal()?;
        let first = field.host(0)?.log_file();
        wait_until("the first one is told", LIMIT, || {
            let log = std::fs::read_to_string(&first)?;
            Ok(log.contains("another host").then_some(()))
        })?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS)?;
        let one = field
            .host(0)?
            .status()
            .is_ok_and(|status| may_allocate(&status));
        let other = field
            .host(1)?
            .status()
            .is_ok_and(|status| may_allocate(&status));
        ensure!(!(one && other), "two hosts with one id allocate");
        second.addresses(100..110)?;
        field.nobody_shares(&[0, 1], SUBSCRIBERS).map(drop)
    });
}
