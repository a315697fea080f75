//! What was answered survives `kill -9`; what ownership rests on survives a restart.

use nexus_proto::v1;
use serde_json::json;
use tonic::Code;

use crate::harness::{FAST, TestOlt, TestServer, block_on};

const POOL: &str = "residential-ipv4";

#[test]
fn kill_nine_loses_nothing_that_was_answered() {
    let mut server = TestServer::with_pool();
    block_on(async {
        for round in 0..5 {
            let mut olt = TestOlt::register(&server, &format!("olt-{round}"), "s").await;
            let claims: Vec<_> = (10..60)
                .map(|n| {
                    let address = olt.address(POOL, n);
                    olt.claim(POOL, &format!("sub-{round}-{n}"), &address)
                })
                .collect();
            // Many at once, so that the kill hits some that are under way.
            let mut calls = tokio::task::JoinSet::new();
            for claim in claims.clone() {
                let mut client = olt.client.clone();
                calls.spawn(async move { (claim.clone(), client.allocate(claim).await.is_ok()) });
            }
            let mut answered = Vec::new();
            while let Some(done) = calls.join_next().await {
                let (claim, ok) = done.unwrap();
                if ok {
                    answered.push(claim);
                }
                if answered.len() == 10 + round * 5 {
                    let pid = server.pid();
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
                }
            }
            assert!(answered.len() >= 10 + round * 5);
            server.crash_and_restart();
            for claim in answered {
                let held = server
                    .get(&format!("/api/v1/allocations/{}", claim.subscriber_id))
                    .ok();
                assert_eq!(held["allocations"][0]["resource"], claim.resource);
            }
        }
        assert_eq!(server.get("/api/v1/pools").ok()["pools"][0]["id"], POOL);
        assert_eq!(server.get("/api/v1/audit").ok()["duplicates"], json!([]));
    });
}

#[test]
fn a_restart_keeps_shards_epochs_sessions_and_numbers() {
    let mut server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut claim = olt.claim(POOL, "sub-1", &olt.address(POOL, 9));
        olt.send(claim.clone()).await.unwrap();
        let mut newer = olt.claim(POOL, "sub-2", &olt.address(POOL, 10));
        newer.acked_below = newer.seq;
        olt.send(newer).await.unwrap();
        // What was acknowledged is told to the whole cluster with the next heartbeat.
        olt.heartbeat().await.unwrap();
        let before = olt.config.clone();
        let node_before = server.get("/api/v1/nodes/olt-1").ok();
        server.crash_and_restart();

        olt.client = server.grpc().await;
        olt.fetch_config().await;
        assert_eq!(olt.config.pools, before.pools);
        assert_eq!(olt.config.revision, before.revision);
        let node = server.get("/api/v1/nodes/olt-1").ok();
        assert_eq!(node["assigned_shards"], node_before["assigned_shards"]);
        let stray = olt.send(claim.clone()).await.unwrap_err();
        assert!(
            stray.message().contains("stray copy"),
            "{}",
            stray.message()
        );
        let mut client = olt.client.clone();
        let back = v1::RegisterRequest {
            id: "olt-1".into(),
            capacity: 2000,
            session: "s-1".into(),
            last_seq: 1,
            ..v1::RegisterRequest::default()
        };
        let refused = client.register(back.clone()).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::FailedPrecondition,
            "it has used number 2"
        );
        client
            .register(v1::RegisterRequest {
                last_seq: 2,
                ..back
            })
            .await
            .unwrap();
        claim.epoch += 1;
        claim.seq = 9;
        assert_eq!(
            olt.send(claim).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        olt.heartbeat().await.unwrap();
    });
}

#[test]
fn a_restart_counts_every_lease_anew_and_a_moved_shard_has_a_higher_epoch() {
    // One shard besides the cluster's own, so that who gets it can be seen.
    let mut server = TestServer::start(FAST);
    let pool = json!({"id": "small", "type": "ipv4", "cidr": "10.0.0.0/24", "shard_size": 25});
    assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    block_on(async {
        let mut first = TestOlt::register(&server, "olt-1", "s-1").await;
        let granted = first.shards("small").remove(0);
        let address = first.address("small", 9);
        first.allocate("small", "sub-1", &address).await.unwrap();
        server.until("/api/v1/nodes/olt-1", |answer| {
            answer.body["state"] == "offline"
        });
        server.crash_and_restart();
        let mut second = TestOlt::register(&server, "olt-2", "s-2").await;
        assert!(
            second.shards("small").is_empty(),
            "the old lease may still run"
        );

        let mut waited = 0;
        while second.shards("small").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            second.heartbeat().await.unwrap();
            second.fetch_config().await;
            waited += 1;
            assert!(waited < 600);
        }
        let moved = second.shards("small").remove(0);
        assert_eq!(moved.shard, granted.shard);
        assert!(moved.epoch > granted.epoch);
        let late = first_again(&server, &mut first).await;
        assert_eq!(
            late.code(),
            Code::FailedPrecondition,
            "the old owner comes back too late"
        );
        let taken = second
            .allocate("small", "sub-2", &address)
            .await
            .unwrap_err();
        assert_eq!(
            taken.code(),
            Code::AlreadyExists,
            "acknowledged addresses stay reserved"
        );
        second.allocate("small", "sub-1", &address).await.unwrap();
        let held = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(held["allocations"][0]["olt_id"], "olt-2");
    });
}

async fn first_again(server: &TestServer, olt: &mut TestOlt) -> tonic::Status {
    olt.client = server.grpc().await;
    let address = olt.address("small", 11);
    olt.allocate("small", "sub-7", &address).await.unwrap_err()
}

#[test]
fn released_resources_rest_and_are_then_forgotten() {
    let server = TestServer::start("");
    let pool = json!({"id": "p", "type": "ipv4", "cidr": "10.0.0.0/16", "cool_down": "1s",
        "dhcp": {"lease_time": "1s"}});
    assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    let request = json!({"pool_id": "p", "subscriber_id": "s1"});
    server.post("/api/v1/allocate", &request).ok();
    server.delete("/api/v1/allocate/s1").ok();
    let released = server.get("/api/v1/allocations?state=released").ok();
    assert_eq!(released["allocations"][0]["state"], "released");
    server.until("/api/v1/allocations?state=all", |answer| {
        answer.body["allocations"] == json!([])
    });
    assert_eq!(server.delete("/api/v1/pools/p").status, 204);
}

#[test]
fn pools_of_the_configuration_are_created_once() {
    let mut server = TestServer::start("pools: [{id: a, type: ipv4, cidr: 10.0.0.0/16}]\n");
    assert_eq!(server.get("/api/v1/pools").ok()["pools"][0]["id"], "a");
    assert_eq!(server.delete("/api/v1/pools/a").status, 204);
    server.crash_and_restart();
    assert_eq!(
        server.get("/api/v1/pools").ok()["pools"],
        json!([]),
        "the API has the last word"
    );
}
