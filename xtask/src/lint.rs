//! The house rules that clippy cannot know; `docs/ARCHITECTURE.md` says why they are there.

mod crates;
mod files;
mod source;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::command;

use self::source::Source;
use crate::console;

/// One broken rule.
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// `cargo xtask lint`
pub fn run(root: &Path) -> Result<()> {
    let sources = sources(root)?;
    let mut findings = crates::check(root)?;
    findings.extend(sources.iter().flat_map(files::check));
    for finding in &findings {
        eprintln!("{} {finding}", console::cross());
    }
    if !findings.is_empty() {
        bail!("{} broken house rules", findings.len());
    }
    eprintln!(
        "{} lint: {} files keep the house rules",
        console::tick(),
        sources.len()
    );
    Ok(())
}

/// Every Rust file that git knows or would take.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(root);
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let listed = command::output(&mut git)?;
    let mut paths: Vec<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut sources = Vec::new();
    for path in paths {
        let file = root.join(path);
        // Deleted, but not yet for git.
        if file.exists() {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
            sources.push(Source::new(path, text));
        }
    }
    Ok(sources)
}
