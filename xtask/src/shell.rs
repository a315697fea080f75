//! Calling other programs, visibly: their output is the user's output.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nexus_testkit::command;
pub use nexus_testkit::programs::cache;

use crate::console;

/// The cargo that runs this program.
pub fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).stdin(Stdio::null());
    cargo
}

/// Runs a command that must succeed, showing it first. Standard output goes to standard error, so
/// that a task's own standard output stays its own.
pub fn show(command: &mut Command) -> Result<()> {
    let line = command::text(command);
    eprintln!("{}", console::faint(&format!("$ {line}")));
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What a command that must succeed prints, showing it first; its complaints are the user's to read.
pub fn read(command: &mut Command) -> Result<String> {
    let line = command::text(command);
    eprintln!("{}", console::faint(&format!("$ {line}")));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where a program is; root's and systemd's directories are searched too, whatever the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/lib/systemd"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
