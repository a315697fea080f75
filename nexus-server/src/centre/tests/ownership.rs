//! Random lives of OLT hosts and servers in virtual time, each out of one seed: the real machine of the edge, the
//! real state of the centre with its replica, one log in the place of the quorum; whatever goes wrong, no address
//! is ever with two subscribers, and nothing that was acknowledged is lost.
//!
//! `NEXUS_OWNERSHIP_SEED=n` runs one seed and tells what happens, `NEXUS_OWNERSHIP_SEEDS=n` so many of them from
//! `NEXUS_OWNERSHIP_FROM` (1) on; `cargo xtask simulate --ownership` sets these.

mod bug;
mod chaos;
mod check;
mod host;
mod mail;
mod server;
mod talk;
mod world;

use std::time::{Duration, Instant};

use nexus_core::duration::HumanDuration;
use nexus_core::pool::PoolSpec;
use nexus_core::resource::ResourceType;
use nexus_random as random;

use bug::Bug;
use world::{Life, World};

const LEASE: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(3);
/// A client that hears nothing goes on for so long.
const DHCP_LEASE: Duration = Duration::from_secs(30);
const SUBSCRIBERS: usize = 8;

/// Lives of one run in CI: the same ones each time, and as few as a build without optimization allows.
const SEEDS: u64 = 150;
/// Lives within which a planted fault must be found.
const SEEDS_FOR_A_BUG: u64 = 60;

/// Sixteen shards of four addresses.
fn pool_spec() -> PoolSpec {
    let id = nexus_core::id::PoolId::new("p").unwrap();
    let mut spec = PoolSpec::minimal(id, ResourceType::Ipv4, "10.0.0.0/26");
    spec.shard_size = Some(30);
    spec.cool_down = HumanDuration::from_secs(5);
    spec.dhcp.lease_time = HumanDuration::from_secs(DHCP_LEASE.as_secs());
    spec
}

/// One life out of one seed.
fn live(seed: u64, bug: Option<Bug>, loud: bool) -> Result<Life, String> {
    let mut world = World::new(seed, bug, loud);
    world.calm = false;
    world.schedule(0, mail::Event::Fault);
    let lasts = world.random.between(100_000, 260_000);
    world.run(lasts);
    world.heal();
    // Leases end, sessions are replaced, what was lost is sent again.
    world.run(100_000);
    let fault = world.fault.take().or_else(|| check::settled(&world));
    fault.map_or(Ok(world.life), Err)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_goes_wrong_no_address_has_two_holders_and_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("NEXUS_OWNERSHIP_SEED") {
        println!("{:?}", live(seed, None, true).unwrap());
        return;
    }
    let (began, from) = (Instant::now(), number("NEXUS_OWNERSHIP_FROM").unwrap_or(1));
    let asked = number("NEXUS_OWNERSHIP_SEEDS");
    let (mut total, mut lives, mut failed) = (Life::default(), 0, Vec::new());
    for seed in from..from + asked.unwrap_or(SEEDS) {
        lives += 1;
        match live(seed, None, false) {
            Ok(life) => {
                total.events += life.events;
                total.acknowledged += life.acknowledged;
                total.restarts += life.restarts;
                total.put_right += life.put_right;
                total.seconds += life.seconds;
            }
            Err(why) => failed.push((seed, why)),
        }
    }
    println!(
        "{lives} lives from seed {from} on, {:.1} s: {total:?}",
        began.elapsed().as_secs_f64()
    );
    for (seed, why) in failed.iter().take(20) {
        println!(
            "seed {seed}: {why}\n  once more, in full: cargo xtask simulate --ownership --seed {seed}"
        );
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(seeds.is_empty(), "of {lives} lives these failed: {seeds:?}");
    assert!(
        total.acknowledged > lives && total.restarts > lives,
        "a life without life: {total:?}"
    );
}

#[test]
fn every_planted_fault_is_found() {
    for (bug, first) in Bug::ALL {
        let found = (first..first + SEEDS_FOR_A_BUG).find_map(|seed| {
            let why = live(seed, Some(bug), false).err()?;
            Some((seed, why))
        });
        let Some((seed, why)) = found else {
            panic!("{bug:?} is not found in {SEEDS_FOR_A_BUG} lives");
        };
        println!("{bug:?} is found with seed {seed}: {why}");
    }
}
