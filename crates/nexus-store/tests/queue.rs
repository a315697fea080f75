//! Group commit under load: order, bounds, cancelled waiters, and callers of every sort.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use nexus_store::{Batch, Kind, MAX_COMMIT_BATCHES, Options, Store, StoreError};

const ROW: Kind = Kind(b'r');

fn store(queue: usize) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        queue,
        ..Options::default()
    };
    let store = Store::open(directory.path(), options).unwrap();
    (directory, store)
}

fn one(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(ROW, key, value);
    batch
}

#[test]
fn a_full_queue_refuses_who_will_not_wait_and_keeps_what_it_took() {
    let (_directory, store) = store(4);
    let mut taken = Vec::new();
    let mut refused = 0;
    for n in 0..2000_u32 {
        match store.try_submit(one(&n.to_be_bytes(), b"v")) {
            Ok(commit) => taken.push((n, commit)),
            Err(error) => {
                assert_eq!(error, StoreError::Busy { waiting: 4 });
                refused += 1;
            }
        }
        assert!(store.waiting() <= 4);
    }
    assert!(refused > 0, "the queue has no bound");
    let mut kept = Vec::new();
    for (n, commit) in taken {
        commit.wait().unwrap();
        kept.push(n.to_be_bytes().to_vec());
    }
    let rows = store.page(ROW, b"", None, usize::MAX).unwrap();
    assert_eq!(rows.into_iter().map(|r| r.key).collect::<Vec<_>>(), kept);
}

#[test]
fn submitted_batches_are_written_in_their_order_even_if_nobody_waits() {
    let (_directory, store) = store(8);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for n in 0..500_u32 {
            let slot = store.reserve().await.unwrap();
            drop(slot.submit(one(b"same", &n.to_be_bytes())).unwrap());
        }
        // An empty batch is a barrier.
        store.commit(Batch::new()).await.unwrap();
    });
    assert_eq!(
        store.get(ROW, b"same").unwrap().unwrap(),
        499_u32.to_be_bytes()
    );
}

#[test]
fn many_tasks_and_threads_share_a_small_queue() {
    let (_directory, store) = store(3);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let threads: Vec<_> = (0..4_u8)
        .map(|t| {
            let store = store.clone();
            std::thread::spawn(move || {
                for n in 0..50_u8 {
                    store.commit_blocking(one(&[b't', t, n], b"v")).unwrap();
                    assert!(store.get(ROW, &[b't', t, n]).unwrap().is_some());
                }
            })
        })
        .collect();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for t in 0..20_u8 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..20_u8 {
                    store.commit(one(&[b'a', t, n], b"v")).await.unwrap();
                    assert!(store.get(ROW, &[b'a', t, n]).unwrap().is_some());
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(store.scan(ROW, b"").unwrap().count(), 600);
}

#[test]
fn a_blocking_commit_on_a_runtime_thread_works() {
    let (_directory, store) = store(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for n in 0..200_u8 {
            store.commit_blocking(one(&[n], b"v")).unwrap();
        }
    });
    assert_eq!(store.scan(ROW, b"").unwrap().count(), 200);
}

#[test]
fn closing_finishes_what_is_queued() {
    let (directory, store) = store(64);
    let commits: Vec<_> = (0..50_u8)
        .map(|n| store.try_submit(one(&[n], b"v")).unwrap())
        .collect();
    store.flush_and_close().unwrap();
    for commit in commits {
        commit.wait().unwrap();
    }
    let store = Store::open(directory.path(), Options::default()).unwrap();
    assert_eq!(store.scan(ROW, b"").unwrap().count(), 50);
}

#[test]
fn a_refused_batch_leaves_its_place_to_others() {
    let (_directory, store) = store(1);
    for _ in 0..10 {
        let mut batch = Batch::new();
        batch.put(Kind(0xff), b"", b"");
        assert!(store.try_submit(batch).is_err());
    }
    store.commit_blocking(one(b"k", b"v")).unwrap();
}

#[test]
fn the_batches_of_one_commit_are_written_in_their_order_and_durable_together() {
    let (directory, store) = store(1);
    let many = |count| (0..count).map(|n: usize| one(b"same", &n.to_be_bytes()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let slot = |store: &Store| runtime.block_on(store.reserve()).unwrap();
    let batches = many(MAX_COMMIT_BATCHES).chain([one(b"last", b"v")]);
    let refused = slot(&store).submit_all(batches.collect()).unwrap_err();
    let batches = MAX_COMMIT_BATCHES + 1;
    assert_eq!(refused, StoreError::TooManyBatches { batches });
    assert_eq!(store.scan(ROW, b"").unwrap().count(), 0);
    let commit = slot(&store).submit_all(many(MAX_COMMIT_BATCHES).collect());
    commit.unwrap().wait().unwrap();
    let last = (MAX_COMMIT_BATCHES - 1).to_be_bytes();
    assert_eq!(store.get(ROW, b"same").unwrap().unwrap(), last);
    store.flush_and_close().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    assert_eq!(store.get(ROW, b"same").unwrap().unwrap(), last);
}
