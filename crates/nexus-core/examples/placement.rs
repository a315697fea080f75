//! How long placement takes, how even it is and how much it moves, on a shard table of its own:
//! `cargo run --release -p nexus-core --example placement -- [OLTS] [SHARDS]`. Prints one JSON object.
//!
//! The pool is short on purpose: every OLT could use more shards than there are, so that each join
//! has to take some from others, and each leave gives all of its shards to others.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use nexus_core::id::{OltId, PoolId, Seq, SessionId};
use nexus_core::pool::{Pool, PoolSpec};
use nexus_core::resource::ResourceType;
use nexus_core::shard::{ShardRef, ShardState};
use nexus_core::shard_table::{Command, MAX_OLTS, PlannedChange, Register, Renew, ShardTable};
use nexus_core::time::ClusterTime;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Subscribers of each OLT; an address for each of them and a quarter more make ten shards.
const CAPACITY: u32 = 2000;
const TRIES: usize = 5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| match arguments.next() {
        Some(text) => text.parse().map_err(|error| format!("`{text}`: {error}")),
        None => Ok(default),
    };
    let (olts, shards) = (number(2000)?, number(16_384)?);
    if !(1..MAX_OLTS).contains(&olts) || !(16..=65_536).contains(&shards) {
        return Err("give 1 to 16383 OLTs and 16 to 65536 shards".into());
    }
    println!("{:#}", measure(olts, shards)?);
    Ok(())
}

/// A table whose OLTs are there before its pool, so that the pool is placed as a whole.
struct World {
    table: ShardTable,
    pool: PoolId,
    olts: Vec<OltId>,
}

fn measure(olts: usize, shards: usize) -> Result<Value> {
    let (mut full, mut join, mut join_done, mut leave, mut leave_done, mut plan) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    let mut report = json!({});
    for _ in 0..TRIES {
        let mut world = World::registered(olts)?;
        let started = Instant::now();
        world.add_pool(shards)?;
        full.push(started.elapsed());
        let balance = world.balance();
        let before = world.owners();

        let started = Instant::now();
        let planned = world.table.plan([PlannedChange::Join {
            olt: OltId::new("olt-new")?,
            region: "east".into(),
            capacity: CAPACITY,
        }])?;
        plan.push(started.elapsed());

        let started = Instant::now();
        world.register("olt-new")?;
        join.push(started.elapsed());
        let steps = world.rest()?;
        join_done.extend(steps);
        let joined = world.owners();
        let joined_balance = world.balance();

        let leaver = world.olts.first().ok_or("no OLT")?.clone();
        let started = Instant::now();
        let _ = world.apply(Command::Drain {
            olt: leaver.clone(),
        })?;
        leave.push(started.elapsed());
        leave_done.extend(world.rest()?);
        let left = world.owners();
        report = json!({
            "olts": olts,
            "shards": shards,
            "balance": balance,
            "balance_after_join": joined_balance,
            "planned_moves_of_join": planned.moves.len(),
            "moved_by_join": moved(&before, &joined),
            "owned_by_newcomer": joined.values().filter(|olt| olt.as_str() == "olt-new").count(),
            "owned_by_leaver_before": joined.values().filter(|olt| **olt == leaver).count(),
            "moved_by_leave": moved(&joined, &left),
            "owned_by_leaver_after": left.values().filter(|olt| **olt == leaver).count(),
        });
    }
    if let Some(report) = report.as_object_mut() {
        for (name, mut all) in [
            ("full_plan_ms", full),
            ("join_ms", join),
            ("leave_ms", leave),
            ("step_after_join_ms", join_done),
            ("step_after_leave_ms", leave_done),
            ("plan_of_join_ms", plan),
        ] {
            all.sort();
            report.insert(name.to_owned(), spread(&all));
        }
    }
    Ok(report)
}

fn spread(sorted: &[Duration]) -> Value {
    let ms = |time: Option<&Duration>| time.map(|time| time.as_secs_f64() * 1000.0);
    json!({
        "min": ms(sorted.first()),
        "median": ms(sorted.get(sorted.len() / 2)),
        "max": ms(sorted.last()),
    })
}

type Owners = BTreeMap<u32, OltId>;

/// Shards that had an owner and have another one now.
fn moved(before: &Owners, after: &Owners) -> usize {
    let other = |(shard, olt): &(&u32, &OltId)| after.get(shard) != Some(*olt);
    before.iter().filter(other).count()
}

impl World {
    fn registered(olts: usize) -> Result<Self> {
        let mut world = Self {
            table: ShardTable::default(),
            pool: PoolId::new("residential-ipv4")?,
            olts: Vec::new(),
        };
        for number in 0..olts {
            world.register(&format!("olt-{number:05}"))?;
        }
        Ok(world)
    }

    fn apply(&mut self, command: Command) -> Result<nexus_core::shard_table::Applied> {
        let now = ClusterTime::ZERO + Duration::from_secs(1);
        Ok(self.table.drive(now, command)?)
    }

    fn register(&mut self, id: &str) -> Result<()> {
        let olt = OltId::new(id)?;
        self.olts.push(olt.clone());
        let _ = self.apply(Command::Register(Register {
            olt,
            name: String::new(),
            region: "east".into(),
            address: String::new(),
            capacity: CAPACITY,
            session: SessionId::new("s")?,
            last_seq: Seq(0),
            recorded_seq: Seq(0),
            acked_below: Seq(0),
            keeping: None,
        }))?;
        Ok(())
    }

    /// A pool of shards of 256 addresses each.
    fn add_pool(&mut self, shards: usize) -> Result<()> {
        let bits = shards.next_power_of_two().trailing_zeros();
        let cidr = format!("10.0.0.0/{}", 24_u32.saturating_sub(bits));
        let mut spec = PoolSpec::minimal(self.pool.clone(), ResourceType::Ipv4, &cidr);
        spec.shard_size = Some(24);
        let _ = self.apply(Command::AddPool {
            spec: Box::new(spec),
        })?;
        let made = self.table.pool(&self.pool).map_or(0, Pool::shard_count);
        if usize::try_from(made)? != shards {
            return Err(format!("the pool has {made} shards: give a power of two").into());
        }
        Ok(())
    }

    /// Everybody gives back what is asked for until nothing is; the time of each such step.
    fn rest(&mut self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        loop {
            let before = times.len();
            self.give_back(&mut times)?;
            if times.len() == before {
                return Ok(times);
            }
        }
    }

    fn give_back(&mut self, times: &mut Vec<Duration>) -> Result<()> {
        for olt in self.olts.clone() {
            let mut shards = self.table.shards_of(&olt);
            let asked: Vec<ShardRef> = shards
                .remove(&self.pool)
                .into_iter()
                .flatten()
                .filter(|shard| shard.state == ShardState::Draining)
                .map(|shard| ShardRef {
                    pool: self.pool.clone(),
                    shard: shard.shard,
                    epoch: shard.epoch,
                })
                .collect();
            if asked.is_empty() {
                continue;
            }
            let row = self.table.olt(&olt).ok_or("unknown OLT")?.row.clone();
            let started = Instant::now();
            let _ = self.apply(Command::Renew(Renew {
                olt,
                session: row.session,
                config_revision: row.config_revision,
                last_seq: row.last_seq,
                idle: BTreeMap::new(),
                in_use: BTreeMap::new(),
                released: asked,
                acked_below: Seq(0),
                keeping: None,
            }))?;
            times.push(started.elapsed());
        }
        Ok(())
    }

    fn owners(&self) -> Owners {
        self.table
            .shards(&self.pool)
            .filter_map(|row| Some((row.key.shard.0, row.owner.as_ref()?.olt.clone())))
            .filter(|(_, olt)| !olt.is_cluster())
            .collect()
    }

    /// The least and the most that an OLT has, as parts of the fair share.
    fn balance(&self) -> Value {
        let mut counts: BTreeMap<&OltId, u32> = self.olts.iter().map(|olt| (olt, 0)).collect();
        let owners = self.owners();
        for olt in owners.values() {
            if let Some(count) = counts.get_mut(olt) {
                *count = count.saturating_add(1);
            }
        }
        let fair = owners.len() as f64 / counts.len() as f64;
        let share = |count: Option<&u32>| count.map(|count| f64::from(*count) / fair);
        json!({
            "fair": fair,
            "least": share(counts.values().min()),
            "most": share(counts.values().max()),
        })
    }
}
