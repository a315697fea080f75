//! Damage done behind the store's back: in rows through sled itself, and in its files.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{Batch, Kind, OnDamage, Options, Store, StoreError};

const ROW: Kind = Kind(b'r');

fn lazy() -> Options {
    Options {
        verify: false,
        on_damage: OnDamage::Refuse,
        ..Options::default()
    }
}

fn refuse() -> Options {
    Options {
        on_damage: OnDamage::Refuse,
        ..Options::default()
    }
}

/// A closed store of `rows` rows.
fn filled(path: &Path, rows: u32) {
    let store = Store::open(path, Options::default()).unwrap();
    for chunk in (0..rows).collect::<Vec<_>>().chunks(50) {
        let mut batch = Batch::new();
        for n in chunk {
            batch.put(ROW, format!("key-{n:06}").as_bytes(), &[7; 300]);
        }
        store.commit_blocking(batch).unwrap();
    }
    store.flush_and_close().unwrap();
}

/// Changes raw values in sled, past the gate.
fn meddle(path: &Path, meddle: impl FnOnce(&sled::Db)) {
    let tree = sled::Config::new()
        .path(path.join("rows"))
        .segment_size(8 * 1024 * 1024)
        .open()
        .unwrap();
    meddle(&tree);
    tree.flush().unwrap();
}

#[test]
fn a_flipped_byte_of_a_value_is_seen_and_names_the_row() {
    let directory = tempfile::tempdir().unwrap();
    for byte in [0, 1, 4, 5, 304] {
        let path = directory.path().join(format!("store-{byte}"));
        filled(&path, 3);
        meddle(&path, |tree| {
            let mut value = tree.get(b"rkey-000001").unwrap().unwrap().to_vec();
            value[byte] ^= 0x40;
            tree.insert(b"rkey-000001", value).unwrap();
        });
        let store = Store::open(&path, lazy()).unwrap();
        let error = store.get(ROW, b"key-000001").unwrap_err();
        let StoreError::Corrupt { kind, key, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*kind, key.as_slice()), (ROW, b"key-000001".as_slice()));
        assert!(error.to_string().contains("r/key-000001"), "{error}");
        // Its neighbours can be read, and a scan goes on behind it.
        assert!(store.get(ROW, b"key-000002").unwrap().is_some());
        let scanned: Vec<_> = store.scan(ROW, b"").unwrap().collect();
        assert_eq!(scanned.iter().filter(|row| row.is_ok()).count(), 2);
        assert_eq!(scanned.len(), 3);
    }
}

#[test]
fn a_value_under_another_key_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    filled(&path, 2);
    meddle(&path, |tree| {
        let value = tree.get(b"rkey-000000").unwrap().unwrap();
        tree.insert(b"rkey-000001", value).unwrap();
        tree.insert(b"rkey-000002", b"").unwrap();
    });
    let store = Store::open(&path, lazy()).unwrap();
    assert!(store.get(ROW, b"key-000000").unwrap().is_some());
    for key in [b"key-000001", b"key-000002"] {
        assert!(matches!(
            store.get(ROW, key),
            Err(StoreError::Corrupt { .. })
        ));
    }
}

#[test]
fn a_corrupt_store_is_moved_aside_whole_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for n in 1..=2 {
        filled(&path, 3);
        meddle(&path, |tree| {
            tree.insert(b"rkey-000001", b"rubbish").unwrap();
        });
        let store = Store::open(&path, Options::default()).unwrap();
        let moved = store.opened().moved_aside.clone().unwrap();
        assert!(store.opened().created);
        assert_eq!(
            moved.to,
            directory.path().join(format!("store.corrupt-{n}"))
        );
        assert!(moved.why.contains("r/key-000001"), "{}", moved.why);
        assert_eq!(store.scan(ROW, b"").unwrap().count(), 0);
        drop(store);
        // Nothing of the old store is gone: its other rows can still be got at.
        let old = Store::open(&moved.to, lazy()).unwrap();
        assert!(old.get(ROW, b"key-000002").unwrap().is_some());
    }
}

#[test]
fn a_store_that_may_not_be_moved_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    filled(&path, 3);
    meddle(&path, |tree| {
        tree.insert(b"rkey-000001", b"rubbish").unwrap();
    });
    let error = Store::open(&path, refuse()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert!(!directory.path().join("store.corrupt-1").exists());
    assert!(Store::open(&path, lazy()).is_ok());
}

#[test]
fn a_truncated_log_is_never_taken_for_a_whole_store() {
    let directory = tempfile::tempdir().unwrap();
    // Where sled itself would open it happily with fewer rows, the high-water mark tells.
    for (n, keep) in [0.0, 0.1, 0.5, 0.9].into_iter().enumerate() {
        let path = directory.path().join(format!("store-{n}"));
        filled(&path, 3000);
        let log = OpenOptions::new()
            .write(true)
            .open(path.join("rows/db"))
            .unwrap();
        let length = log.metadata().unwrap().len();
        log.set_len((length as f64 * keep) as u64).unwrap();
        drop(log);
        // sled keeps a snapshot of where its pages were; both with and without it.
        let error = Store::open(&path, refuse()).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{keep}: {error}"
        );
        let store = Store::open(&path, Options::default()).unwrap();
        assert!(store.opened().moved_aside.is_some());
        let mut batch = Batch::new();
        batch.put(ROW, b"k", b"v");
        store.commit_blocking(batch).unwrap();
    }
}

#[test]
fn a_log_with_bytes_overwritten_is_never_taken_for_a_whole_store() {
    let directory = tempfile::tempdir().unwrap();
    for (n, at) in [0_u64, 100, 5_000, 100_000, 500_000]
        .into_iter()
        .enumerate()
    {
        let path = directory.path().join(format!("store-{n}"));
        filled(&path, 3000);
        let log = OpenOptions::new()
            .write(true)
            .open(path.join("rows/db"))
            .unwrap();
        log.write_all_at(&[0xa5; 64], at).unwrap();
        drop(log);
        match Store::open(&path, refuse()) {
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{at}: {error}");
            }
            // The bytes may have belonged to a page that was written again later.
            Ok(store) => assert_eq!(store.scan(ROW, b"").unwrap().flatten().count(), 3000),
        }
    }
}

#[test]
fn a_store_without_its_rows_is_damaged_and_not_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    filled(&path, 1);
    fs::remove_dir_all(path.join("rows")).unwrap();
    let error = Store::open(&path, refuse()).unwrap_err();
    assert!(
        error.to_string().contains("its last commits are missing"),
        "{error}"
    );
}

#[test]
fn a_tree_that_sled_has_not_let_go_of_yet_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    filled(&path, 3);
    // What sled does with the file, held for longer than any of its threads holds it.
    let held = fs::File::open(path.join("rows/db")).unwrap();
    held.lock().unwrap();
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(held);
    });
    let store = Store::open(&path, refuse()).unwrap();
    assert!(store.get(ROW, b"key-000002").unwrap().is_some());
    letting_go.join().unwrap();
}
