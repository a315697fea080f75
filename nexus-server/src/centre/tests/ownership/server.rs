//! One server of the simulation: the real [`Centre`] over rows in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_clset::{Dot, Options};
use nexus_core::cluster::Answer;
use nexus_core::id::OltId;

use super::super::{AllRows, Memory, Settings};
use super::clock::Clock;
use super::mail::{Line, Request};
use crate::centre::Centre;
use crate::centre::effects::Write;
use crate::clock::Now;
use crate::cluster::barrier::Progress;
use crate::replica::Replica;

/// Somebody waits for something at a server.
pub struct Waiting {
    /// True time at which it is given up.
    pub until: u64,
    pub line: Line,
    pub what: What,
}

pub enum What {
    /// That the OLT may be told of all its shards; what a registration was granted; and what a majority must have been asked
    /// for.
    Told(String, Box<Request>, Answer, u64),
    /// That a majority has this write.
    Confirmed(Dot, nexus_core::id::Seq),
}

pub struct Server {
    pub number: u32,
    /// What the server reads.
    pub clock: Clock,
    /// What cluster time is counted on while it leads.
    pub counts: Clock,
    pub memory: Memory,
    /// An older copy of it.
    pub copy: Option<AllRows>,
    pub centre: Centre,
    /// Entries of the log that it has carried out.
    pub applied: usize,
    pub up: bool,
    /// How often it was started: what was sent to it before is gone.
    pub life: u32,
    pub progress: Progress,
    pub waiting: Vec<Waiting>,
    /// Streams of allocations and configurations that are open, by OLT.
    pub streams: BTreeMap<OltId, Vec<(Line, u32)>>,
}

impl Server {
    pub fn new(number: u32, clock: Clock, counts: Clock, at: u64) -> Self {
        let memory = Memory::default();
        let centre = open(&memory, number, &reading(&clock, at), 0);
        Self {
            clock,
            counts,
            number,
            memory,
            copy: None,
            centre,
            applied: 0,
            up: true,
            life: 0,
            progress: Progress::default(),
            waiting: Vec::new(),
            streams: BTreeMap::new(),
        }
    }

    /// What its clocks show.
    pub fn now(&self, at: u64) -> Now {
        reading(&self.clock, at)
    }

    /// The process has ended and starts again with what is on its disk; the log is still to be read.
    pub fn restart(&mut self, at: u64) {
        self.life += 1;
        self.centre = open(&self.memory, self.number, &self.now(at), self.life);
        self.applied = 0;
        self.up = true;
        self.progress = Progress::default();
        self.waiting.clear();
        self.streams.clear();
    }
}

/// Puts rows on disk.
pub fn write(memory: &Memory, rows: Vec<Write>) {
    let mut on_disk = memory.0.lock().unwrap();
    for row in rows {
        match row.value {
            Some(value) => on_disk.insert((row.kind.0, row.key), value),
            None => on_disk.remove(&(row.kind.0, row.key)),
        };
    }
}

fn reading(clock: &Clock, at: u64) -> Now {
    Now {
        boot: clock.boot(at),
        wall: clock.wall(at),
    }
}

fn open(memory: &Memory, number: u32, now: &Now, life: u32) -> Centre {
    let settings = Settings {
        heartbeat_interval: Duration::from_secs(3),
        endpoints: Vec::new(),
        policies: BTreeMap::new(),
    };
    let options = Options {
        seed: u64::from(number) << 32 | u64::from(life),
        ..Options::default()
    };
    let (mut replica, (ticket, rows)) =
        Replica::open(Arc::new(memory.clone()), number, options, now).unwrap();
    write(memory, rows);
    replica.settle(ticket);
    Centre::restore(settings, memory, replica, number * 1000 + life, now).unwrap()
}
