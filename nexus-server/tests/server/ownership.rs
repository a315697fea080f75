//! Shards, sessions and the record, over gRPC: who may say what about which resource.

use std::collections::BTreeSet;

use nexus_proto::v1;
use serde_json::json;
use tonic::Code;

use crate::harness::{FAST, TestOlt, TestServer, block_on};

const POOL: &str = "residential-ipv4";

#[test]
fn two_olts_never_get_one_shard() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut seen = BTreeSet::new();
        for n in 0..12 {
            let olt = TestOlt::register(&server, &format!("olt-{n}"), "s").await;
            let shards = olt.shards(POOL);
            assert!(!shards.is_empty());
            for grant in shards {
                assert!(seen.insert(grant.shard), "shard {} twice", grant.shard);
            }
        }
        assert!(!seen.contains(&255), "the cluster keeps the highest");
    });
}

#[test]
fn an_olt_records_repeats_and_releases_what_it_allocated() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let address = olt.address(POOL, 50);
        let claim = olt.claim(POOL, "sub-1", &address);
        let recorded = olt.send(claim.clone()).await.unwrap();
        assert_eq!(recorded.resource, address);
        assert_eq!(recorded.timestamp, "2024-12-19T10:30:00Z");
        assert_eq!(recorded.state, "active");
        assert_eq!(
            olt.send(claim.clone()).await.unwrap(),
            recorded,
            "a repeat answers the same"
        );
        let rest = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(rest["allocations"][0]["olt_id"], "olt-1");
        assert_eq!(rest["allocations"][0]["metadata"]["circuit_id"], "0/1/5/32");

        let release = olt.release(&claim);
        olt.client.deallocate(release.clone()).await.unwrap();
        olt.client.deallocate(release).await.unwrap();
        let gone = olt.client.get_allocation(v1::GetAllocationRequest {
            subscriber_id: "sub-1".into(),
            pool_id: String::new(),
        });
        assert_eq!(gone.await.unwrap_err().code(), Code::NotFound);
        let late = olt.send(claim).await.unwrap_err();
        assert_eq!(
            late.code(),
            Code::FailedPrecondition,
            "a copy of the allocation comes late"
        );
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 404);
    });
}

#[test]
fn what_is_not_the_callers_is_refused() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut one = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut two = TestOlt::register(&server, "olt-2", "s-2").await;
        let address = one.address(POOL, 7);
        one.allocate(POOL, "sub-1", &address).await.unwrap();

        let mut foreign = two.claim(POOL, "sub-2", &one.address(POOL, 8));
        foreign.shard = one.shards(POOL)[0].shard;
        assert_eq!(
            two.send(foreign).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        let mut stale = one.claim(POOL, "sub-2", &one.address(POOL, 8));
        stale.epoch += 1;
        assert_eq!(
            one.send(stale).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        let mut old_session = one.claim(POOL, "sub-2", &one.address(POOL, 8));
        old_session.session = "s-0".into();
        assert_eq!(
            one.send(old_session).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        let elsewhere = one.claim(POOL, "sub-2", &two.address(POOL, 8));
        assert_eq!(
            one.send(elsewhere).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        let rubbish = one.claim(POOL, "sub-2", "not-an-address");
        assert_eq!(
            one.send(rubbish).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        let reserved = one.claim(POOL, "sub-2", "100.64.0.1");
        if reserved.shard == 0 {
            assert_eq!(
                one.send(reserved).await.unwrap_err().code(),
                Code::InvalidArgument,
                "the router"
            );
        }
        let unknown = v1::AllocateRequest {
            pool_id: "none".into(),
            ..one.claim(POOL, "sub-2", &address)
        };
        assert_eq!(one.send(unknown).await.unwrap_err().code(), Code::NotFound);
        let second = one
            .allocate(POOL, "sub-1", &one.address(POOL, 9))
            .await
            .unwrap_err();
        assert_eq!(
            second.code(),
            Code::FailedPrecondition,
            "release the first before"
        );
        let of_two = v1::DeallocateRequest {
            resource: address.clone(),
            shard: one.shards(POOL)[0].shard,
            subscriber_id: "sub-1".into(),
            ..two.release(&two_claim(&two, &address))
        };
        assert_eq!(
            two.client.deallocate(of_two).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 200);
        assert_eq!(server.get("/api/v1/allocations/sub-2").status, 404);
    });
}

fn two_claim(olt: &TestOlt, address: &str) -> v1::AllocateRequest {
    v1::AllocateRequest {
        pool_id: POOL.into(),
        resource: address.into(),
        epoch: olt.shards(POOL)[0].epoch,
        ..v1::AllocateRequest::default()
    }
}

#[test]
fn a_resource_of_another_subscriber_is_refused_and_shows_in_the_audit_until_it_is_settled() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let address = olt.address(POOL, 5);
        olt.allocate(POOL, "sub-1", &address).await.unwrap();
        let taken = olt.allocate(POOL, "sub-2", &address).await.unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists);
        let audit = server.get("/api/v1/audit").ok();
        assert_eq!(audit["duplicates"][0]["resource"], address);
        assert_eq!(
            audit["duplicates"][0]["holders"][1]["subscriber_id"],
            "sub-2"
        );
        assert!(server.metrics().contains("nexus_duplicate_allocations 1"));
        let other = olt.address(POOL, 6);
        olt.allocate(POOL, "sub-2", &other).await.unwrap();
        assert_eq!(server.get("/api/v1/audit").ok()["duplicates"], json!([]));
        assert!(server.metrics().contains("nexus_duplicate_allocations 0"));
    });
}

#[test]
fn commands_may_arrive_twice_late_and_in_any_order() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let address = olt.address(POOL, 20);
        let allocate = olt.claim(POOL, "sub-1", &address);
        let release = olt.release(&allocate);
        // The release overtakes its allocation.
        olt.client.deallocate(release).await.unwrap();
        assert_eq!(
            olt.send(allocate).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 404);

        let again = olt.claim(POOL, "sub-2", &address);
        olt.send(again.clone()).await.unwrap();
        let mut newer = olt.claim(POOL, "sub-3", &olt.address(POOL, 21));
        newer.acked_below = newer.seq;
        olt.send(newer.clone()).await.unwrap();
        let stray = olt.send(again).await.unwrap_err();
        assert_eq!(stray.code(), Code::FailedPrecondition);
        assert!(
            stray.message().contains("stray copy"),
            "{}",
            stray.message()
        );
        newer.seq = 0;
        assert_eq!(
            olt.send(newer.clone()).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        newer.seq = 90;
        newer.acked_below = 91;
        assert_eq!(
            olt.send(newer).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    });
}

#[test]
fn a_subscriber_that_moves_gets_the_new_address_and_the_old_olt_is_asked_for_the_old_one() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut one = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut two = TestOlt::register(&server, "olt-2", "s-2").await;
        let old = one.claim(POOL, "sub-1", &one.address(POOL, 30));
        let mut old = old;
        one.send(old.clone()).await.unwrap();
        let new_address = two.address(POOL, 30);
        two.allocate(POOL, "sub-1", &new_address).await.unwrap();
        let held = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(held["allocations"][0]["resource"], new_address);
        assert_eq!(held["allocations"][0]["state"], "active");
        assert_eq!(held["allocations"][1]["resource"], old.resource);
        assert_eq!(held["allocations"][1]["state"], "releasing");
        old.acked_below = 0;
        let release = one.release(&old);
        one.client.deallocate(release).await.unwrap();
        let held = server.get("/api/v1/allocations/sub-1").ok();
        assert_eq!(held["allocations"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn an_operators_release_of_what_an_olt_has_waits_for_that_olt() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let claim = olt.claim(POOL, "sub-1", &olt.address(POOL, 40));
        let claim = v1::AllocateRequest { ..claim };
        olt.send(claim.clone()).await.unwrap();
        let asked = server.delete("/api/v1/allocate/sub-1");
        assert_eq!(asked.status, 202, "{}", asked.body);
        assert_eq!(asked.body["allocation"]["state"], "releasing");
        assert_eq!(
            server.delete("/api/v1/allocate/sub-1").status,
            202,
            "asked again"
        );
        let other = olt
            .allocate(POOL, "sub-9", &claim.resource)
            .await
            .unwrap_err();
        assert_eq!(
            other.code(),
            Code::AlreadyExists,
            "it is held until the OLT says otherwise"
        );
        let release = olt.release(&claim);
        olt.client.deallocate(release).await.unwrap();
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 404);
    });
}

#[test]
fn the_centre_allocates_for_an_olt_over_grpc_and_takes_its_release() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let request = v1::AllocateRequest {
            pool_id: POOL.into(),
            subscriber_id: "sub-1".into(),
            olt_id: "olt-1".into(),
            ..v1::AllocateRequest::default()
        };
        let first = olt.send(request.clone()).await.unwrap();
        assert_eq!((first.shard, first.seq), (255, 0));
        assert_eq!(olt.send(request.clone()).await.unwrap(), first);
        assert_eq!(server.delete("/api/v1/allocate/sub-1").status, 202);
        let of = v1::AllocateRequest {
            resource: first.resource.clone(),
            shard: first.shard,
            epoch: first.epoch,
            ..request
        };
        let release = olt.release(&of);
        olt.client.deallocate(release).await.unwrap();
        assert_eq!(server.get("/api/v1/allocations/sub-1").status, 404);
    });
}

#[test]
fn a_second_host_with_the_same_id_waits_until_the_first_is_silent_and_gets_other_shards() {
    let server = TestServer::start(FAST);
    server.create_pool(POOL, "100.64.0.0/10");
    block_on(async {
        let mut first = TestOlt::register(&server, "olt-1", "s-1").await;
        first.heartbeat().await.unwrap();
        let clash = TestOlt::try_register(&server, "olt-1", "s-2")
            .await
            .err()
            .unwrap();
        assert_eq!(clash.code(), Code::AlreadyExists);
        server.until("/api/v1/nodes/olt-1", |answer| {
            answer.body["state"] == "offline"
        });
        let second = TestOlt::register(&server, "olt-1", "s-2").await;
        let old: Vec<u32> = first.shards(POOL).iter().map(|grant| grant.shard).collect();
        assert!(
            second
                .shards(POOL)
                .iter()
                .all(|grant| !old.contains(&grant.shard)),
            "the first host may still believe in its lease"
        );
        let refused = first.heartbeat().await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let mut ask = v1::ConfigRequest {
            olt_id: "olt-1".into(),
            session: "s-1".into(),
        };
        let refused = first.client.get_config(ask.clone()).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::FailedPrecondition,
            "the other host's shards are not the first one's"
        );
        ask.session = String::new();
        first.client.get_config(ask).await.unwrap();
        let address = first.address(POOL, 3);
        let refused = first.allocate(POOL, "sub-1", &address).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    });
}

#[test]
fn a_store_that_was_rolled_back_must_start_a_new_session() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let address = olt.address(POOL, 3);
        olt.allocate(POOL, "sub-1", &address).await.unwrap();
        let refused = TestOlt::try_register(&server, "olt-1", "s-1")
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("new session"),
            "{}",
            refused.message()
        );
    });
}

#[test]
fn heartbeats_with_rubbish_are_refused_by_field() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut heartbeat = olt.heartbeat_request();
        heartbeat.metrics.insert("nan".into(), f64::NAN);
        let refused = olt.client.heartbeat(heartbeat).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let mut heartbeat = olt.heartbeat_request();
        heartbeat.olt_id = "a b".into();
        let refused = olt.client.heartbeat(heartbeat).await.unwrap_err();
        assert!(
            refused.message().starts_with("olt_id"),
            "{}",
            refused.message()
        );
        let mut heartbeat = olt.heartbeat_request();
        heartbeat.olt_id = "unknown".into();
        let refused = olt.client.heartbeat(heartbeat).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    });
}
