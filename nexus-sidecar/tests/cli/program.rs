//! Runs the real program with a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a configuration.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration that can be used, with all paths in this folder, changed by `change`.
    pub fn config(&self, change: impl FnOnce(String) -> String) -> PathBuf {
        let text = format!(
            "olt: {{id: olt-test}}\n\
             nexus_endpoints: ['127.0.0.1:9']\n\
             interfaces: [{{name: nosuch0}}]\n\
             storage: {{path: {folder}/store}}\n\
             fast_path: {{pin_path: /sys/fs/bpf/nexus-cli-test}}\n\
             metrics: {{listen: '127.0.0.1:0'}}\n\
             control: {{socket: {folder}/control.sock}}\n",
            folder = self.folder.path().display()
        );
        let path = self.path("sidecar.yaml");
        std::fs::write(&path, change(text)).unwrap();
        path
    }
}

/// Runs the program to its end, at most 20 seconds.
pub fn run(arguments: &[&str]) -> Output {
    run_as(&[], arguments)
}

/// The same behind another command, such as `setpriv`.
pub fn run_as(wrapper: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("20");
    command.args(wrapper);
    command.arg(env!("CARGO_BIN_EXE_nexus-sidecar"));
    command.args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// What a failed run said; fails if it did not fail.
pub fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}
