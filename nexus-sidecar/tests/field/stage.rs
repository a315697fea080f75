//! What the small tests share: one server, a few hosts, subscribers that the centre knows, and the ends of all logs if a
//! test fails.
//!
//! No test depends on how fast the machine is: what is lost is asked again, what must end is waited for, and what must
//! live lives longer than any test or is looked at anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use nexus_testkit::field::bench::{BenchPlan, Field, may_allocate, servers};
use nexus_testkit::field::doors::Doors;
use nexus_testkit::field::finals;
use nexus_testkit::field::history::{OltAt, Who};
use nexus_testkit::field::host::Host;
use nexus_testkit::field::plan::PATIENCE;
use nexus_testkit::field::run::reason;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::nas::Reply;
use nexus_testkit::olt_host::nothing_waits;
use serde_json::Value;

/// Subscribers with accounts.
pub const SUBSCRIBERS: Who = 400;
/// Those whom the first host has when a test begins.
pub const KNOWN: std::ops::Range<Who> = 0..20;

/// Where a test begins.
pub struct Stage {
    /// Hosts and servers.
    pub field: Field,
    /// How subscribers reach the first host.
    pub doors: Doors,
    /// Its subscribers, whom the centre knows.
    pub known: BTreeMap<Who, Ipv4Addr>,
}

/// One server and hosts with these ids.
pub fn hosts(ids: &[&str]) -> BenchPlan {
    BenchPlan::small(SUBSCRIBERS, ids)
}

/// Runs a test. The sidecars of the first `started` hosts run, and the first one has its subscribers.
pub fn on(plan: &BenchPlan, started: OltAt, test: impl FnOnce(&mut Stage) -> Result<()>) {
    let mut field = Field::start(plan).unwrap_or_else(|error| panic!("{}", reason(&error)));
    let begin = |field: &mut Field| {
        field.start_sidecars(&(0..started).collect::<Vec<_>>())?;
        let mut doors = field.doors(0)?;
        let known = doors.addresses(KNOWN)?;
        acknowledged(field, 0)?;
        anyhow::Ok((doors, known))
    };
    match begin(&mut field) {
        Err(error) => fail(&mut field, &error),
        Ok((doors, known)) => {
            let mut stage = Stage {
                field,
                doors,
                known,
            };
            let done = catch_unwind(AssertUnwindSafe(|| test(&mut stage)));
            let error = match done {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => anyhow!(
                    panic
                        .downcast::<String>()
                        .map_or_else(|_| "a panic, see above".to_owned(), |text| *text)
                ),
            };
            fail(&mut stage.field, &error);
        }
    }
}

/// The logs first, the reason last: CI shows the end of the output only.
fn fail(field: &mut Field, error: &Error) -> ! {
    eprintln!("{}", field.logs(25));
    if std::env::var_os("NEXUS_KEEP").is_some() {
        let kept = field.cluster.keep_directory();
        eprintln!("stores and logs are left in {}", kept.display());
    }
    eprintln!("{error:#}");
    panic!("{}", reason(error));
}

impl Stage {
    /// A host.
    pub fn host(&mut self, at: OltAt) -> Result<&mut Host> {
        self.field.host(at)
    }

    /// The subscribers of the first host are served, by the kernel alone if need be.
    pub fn known_are_renewed(&mut self) -> Result<()> {
        self.doors.renew(&self.known)
    }

    /// The subscribers of the first host ask again, and get what they have.
    pub fn known_keep_their_addresses(&mut self) -> Result<()> {
        let now = self.doors.addresses(self.known.keys().copied())?;
        ensure!(now == self.known, "{:?} became {now:?}", self.known);
        Ok(())
    }

    /// No two subscribers have one address in the maps of all hosts.
    pub fn nobody_shares(&self) -> Result<()> {
        let all: Vec<OltAt> = (0..self.field.hosts.len()).collect();
        self.field.nobody_shares(&all, SUBSCRIBERS).map(drop)
    }

    /// Waits until the centre has acknowledged everything that these hosts have told it, and it is the same on both
    /// sides.
    pub fn settled(&mut self) -> Result<()> {
        let hosts = self.field.hosts.len();
        for at in 0..hosts {
            acknowledged(&mut self.field, at)?;
        }
        self.nobody_shares()?;
        record_and_hosts_agree(&self.field, hosts)
    }

    /// Cuts a host off from every server while its lease lives. Returns its shards, which nobody else has before that
    /// has ended.
    pub fn cut(&mut self, at: OltAt) -> Result<BTreeSet<String>> {
        let all = servers(&self.field.cluster)?;
        let host = self.host(at)?;
        loop {
            host.wait("it may allocate", may_allocate)?;
            host.cut(&all)?;
            let status = host.status()?;
            if lease_lives(&status) {
                return shards(&status);
            }
            // The machine has stood still for longer than the lease.
            host.heal()?;
        }
    }

    /// Waits until a host is connected again after [`Stage::cut`], or after it stood still.
    pub fn connected_again(&mut self, at: OltAt) -> Result<()> {
        let host = self.host(at)?;
        host.heal()?;
        host.wait("it is connected again", |status| {
            status.get("mode").and_then(Value::as_str) == Some("connected")
        })?;
        acknowledged(&mut self.field, at)
    }

    /// Subscribers from 100 on come up at a host until one of them has got such an address. Returns how far it has
    /// come.
    pub fn fill_until(
        &mut self,
        at: OltAt,
        what: &str,
        wanted: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<Who> {
        let mut doors = self.field.doors(at)?;
        let mut next = 100;
        wait_until(what, PATIENCE, || {
            let until = (next + 10).min(SUBSCRIBERS);
            let replies = doors.authenticate(next..until)?;
            let given = replies.values().filter_map(|reply| match reply {
                Reply::Accept(address) => *address,
                _ => None,
            });
            let there = given.clone().any(&wanted);
            // Who was refused asks again: shards come only when they are needed.
            if given.count() == replies.len() {
                next = until;
            } else {
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            Ok(there.then_some(()))
        })?;
        Ok(next)
    }
}

/// Whether the lease of a host lives, by its status.
pub fn lease_lives(status: &Value) -> bool {
    status.get("lease_left_secs").and_then(Value::as_u64) > Some(0)
}

/// The shards of a host by its status, as ranges: `100.64.0.16/28`.
pub fn shards(status: &Value) -> Result<BTreeSet<String>> {
    let shards = status.get("shards").and_then(Value::as_array);
    let range = |shard: &Value| shard.get("range")?.as_str().map(str::to_owned);
    shards
        .context("a status without shards")?
        .iter()
        .map(|shard| range(shard).context("a shard without a range"))
        .collect()
}

/// Whether an address lies in one of these ranges of 16 addresses.
pub fn within(address: Ipv4Addr, ranges: &BTreeSet<String>) -> bool {
    let [a, b, c, d] = address.octets();
    let network = Ipv4Addr::new(a, b, c, d & 0xf0);
    ranges.contains(&format!("{network}/28"))
}

/// Waits until the centre has acknowledged everything that a host has told it.
pub fn acknowledged(field: &mut Field, at: OltAt) -> Result<()> {
    field
        .host(at)?
        .wait("everything is acknowledged", nothing_waits)
}

fn record_and_hosts_agree(field: &Field, hosts: OltAt) -> Result<()> {
    let mut last = String::new();
    let agreed = wait_until("the record and the hosts agree", PATIENCE, || {
        let all = finals::read(field, hosts)?;
        let each = all.bindings.iter().enumerate();
        let bound: BTreeSet<_> = each
            .flat_map(|(olt, list)| list.iter().map(move |(who, at, _)| (Some(olt), *who, *at)))
            .collect();
        let (name, records) = all.records.first().context("no server")?;
        let recorded: BTreeSet<_> = records
            .iter()
            .map(|one| (one.olt, one.who, one.address))
            .collect();
        ensure!(
            all.duplicates.iter().all(|(_, count)| *count == 0),
            "duplicates: {:?}",
            all.duplicates
        );
        last = format!(
            "bound and not on record at {name}: {:?}; on record and not bound: {:?}",
            bound.difference(&recorded).take(3).collect::<Vec<_>>(),
            recorded.difference(&bound).take(3).collect::<Vec<_>>()
        );
        Ok((bound == recorded).then_some(()))
    });
    agreed.with_context(|| last)
}
