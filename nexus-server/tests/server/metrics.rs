//! What Prometheus reads of a running server: the metrics of the customer's document about pools and nodes, each of
//! which changes with what it counts; and duplicates that stand in the record.

use std::time::{Duration, Instant};

use nexus_clset::Fence;
use nexus_proto::v1;
use serde_json::json;

use crate::harness::{FAST, LIMIT, TestOlt, TestServer, block_on};
use crate::planted::copy_entry;

const POOL: &str = "v";

/// The value of a series, labels in the order of their names; `None`: it is not there.
fn value(server: &TestServer, series: &str) -> Option<f64> {
    let text = server.metrics();
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of_series)
}

fn of_pool(server: &TestServer, what: &str) -> f64 {
    let series = format!("nexus_pool_{what}{{pool_id=\"{POOL}\",type=\"vlan\"}}");
    value(server, &series).unwrap_or_else(|| panic!("{series}: {}", server.metrics()))
}

fn allocations(server: &TestServer, result: &str) -> f64 {
    let labels = format!("olt_id=\"olt-1\",pool_id=\"{POOL}\",result=\"{result}\"");
    value(server, &format!("nexus_allocations_total{{{labels}}}")).unwrap_or(0.0)
}

fn olts(server: &TestServer, state: &str) -> f64 {
    let labels = format!("role=\"olt\",state=\"{state}\"");
    value(server, &format!("nexus_nodes_total{{{labels}}}")).unwrap_or(0.0)
}

#[test]
fn every_metric_of_a_pool_changes_with_what_it_counts() {
    let server = TestServer::start("");
    let mut pool = json!({"id": POOL, "type": "vlan", "range": "1-200", "shard_size": 100});
    assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    let fill = |server: &TestServer| {
        ["total", "allocated", "available", "utilization_ratio"].map(|what| of_pool(server, what))
    };
    assert_eq!(fill(&server), [200.0, 0.0, 200.0, 0.0]);
    let written = value(&server, "nexus_clset_puts_total").unwrap();
    let path = format!("/api/v1/pools/{POOL}");
    pool["exclusions"] = json!(["101-200"]);
    server.put(&path, &pool, &[]).ok();
    assert_eq!(fill(&server), [100.0, 0.0, 100.0, 0.0]);
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        let claim = olt.claim(POOL, "sub-1", "7");
        olt.send(claim.clone()).await.unwrap();
        assert_eq!(fill(&server), [100.0, 1.0, 99.0, 0.01]);
        assert_eq!(allocations(&server, "ok"), 1.0);
        olt.send(claim.clone()).await.unwrap();
        assert_eq!(allocations(&server, "repeated"), 1.0);
        let other = olt.claim(POOL, "sub-2", "7");
        olt.send(other).await.unwrap_err();
        assert_eq!(allocations(&server, "resource-taken"), 1.0);
        let duration = format!("nexus_allocation_duration_seconds_count{{pool_id=\"{POOL}\"}}");
        assert_eq!(value(&server, &duration), Some(3.0));
        for quantile in ["0.5", "0.9", "0.99", "1"] {
            let series = format!(
                "nexus_allocation_duration_seconds{{pool_id=\"{POOL}\",quantile=\"{quantile}\"}}"
            );
            assert!(value(&server, &series).is_some_and(|secs| secs > 0.0));
        }
        let release = olt.release(&claim);
        olt.client.deallocate(release).await.unwrap();
        // It rests: not held, and not to be had.
        assert_eq!(fill(&server), [100.0, 0.0, 99.0, 0.0]);
    });
    let more = value(&server, "nexus_clset_puts_total").unwrap();
    assert!(more >= written + 2.0, "{more} after {written}");
}

#[test]
fn every_metric_of_an_olt_changes_with_what_it_counts() {
    let server = TestServer::start("");
    let heard = "nexus_node_last_heartbeat_seconds{olt_id=\"olt-1\"}";
    let subscribers = "nexus_node_subscribers{olt_id=\"olt-1\"}";
    assert_eq!(value(&server, heard), None);
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        assert_eq!(olts(&server, "bootstrapping"), 1.0);
        olt.heartbeat().await.unwrap();
        let first = value(&server, heard).unwrap();
        assert!(first > 1_700_000_000.0, "Unix time, {first}");
        assert_eq!(value(&server, subscribers), Some(7.0));
        assert_eq!(
            value(&server, "nexus_node_other_host{olt_id=\"olt-1\"}"),
            Some(0.0)
        );
        let more = v1::HeartbeatRequest {
            active_subscribers: 9,
            ..olt.heartbeat_request()
        };
        olt.client.heartbeat(more).await.unwrap();
        assert_eq!(value(&server, subscribers), Some(9.0));
        assert!(value(&server, heard).is_some_and(|at| at > first));
    });
    assert_eq!(olts(&server, "active"), 1.0);
    assert_eq!(olts(&server, "bootstrapping"), 0.0);
    let role = "nexus_nodes_total{role=\"core\",state=\"active\"}";
    assert_eq!(value(&server, role), Some(1.0));
}

#[test]
fn an_olt_that_is_not_heard_counts_as_offline() {
    let server = TestServer::start(FAST);
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s").await;
        olt.heartbeat().await.unwrap();
    });
    let begin = Instant::now();
    while olts(&server, "offline") < 1.0 {
        assert!(begin.elapsed() < LIMIT, "{}", server.metrics());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(olts(&server, "active"), 0.0);
}

#[test]
fn a_duplicate_in_the_record_is_seen_over_rest_and_in_the_metrics_until_it_is_gone() {
    let mut server = TestServer::start("");
    for (id, vrf, length) in [("a", "default", 56), ("b", "blue", 64)] {
        let pool = json!({"id": id, "type": "ipv6", "cidr": "2001:db8::/48", "vrf": vrf,
                          "delegated_length": length, "shard_size": 52});
        assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    }
    let hold = |pool: &str, who: &str| {
        let request = json!({"pool_id": pool, "subscriber_id": who});
        let made = server.post("/api/v1/allocate", &request).ok();
        made["allocation"]["resource"].as_str().unwrap().to_owned()
    };
    let (outer, inner) = (hold("a", "sub-1"), hold("b", "sub-2"));
    assert_eq!(
        (outer.as_str(), inner.as_str()),
        ("2001:db8:0:f000::/56", "2001:db8:0:f000::/64")
    );
    let duplicates = "nexus_duplicate_allocations";
    assert_eq!(server.get("/api/v1/audit").ok()["duplicates"], json!([]));
    assert_eq!(value(&server, duplicates), Some(0.0));
    assert!(server.terminate().success());
    let key = |vrf: &str| format!("/allocations/{vrf}/ipv6/{inner}");
    copy_entry(
        &server.dir.path().join("data"),
        &key("blue"),
        &key("default"),
        Fence::epoch(1),
    );
    server.restart();
    let audit = server.get("/api/v1/audit").ok();
    let found = json!({"vrf": "default", "resource": inner, "kind": "overlaps", "holders": [
        {"subscriber_id": "sub-1", "olt_id": "nexus"}, {"subscriber_id": "sub-2", "olt_id": "nexus"}
    ]});
    assert_eq!(
        (&audit["checked"], &audit["duplicates"]),
        (&json!(3), &json!([found]))
    );
    assert_eq!(value(&server, duplicates), Some(1.0));
    let walked = server.until("/api/v1/audit", |answer| {
        !answer.body["last_walk"].is_null()
    });
    assert_eq!(walked.body["last_walk"]["checked"], 3);
    assert_eq!(walked.body["duplicates"], json!([found]));
    let at = value(&server, "nexus_audit_last_walk_seconds").unwrap();
    assert!(at > 1_700_000_000.0, "Unix time, {at}");
    server.delete("/api/v1/allocate/sub-2").ok();
    assert_eq!(server.get("/api/v1/audit").ok()["duplicates"], json!([]));
    assert_eq!(value(&server, duplicates), Some(0.0));
}
