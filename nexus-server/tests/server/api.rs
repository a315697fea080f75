//! The REST interface: every route of the document, and everything that can be wrong with a request.

use serde_json::json;

use crate::harness::{TestOlt, TestServer, block_on};

const POOL: &str = "residential-ipv4";

#[test]
fn a_pool_is_created_read_changed_and_deleted() {
    let server = TestServer::start("");
    let pool = json!({
        "id": POOL, "type": "ipv4", "cidr": "100.64.0.0/10", "sharding_factor": 100,
        "exclusions": ["100.64.0.0/24"], "metadata": {"region": "east", "service_type": "residential"}
    });
    let created = server.post("/api/v1/pools", &pool);
    assert_eq!(created.status, 201);
    assert_eq!(
        created.headers["location"],
        "/api/v1/pools/residential-ipv4"
    );
    let first_tag = created.headers["etag"].to_str().unwrap().to_owned();

    let read = server.get("/api/v1/pools/residential-ipv4");
    assert_eq!(read.headers["etag"], first_tag.as_str());
    assert_eq!(read.body["cidr"], "100.64.0.0/10");
    assert_eq!(server.get("/api/v1/pools").ok()["pools"][0]["id"], POOL);
    let stats = server.get("/api/v1/pools/residential-ipv4/stats").ok();
    assert_eq!(stats["shards"], 256);
    assert_eq!(stats["total"], (1 << 22) - 256 - 1);

    let mut changed = read.body.clone();
    changed["cool_down"] = json!("5m");
    let path = "/api/v1/pools/residential-ipv4";
    let updated = server.put(path, &changed, &[("if-match", &first_tag)]);
    assert_eq!(updated.status, 200, "{}", updated.body);
    assert_ne!(updated.headers["etag"], first_tag.as_str());
    let late = server.put(path, &pool, &[("if-match", &first_tag)]);
    assert_eq!(late.problem(412), "etag-mismatch");
    assert_eq!(server.get(path).body["cool_down"], "5m");

    assert_eq!(server.delete(path).status, 204);
    assert_eq!(server.get(path).problem(404), "unknown-pool");
    assert_eq!(server.delete(path).problem(404), "unknown-pool");
}

#[test]
fn a_pool_that_makes_no_sense_is_refused_and_says_why() {
    let server = TestServer::with_pool();
    let path = "/api/v1/pools";
    let overlapping = json!({"id": "b", "type": "ipv4", "cidr": "100.127.0.0/16"});
    let answer = server.post(path, &overlapping);
    assert_eq!(answer.problem(409), "pool-overlaps");
    assert!(
        answer.body["detail"].as_str().unwrap().contains(POOL),
        "{}",
        answer.body
    );
    let again = json!({"id": POOL, "type": "ipv4", "cidr": "10.0.0.0/16"});
    assert_eq!(server.post(path, &again).problem(409), "pool-exists");
    let outside =
        json!({"id": "b", "type": "ipv4", "cidr": "10.0.0.0/16", "exclusions": ["10.1.0.0/24"]});
    let answer = server.post(path, &outside);
    assert_eq!(answer.problem(422), "invalid-pool");
    assert_eq!(answer.body["field"], "exclusions");
    let unknown = json!({"id": "b", "type": "ipv4", "cidr": "10.0.0.0/16", "colour": "red"});
    let answer = server.post(path, &unknown);
    assert_eq!(answer.problem(422), "invalid-body");
    assert_eq!(answer.body["field"], "colour");
    for bad in [
        json!({"id": "b", "type": "ipv5", "cidr": "10.0.0.0/16"}),
        json!({"id": "b", "type": "ipv4", "cidr": "10.0.0.0/33"}),
        json!({"id": "b", "type": "ipv4", "range": "1-2"}),
        json!({"id": "b c", "type": "ipv4", "cidr": "10.0.0.0/16"}),
        json!({"id": "b", "type": "vlan", "range": "1-5000"}),
        json!({"id": "b", "type": "ipv4"}),
        json!([1]),
    ] {
        assert!(
            server.post(path, &bad).problem(422).starts_with("invalid-"),
            "{bad}"
        );
    }
    let same_space_elsewhere =
        json!({"id": "b", "type": "ipv4", "cidr": "100.64.0.0/16", "vrf": "mgmt"});
    assert_eq!(server.post(path, &same_space_elsewhere).status, 201);
    assert_eq!(server.get(path).ok()["pools"].as_array().unwrap().len(), 2);
}

#[test]
fn every_error_has_a_problem_body() {
    let server = TestServer::with_pool();
    let json_type = ("content-type", "application/json");
    let no_route = server.get("/api/v1/nothing");
    assert_eq!(no_route.problem(404), "no-such-route");
    let method = server.send("PATCH", "/api/v1/pools", &[json_type], "{}");
    assert_eq!(method.problem(405), "method-not-allowed");
    assert!(method.headers["allow"].to_str().unwrap().contains("POST"));
    let large = format!("{{\"id\": \"{}\"}}", "x".repeat(5 * 1024 * 1024));
    let large = server.send("POST", "/api/v1/pools", &[json_type], &large);
    assert_eq!(large.problem(413), "body-too-large");
    let media = server.send(
        "POST",
        "/api/v1/pools",
        &[("content-type", "text/plain")],
        "{}",
    );
    assert_eq!(media.problem(415), "unsupported-media-type");
    let broken = server.send("POST", "/api/v1/pools", &[json_type], "{\"id\": ");
    assert_eq!(broken.problem(400), "malformed-json");
    let query = server.get("/api/v1/allocations?colour=red");
    assert_eq!(query.problem(422), "invalid-query");
    assert_eq!(query.body["field"], "colour");
    for (path, field) in [
        ("/api/v1/allocations?limit=0", "limit"),
        ("/api/v1/allocations?limit=1001", "limit"),
        ("/api/v1/allocations?state=gone", "state"),
        ("/api/v1/allocations?cursor=zz", "cursor"),
        ("/api/v1/allocations?pool_id=a%20b", "pool_id"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.problem(422), "invalid-field", "{path}");
        assert_eq!(answer.body["field"], field);
    }
    assert_eq!(
        server.get("/api/v1/nodes/none").problem(404),
        "unknown-node"
    );
    assert_eq!(
        server.get("/api/v1/nodes/a%20b").problem(422),
        "invalid-path"
    );
    assert_eq!(
        server.delete("/api/v1/nodes/none").problem(404),
        "unknown-node"
    );
    assert_eq!(
        server.get("/api/v1/bootstrap/none/config").problem(404),
        "unknown-node"
    );
    assert_eq!(
        server.get("/api/v1/allocations/nobody").problem(404),
        "no-allocation"
    );
    assert_eq!(
        server.delete("/api/v1/allocate/nobody").problem(404),
        "no-allocation"
    );
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn the_description_of_the_interface_is_served() {
    let server = TestServer::start("");
    let description = server.get("/api/v1/openapi.json").ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    assert!(description["paths"]["/api/v1/pools/{id}"]["put"].is_object());
    for path in ["/health", "/healthz", "/ready"] {
        assert_eq!(server.get(path).ok()["status"], "ok");
    }
}

#[test]
fn the_centre_allocates_once_per_subscriber_and_releases_at_once_what_no_olt_has() {
    let server = TestServer::with_pool();
    let request = json!({"pool_id": POOL, "subscriber_id": "sub-12345", "metadata": {"mac": "aa:bb:cc:dd:ee:ff"}});
    let first = server.post("/api/v1/allocate", &request);
    assert_eq!(first.status, 201, "{}", first.body);
    let allocation = &first.body["allocation"];
    assert_eq!(allocation["metadata"]["mac"], "aa:bb:cc:dd:ee:ff");
    assert_eq!(allocation["state"], "active");
    let again = server.post("/api/v1/allocate", &request);
    assert_eq!(again.status, 200);
    assert_eq!(again.body, first.body);
    let held = server.get("/api/v1/allocations/sub-12345").ok();
    assert_eq!(held["subscriber_id"], "sub-12345");
    assert_eq!(held["allocations"][0], *allocation);

    let path = format!("/api/v1/pools/{POOL}");
    let refused = server.delete(&path);
    assert_eq!(refused.problem(409), "in-use");
    assert_eq!(refused.body["count"], 1);
    let mut pool = server.get(&path).body;
    pool["exclusions"] = json!([allocation["resource"]]);
    let refused = server.put(&path, &pool, &[]);
    assert_eq!(refused.problem(409), "in-use");
    pool["exclusions"] = json!([]);
    pool["shard_size"] = json!(20);
    assert_eq!(
        server.put(&path, &pool, &[]).problem(409),
        "pool-geometry-in-use"
    );

    let released = server.delete("/api/v1/allocate/sub-12345?pool_id=residential-ipv4");
    assert_eq!(released.status, 200, "{}", released.body);
    assert_eq!(released.body["allocation"]["state"], "released");
    assert_eq!(
        server.get("/api/v1/allocations/sub-12345").problem(404),
        "no-allocation"
    );
    let back = server.post("/api/v1/allocate", &request).ok();
    assert_eq!(
        back["allocation"]["resource"], allocation["resource"],
        "same subscriber, same address"
    );
}

#[test]
fn bad_allocate_requests_are_refused_by_field() {
    let server = TestServer::with_pool();
    let path = "/api/v1/allocate";
    let unknown = json!({"pool_id": "none", "subscriber_id": "s"});
    assert_eq!(server.post(path, &unknown).problem(404), "unknown-pool");
    let unknown = json!({"pool_id": POOL, "subscriber_id": "s", "olt_id": "none"});
    assert_eq!(server.post(path, &unknown).problem(404), "unknown-node");
    let bad = server.post(path, &json!({"pool_id": POOL, "subscriber_id": "a b"}));
    assert_eq!(bad.problem(422), "invalid-field");
    assert_eq!(bad.body["field"], "subscriber_id");
    let missing = server.post(path, &json!({"pool_id": POOL}));
    assert_eq!(missing.problem(422), "invalid-body");
    assert_eq!(missing.body["field"], "subscriber_id");
    let extra = server.post(
        path,
        &json!({"pool_id": POOL, "subscriber_id": "s", "ip": "10.0.0.1"}),
    );
    assert_eq!(extra.body["field"], "ip");
}

#[test]
fn an_idempotency_key_gets_its_first_answer_even_after_a_release() {
    let server = TestServer::with_pool();
    let request = json!({"pool_id": POOL, "subscriber_id": "s1"}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k-1"),
    ];
    let post = |body: &str| server.send("POST", "/api/v1/allocate", &headers, body);
    let first = post(&request);
    assert_eq!(first.status, 201);
    server.delete("/api/v1/allocate/s1").ok();
    let again = post(&request);
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(
        server.get("/api/v1/allocations/s1").status,
        404,
        "nothing was allocated anew"
    );
    let other = json!({"pool_id": POOL, "subscriber_id": "s2"}).to_string();
    assert_eq!(post(&other).problem(422), "idempotency-key-reused");
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", ""),
    ];
    let empty = server.send("POST", "/api/v1/allocate", &headers, &request);
    assert_eq!(empty.body["field"], "Idempotency-Key");
}

#[test]
fn lists_are_filtered_and_come_in_pages() {
    let server = TestServer::with_pool();
    server.create_pool("other", "10.0.0.0/16");
    for n in 0..25 {
        let request = json!({"pool_id": POOL, "subscriber_id": format!("s-{n}")});
        server.post("/api/v1/allocate", &request).ok();
    }
    server
        .post(
            "/api/v1/allocate",
            &json!({"pool_id": "other", "subscriber_id": "s-0"}),
        )
        .ok();
    server.delete("/api/v1/allocate/s-24").ok();

    let mut seen = Vec::new();
    let mut path = format!("/api/v1/allocations?pool_id={POOL}&limit=10");
    loop {
        let page = server.get(&path).ok();
        let allocations = page["allocations"].as_array().unwrap();
        assert!(allocations.len() <= 10);
        seen.extend(
            allocations
                .iter()
                .map(|a| a["subscriber_id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => {
                path = format!("/api/v1/allocations?pool_id={POOL}&limit=10&cursor={cursor}")
            }
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 24, "each held allocation once");

    let count = |query: &str| {
        let list = server.get(&format!("/api/v1/allocations?{query}")).ok();
        list["allocations"].as_array().unwrap().len()
    };
    assert_eq!(count("subscriber_id=s-0"), 2);
    assert_eq!(count("subscriber_id=s-0&pool_id=other"), 1);
    assert_eq!(count("state=released"), 1);
    assert_eq!(count("state=all&limit=1000"), 26);
    assert_eq!(count("olt_id=nexus&limit=1000"), 25);
    assert_eq!(count("olt_id=olt-1"), 0);
    let held = server.get("/api/v1/allocations/s-3").ok();
    let address = held["allocations"][0]["resource"].as_str().unwrap();
    assert_eq!(count(&format!("resource={address}")), 1);
    assert_eq!(count("resource=100.64.0.9"), 0);
    assert_eq!(count("resource=rubbish"), 0);
}

#[test]
fn an_olt_enrols_reports_and_leaves_over_rest() {
    let server = TestServer::with_pool();
    let request = json!({
        "id": "olt-east-01", "name": "East Data Center OLT", "region": "east",
        "address": "10.1.1.10:9000", "capacity": 2000
    });
    let enrolled = server.post("/api/v1/bootstrap", &request).ok();
    assert_eq!(enrolled["olt"]["state"], "bootstrapping");
    assert_eq!(enrolled["assigned_pools"], json!([POOL]));
    assert_eq!(enrolled["config"]["pools"][0]["local_shards"], json!([0]));
    assert_eq!(
        enrolled["config"]["pools"][0]["shard_ranges"]["0"],
        "100.64.0.0/18"
    );
    assert_eq!(enrolled["config"]["routes"], json!(["100.64.0.0/18"]));
    let config = server.get("/api/v1/bootstrap/olt-east-01/config").ok();
    assert_eq!(config, enrolled["config"]);
    assert_eq!(config["heartbeat_interval"], "30s");
    assert_eq!(config["config_watch"], true);

    // Without a session nobody can tell a second host with this id from the first.
    let second = server.post("/api/v1/bootstrap", &request);
    assert_eq!(second.problem(409), "alive-elsewhere");
    let mut same = request.clone();
    same["session"] = enrolled["session"].clone();
    assert_eq!(
        server.post("/api/v1/bootstrap", &same).ok()["session"],
        enrolled["session"]
    );

    let path = "/api/v1/bootstrap/olt-east-01/heartbeat";
    let report = json!({"active_subscribers": 12, "metrics": {"cpu": 0.25}});
    assert_eq!(
        server.post(path, &report).ok()["lease_ms"],
        0,
        "no session, no lease"
    );
    let mut renewal = report.clone();
    renewal["session"] = enrolled["session"].clone();
    renewal["config_revision"] = config["revision"].clone();
    let renewed = server.post(path, &renewal).ok();
    assert_eq!(renewed["lease_ms"], 86_400_000);
    assert_eq!(renewed["state"], "active");
    renewal["session"] = json!("another");
    assert_eq!(server.post(path, &renewal).problem(409), "session-refused");
    let node = server.get("/api/v1/nodes/olt-east-01").ok();
    assert_eq!(node["active_subscribers"], 12);
    assert_eq!(node["metrics"]["cpu"], 0.25);
    assert!(node["last_heartbeat"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        server.get("/api/v1/nodes").ok()["nodes"][0]["id"],
        "olt-east-01"
    );

    assert_eq!(
        server.delete("/api/v1/nodes/olt-east-01").problem(409),
        "drain-first"
    );
    let draining = server.post("/api/v1/nodes/olt-east-01/drain", &json!({}));
    assert_eq!(draining.status, 202);
    assert_eq!(draining.body["state"], "draining");
    assert_eq!(
        server.delete("/api/v1/nodes/olt-east-01").problem(409),
        "drain-first"
    );
    for bad in [
        json!({"id": "x", "capacity": 0}),
        json!({"id": "nexus", "capacity": 1}),
    ] {
        assert_eq!(
            server.post("/api/v1/bootstrap", &bad).problem(422),
            "invalid-field",
            "{bad}"
        );
    }
}

#[test]
fn a_drained_olt_that_gave_everything_back_can_be_deleted() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        server.post("/api/v1/nodes/olt-1/drain", &json!({})).ok();
        olt.fetch_config().await;
        assert!(
            olt.shards(POOL)
                .iter()
                .all(|grant| grant.state == "draining")
        );
        let mut heartbeat = olt.heartbeat_request();
        for grant in olt.shards(POOL) {
            heartbeat.released_shards.push(nexus_proto::v1::ShardRef {
                pool_id: POOL.into(),
                shard: grant.shard,
                epoch: grant.epoch,
            });
        }
        let answer = olt.client.heartbeat(heartbeat).await.unwrap().into_inner();
        assert_eq!(answer.state, "draining");
        assert_eq!(server.delete("/api/v1/nodes/olt-1").status, 204);
        assert_eq!(
            server.get("/api/v1/nodes/olt-1").problem(404),
            "unknown-node"
        );
        let gone = olt.heartbeat().await.unwrap_err();
        assert_eq!(
            gone.code(),
            tonic::Code::FailedPrecondition,
            "register again"
        );
    });
}

#[test]
fn the_metrics_follow_what_happens() {
    let server = TestServer::with_pool();
    server
        .post(
            "/api/v1/allocate",
            &json!({"pool_id": POOL, "subscriber_id": "s1"}),
        )
        .ok();
    server.post(
        "/api/v1/allocate",
        &json!({"pool_id": "no-such", "subscriber_id": "s1"}),
    );
    block_on(async {
        TestOlt::register(&server, "olt-1", "s-1")
            .await
            .heartbeat()
            .await
            .unwrap();
    });
    server.get("/nowhere");
    let text = server.metrics();
    for line in [
        "nexus_pool_allocated{pool_id=\"residential-ipv4\",type=\"ipv4\"} 1",
        "nexus_allocations_total{olt_id=\"nexus\",pool_id=\"residential-ipv4\",result=\"ok\"} 1",
        "nexus_allocations_total{olt_id=\"nexus\",pool_id=\"unknown\",result=\"unknown-pool\"} 1",
        "nexus_allocation_duration_seconds_count{pool_id=\"residential-ipv4\"} 1",
        "nexus_nodes_total{role=\"olt\",state=\"active\"} 1",
        "nexus_nodes_total{role=\"core\",state=\"active\"} 1",
        "nexus_node_subscribers{olt_id=\"olt-1\"} 7",
        "nexus_api_requests_total{method=\"POST\",path=\"/api/v1/allocate\",status=\"201\"} 1",
        "nexus_api_requests_total{method=\"GRPC\",path=\"/nexus.v1.Nexus/Register\",status=\"OK\"} 1",
        "nexus_api_requests_total{method=\"GET\",path=\"unmatched\",status=\"404\"} 1",
        "nexus_duplicate_allocations 0",
        "nexus_clset_peers_total 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in\n{text}"
        );
    }
    for name in [
        "nexus_pool_total",
        "nexus_pool_available",
        "nexus_pool_utilization_ratio",
        "nexus_node_last_heartbeat_seconds",
        "nexus_clset_puts_total",
        "nexus_clset_gets_total",
        "nexus_clset_sync_duration_seconds",
        "nexus_api_request_duration_seconds",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
}
