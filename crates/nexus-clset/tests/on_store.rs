//! The replicated map on the real store: one batch per change, in order, and what a restart finds.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use nexus_clset::{
    Change, Error, Fence, MAX_VALUE_BYTES, MAX_WRITES, NodeId, Replica, UnixMillis, Write,
};
use nexus_store::{Batch, Kind, Options, ReplicaRows, Store, StoreError};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const OWN: Kind = Kind(b'x');

fn open(path: &Path) -> (Store, Replica<ReplicaRows>) {
    let store = Store::open(path, Options::default()).unwrap();
    let (mut replica, boot) =
        Replica::open(ReplicaRows::from(store.clone()), NodeId(1), NOW).unwrap();
    commit(&store, &mut replica, &boot);
    (store, replica)
}

fn commit(store: &Store, replica: &mut Replica<ReplicaRows>, change: &Change) {
    store.commit_blocking(Batch::from(change)).unwrap();
    replica.settle(change.ticket);
}

#[test]
fn a_map_on_the_store_is_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut replica) = open(directory.path());
    for n in 0..1500_u32 {
        let key = format!("allocations/{n:05}");
        let change = replica
            .put(key.as_bytes(), &n.to_be_bytes(), Fence::epoch(1), NOW)
            .unwrap();
        commit(&store, &mut replica, &change);
    }
    for n in (0..1500_u32).step_by(3) {
        let key = format!("allocations/{n:05}");
        let change = replica
            .delete(key.as_bytes(), Fence::epoch(1), NOW)
            .unwrap();
        commit(&store, &mut replica, &change);
    }
    let (fingerprint, origin) = (replica.fingerprint(), replica.origin());
    let before = replica.query(b"allocations/", None, 5000).unwrap();
    assert_eq!(before.rows.len(), 1000);
    assert!(!before.more);
    drop(replica);
    store.flush_and_close().unwrap();

    let (store, replica) = open(directory.path());
    assert_eq!(replica.fingerprint(), fingerprint);
    assert_eq!(replica.query(b"allocations/", None, 5000).unwrap(), before);
    assert!(replica.origin() > origin);
    assert!(matches!(
        Replica::open(ReplicaRows::from(store), NodeId(2), NOW),
        Err(Error::OtherNode { .. })
    ));
}

#[test]
fn changes_are_read_at_once_and_written_in_order_by_a_pipeline() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut replica) = open(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut waiting = Vec::new();
        for n in 0..300_u32 {
            let slot = store.reserve().await.unwrap();
            let change = replica
                .put(b"pools/one", &n.to_be_bytes(), Fence::NONE, NOW)
                .unwrap();
            let mut batch = Batch::from(&change);
            batch.put(OWN, b"beside it", &n.to_be_bytes());
            waiting.push((change.ticket, slot.submit(batch).unwrap()));
            assert_eq!(replica.get(b"pools/one").unwrap().unwrap(), n.to_be_bytes());
        }
        assert!(replica.unsettled_rows() > 0);
        for (ticket, commit) in waiting {
            commit.await.unwrap();
            replica.settle(ticket);
        }
    });
    assert_eq!(replica.unsettled_rows(), 0);
    drop(replica);
    drop(store);
    let (store, replica) = open(directory.path());
    assert_eq!(
        replica.get(b"pools/one").unwrap(),
        store.get(OWN, b"beside it").unwrap()
    );
    assert_eq!(replica.fingerprint().count, 1);
}

#[test]
fn the_greatest_change_fits_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut replica) = open(directory.path());
    let keys: Vec<_> = (0..MAX_WRITES).map(|n| vec![b'a' + n as u8; 512]).collect();
    let value = vec![7; MAX_VALUE_BYTES];
    for round in 0..4 {
        let writes: Vec<_> = keys
            .iter()
            .map(|key| match round {
                1 => Write::delete(key, Fence::NONE),
                _ => Write::put(key, &value, Fence::NONE),
            })
            .collect();
        let change = replica.write(&writes, NOW).unwrap();
        assert!(change.rows.len() <= 4 * MAX_WRITES + 2);
        commit(&store, &mut replica, &change);
    }
    assert_eq!(
        replica.query(b"", None, 100).unwrap().rows.len(),
        MAX_WRITES
    );
}

#[test]
fn a_replica_on_a_closed_store_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut replica) = open(directory.path());
    store.flush_and_close().unwrap();
    assert_eq!(
        replica.put(b"k", b"v", Fence::NONE, NOW).unwrap_err(),
        Error::Rows(StoreError::Closed)
    );
}
