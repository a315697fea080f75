//! Many callers at once.

use std::collections::BTreeSet;

use nexus_proto::v1;

use crate::harness::{TestOlt, TestServer, block_on};

const POOL: &str = "residential-ipv4";

async fn central(server: &TestServer, subscribers: Vec<String>) -> Vec<v1::Allocation> {
    let client = server.grpc().await;
    let mut calls = tokio::task::JoinSet::new();
    for subscriber in subscribers {
        let mut client = client.clone();
        calls.spawn(async move {
            let request = v1::AllocateRequest {
                pool_id: POOL.into(),
                subscriber_id: subscriber,
                ..v1::AllocateRequest::default()
            };
            client
                .allocate(request)
                .await
                .unwrap()
                .into_inner()
                .allocation
                .unwrap()
        });
    }
    calls.join_all().await
}

#[test]
fn one_subscriber_asked_for_many_times_at_once_gets_one_address() {
    let server = TestServer::with_pool();
    block_on(async {
        let all = central(&server, vec!["sub-1".to_owned(); 200]).await;
        let addresses: BTreeSet<_> = all.iter().map(|a| a.resource.clone()).collect();
        assert_eq!(addresses.len(), 1);
    });
}

#[test]
fn many_subscribers_at_once_get_distinct_addresses() {
    let server = TestServer::with_pool();
    block_on(async {
        let subscribers = (0..1000).map(|n| format!("sub-{n}")).collect();
        let all = central(&server, subscribers).await;
        let addresses: BTreeSet<_> = all.iter().map(|a| a.resource.clone()).collect();
        assert_eq!(addresses.len(), 1000);
    });
}

#[test]
fn two_subscribers_claimed_on_one_address_at_once_leave_one_holder() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        for n in 10..40 {
            let address = olt.address(POOL, n);
            let one = olt.claim(POOL, &format!("a-{n}"), &address);
            let two = olt.claim(POOL, &format!("b-{n}"), &address);
            let (mut first, mut second) = (olt.client.clone(), olt.client.clone());
            let (one, two) = tokio::join!(first.allocate(one), second.allocate(two));
            // The one with the lower number may come second and be refused as older, or first and win.
            assert_eq!(
                [one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(),
                1,
                "{address}"
            );
            let list = server
                .get(&format!("/api/v1/allocations?resource={address}"))
                .ok();
            assert_eq!(list["allocations"].as_array().unwrap().len(), 1);
        }
    });
}

#[test]
fn a_pool_runs_out_cleanly() {
    let server = TestServer::start("");
    let pool =
        serde_json::json!({"id": "tiny", "type": "ipv4", "cidr": "10.0.0.0/27", "shard_size": 28});
    assert_eq!(server.post("/api/v1/pools", &pool).status, 201);
    let allocate = |n: u32| {
        let request = serde_json::json!({"pool_id": "tiny", "subscriber_id": format!("s-{n}")});
        server.post("/api/v1/allocate", &request)
    };
    let mut addresses = BTreeSet::new();
    // The cluster's shard is 10.0.0.16/28 without the broadcast address.
    for n in 0..15 {
        let allocation = allocate(n).ok();
        addresses.insert(
            allocation["allocation"]["resource"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(addresses.len(), 15);
    assert_eq!(allocate(15).problem(409), "pool-exhausted");
    assert_eq!(allocate(3).status, 200, "who has one keeps it");
}
