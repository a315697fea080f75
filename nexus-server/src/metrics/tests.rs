//! Tests of the metrics: the names of the document, and gauges that follow the state.

use super::*;

/// Name and labels of every metric in the customer's document.
const DOCUMENT: &[(&str, &[&str])] = &[
    ("nexus_pool_total", &["pool_id", "type"]),
    ("nexus_pool_allocated", &["pool_id", "type"]),
    ("nexus_pool_available", &["pool_id", "type"]),
    ("nexus_pool_utilization_ratio", &["pool_id", "type"]),
    ("nexus_allocations_total", &["pool_id", "olt_id", "result"]),
    (
        "nexus_allocation_duration_seconds",
        &["pool_id", "quantile"],
    ),
    ("nexus_nodes_total", &["role", "state"]),
    ("nexus_node_subscribers", &["olt_id"]),
    ("nexus_node_last_heartbeat_seconds", &["olt_id"]),
    ("nexus_clset_puts_total", &[]),
    ("nexus_clset_gets_total", &[]),
    ("nexus_clset_sync_duration_seconds", &["quantile"]),
    ("nexus_clset_peers_total", &[]),
    ("nexus_api_requests_total", &["method", "path", "status"]),
    (
        "nexus_api_request_duration_seconds",
        &["method", "path", "quantile"],
    ),
    ("nexus_duplicate_allocations", &[]),
];

fn example() -> (Metrics, Snapshot) {
    let metrics = Metrics::new().unwrap();
    let now = Instant::now();
    let took = Duration::from_millis(3);
    metrics.allocation(Some("p"), Some("olt-1"), "ok", took, now);
    metrics.request("GET", "/api/v1/pools", "200", took, now);
    let snapshot = Snapshot {
        pools: vec![PoolGauges {
            pool: "p".into(),
            kind: "ipv4".into(),
            total: 200,
            allocated: 50,
            available: 140,
        }],
        olts: vec![OltGauges {
            olt: "olt-1".into(),
            subscribers: 7,
            last_heartbeat: Some(1.5),
            other_host: false,
            clocks_apart: false,
        }],
        nodes: vec![("olt".into(), "active".into(), 1)],
        watchers: 2,
        duplicates: 3,
        audit_walked_at: Some(2.5),
    };
    (metrics, snapshot)
}

#[test]
fn every_metric_of_the_document_is_there_with_its_labels() {
    let (metrics, snapshot) = example();
    let text = metrics.render(&snapshot).unwrap();
    for (name, labels) in DOCUMENT {
        let line = text
            .lines()
            .find(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .unwrap_or_else(|| panic!("{name} is missing in\n{text}"));
        let found: Vec<&str> = match line.split_once('{') {
            Some((_, rest)) => rest
                .split("\",")
                .filter_map(|pair| pair.split_once("=\"").map(|(label, _)| label))
                .collect(),
            None => Vec::new(),
        };
        let mut expected = labels.to_vec();
        let mut found_sorted = found.clone();
        expected.sort_unstable();
        found_sorted.sort_unstable();
        assert_eq!(found_sorted, expected, "labels of {name} in {line}");
    }
}

#[test]
fn gauges_follow_the_snapshot_and_forget_what_is_gone() {
    let (metrics, snapshot) = example();
    let text = metrics.render(&snapshot).unwrap();
    assert!(text.contains("nexus_pool_utilization_ratio{pool_id=\"p\",type=\"ipv4\"} 0.25\n"));
    assert!(text.contains("nexus_watchers 2\n"));
    assert!(text.contains("nexus_duplicate_allocations 3\n"));
    assert!(text.contains("nexus_audit_last_walk_seconds 2.5\n"));
    let text = metrics.render(&Snapshot::default()).unwrap();
    assert!(!text.contains("pool_id=\"p\",type"), "{text}");
    assert!(
        !text.contains("nexus_allocation_duration_seconds{"),
        "{text}"
    );
}
