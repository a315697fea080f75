//! The gate's own promises: what it refuses, what it says then, and what outlives the process.

use std::path::Path;
use std::process::Command;

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Profile, map};
use nexus_sidecar::fastpath::{FastPath, FastPathConfig, FastPathError, detach};
use nexus_testkit::command;

use crate::world::{Pins, plain_profile};

/// Far from the kernel's limit of a million, so that other kernels' verifiers take it too.
const MOST_INSTRUCTIONS: u32 = 400_000;

const KEY: BindingKey = BindingKey::line(7, 200, 30, [2, 0, 0, 0, 0, 1]);

fn binding(address: [u8; 4]) -> Binding {
    Binding {
        valid_until_ns: NEVER_EXPIRES,
        last_seen_ns: 0,
        address,
        profile: 3,
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_verifier_is_done_within_its_budget() {
    let pins = Pins::new("budget");
    let count = pins.open(16).verified_instructions().unwrap().unwrap();
    assert!(count > 1000, "{count} is not believable");
    assert!(
        count <= MOST_INSTRUCTIONS,
        "{count} instructions, {MOST_INSTRUCTIONS} are the budget"
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn bindings_and_profiles_outlive_the_process_and_their_last_seen_time_is_kept() {
    let pins = Pins::new("outlive");
    let seen = Binding {
        last_seen_ns: 77,
        ..binding([100, 64, 0, 9])
    };
    let mut first = pins.open(16);
    first.put_profile(3, &plain_profile()).unwrap();
    first.put_binding(&KEY, &seen).unwrap();
    drop(first);

    let mut second = pins.open(16);
    assert_eq!(second.bindings().unwrap(), [(KEY, seen)]);
    assert_eq!(second.profile(3).unwrap(), plain_profile());
    assert_eq!(second.profile(4).unwrap().present, 0);
    second
        .put_binding(&KEY, &binding([100, 64, 0, 10]))
        .unwrap();
    let (_, now) = second.bindings().unwrap()[0];
    assert_eq!((now.address, now.last_seen_ns), ([100, 64, 0, 10], 77));
    second.remove_binding(&KEY).unwrap();
    assert_eq!(second.bindings().unwrap(), []);
    second.remove_binding(&KEY).unwrap();
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_full_map_says_so_and_still_takes_what_it_holds() {
    let pins = Pins::new("full");
    let mut fast_path = pins.open(4);
    let key = |last| BindingKey::mac(7, [2, 0, 0, 0, 0, last]);
    let mut put = |last| fast_path.put_binding(&key(last), &binding([100, 64, 0, last]));
    let refused = (1..=200).find_map(|last| put(last).err().map(|error| (last, error)));
    let (last, error) = refused.unwrap();
    assert!(matches!(error, FastPathError::Full), "{error}");
    assert!(
        error.to_string().contains("fast_path.max_bindings"),
        "{error}"
    );
    assert_eq!(last, 5);
    put(1).unwrap();
    assert_eq!(fast_path.bindings().unwrap().len(), 4);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_profile_beyond_the_last_is_refused() {
    let pins = Pins::new("profile");
    let mut fast_path = pins.open(4);
    fast_path.put_profile(255, &plain_profile()).unwrap();
    let error = fast_path.put_profile(256, &plain_profile()).unwrap_err();
    assert!(error.to_string().contains(map::PROFILES), "{error}");
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_pinned_map_of_another_size_is_refused_and_left_as_it_is() {
    let pins = Pins::new("size");
    let mut first = pins.open(1024);
    first.put_binding(&KEY, &binding([100, 64, 0, 9])).unwrap();
    drop(first);
    for other in [1023, 2048] {
        let error = FastPath::open(&pins.config(other)).unwrap_err();
        let FastPathError::Layout {
            path,
            expected,
            found,
        } = &error
        else {
            panic!("{error}");
        };
        assert!(path.ends_with(map::BINDINGS), "{}", path.display());
        assert!(
            expected.ends_with(&format!("{other} entries")),
            "{expected}"
        );
        assert!(found.ends_with("1024 entries"), "{found}");
        assert!(
            error.to_string().contains("nexus-sidecar detach"),
            "{error}"
        );
    }
    assert_eq!(pins.open(1024).bindings().unwrap().len(), 1);
}

/// Pins a map that `bpftool` makes; `layout` is its type, key size, value size and entries.
fn pin_map(path: &Path, layout: [&str; 4]) {
    let [kind, key, value, entries] = layout;
    let mut create = Command::new("bpftool");
    create.args(["map", "create"]).arg(path);
    create.args(["type", kind, "key", key, "value", value]);
    create.args(["entries", entries, "name", "foreign"]);
    command::output(&mut create).unwrap();
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_pinned_map_of_another_shape_is_refused() {
    let profile = size_of::<Profile>().to_string();
    for (name, layout) in [
        (map::COUNTERS, ["array", "4", "8", "14"]),
        (map::COUNTERS, ["percpu_array", "4", "8", "13"]),
        (map::PROFILES, ["array", "4", "16", "256"]),
        (map::PROFILES, ["hash", "4", &profile, "256"]),
        (map::BINDINGS, ["hash", "12", "40", "64"]),
        (map::BINDINGS, ["lru_hash", "16", "40", "64"]),
    ] {
        let pins = Pins::new("shape");
        let folder = pins.root().join(format!("v{}", nexus_abi::ABI_VERSION));
        std::fs::create_dir_all(&folder).unwrap();
        pin_map(&folder.join(name), layout);
        let error = FastPath::open(&pins.config(64)).unwrap_err();
        assert!(
            matches!(error, FastPathError::Layout { .. }),
            "{layout:?}: {error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_folder_that_is_not_on_a_bpffs_is_refused_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let pin_root = directory.path().join("nexus");
    let config = FastPathConfig {
        pin_root: pin_root.clone(),
        max_bindings: 16,
    };
    let error = FastPath::open(&config).unwrap_err();
    assert!(
        matches!(&error, FastPathError::NotBpffs { path } if *path == pin_root),
        "{error}"
    );
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
    assert!(!pin_root.exists());
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_where_nothing_is_removes_nothing() {
    let pins = Pins::new("nothing");
    assert!(detach(pins.root()).unwrap().is_empty());
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_removes_our_maps_of_every_version_and_nothing_else() {
    let pins = Pins::new("ours");
    drop(pins.open(16));
    let root = pins.root();
    let current = root.join(format!("v{}", nexus_abi::ABI_VERSION));
    let old = root.join("v0");
    let foreign = [
        current.join("FOREIGN"),
        root.join("BINDINGS"),
        root.join("other/BINDINGS"),
    ];
    for folder in [&old, &root.join("other")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for path in foreign.iter().chain([&old.join(map::BINDINGS)]) {
        pin_map(path, ["array", "4", "8", "1"]);
    }
    let removed = detach(root).unwrap();
    let expected = [
        old.join(map::BINDINGS),
        current.join(map::BINDINGS),
        current.join(map::COUNTERS),
        current.join(map::PROFILES),
    ];
    assert_eq!(removed, expected);
    assert!(foreign.iter().all(|path| path.exists()));
    assert!(!old.exists());
}
