//! The two watch streams: what comes first, what comes then, and how they end.

use nexus_proto::v1;
use nexus_proto::v1::allocation_update::Kind;
use serde_json::json;
use tonic::{Code, Streaming};

use crate::harness::{TestOlt, TestServer, block_on};

const POOL: &str = "residential-ipv4";

async fn allocations(olt: &mut TestOlt, revision: u64) -> Streaming<v1::AllocationUpdate> {
    let request = v1::WatchRequest {
        olt_id: olt.id.clone(),
        revision,
        session: olt.session.clone(),
        config_revision: 0,
    };
    olt.client
        .watch_allocations(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(stream: &mut Streaming<v1::AllocationUpdate>) -> (Kind, String, u64) {
    let update = stream.message().await.unwrap().unwrap();
    let subscriber = update.allocation.as_ref().map(|a| a.subscriber_id.clone());
    (
        update.kind(),
        subscriber.unwrap_or_default(),
        update.revision,
    )
}

#[test]
fn a_watcher_gets_the_snapshot_its_end_and_then_every_change() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut other = TestOlt::register(&server, "olt-2", "s-2").await;
        let claim = olt.claim(POOL, "sub-1", &olt.address(POOL, 9));
        olt.send(claim.clone()).await.unwrap();
        let mut stream = allocations(&mut olt, 0).await;
        assert_eq!(next(&mut stream).await.0, Kind::Put);
        let (kind, _, end) = next(&mut stream).await;
        assert_eq!(kind, Kind::SnapshotEnd);

        let elsewhere = other.address(POOL, 9);
        other
            .allocate(POOL, "sub-elsewhere", &elsewhere)
            .await
            .unwrap();
        let central = json!({"pool_id": POOL, "subscriber_id": "sub-2", "olt_id": "olt-1"});
        server.post("/api/v1/allocate", &central).ok();
        let (kind, who, revision) = next(&mut stream).await;
        assert_eq!(
            (kind, who.as_str()),
            (Kind::Put, "sub-2"),
            "made for it by the centre"
        );
        assert!(revision > end);
        server.delete("/api/v1/allocate/sub-1").ok();
        let (kind, who, _) = next(&mut stream).await;
        assert_eq!((kind, who.as_str()), (Kind::Put, "sub-1"));
        let (kind, who, asked) = next(&mut stream).await;
        assert_eq!((kind, who.as_str()), (Kind::ReleaseRequested, "sub-1"));
        let release = olt.release(&claim);
        olt.client.deallocate(release).await.unwrap();
        assert_eq!(next(&mut stream).await.0, Kind::Put, "released");

        // One that was away for a moment gets what it missed, and no snapshot.
        let mut resumed = allocations(&mut olt, asked).await;
        assert_eq!(next(&mut resumed).await.0, Kind::Put);
        let third = olt.address(POOL, 10);
        olt.allocate(POOL, "sub-3", &third).await.unwrap();
        let (kind, who, _) = next(&mut resumed).await;
        assert_eq!((kind, who.as_str()), (Kind::Put, "sub-3"));
        // One that comes from another life of the store gets everything.
        let mut lost = allocations(&mut olt, 1_000_000).await;
        let mut kinds = Vec::new();
        while kinds.last() != Some(&Kind::SnapshotEnd) {
            kinds.push(next(&mut lost).await.0);
        }
        assert_eq!(kinds.len(), 4);
    });
}

#[test]
fn a_request_for_release_is_not_lost_on_an_olt_that_was_away() {
    let mut server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let address = olt.address(POOL, 9);
        olt.allocate(POOL, "sub-1", &address).await.unwrap();
        server.delete("/api/v1/allocate/sub-1").ok();
        server.crash_and_restart();
        olt.client = server.grpc().await;
        let mut stream = allocations(&mut olt, 0).await;
        assert_eq!(next(&mut stream).await.0, Kind::Put);
        assert_eq!(next(&mut stream).await.0, Kind::ReleaseRequested);
        assert_eq!(next(&mut stream).await.0, Kind::SnapshotEnd);
    });
}

#[test]
fn a_configuration_comes_at_once_and_anew_with_each_change() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let request = v1::WatchRequest {
            olt_id: "olt-1".into(),
            revision: 0,
            session: "s-1".into(),
            config_revision: 0,
        };
        let mut stream = olt
            .client
            .watch_config(request.clone())
            .await
            .unwrap()
            .into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.revision, olt.config.revision);
        assert_eq!(first.config.unwrap().pools.len(), 1);
        server.create_pool("second", "10.0.0.0/16");
        let second = stream.message().await.unwrap().unwrap();
        assert!(second.revision > first.revision);
        let pools = second.config.unwrap().pools;
        assert_eq!(pools[1].id, "second");
        assert!(pools[1].spec_json.contains("10.0.0.0/16"));
        server.post("/api/v1/nodes/olt-1/drain", &json!({})).ok();
        let third = stream.message().await.unwrap().unwrap();
        assert!(
            third
                .config
                .unwrap()
                .pools
                .iter()
                .all(|pool| { pool.shards.iter().all(|grant| grant.state == "draining") })
        );

        let stale = v1::WatchRequest {
            session: "s-0".into(),
            ..request.clone()
        };
        let refused = olt.client.watch_config(stale).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let unknown = v1::WatchRequest {
            olt_id: "none".into(),
            session: String::new(),
            ..request
        };
        let refused = olt.client.watch_allocations(unknown).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    });
}

#[test]
fn a_watcher_that_does_not_read_is_cut_off_and_told_to_resume() {
    let server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let mut slow = allocations(&mut olt, 0).await;
        assert_eq!(next(&mut slow).await.0, Kind::SnapshotEnd);
        // Large records, so that the windows of the connection fill as well.
        let labels: std::collections::HashMap<_, _> = (0..60)
            .map(|n| (format!("label-{n}"), "x".repeat(250)))
            .collect();
        let writer = server.grpc().await;
        let mut cut_off = false;
        for _ in 0..40 {
            let mut calls = tokio::task::JoinSet::new();
            for n in 10..160 {
                let address = olt.address(POOL, n);
                let mut claim = olt.claim(POOL, &format!("sub-{n}"), &address);
                claim.metadata = labels.clone();
                let mut writer = writer.clone();
                calls.spawn(async move { writer.allocate(claim).await.unwrap() });
            }
            calls.join_all().await;
            if server.metrics().contains("nexus_watchers_cut_off_total 1") {
                cut_off = true;
                break;
            }
        }
        assert!(cut_off);
        let mut last = 0;
        let end = loop {
            match slow.message().await {
                Ok(Some(update)) => last = update.revision,
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), Code::Aborted);
        assert!(end.message().contains("watch again from the last revision"));
        let mut resumed = allocations(&mut olt, last).await;
        assert_eq!(next(&mut resumed).await.2, last + 1, "nothing is missed");
    });
}
