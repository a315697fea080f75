//! Rules between crates: arrows run downwards, pure crates need no runtime, lints are on.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Finding;
use crate::shell;

/// Crates of the house, each with a floor. A crate may only depend on lower floors.
const FLOORS: &[(&str, u32)] = &[
    ("nexus-abi", 0),
    ("nexus-dhcp", 1),
    ("nexus-radius", 1),
    ("nexus-core", 1),
    ("nexus-clset", 1),
    ("nexus-proto", 1),
    ("nexus-random", 0),
    ("nexus-testkit", 2),
    ("nexus-fuzz", 3),
    ("nexus-p2p", 2),
    ("nexus-quorum", 2),
    ("nexus-store", 2),
    ("nexus-bench", 3),
    ("nexus-ebpf", 3),
    ("nexus-server", 3),
    ("nexus-sidecar", 3),
    ("nexusctl", 3),
    ("xtask", 4),
];

/// Crates whose code takes (state, now, input) and returns effects.
const PURE: &[&str] = &[
    "nexus-abi",
    "nexus-dhcp",
    "nexus-radius",
    "nexus-core",
    "nexus-clset",
];

/// What gives a crate a clock, randomness, a file or a socket.
const RUNTIME: &[&str] = &[
    "aya",
    "axum",
    "futures",
    "getrandom",
    "jiff",
    "libp2p",
    "mio",
    "nix",
    "openraft",
    "rand",
    "redb",
    "sled",
    "socket2",
    "tempfile",
    "tokio",
    "tonic",
    "tracing",
    "ureq",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
}

/// All findings in the workspace's manifests.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut metadata = shell::cargo(root);
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = nexus_testkit::command::output(&mut metadata)?;
    let metadata: Metadata = serde_json::from_str(&text).context("cannot read `cargo metadata`")?;
    let mut found = Vec::new();
    for package in &metadata.packages {
        let path = Path::new(&package.manifest_path);
        let shown = path
            .strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string();
        found.extend(
            arrows(package)
                .into_iter()
                .map(|what| Finding::new(&shown, 1, what)),
        );
        let manifest =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(Finding::new(
                &shown,
                1,
                "opt in: `[lints]` with `workspace = true`".to_owned(),
            ));
        }
    }
    Ok(found)
}

fn floor(name: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(at, _)| *at == name)
        .map(|(_, floor)| *floor)
}

fn arrows(package: &Package) -> Vec<String> {
    let Some(own) = floor(&package.name) else {
        return vec!["a new crate: give it a floor in xtask/src/lint/crates.rs".to_owned()];
    };
    let is_pure = PURE.contains(&package.name.as_str());
    let mut found = Vec::new();
    for Dependency { name, kind } in &package.dependencies {
        let for_tests = kind.as_deref() == Some("dev");
        match floor(name) {
            // What a test needs may stand on any floor, but the two sides never meet.
            Some(_) if for_tests && name != "nexus-server" && name != "nexus-sidecar" => {}
            Some(other) if other >= own => {
                found.push(format!("an arrow that does not run downwards: to {name}"));
            }
            None if !for_tests && is_pure && RUNTIME.contains(&name.as_str()) => {
                found.push(format!("a pure crate does without {name}"));
            }
            _ => {}
        }
        let is_for_tests = ["nexus-fuzz", "xtask"].contains(&package.name.as_str());
        if name == "nexus-testkit" && !for_tests && !is_for_tests {
            found.push("nexus-testkit is for tests: make it a dev-dependency".to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: String::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                })
                .collect(),
        }
    }

    #[test]
    fn arrows_run_downwards() {
        assert!(arrows(&package("nexus-sidecar", &[("nexus-core", None)])).is_empty());
        assert_eq!(
            arrows(&package("nexus-core", &[("nexus-store", None)])).len(),
            1
        );
        assert_eq!(
            arrows(&package("nexus-server", &[("nexus-sidecar", Some("dev"))])).len(),
            1
        );
    }

    #[test]
    fn a_pure_crate_has_no_runtime_but_its_tests_may() {
        assert_eq!(arrows(&package("nexus-core", &[("tokio", None)])).len(), 1);
        assert!(arrows(&package("nexus-core", &[("tokio", Some("dev"))])).is_empty());
        assert!(arrows(&package("nexus-server", &[("tokio", None)])).is_empty());
    }

    #[test]
    fn the_test_bench_is_for_tests() {
        assert_eq!(
            arrows(&package("nexus-server", &[("nexus-testkit", None)])).len(),
            1
        );
        assert!(arrows(&package("nexus-server", &[("nexus-testkit", Some("dev"))])).is_empty());
    }
}
