//! The life of OLT hosts over the real interfaces: drain and back, fence, deregister, two hosts with one id,
//! and pools that change while they are used.

use nexus_proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{FAST, TestOlt, TestServer, block_on};

const POOL: &str = "v";

/// A pool of 20 shards of 100 VLANs.
fn server(extra: &str) -> TestServer {
    let server = TestServer::start(extra);
    assert_eq!(server.post("/api/v1/pools", &pool(2000)).status, 201);
    server
}

fn pool(last: u32) -> Value {
    json!({"id": POOL, "type": "vlan", "range": format!("1-{last}"), "shard_size": 100, "exclusions": []})
}

fn released(olt: &TestOlt, shards: Vec<v1::ShardGrant>) -> v1::HeartbeatRequest {
    let mut beat = olt.heartbeat_request();
    beat.released_shards = shards
        .into_iter()
        .map(|grant| v1::ShardRef {
            pool_id: POOL.into(),
            shard: grant.shard,
            epoch: grant.epoch,
        })
        .collect();
    beat
}

/// Allocates VLAN 50 of a shard.
async fn take(olt: &mut TestOlt, grant: &v1::ShardGrant, subscriber: &str) -> v1::AllocateRequest {
    let mut claim = olt.claim(POOL, subscriber, &(grant.shard * 100 + 50).to_string());
    (claim.shard, claim.epoch) = (grant.shard, grant.epoch);
    olt.send(claim.clone()).await.unwrap();
    claim
}

#[test]
fn a_host_is_drained_with_progress_to_a_safe_end_and_may_come_back_before_it() {
    let server = server("");
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        assert_eq!(
            server.get("/api/v1/nodes/olt-1").ok()["state"],
            "bootstrapping"
        );
        olt.heartbeat().await.unwrap();
        let grant = olt.shards(POOL).remove(0);
        let claim = take(&mut olt, &grant, "sub-1").await;
        let refused = server.delete("/api/v1/nodes/olt-1");
        assert_eq!(refused.problem(409), "drain-first");

        let drained = server.post("/api/v1/nodes/olt-1/drain", &json!({})).ok();
        assert_eq!(drained["state"], "draining");
        assert_eq!(drained["drain"]["allocations"], 1);
        let all = olt.shards(POOL).len();
        assert_eq!(drained["drain"]["shards"], all);
        assert_eq!(drained["drain"]["done"], false);
        let still = server.delete("/api/v1/nodes/olt-1");
        assert_eq!(still.problem(409), "drain-first");

        let back = server.post("/api/v1/nodes/olt-1/activate", &json!({})).ok();
        assert_eq!(back["state"], "active");
        assert!(back["drain"].is_null());
        let owned = server.get("/api/v1/shards?olt=olt-1&state=owned").ok();
        assert_eq!(owned["shards"].as_array().unwrap().len(), all);

        server.post("/api/v1/nodes/olt-1/drain", &json!({})).ok();
        olt.fetch_config().await;
        let empty = olt
            .shards(POOL)
            .into_iter()
            .filter(|s| s.shard != grant.shard);
        let beat = released(&olt, empty.collect());
        olt.client.heartbeat(beat).await.unwrap();
        let left = server.get("/api/v1/nodes/olt-1").ok();
        assert_eq!(
            left["drain"],
            json!({"shards": 1, "allocations": 1, "done": false})
        );
        let release = olt.release(&claim);
        olt.client.deallocate(release).await.unwrap();
        olt.fetch_config().await;
        let beat = released(&olt, olt.shards(POOL));
        olt.client.heartbeat(beat).await.unwrap();
        let done = server.get("/api/v1/nodes/olt-1").ok();
        assert_eq!(
            done["drain"],
            json!({"shards": 0, "allocations": 0, "done": true})
        );
        assert_eq!(server.delete("/api/v1/nodes/olt-1").status, 204);
        assert_eq!(server.get("/api/v1/nodes/olt-1").status, 404);
    });
}

#[test]
fn a_fenced_host_loses_everything_at_once_and_can_be_forgotten_without_a_drain() {
    let server = server("");
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let grant = olt.shards(POOL).remove(0);
        take(&mut olt, &grant, "sub-1").await;
        let path = "/api/v1/nodes/olt-1/fence";
        let refused = server.post(path, &json!({"reason": " "}));
        assert_eq!(refused.problem(422), "invalid-field");
        assert_eq!(server.post(path, &json!({})).problem(422), "invalid-body");
        let unknown = server.post("/api/v1/nodes/olt-9/fence", &json!({"reason": "x"}));
        assert_eq!(unknown.problem(404), "unknown-node");

        let fenced = server
            .post(path, &json!({"reason": "out of the rack"}))
            .ok();
        assert_eq!(fenced["fenced"], true);
        assert_eq!(fenced["assigned_shards"], json!([]));
        assert_eq!(fenced["allocations"], 0);
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 404);
        let cooling = server.get("/api/v1/allocations?state=released").ok();
        assert_eq!(cooling["allocations"][0]["subscriber_id"], "sub-1");
        let late = olt.heartbeat().await.unwrap_err();
        assert_eq!(late.code(), Code::FailedPrecondition);
        let log = std::fs::read_to_string(server.dir.path().join("log")).unwrap();
        assert!(log.contains("out of the rack"), "the reason is logged");

        let again = TestOlt::register(&server, "olt-1", "s-2").await;
        let anew = again
            .shards(POOL)
            .into_iter()
            .find(|s| s.shard == grant.shard);
        assert!(anew.is_none_or(|shard| shard.epoch > grant.epoch));
        server.post(path, &json!({"reason": "gone for good"})).ok();
        assert_eq!(server.delete("/api/v1/nodes/olt-1").status, 204);
    });
}

#[test]
fn of_two_hosts_with_one_id_the_second_is_refused_and_both_are_told() {
    let server = server("");
    block_on(async {
        let mut first = TestOlt::register(&server, "olt-1", "s-1").await;
        assert_eq!(first.heartbeat().await.unwrap().other_host, "");
        let second = TestOlt::try_register(&server, "olt-1", "s-2").await;
        let second = second.err().unwrap();
        assert_eq!(second.code(), Code::AlreadyExists);
        assert!(second.message().contains("two hosts"), "{second}");
        let node = server.until("/api/v1/nodes/olt-1", |node| {
            !node.body["other_host"].is_null()
        });
        let told = node.body["other_host"].as_str().unwrap().to_owned();
        assert!(told.contains("10.1.1.10:9000"), "{told}");
        assert_eq!(first.heartbeat().await.unwrap().other_host, told);
        let metrics = server.metrics();
        assert!(
            metrics.contains("nexus_node_other_host{olt_id=\"olt-1\"} 1"),
            "{metrics}"
        );
    });
}

#[test]
fn of_two_copies_of_one_disk_the_earlier_is_refused_when_it_is_heard_again() {
    let server = server("");
    block_on(async {
        let olt = TestOlt::register(&server, "olt-1", "s").await;
        let beat = |instance: &str| v1::HeartbeatRequest {
            instance: instance.into(),
            ..olt.heartbeat_request()
        };
        let mut client = olt.client.clone();
        client.heartbeat(beat("one")).await.unwrap();
        client.heartbeat(beat("one")).await.unwrap();
        // A restart, as far as anybody can know.
        client.heartbeat(beat("two")).await.unwrap();
        let refused = client.heartbeat(beat("one")).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
        assert!(refused.message().contains("another host"), "{refused}");
        let told = client.heartbeat(beat("two")).await.unwrap().into_inner();
        assert!(
            told.other_host.contains("another host"),
            "{}",
            told.other_host
        );
    });
}

#[test]
fn a_registration_may_be_repeated_and_a_silent_host_is_offline_until_it_is_heard_again() {
    let server = server(FAST);
    block_on(async {
        let first = TestOlt::register(&server, "olt-1", "s").await;
        let mut again = TestOlt::register(&server, "olt-1", "s").await;
        assert_eq!(first.config, again.config);
        again.heartbeat().await.unwrap();
        server.until("/api/v1/nodes/olt-1", |node| {
            node.body["state"] == "offline"
        });
        let mut back = TestOlt::register(&server, "olt-1", "s").await;
        back.heartbeat().await.unwrap();
        assert_eq!(server.get("/api/v1/nodes/olt-1").ok()["state"], "active");
    });
}

#[test]
fn an_acknowledged_address_of_a_dead_host_stays_its_subscribers_when_the_shard_has_moved() {
    let server = server(FAST);
    block_on(async {
        let mut dead = TestOlt::register(&server, "olt-1", "s").await;
        let grant = dead.shards(POOL).remove(0);
        let claim = take(&mut dead, &grant, "sub-1").await;
        let shard = format!("/api/v1/shards?pool={POOL}&state=owned");
        let moved = server.until(&shard, |list| {
            let shards = list.body["shards"].as_array().unwrap();
            shards.iter().all(|shard| shard["olt_id"] != "olt-1")
        });
        assert!(moved.status == 200);
        let mut heir = TestOlt::register(&server, "olt-2", "s").await;
        let theirs = heir
            .shards(POOL)
            .into_iter()
            .find(|s| s.shard == grant.shard)
            .unwrap();
        assert!(theirs.epoch > grant.epoch);
        let mut taken = heir.claim(POOL, "sub-2", &claim.resource);
        (taken.shard, taken.epoch) = (theirs.shard, theirs.epoch);
        assert_eq!(
            heir.send(taken).await.unwrap_err().code(),
            Code::AlreadyExists
        );
        let held = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(held["allocations"][0]["resource"], claim.resource.as_str());
    });
}

#[test]
fn a_used_pool_is_changed_only_when_what_goes_is_asked_back() {
    let server = server("");
    let path = "/api/v1/pools/v";
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let grants = olt.shards(POOL);
        let (low, high) = (
            grants.first().unwrap().clone(),
            grants.last().unwrap().clone(),
        );
        take(&mut olt, &low, "sub-low").await;
        let claim = take(&mut olt, &high, "sub-high").await;
        let mut cut = pool(2000);
        cut["exclusions"] = json!([(low.shard * 100 + 50).to_string()]);
        let tried = server.put(&format!("{path}?dry_run=true"), &cut, &[]).ok();
        assert_eq!(
            (&tried["change"], &tried["affected_allocations"]),
            (&json!("same"), &json!(1))
        );
        let refused = server.put(path, &cut, &[]);
        assert_eq!(refused.body["count"], 1);
        assert_eq!(refused.body["allocations"][0]["subscriber_id"], "sub-low");
        assert_eq!(refused.problem(409), "in-use");
        let drained = server.put(&format!("{path}?drain=true"), &cut, &[]);
        assert_eq!(drained.status, 202, "{}", drained.body);
        assert_eq!(drained.body["draining"], 1);
        assert_eq!(server.get(path).ok()["draining"], 1);
        assert_eq!(server.get("/api/v1/pools/v/stats").ok()["draining"], 1);
        let asked = server.get("/api/v1/allocations/sub-low").ok();
        assert_eq!(asked["allocations"][0]["state"], "releasing");
        assert_eq!(
            server.put(path, &server.get(path).ok(), &[]).status,
            409,
            "still held"
        );

        // Shorter: the last shards come back first.
        let short = json!({"id": POOL, "type": "vlan", "range": "1-1000", "shard_size": 100, "exclusions": cut["exclusions"]});
        let tried = server
            .put(&format!("{path}?dry_run=true"), &short, &[])
            .ok();
        assert_eq!(tried["change"], "shrunk");
        assert_eq!(
            (&tried["shards_before"], &tried["shards_after"]),
            (&json!(20), &json!(10))
        );
        assert_eq!(server.put(path, &short, &[]).problem(409), "in-use");
        assert_eq!(
            server
                .put(&format!("{path}?drain=true"), &short, &[])
                .status,
            202
        );
        assert_eq!(server.get(path).ok()["range"], "1-2000", "not yet");
        let release = olt.release(&claim);
        olt.client.deallocate(release).await.unwrap();
        olt.fetch_config().await;
        let gone = olt
            .shards(POOL)
            .into_iter()
            .filter(|s| s.shard >= 10)
            .collect();
        let beat = released(&olt, gone);
        olt.client.heartbeat(beat).await.unwrap();
        server.until(path, |pool| pool.body["range"] == "1-1000");

        // Longer again, with no questions.
        let long = json!({"id": POOL, "type": "vlan", "range": "1-3000", "shard_size": 100, "exclusions": cut["exclusions"]});
        let grown = server.put(&format!("{path}?drain=true"), &long, &[]);
        assert_eq!(grown.body["range"], "1-3000");
        let mut other = long.clone();
        other["vrf"] = json!("other");
        assert_eq!(
            server.put(path, &other, &[]).problem(409),
            "pool-geometry-in-use"
        );

        let refused = server.delete(path);
        assert_eq!(refused.body["count"], 1);
        assert_eq!(refused.problem(409), "in-use");
        let tried = server.delete(&format!("{path}?dry_run=true"));
        assert_eq!(tried.ok()["change"], "removed");
        assert_eq!(server.delete(&format!("{path}?force=true")).status, 202);
        olt.fetch_config().await;
        let beat = released(&olt, olt.shards(POOL));
        olt.client.heartbeat(beat).await.unwrap();
        assert_eq!(server.until(path, |pool| pool.status == 404).status, 404);
    });
}

#[test]
fn statistics_say_how_full_each_olts_shards_are_and_what_is_never_given() {
    let server = TestServer::start("");
    let mut spec = pool(1000);
    spec["exclusions"] = json!(["1-10"]);
    assert_eq!(server.post("/api/v1/pools", &spec).status, 201);
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let grant = olt.shards(POOL).remove(0);
        take(&mut olt, &grant, "sub-1").await;
        let stats = server.get("/api/v1/pools/v/stats").ok();
        assert_eq!(stats["total"], 990);
        assert_eq!(stats["reserved"], 10);
        assert_eq!(
            (&stats["allocated"], &stats["available"]),
            (&json!(1), &json!(989))
        );
        let fill = &stats["olts"]["olt-1"];
        assert_eq!(
            (&fill["shards"], &fill["allocated"]),
            (&json!(8), &json!(1))
        );
        assert_eq!(stats["olts"]["nexus"]["shards"], 1);
    });
}

#[test]
fn shards_go_by_use_and_come_back_above_the_high_water_mark() {
    let server = TestServer::start("");
    let mut spec = pool(2000);
    spec["low_water"] = json!(0.1);
    spec["high_water"] = json!(0.5);
    assert_eq!(server.post("/api/v1/pools", &spec).status, 201);
    assert_eq!(server.get("/api/v1/pools/v").ok()["high_water"], 0.5);
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        assert_eq!(olt.shards(POOL).len(), 1, "by use");
        let used = |olt: &TestOlt, allocated: &[u64]| {
            let mut beat = olt.heartbeat_request();
            beat.shard_use = olt
                .shards(POOL)
                .into_iter()
                .zip(allocated)
                .map(|(grant, allocated)| v1::ShardUse {
                    shard: Some(v1::ShardRef {
                        pool_id: POOL.into(),
                        shard: grant.shard,
                        epoch: grant.epoch,
                    }),
                    allocated: *allocated,
                    available: 0,
                })
                .collect();
            beat
        };
        let beat = used(&olt, &[95]);
        olt.client.heartbeat(beat).await.unwrap();
        let owned = |count: usize| {
            server.until("/api/v1/shards?olt=olt-1&state=owned", |list| {
                list.body["shards"].as_array().unwrap().len() == count
            });
        };
        owned(2);
        olt.fetch_config().await;
        let beat = used(&olt, &[95, 95]);
        olt.client.heartbeat(beat).await.unwrap();
        owned(3);
        olt.fetch_config().await;
        // The first is empty, and is the one that is asked back.
        let first = olt.shards(POOL)[0].shard;
        let beat = used(&olt, &[0, 60, 60]);
        olt.client.heartbeat(beat).await.unwrap();
        let asked = server.until("/api/v1/shards?olt=olt-1&state=draining", |list| {
            !list.body["shards"].as_array().unwrap().is_empty()
        });
        assert_eq!(asked.body["shards"][0]["shard"], first);
    });
}

#[test]
fn a_subscriber_that_moves_leaves_what_it_had_in_another_pool_of_the_same_kind() {
    let server = TestServer::start("");
    for (id, range, region) in [("east", "1-1000", "east"), ("west", "1001-2000", "west")] {
        let spec =
            json!({"id": id, "type": "vlan", "range": range, "metadata": {"region": region}});
        assert_eq!(server.post("/api/v1/pools", &spec).status, 201);
    }
    block_on(async {
        let mut old = TestOlt::register(&server, "olt-east", "s").await;
        let range = old.shards("east")[0].range.clone();
        let vlan = range.split('-').next().unwrap().to_owned();
        old.allocate("east", "sub-1", &vlan).await.unwrap();
        let mut client = server.grpc().await;
        let request = v1::RegisterRequest {
            id: "olt-west".into(),
            region: "west".into(),
            capacity: 10,
            session: "s".into(),
            ..v1::RegisterRequest::default()
        };
        let config = client
            .register(request)
            .await
            .unwrap()
            .into_inner()
            .config
            .unwrap();
        let mut new = TestOlt {
            client,
            id: "olt-west".into(),
            session: "s".into(),
            seq: 0,
            config,
        };
        let range = new.shards("west")[0].range.clone();
        let vlan = range.split('-').next().unwrap().to_owned();
        let mut claim = new.claim("west", "sub-1", &vlan);
        claim.timestamp = "2024-12-19T10:31:00Z".into();
        assert_eq!(new.send(claim).await.unwrap().state, "active");
        let held = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(held["allocations"][0]["pool_id"], "east");
        assert_eq!(held["allocations"][0]["state"], "releasing");
        assert_eq!(held["allocations"][1]["state"], "active");
    });
}

#[test]
fn a_claim_that_comes_late_is_asked_back_and_leaves_what_the_subscriber_has_now() {
    let server = TestServer::with_pool();
    const IP: &str = "residential-ipv4";
    block_on(async {
        let mut old = TestOlt::register(&server, "olt-b", "s").await;
        let mut new = TestOlt::register(&server, "olt-a", "s").await;
        let mut now = new.claim(IP, "sub-1", &new.address(IP, 9));
        now.timestamp = "2024-12-19T10:40:00Z".into();
        assert_eq!(new.send(now).await.unwrap().state, "active");
        // Made before, recorded after.
        let late = old.claim(IP, "sub-1", &old.address(IP, 7));
        assert_eq!(old.send(late).await.unwrap().state, "releasing");
        let held = server.get("/api/v1/allocations/sub-1").ok();
        let states: Vec<_> = held["allocations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| (a["olt_id"].as_str().unwrap(), a["state"].as_str().unwrap()))
            .collect();
        assert_eq!(states, [("olt-a", "active"), ("olt-b", "releasing")]);
    });
}
