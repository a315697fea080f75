//! Shards over REST: who owns which, how full it is, and what a change would move.

use serde_json::{Value, json};

use crate::harness::{TestOlt, TestServer, block_on};

const POOL: &str = "v";

/// A pool of 20 shards of 100 VLANs; every OLT could use all of them.
fn server() -> TestServer {
    let server = TestServer::start("");
    let pool = json!({"id": POOL, "type": "vlan", "range": "1-2000", "shard_size": 100});
    assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    server
}

fn owners(server: &TestServer, query: &str) -> Vec<(u64, String)> {
    let list = server.get(&format!("/api/v1/shards?{query}")).ok();
    let shards = list["shards"].as_array().unwrap();
    let owner = |shard: &Value| {
        let olt = shard["olt_id"].as_str().unwrap_or("-").to_owned();
        (shard["shard"].as_u64().unwrap(), olt)
    };
    shards.iter().map(owner).collect()
}

#[test]
fn shards_are_listed_with_owner_state_range_and_fill() {
    let server = server();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let grant = olt.shards(POOL).remove(0);
        let vlan = (grant.shard * 100 + 7).to_string();
        olt.allocate(POOL, "sub-1", &vlan).await.unwrap();
        assert_eq!(owners(&server, "pool=v").len(), 20);
        assert_eq!(owners(&server, "olt=nexus"), [(19, "nexus".to_owned())]);
        assert_eq!(owners(&server, "state=free").len(), 1, "the reserve");
        let theirs = server.get("/api/v1/shards?olt=olt-1&limit=1").ok();
        let first = &theirs["shards"][0];
        assert_eq!(first["state"], "owned");
        assert_eq!(first["total"], 100);
        assert_eq!(first["allocated"], 1);
        assert_eq!(first["epoch"], 1);
        assert_eq!(first["range"], grant.range);
        let next = theirs["next_cursor"].as_str().unwrap().replace('/', "%2F");
        let rest = owners(&server, &format!("olt=olt-1&cursor={next}"));
        assert_eq!(rest.len(), 17);
        assert!(
            rest.iter()
                .all(|(shard, _)| *shard > first["shard"].as_u64().unwrap())
        );
    });
    let unknown = server.get("/api/v1/shards?pool=x");
    assert_eq!(unknown.problem(404), "unknown-pool");
    for wrong in ["state=lost", "cursor=x", "limit=0"] {
        let answer = server.get(&format!("/api/v1/shards?{wrong}"));
        assert_eq!(answer.problem(422), "invalid-field", "{wrong}");
    }
}

#[test]
fn a_plan_says_what_a_join_a_leave_and_a_pool_would_move_and_moves_nothing() {
    let server = server();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let grants = olt.shards(POOL);
        for grant in &grants {
            let mut claim = olt.claim(POOL, &format!("sub-{}", grant.shard), "");
            claim.shard = grant.shard;
            claim.epoch = grant.epoch;
            claim.resource = (grant.shard * 100 + 50).to_string();
            olt.send(claim).await.unwrap();
        }
        let before = owners(&server, "pool=v");
        let join = json!({"join": [{"id": "olt-2", "region": "east", "capacity": 2000}]});
        let plan = server.post("/api/v1/shards/plan", &join).ok();
        let pool = &plan["pools"][0];
        assert_eq!(pool["pool_id"], POOL);
        let drains = pool["drains"].as_array().unwrap();
        assert!(!drains.is_empty());
        // There is one allocation in each shard.
        assert_eq!(plan["affected_allocations"], drains.len());
        assert!(drains.iter().all(|drain| drain["from"] == "olt-1"));
        let grants = pool["grants"].as_array().unwrap();
        assert!(grants.iter().all(|grant| grant["to"] == "olt-2"));
        assert_eq!(pool["balance"]["before"]["olts"], 1);
        assert_eq!(pool["balance"]["after"]["olts"], 2);
        assert!(pool["balance"]["after"]["most"].as_f64().unwrap() <= 1.25);
        assert_eq!(plan["complete"], true);
        assert_eq!(before, owners(&server, "pool=v"), "it was only planned");

        // And then it happens.
        TestOlt::register(&server, "olt-2", "s").await;
        server.until("/api/v1/shards?pool=v&state=draining", |list| {
            list.body["shards"]
                .as_array()
                .is_some_and(|shards| !shards.is_empty())
        });
        let draining = owners(&server, "pool=v&state=draining");
        assert!(draining.len() <= drains.len(), "{draining:?}");
    });
    let leave = server.post("/api/v1/shards/plan", &json!({"leave": ["olt-9"]}));
    assert_eq!(leave.problem(404), "unknown-node");
    let nothing = server.post("/api/v1/shards/plan", &json!({}));
    assert_eq!(nothing.problem(422), "invalid-field");
    let met = json!({"pool": {"id": "w", "type": "vlan", "range": "5-6"}});
    let met = server.post("/api/v1/shards/plan", &met);
    assert_eq!(met.problem(409), "pool-overlaps");
    let new = json!({"pool": {"id": "w", "type": "vlan", "range": "3000-3099", "shard_size": 10}});
    let plan = server.post("/api/v1/shards/plan", &new).ok();
    assert_eq!(plan["affected_allocations"], 0);
    assert!(plan["pools"][0]["balance"]["before"].is_null());
}
