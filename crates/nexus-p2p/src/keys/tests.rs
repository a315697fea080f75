//! Key files as operators leave them: missing, open to others, cut short, of the wrong kind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

fn room() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("key");
    (room, path)
}

fn put(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_node_key_is_made_once_with_0600_and_stays() {
    let (room, path) = room();
    let first = node_key(&path).unwrap().public().to_peer_id();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(node_key(&path).unwrap().public().to_peer_id(), first);
    assert_eq!(
        fs::read_dir(room.path()).unwrap().count(),
        1,
        "no draft is left"
    );
}

#[test]
fn many_that_make_a_node_key_at_the_same_time_get_the_same_one() {
    let (_room, path) = room();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| node_key(&path).unwrap().public().to_peer_id()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

#[test]
fn a_node_key_that_the_group_or_others_can_read_is_refused_with_what_to_do() {
    for mode in [0o640, 0o604, 0o644, 0o620] {
        let (_room, path) = room();
        node_key(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = node_key(&path).unwrap_err().to_string();
        assert!(error.contains("chmod go-rwx"), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_malformed_node_key_is_refused_and_left_alone() {
    for text in [
        "",
        "abc",
        &"0".repeat(63),
        &"g".repeat(64),
        &"0".repeat(66),
        &"\u{e9}".repeat(64),
    ] {
        let (_room, path) = room();
        put(&path, text, 0o600);
        let error = node_key(&path).unwrap_err().to_string();
        assert!(error.contains("backup"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let (_room, path) = room();
    fs::write(&path, [0xff; 64]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(node_key(&path).is_err());
}

#[test]
fn a_node_key_without_its_directory_or_in_the_place_of_one_says_so() {
    let (room, _) = room();
    let error = node_key(&room.path().join("none/key"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("make it first"), "{error}");
    let error = node_key(room.path()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_cluster_key_is_read_with_white_space_around_it_and_by_its_group() {
    let (_room, path) = room();
    let key = ClusterKey::generate();
    for mode in [0o400, 0o600, 0o440, 0o640] {
        put(&path, &format!("  {}\n\n", key.to_hex()), mode);
        assert_eq!(ClusterKey::read(&path).unwrap(), key);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_cluster_key_that_others_can_read_is_missing_or_is_malformed_is_refused() {
    let (_room, path) = room();
    assert!(
        ClusterKey::read(&path)
            .unwrap_err()
            .to_string()
            .contains("no such file")
    );
    let key = ClusterKey::generate();
    put(&path, &key.to_hex(), 0o644);
    let error = ClusterKey::read(&path).unwrap_err().to_string();
    assert!(error.contains("chmod o-rwx"), "{error}");
    put(&path, "nonsense", 0o600);
    let error = ClusterKey::read(&path).unwrap_err().to_string();
    assert!(error.contains("8 characters instead of 64"), "{error}");
}

#[test]
fn a_cluster_key_does_not_show_itself() {
    let key = ClusterKey::generate();
    assert!(!format!("{key:?}").contains(&key.to_hex()));
    let error = ClusterKey::from_hex(&format!("{}zz", &key.to_hex()[..62])).unwrap_err();
    assert!(!error.to_string().contains(&key.to_hex()[..16]), "{error}");
    assert!(!key.to_hex().contains(&key.fingerprint()));
    assert_ne!(hex::encode(key.prologue()), key.to_hex());
}
