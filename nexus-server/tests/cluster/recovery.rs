//! Going on when a majority's disks are gone, and when all there is is an old copy.

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{ClusterBench, LIMIT, NodePlan};
use nexus_testkit::interrupt::wait_until;
use serde_json::{Value, json};

use super::formed::on_formed;
use super::stage::POOL;

/// Leases so short that a test can wait for their end.
const OLT: &str = "olt: {heartbeat_interval: 500ms, offline_after: 3, lease: 6s}\n";

fn with_short_leases(core: usize) -> Vec<NodePlan> {
    let mut plans = NodePlan::cluster(core, 0);
    for plan in &mut plans {
        plan.more = OLT.to_owned();
    }
    plans
}

/// Enrols an OLT with what it says of itself besides; gives the answer.
fn enrol(bench: &ClusterBench, place: usize, id: &str, more: &Value) -> Result<Value> {
    let mut body =
        json!({"id": id, "region": "east", "capacity": 100, "session": format!("s-{id}")});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    // A server that has just been started takes writes a moment later.
    let client = bench.client(place)?.patience(LIMIT);
    let answer = wait_until("it takes writes", LIMIT, || {
        let answer = client.post("/api/v1/bootstrap", &body)?;
        Ok((answer.status != 503).then_some(answer))
    })?;
    answer.ok().with_context(|| format!("{id} cannot enrol"))
}

fn shards(answer: &Value) -> Vec<u64> {
    let pools = answer["config"]["pools"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shards = pools.iter().filter(|pool| pool["id"] == POOL);
    let numbers =
        shards.flat_map(|pool| pool["local_shards"].as_array().cloned().unwrap_or_default());
    numbers.filter_map(|number| number.as_u64()).collect()
}

/// Enrols an OLT that has shards then.
fn enrol_with_shards(bench: &ClusterBench, id: &str) -> Result<Value> {
    wait_until("it has shards", LIMIT, || {
        let answer = enrol(bench, 0, id, &json!({}))?;
        Ok((!shards(&answer).is_empty()).then_some(answer))
    })
}

/// What an OLT says that was there all the time.
fn vouching(answer: &Value) -> Value {
    json!({"config_revision": answer["config"]["revision"], "lease_alive": true})
}

fn frozen(bench: &ClusterBench, place: usize) -> Result<Option<u64>> {
    let said = bench.client(place)?.get("/api/v1/cluster")?.ok()?;
    Ok(said["moves_frozen_seconds"].as_u64())
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn one_server_goes_on_when_the_disks_of_the_other_two_are_gone() {
    on_formed(with_short_leases(3), |bench| {
        let kept = enrol_with_shards(bench, "olt-kept")?;
        let unsure = enrol_with_shards(bench, "olt-unsure")?;
        let (ran, said) = bench.node(0)?.task(&["recover"])?;
        ensure!(!ran && said.contains("is the server stopped?"), "{said}");

        for place in 0..3 {
            bench.node_mut(place)?.kill()?;
        }
        for place in [1, 2] {
            bench.node_mut(place)?.wipe()?;
        }
        let (ran, said) = bench.node(1)?.task(&["recover"])?;
        ensure!(!ran && said.contains("is not there"), "{said}");
        let (ran, said) = bench.node(0)?.task(&["recover"])?;
        ensure!(ran && said.contains("Nothing has changed"), "{said}");
        let (ran, said) = bench
            .node(0)?
            .task(&["recover", "--go-on-alone", "--reason", "fire"])?;
        ensure!(
            ran && said.contains("only server of a new cluster"),
            "{said}"
        );

        bench.node_mut(0)?.start()?;
        bench.wait_leader(&[0], LIMIT)?;
        let again = enrol(bench, 0, "olt-kept", &vouching(&kept))?;
        ensure!(
            shards(&again) == shards(&kept),
            "what it has it keeps: {again}"
        );
        let lost = enrol(bench, 0, "olt-unsure", &json!({}))?;
        ensure!(shards(&lost).is_empty(), "nobody knows what it has: {lost}");
        let new = enrol(bench, 0, "olt-new", &json!({}))?;
        ensure!(shards(&new).is_empty(), "nothing changes hands: {new}");
        ensure!(frozen(bench, 0)?.is_some());
        let metrics = bench.client(0)?.metrics()?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("nexus_shard_moves_frozen_seconds"));
        ensure!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");

        // The others come with empty disks, under new numbers, and are let in.
        for place in [1, 2] {
            bench.node_mut(place)?.start()?;
        }
        bench.wait_converged(&[0, 1, 2], LIMIT)?;
        for place in [0, 1, 2] {
            wait_until("three servers decide", LIMIT, || {
                let said = bench.client(place)?.get("/api/v1/cluster")?.ok()?;
                let voters = said["quorum"]["voters"].as_array().map_or(0, Vec::len);
                Ok((voters == 3).then_some(()))
            })?;
        }
        wait_until("shards change hands again", LIMIT, || {
            let answer = enrol(bench, 1, "olt-new", &json!({}))?;
            Ok((!shards(&answer).is_empty()).then_some(()))
        })?;
        ensure!(frozen(bench, 2)?.is_none());
        let anew = enrol(bench, 2, "olt-unsure", &json!({}))?;
        let before = epochs(&unsure);
        for (shard, epoch) in epochs(&anew) {
            let known = before.iter().find(|(known, _)| *known == shard);
            ensure!(known.is_none_or(|(_, known)| epoch > known + 1_000_000));
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_server_started_from_an_old_copy_finds_out_by_an_olt_that_knows_more() {
    on_formed(with_short_leases(1), |bench| {
        enrol_with_shards(bench, "olt-first")?;
        bench.node_mut(0)?.stop()?;
        let store = bench.node(0)?.store();
        let copy = bench.directory().join("copy");
        copy_directory(&store, &copy)?;
        bench.node_mut(0)?.start()?;
        bench.wait_leader(&[0], LIMIT)?;
        // What the copy does not know.
        let before = enrol(bench, 0, "olt-first", &json!({}))?;
        let drained = bench
            .client(0)?
            .post("/api/v1/nodes/olt-first/drain", &json!({}))?;
        ensure!((200..300).contains(&drained.status), "{drained:?}");
        let later = wait_until("it is told of the drain", LIMIT, || {
            let answer = enrol(bench, 0, "olt-first", &json!({}))?;
            let newer =
                answer["config"]["revision"].as_u64() > before["config"]["revision"].as_u64();
            Ok(newer.then_some(answer))
        })?;

        bench.node_mut(0)?.stop()?;
        bench.node_mut(0)?.wipe()?;
        copy_directory(&copy, &store)?;
        bench.node_mut(0)?.start()?;
        bench.wait_leader(&[0], LIMIT)?;
        ensure!(frozen(bench, 0)?.is_none(), "it cannot know yet");
        let told = enrol(bench, 0, "olt-first", &vouching(&later))?;
        ensure!(shards(&told).is_empty(), "{told}");
        ensure!(frozen(bench, 0)?.is_some(), "now it does");
        wait_until("shards change hands again", LIMIT, || {
            let answer = enrol(bench, 0, "olt-first", &json!({}))?;
            Ok((!shards(&answer).is_empty()).then_some(()))
        })
    });
}

/// Shards and their epochs.
fn epochs(answer: &Value) -> Vec<(u64, u64)> {
    let pools = answer["config"]["pools"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let epochs = pools
        .iter()
        .filter_map(|pool| pool["shard_epochs"].as_object());
    let pair = |(shard, epoch): (&String, &Value)| Some((shard.parse().ok()?, epoch.as_u64()?));
    epochs.flatten().filter_map(pair).collect()
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let mut command = std::process::Command::new("cp");
    command
        .args(["-a", "--"])
        .arg(format!("{}/.", from.display()));
    std::fs::create_dir_all(to)?;
    let done = nexus_testkit::command::run(command.arg(to), LIMIT)?;
    ensure!(done.status.success(), "{}", done.stderr);
    Ok(())
}
