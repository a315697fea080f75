//! What CI runs is what a person runs.

use std::path::Path;

use anyhow::Result;

use crate::{console, lint, shell, test};

/// Kernel programs are packages of their own, outside the workspace.
const OUTSIDE: &[&str] = &[
    "nexus-ebpf",
    "crates/nexus-testkit/access-node",
    "crates/nexus-testkit/traffic",
];

/// `cargo xtask ci`
pub fn run(root: &Path) -> Result<()> {
    format(root, true)?;
    clippy(root)?;
    lint::run(root)?;
    test::run(root)
}

/// `cargo xtask fmt`
pub fn format(root: &Path, check: bool) -> Result<()> {
    let mut workspace = shell::cargo(root);
    workspace.args(["fmt", "--all"]);
    let mut all = vec![workspace];
    for package in OUTSIDE {
        let mut one = shell::cargo(root);
        one.args(["fmt", "--manifest-path", &format!("{package}/Cargo.toml")]);
        all.push(one);
    }
    for mut command in all {
        if check {
            command.arg("--check");
        }
        shell::show(&mut command)?;
    }
    eprintln!("{} formatting", console::tick());
    Ok(())
}

/// Clippy on everything that runs in user space; the sidecar embeds the kernel program, so that is
/// built first.
fn clippy(root: &Path) -> Result<()> {
    crate::build_ebpf::run(root)?;
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    shell::show(shell::cargo(root).args(arguments))?;
    eprintln!("{} clippy", console::tick());
    Ok(())
}
