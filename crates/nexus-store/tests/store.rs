//! The store as its users see it: reading, writing, bounds, opening and closing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use nexus_store::{
    Batch, Kind, MAX_BATCH_OPERATIONS, MAX_KEY_BYTES, MAX_VALUE_BYTES, Options, Store, StoreError,
};

const POOL: Kind = Kind(b'p');
const NODE: Kind = Kind(b'n');

fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).unwrap()
}

fn put(store: &Store, kind: Kind, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(kind, key, value);
    store.commit_blocking(batch).unwrap();
}

fn keys(rows: &[nexus_store::Row]) -> Vec<String> {
    rows.iter()
        .map(|r| String::from_utf8(r.key.clone()).unwrap())
        .collect()
}

#[test]
fn a_committed_row_is_read_back_before_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/store");
    let store = open(&path);
    assert!(store.opened().created);
    put(&store, POOL, b"one", b"1");
    assert_eq!(store.get(POOL, b"one").unwrap().unwrap(), b"1");
    assert_eq!(store.get(NODE, b"one").unwrap(), None);
    store.flush_and_close().unwrap();

    let store = open(&path);
    assert!(!store.opened().created);
    assert_eq!(store.opened().moved_aside, None);
    assert_eq!(store.get(POOL, b"one").unwrap().unwrap(), b"1");
    let mut batch = Batch::new();
    batch.delete(POOL, b"one").delete(POOL, b"never was");
    store.commit_blocking(batch).unwrap();
    assert_eq!(store.get(POOL, b"one").unwrap(), None);
}

#[test]
fn scans_are_ordered_and_stay_within_kind_and_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for key in ["b/2", "a/1", "b/1", "b/10", "c"] {
        put(&store, POOL, key.as_bytes(), key.as_bytes());
    }
    put(&store, NODE, b"b/0", b"another kind");
    let rows: Vec<_> = store
        .scan(POOL, b"b/")
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(keys(&rows), ["b/1", "b/10", "b/2"]);
    assert!(rows.iter().all(|r| r.key == r.value));
    assert_eq!(store.scan(POOL, b"").unwrap().count(), 5);
    assert_eq!(store.scan(Kind(b'q'), b"").unwrap().count(), 0);
    assert_eq!(store.scan(Kind(0xfe), &[0xff, 0xff]).unwrap().count(), 0);
}

#[test]
fn pages_continue_behind_a_cursor_even_if_its_row_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for n in 0..10 {
        put(&store, POOL, format!("k{n}").as_bytes(), b"v");
    }
    let first = store.page(POOL, b"k", None, 4).unwrap();
    assert_eq!(keys(&first), ["k0", "k1", "k2", "k3"]);
    let mut batch = Batch::new();
    batch.delete(POOL, b"k3");
    store.commit_blocking(batch).unwrap();
    let second = store.page(POOL, b"k", Some(b"k3"), 100).unwrap();
    assert_eq!(keys(&second), ["k4", "k5", "k6", "k7", "k8", "k9"]);
    assert!(store.page(POOL, b"k", Some(b"z"), 4).unwrap().is_empty());
    assert_eq!(store.page(POOL, b"k", Some(b"a"), 4).unwrap().len(), 4);
    assert!(store.page(POOL, b"k", None, 0).unwrap().is_empty());
}

#[test]
fn bounds_of_batches_keys_and_values_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut batch = Batch::new();
    for n in 0..=MAX_BATCH_OPERATIONS {
        batch.put(POOL, &n.to_be_bytes(), b"");
    }
    let error = store.commit_blocking(batch).unwrap_err();
    assert_eq!(error, StoreError::TooManyOperations { operations: 65 });
    assert!(error.to_string().contains("at most 64"), "{error}");

    let cases: [(&[u8], &[u8], StoreError); 2] = [
        (
            &[0; MAX_KEY_BYTES + 1],
            b"",
            StoreError::KeyTooLong { bytes: 1025 },
        ),
        (
            b"k",
            &[0; MAX_VALUE_BYTES + 1],
            StoreError::ValueTooLong { bytes: 65_537 },
        ),
    ];
    for (key, value, expected) in cases {
        let mut batch = Batch::new();
        batch.put(POOL, b"beside it", b"").put(POOL, key, value);
        assert_eq!(store.commit_blocking(batch).unwrap_err(), expected);
    }
    let mut batch = Batch::new();
    batch.put(Kind(0xff), b"k", b"");
    assert_eq!(
        store.commit_blocking(batch).unwrap_err(),
        StoreError::ReservedKind(Kind(0xff))
    );
    let mut batch = Batch::new();
    for n in 0..17_u8 {
        batch.put(POOL, &[n], &[0; MAX_VALUE_BYTES]);
    }
    assert!(matches!(
        store.commit_blocking(batch),
        Err(StoreError::TooManyBytes { .. })
    ));
    assert_eq!(store.scan(POOL, b"").unwrap().count(), 0);
}

#[test]
fn the_greatest_rows_never_leave_the_synced_log() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for round in 0..3_u8 {
        for n in 0..60_u32 {
            let mut key = vec![7; MAX_KEY_BYTES - 4];
            key.extend_from_slice(&(n.wrapping_mul(2_654_435_761)).to_be_bytes());
            put(&store, POOL, &key, &vec![round; MAX_VALUE_BYTES]);
        }
    }
    let blobs = fs::read_dir(directory.path().join("rows/blobs")).unwrap();
    assert_eq!(blobs.count(), 0, "sled syncs the log only");
    store.flush_and_close().unwrap();
    let store = open(directory.path());
    assert_eq!(store.scan(POOL, b"").unwrap().count(), 60);
}

#[test]
fn a_second_opener_is_told_who_holds_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let error = Store::open(directory.path(), Options::default()).unwrap_err();
    assert_eq!(
        error,
        StoreError::Locked {
            path: directory.path().to_owned(),
            holder: Some(std::process::id()),
        }
    );
    assert!(error.to_string().contains("stop that process"), "{error}");
    drop(store);
    open(directory.path());
}

#[test]
fn a_path_that_cannot_be_a_store_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let refuse = |path: &Path| Store::open(path, Options::default()).unwrap_err();

    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(
        refuse(&file),
        StoreError::NotADirectory { path: file.clone() }
    );
    assert_eq!(
        refuse(&file.join("below")),
        StoreError::NotADirectory {
            path: file.join("below")
        }
    );
    assert_eq!(
        refuse(directory.path()),
        StoreError::NotAStore {
            path: directory.path().to_owned(),
            found: "file".to_owned(),
        }
    );
    assert_eq!(fs::read(&file).unwrap(), b"x");

    let denied = refuse(Path::new("/sys/nexus-store-test"));
    assert!(matches!(denied, StoreError::Permission { .. }), "{denied}");

    let other = directory.path().join("other");
    open(&other).flush_and_close().unwrap();
    fs::write(other.join("format"), "nexus-store 99\n").unwrap();
    assert_eq!(
        refuse(&other),
        StoreError::OtherFormat {
            path: other.clone(),
            found: "nexus-store 99".to_owned(),
            ours: "nexus-store 1",
        }
    );
    assert!(!directory.path().join("other.corrupt-1").exists());
}

#[test]
fn a_closed_store_answers_nothing_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let clone = store.clone();
    put(&store, POOL, b"k", b"v");
    store.flush_and_close().unwrap();
    assert_eq!(clone.get(POOL, b"k").unwrap_err(), StoreError::Closed);
    assert_eq!(
        clone.commit_blocking(Batch::new()).unwrap_err(),
        StoreError::Closed
    );
    assert_eq!(clone.flush_and_close().unwrap_err(), StoreError::Closed);
}
