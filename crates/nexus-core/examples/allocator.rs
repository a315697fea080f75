//! How long an allocation and a release take at the edge, and how much memory they hold, for a small pool and
//! for one of four million addresses, at several fills: `cargo run --release -p nexus-core --example allocator`.
//! Prints one JSON object.

use std::time::{Duration, Instant};

use nexus_core::allocator::{Allocator, Unit};
use nexus_core::id::{PoolId, ShardId, SubscriberId};
use nexus_core::pool::{Pool, PoolSpec};
use nexus_core::resource::ResourceType;
use nexus_core::time::BootTime;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Allocations and releases that are timed one by one.
const TIMED: usize = 100_000;
/// Shares of the pool that are held while they are, in hundredths of a percent.
const FILLS: [u64; 4] = [100, 5_000, 9_900, 9_999];

fn main() -> Result<()> {
    let (small, large) = (pool("10.0.0.0/24", 24)?, pool("10.0.0.0/10", 12)?);
    // First of all, while no memory of anything else can be used again.
    let mut measured = vec![memory(&large)?];
    for pool in [&small, &large] {
        for fill in FILLS {
            measured.push(churn(pool, fill)?);
        }
        measured.push(after_a_restart(pool)?);
    }
    println!("{:#}", json!({ "allocator": measured }));
    Ok(())
}

fn pool(cidr: &str, shard_size: u32) -> Result<Pool> {
    let mut spec = PoolSpec::minimal(PoolId::new("bench")?, ResourceType::Ipv4, cidr);
    spec.shard_size = Some(shard_size);
    Ok(Pool::new(spec)?)
}

/// An allocator of which `wanted` units are held, and by whom the next one would be.
fn filled(pool: &Pool, wanted: u64) -> Result<(Allocator, Vec<Unit>, u64)> {
    let mut allocator = Allocator::new(pool.clone());
    pool.shards().for_each(|shard| allocator.open(shard, 0));
    let mut held = Vec::new();
    for next in 0..wanted {
        held.extend(allocator.allocate(BootTime::ZERO, &subscriber(next)?));
    }
    Ok((allocator, held, wanted))
}

/// What one allocation takes.
fn memory(pool: &Pool) -> Result<Value> {
    let wanted = pool.allocatable_total();
    let before = resident();
    let (allocator, held, _) = filled(pool, wanted)?;
    let kept = u64::try_from(held.len() * size_of::<Unit>())?;
    let bytes = resident().saturating_sub(before).saturating_sub(kept);
    let free = allocator.usage(ShardId(0)).available;
    Ok(json!({
        "what": "memory, names of 19 bytes",
        "pool": pool.space(),
        "held": held.len(),
        "left_in_the_first_shard": free,
        "bytes_per_allocation": bytes.checked_div(wanted),
    }))
}

/// Subscribers come and go while a share of the pool is held.
fn churn(pool: &Pool, fill: u64) -> Result<Value> {
    let wanted = pool.allocatable_total() * fill / 10_000;
    let (mut allocator, mut held, mut next) = filled(pool, wanted)?;
    let (mut given, mut taken) = (Vec::new(), Vec::new());
    let mut random = 1_u64;
    for round in 0..TIMED {
        let now = BootTime::ZERO + Duration::from_secs(u64::try_from(round)?);
        let who = subscriber(next)?;
        next += 1;
        let started = Instant::now();
        let unit = allocator.allocate(now, &who);
        given.push(started.elapsed());
        held.push(unit.ok_or("the pool is full")?);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let leaving = usize::try_from((random >> 33) % u64::try_from(held.len())?)?;
        let unit = held.swap_remove(leaving);
        let started = Instant::now();
        allocator.release(unit, now + Duration::from_secs(1));
        taken.push(started.elapsed());
    }
    Ok(json!({
        "what": "churn",
        "pool": pool.space(),
        "units": pool.allocatable_total(),
        "held": wanted,
        "allocate_ns": quantiles(&mut given),
        "release_ns": quantiles(&mut taken),
    }))
}

/// The last free units of a pool are looked for by a process that remembers no returns.
fn after_a_restart(pool: &Pool) -> Result<Value> {
    let mut allocator = Allocator::new(pool.clone());
    let mut next = 0_u64;
    let mut free = 0_usize;
    for shard in pool.shards() {
        for unit in 0..pool.units(shard) {
            // One in ten thousand is free, and at least one in a shard.
            if unit % 10_000 == 77 {
                free += 1;
                continue;
            }
            allocator.hold((shard, unit), &subscriber(next)?);
            next += 1;
        }
    }
    let started = Instant::now();
    for shard in pool.shards() {
        allocator.open(shard, pool.units(shard));
    }
    let opened = started.elapsed();
    let mut given = Vec::new();
    for _ in 0..free {
        let who = subscriber(next)?;
        next += 1;
        let started = Instant::now();
        let unit = allocator.allocate(BootTime::ZERO, &who);
        given.push(started.elapsed());
        unit.ok_or("a free unit was not found")?;
    }
    Ok(json!({
        "what": "the last free units, after a restart",
        "pool": pool.space(),
        "units": pool.allocatable_total(),
        "free": free,
        "open_us": u64::try_from(opened.as_micros())?,
        "allocate_ns": quantiles(&mut given),
    }))
}

fn subscriber(n: u64) -> Result<SubscriberId> {
    Ok(SubscriberId::new(format!("subscriber-{n:08}"))?)
}

fn quantiles(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 1000).min(times.len().saturating_sub(1));
        let nanos = times.get(index).map_or(0, Duration::as_nanos);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    };
    json!({ "p50": at(500), "p99": at(990), "p999": at(999), "max": at(1000) })
}

/// Memory of this process, in bytes (`/proc/self/statm`, second field, pages of 4 KiB).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}
