//! What the small tests share: one server, a few hosts, and the ends of their logs if a test fails.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::LIMIT;
use nexus_testkit::field::bench::{BenchPlan, Field, servers};
use nexus_testkit::field::finals;
use nexus_testkit::field::history::{OltAt, Who};
use nexus_testkit::interrupt::wait_until;
use serde_json::Value;

/// Subscribers with accounts.
pub const SUBSCRIBERS: Who = 400;

/// Runs a test on one server and hosts with these ids; no sidecar runs yet.
pub fn on(ids: &[&str], test: impl FnOnce(&mut Field) -> Result<()>) {
    let mut field = Field::start(&BenchPlan::small(SUBSCRIBERS, ids)).unwrap();
    let done = catch_unwind(AssertUnwindSafe(|| test(&mut field)));
    if !matches!(done, Ok(Ok(()))) {
        eprintln!("{}", field.logs(40));
        if std::env::var_os("NEXUS_KEEP").is_some() {
            let kept = field.cluster.keep_directory();
            eprintln!("stores and logs are left in {}", kept.display());
        }
    }
    match done {
        Ok(done) => done.unwrap(),
        Err(panic) => resume_unwind(panic),
    }
}

/// Cuts a host off from every server.
pub fn cut(field: &mut Field, at: OltAt) -> Result<()> {
    let all = servers(&field.cluster)?;
    field.host(at)?.cut(&all)
}

/// The shards of a host by its own status, as ranges: `100.64.0.16/28`.
pub fn shards(field: &mut Field, at: OltAt) -> Result<BTreeSet<String>> {
    let status = field.host(at)?.status()?;
    let shards = status.get("shards").and_then(Value::as_array);
    let range = |shard: &Value| shard.get("range")?.as_str().map(str::to_owned);
    shards
        .context("a status without shards")?
        .iter()
        .map(|shard| range(shard).context("a shard without a range"))
        .collect()
}

/// Whether the last heartbeat of a host was answered.
pub fn connected(status: &Value) -> bool {
    status.get("mode").and_then(Value::as_str) == Some("connected")
}

/// Waits until the centre has acknowledged everything that a host has told it.
pub fn acknowledged(field: &mut Field, at: OltAt) -> Result<()> {
    let none = |status: &Value, name: &str| status.get(name).and_then(Value::as_u64) == Some(0);
    field
        .host(at)?
        .wait("everything is acknowledged", LIMIT, |status| {
            ["unacked", "suspended", "pending_releases"]
                .iter()
                .all(|name| none(status, name))
        })
}

/// Waits until the record and what these hosts have bound are the same, and nobody counts duplicates.
pub fn record_and_hosts_agree(field: &mut Field, hosts: OltAt) -> Result<()> {
    let mut last = String::new();
    let agreed = wait_until("the record and the hosts agree", LIMIT, || {
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
