//! What a demo has made on this machine, written down before it is made, so that it can be removed
//! also after `--keep` or a crash.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use nexus_testkit::{bpf, netns};
use serde::{Deserialize, Serialize};

use crate::console;

const DIRECTORY: &str = "/run/nexus-demo";

/// Everything that a demo leaves outside of its own process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Left {
    /// Process id of the demo.
    pub demo: u32,
    /// Every namespace whose name begins like this is its own.
    pub prefix: String,
    /// Where its sidecar pins maps and link.
    pub pin_root: PathBuf,
    /// Its directory: stores, logs, captures.
    pub directory: PathBuf,
}

impl Left {
    /// Writes it down.
    pub fn write_down(&self) -> Result<()> {
        std::fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        let text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        std::fs::write(self.file(), text)
            .with_context(|| format!("cannot write {}", self.file().display()))
    }

    /// Removes everything that is still there: processes and namespaces, pins, the directory.
    pub fn remove(&self) -> Result<()> {
        let mut failed = Vec::new();
        for name in namespaces(&self.prefix)? {
            failed.extend(netns::remove(&name).err());
        }
        failed.extend(bpf::unpin(&self.pin_root).err());
        if let Err(error) = std::fs::remove_dir_all(&self.directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            failed.push(anyhow!(
                "cannot remove {}: {error}",
                self.directory.display()
            ));
        }
        match failed.into_iter().next() {
            Some(error) => Err(error),
            None => {
                let _ = std::fs::remove_file(self.file());
                // Only if it was the last one.
                let _ = std::fs::remove_dir(DIRECTORY);
                Ok(())
            }
        }
    }

    fn file(&self) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{}.json", self.prefix))
    }

    fn runs(&self) -> bool {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", self.demo)).unwrap_or_default();
        comm.trim() == "xtask"
    }
}

fn namespaces(prefix: &str) -> Result<Vec<String>> {
    let directory = match std::fs::read_dir("/run/netns") {
        Ok(directory) => directory,
        // Nobody has made one yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot look into /run/netns"),
    };
    let names = directory
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(&format!("{prefix}-")))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// `cargo xtask demo --clean`: removes every demo that was kept or has crashed.
pub fn clean() -> Result<()> {
    let files = std::fs::read_dir(DIRECTORY).map(|files| files.flatten().collect::<Vec<_>>());
    let mut count = 0;
    for file in files.unwrap_or_default() {
        let path = file.path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let left: Left = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what a demo writes: remove it", path.display()))?;
        if left.runs() {
            eprintln!(
                "- {}: its demo still runs (process {})",
                left.prefix, left.demo
            );
            continue;
        }
        left.remove()?;
        eprintln!("{} {}: removed", console::tick(), left.prefix);
        count += 1;
    }
    if count == 0 {
        eprintln!("{} nothing to clean", console::tick());
    }
    Ok(())
}
