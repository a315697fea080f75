//! Random lives of OLT hosts and servers in virtual time, each out of one seed: the real machine of the edge, the
//! real state of the centre with its replica, one log in the place of the quorum; whatever goes wrong, no address
//! is ever with two subscribers, and nothing that was acknowledged is lost.
//!
//! `NEXUS_OWNERSHIP_SEED=n` runs one seed and tells what happens, `NEXUS_OWNERSHIP_SEEDS=n` so many of them, a third
//! of each kind, or from `NEXUS_OWNERSHIP_FROM` on; `cargo xtask simulate --ownership` sets these. `NEXUS_OWNERSHIP_BUG=name` plants a
//! fault in all of them: where a seldom one is to be looked for.

mod bug;
mod chaos;
mod check;
mod client;
mod clock;
mod decide;
mod hand_on;
mod host;
mod mail;
mod people;
mod serve;
mod server;
mod sites;
mod talk;
mod used;
mod wide;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Lives from this seed on also have what `wide` brings: pools that change, clocks that run wrong beyond the limit and
/// are set. Those before stay what they were.
const WIDE_FROM: u64 = 1_000_000;
/// And lives from this one on have instead what `sites` brings: sites that are cut off with their hosts, acknowledged
/// bindings that end soon, servers that are put back to an older copy.
const SITES_FROM: u64 = 2_000_000;
/// Lives of one run in CI, the same ones each time: narrow ones, wide ones, and those with sites.
const SEEDS: [u64; 3] = [3000, 300, 300];
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

/// What besides the faults of every life may happen in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Narrow,
    Wide,
    Sites,
}

impl Kind {
    const fn of(seed: u64) -> Self {
        match seed {
            SITES_FROM.. => Self::Sites,
            WIDE_FROM.. => Self::Wide,
            _ => Self::Narrow,
        }
    }
}

/// One life out of one seed.
fn live(seed: u64, bug: Option<Bug>, loud: bool) -> Result<Life, String> {
    let mut world = World::new(seed, bug, loud);
    world.calm = false;
    world.schedule(0, mail::Event::Fault);
    match world.kind {
        Kind::Narrow => {}
        Kind::Wide => world.schedule(0, mail::Event::WideFault),
        Kind::Sites => world.schedule(0, mail::Event::SiteFault),
    }
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
    let began = Instant::now();
    let seeds: Vec<u64> = match (
        number("NEXUS_OWNERSHIP_SEEDS"),
        number("NEXUS_OWNERSHIP_FROM"),
    ) {
        (Some(seeds), Some(from)) if from > 1 => (from..from + seeds).collect(),
        (seeds, _) => {
            let [narrow, wide, sites] =
                seeds.map_or(SEEDS, |all| [all - all / 3 * 2, all / 3, all / 3]);
            (1..=narrow)
                .chain(WIDE_FROM..WIDE_FROM + wide)
                .chain(SITES_FROM..SITES_FROM + sites)
                .collect()
        }
    };
    let lives = seeds.len() as u64;
    let planted = std::env::var("NEXUS_OWNERSHIP_BUG").ok();
    let planted = planted.map(|name| Bug::named(&name).unwrap());
    let (total, mut failed) = live_all(&seeds, planted);
    failed.sort();
    println!(
        "{lives} lives, {:.1} s: {total:?}",
        began.elapsed().as_secs_f64()
    );
    for (seed, why) in failed.iter().take(20) {
        println!(
            "seed {seed}: {why}\n  once more, in full: cargo xtask simulate --ownership --seed {seed}"
        );
    }
    let failed: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(
        failed.is_empty(),
        "of {lives} lives these failed: {failed:?}"
    );
    assert!(
        total.acknowledged > lives && total.restarts > lives,
        "a life without life: {total:?}"
    );
    let all_kinds = seeds.contains(&1) && seeds.contains(&(SITES_FROM + 99));
    let happened = [
        total.stopped,
        total.pool_changes,
        total.sites_cut,
        total.copies_found,
        total.reclaimed,
    ];
    assert!(
        !all_kinds || !happened.contains(&0),
        "a kind of lives without what it is for: {total:?}"
    );
}

/// Each life on whichever core has time.
fn live_all(seeds: &[u64], planted: Option<Bug>) -> (Life, Vec<(u64, String)>) {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut total, mut failed) = (Life::default(), Vec::new());
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            match std::panic::catch_unwind(|| live(seed, planted, false)) {
                Ok(Ok(life)) => total.add(&life),
                Ok(Err(why)) => failed.push((seed, why)),
                Err(_) => failed.push((seed, "it panicked, see above".to_owned())),
            }
        }
        (total, failed)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let (mut total, mut failed) = (Life::default(), Vec::new());
        for thread in threads {
            let (part, of_part) = thread.join().unwrap();
            total.add(&part);
            failed.extend(of_part);
        }
        (total, failed)
    })
}

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    for (bug, first) in Bug::ALL {
        let found = (first..first + SEEDS_FOR_A_BUG).find_map(|seed| {
            let why = live(seed, Some(bug), false).err()?;
            // It must be the fault's doing.
            live(seed, None, false).ok()?;
            Some((seed, why))
        });
        match found {
            Some((seed, why)) => println!("{bug:?} is found with seed {seed}: {why}"),
            None => missed.push(bug),
        }
    }
    assert!(
        missed.is_empty(),
        "not found in {SEEDS_FOR_A_BUG} lives: {missed:?}"
    );
}
