//! Proof that the run can fail: what the product never does is done to it by hand, and is found. Which rule is proved by
//! what stands in docs/decisions/2026-11-22-the-field.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nexus_testkit::bpf;
use nexus_testkit::cluster::{Answer, Client};
use nexus_testkit::field::bench::{BenchPlan, Field, servers};
use nexus_testkit::field::checker::{AT_THE_END, Finding};
use nexus_testkit::field::history::Kind;
use nexus_testkit::field::host::{Host, read_map};
use nexus_testkit::field::moment::Moment;
use nexus_testkit::field::plan::{FieldPlan, Leases, PATIENCE, POOL};
use nexus_testkit::field::run::{self, Scene, reason};
use nexus_testkit::field::subscribers::mac;
use nexus_testkit::interrupt::wait_until;
use serde_json::{Value, json};

use super::stage::{hosts, on};

/// Bytes of a bucket of the map of bindings.
const BUCKET: usize = 64;
/// Whom the forged entry is for.
const STRANGER: u32 = 199;

/// Asks until it is done: a server may be busy.
fn done(what: &str, ask: impl Fn() -> Result<Answer>) -> Result<()> {
    let mut last = String::new();
    let done = wait_until(what, PATIENCE, || {
        let answer = ask();
        let good = answer.as_ref().is_ok_and(|answer| answer.status < 300);
        last = format!("{answer:?}");
        Ok(good.then_some(()))
    });
    done.with_context(|| last)
}

/// Key and value of each bucket of a host's map.
fn buckets(host: &Host) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let rows = bpf::map_dump(&host.map())?;
    let bytes = |row: &Value, name| row.get(name).and_then(bpf::raw_bytes);
    rows.iter()
        .map(|row| {
            let pair = bytes(row, "key").zip(bytes(row, "value"));
            pair.with_context(|| format!("not a bucket: {row}"))
        })
        .collect()
}

/// Writes an address of the first host into the map of the second one, for a subscriber of its own: into a bucket that
/// nothing stands in, as the sidecar would not. Returns the address.
fn forge(field: &Field) -> Result<String> {
    let (_, _, entries) = read_map(&field.hosts[0].map())?;
    let entry = entries.first().context("nobody is bound")?;
    let all = buckets(&field.hosts[1])?;
    let empty = |(_, value): &&(Vec<u8>, Vec<u8>)| value.iter().all(|byte| *byte == 0);
    let (key, _) = all.iter().find(empty).context("no empty bucket")?;
    let mut bucket = vec![0; BUCKET];
    bucket[..6].copy_from_slice(&mac(STRANGER));
    bucket[6] = nexus_abi::BindingKey::KIND_MAC;
    let held = nexus_abi::Entry::HELD;
    bucket[held..held + 4].copy_from_slice(&entry.address.octets());
    bucket[held + 4..held + 8].copy_from_slice(&nexus_abi::NEVER_EXPIRES.to_ne_bytes());
    bpf::map_update(bpf::map_id(&field.hosts[1].map())?, key, &bucket)?;
    Ok(entry.address.to_string())
}

/// Empties the map of a host whose sidecar stands still, until clients have asked in vain.
fn wipe(scene: &mut Scene<'_>) -> Result<()> {
    let host = &mut scene.field.hosts[2];
    host.pause(true)?;
    let map = bpf::map_id(&host.map())?;
    for (key, value) in buckets(host)? {
        if value.iter().any(|byte| *byte != 0) {
            bpf::map_update(map, &key, &[0; BUCKET])?;
        }
    }
    grows(&scene.board.unanswered, "clients ask in vain")?;
    scene.field.hosts[2].pause(false)
}

/// Cuts a host off until its lease has ended, and says to the checker that it has not.
fn lie_about_a_lease(scene: &mut Scene<'_>) -> Result<()> {
    let all = servers(&scene.field.cluster)?;
    let host = &scene.field.hosts[3];
    host.cut(&all)?;
    let served_until = Moment::NEVER;
    let kind = Kind::CutOff { served_until };
    let one = scene.journal.begin("OLT 3: cut off", Some(3), kind);
    grows(&scene.board.rejected[3], "newcomers are rejected")?;
    host.heal()?;
    scene.journal.over(one);
    Ok(())
}

/// The operator takes addresses away, and the checker does not hear of it.
fn take_away(scene: &mut Scene<'_>) -> Result<()> {
    let host = &scene.field.hosts[0];
    let bound = |host: &Host| -> Result<BTreeMap<String, String>> {
        let rows = host.bindings()?;
        let text = |row: &Value, name| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let pair = |row: &Value| text(row, "subscriber").zip(text(row, "address"));
        Ok(rows.iter().filter_map(pair).collect())
    };
    let before: BTreeMap<String, String> = bound(host)?.into_iter().take(20).collect();
    let path = format!("/api/v1/pools/{POOL}");
    let client: Client = scene.field.cluster.client(0)?.patience(PATIENCE);
    let mut pool = client.get(&path)?.ok()?;
    let exclusions = pool["exclusions"].as_array_mut();
    let exclusions = exclusions.context("a pool without exclusions")?;
    exclusions.extend(before.values().map(|address| json!(address)));
    let changed = || client.put(&format!("{path}?drain=true"), &pool);
    done("the operator takes addresses away", changed)?;
    let mut others = BTreeSet::new();
    wait_until("others are given", PATIENCE, || {
        let now = bound(host).unwrap_or_default();
        let other = |(who, address): &(&String, &String)| {
            now.get(*who).is_some_and(|given| given != *address)
        };
        others.extend(before.iter().filter(other).map(|(who, _)| who.clone()));
        Ok((others.len() * 2 >= before.len()).then_some(()))
    })
}

/// Waits until a few more are counted.
fn grows(count: &AtomicU64, what: &str) -> Result<()> {
    let before = count.load(Ordering::Relaxed);
    wait_until(what, PATIENCE, || {
        let now = count.load(Ordering::Relaxed);
        Ok((now >= before + 5).then_some(()))
    })
}

/// Everything that a calm run is spoilt by.
fn spoil(scene: &mut Scene<'_>, forged: &mut String) -> Result<()> {
    *forged = forge(scene.field)?;
    scene.journal.tell("forged; the map of OLT 2 is emptied");
    scene.more_samples(2)?;
    wipe(scene)?;
    lie_about_a_lease(scene)?;
    scene.journal.tell("addresses are taken away");
    take_away(scene)
}

/// What the checker must say of each, and a part of its words.
fn expected(forged: &str) -> Vec<(&'static str, String)> {
    let both = format!("{forged} is in two maps' entries at once");
    [
        ("one holder", both.as_str()),
        ("kept", "at OLT 2"),
        ("served", "acknowledged, at OLT 2 was answered by Silent"),
        ("served", "OLT 3 was cut off"),
        ("same address", "at OLT 0"),
        (AT_THE_END, "kernels have what no sidecar has bound"),
    ]
    .map(|(rule, words)| (rule, words.to_owned()))
    .to_vec()
}

fn missing(found: &[Finding], forged: &str) -> Vec<(&'static str, String)> {
    let mut all = expected(forged);
    all.retain(|(rule, words)| {
        !found
            .iter()
            .any(|one| one.rule == *rule && one.what.contains(words))
    });
    all
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn what_is_done_by_hand_to_a_calm_run_is_found() {
    let plan = FieldPlan::calm(1);
    let bench = BenchPlan {
        // One of them must end.
        leases: Leases {
            heartbeat: Duration::from_secs(1),
            offline_after: 9,
            lease: Duration::from_secs(10),
        },
        ..BenchPlan::field(plan.subscribers)
    };
    let mut field = Field::start(&bench).unwrap_or_else(|error| panic!("{}", reason(&error)));
    let mut forged = String::new();
    let report = run::on(&mut field, &plan, |scene| spoil(scene, &mut forged));
    let verdict = report.and_then(|report| {
        let missing = missing(&report.found, &forged);
        let rules: BTreeSet<_> = report.found.iter().map(|one| one.rule).collect();
        eprintln!("{}", report.brief());
        ensure!(missing.is_empty(), "not found: {missing:?} among {rules:?}");
        Ok(())
    });
    if let Err(error) = verdict {
        eprintln!("{}\n{error:#}", field.logs(20));
        panic!("{}", reason(&error));
    }
}

#[test]
#[ignore = "needs root: makes network namespaces and loads XDP programs"]
fn an_operator_who_declares_a_live_host_fenced_is_found_out() {
    on(&hosts(&["olt-1", "olt-2"]).long_lived(), 2, |stage| {
        stage.cut(0)?;
        stage.nobody_shares()?;
        let client = stage.field.cluster.client(0)?;
        let why = json!({"reason": "said to be dead, and is not"});
        done("olt-1 is fenced", || {
            client.post("/api/v1/nodes/olt-1/fence", &why)
        })?;
        // It serves its subscribers on, and somebody else is given what they have.
        let held: BTreeSet<_> = stage.known.values().copied().collect();
        let what = "an address of the host that was fenced";
        stage.fill_until(1, what, |address| held.contains(&address))?;
        stage.known_are_renewed()?;
        let said = match stage.nobody_shares() {
            Ok(()) => bail!("two subscribers have one address, and nothing was found"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("one holder"), "{said}");
        Ok(())
    });
}
