//! The programs of this repository as cargo has built them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

static PROFILE: OnceLock<&str> = OnceLock::new();

/// From now on programs are those that cargo has built with this profile, `release`, whichever this one was built
/// with. The first call counts.
pub fn use_profile(name: &'static str) {
    let _ = PROFILE.set(name);
}

/// Where cargo puts programs: beside this one, or above it where this one is a test; or where [`use_profile`] or the
/// variable `NEXUS_PROGRAMS` says.
#[must_use]
pub fn directory() -> PathBuf {
    if let Some(named) = std::env::var_os("NEXUS_PROGRAMS") {
        return PathBuf::from(named);
    }
    let own = own_directory();
    match (PROFILE.get(), own.parent()) {
        (Some(profile), Some(target)) => target.join(profile),
        _ => own,
    }
}

fn own_directory() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let beside = this.parent().unwrap_or(Path::new("target/debug"));
    if beside.ends_with("deps") {
        beside.parent().unwrap_or(beside).to_owned()
    } else {
        beside.to_owned()
    }
}

/// The path of a program, `nexus-server`.
///
/// # Errors
/// If it is not built; the text names the command that builds it.
pub fn path(name: &str) -> Result<String> {
    let path = directory().join(name);
    if !path.is_file() {
        bail!(
            "{} is not built: run `cargo build -p {name}`",
            path.display()
        );
    }
    path.to_str()
        .map(str::to_owned)
        .context("a path that is not UTF-8")
}

/// Where this project keeps what it has built or downloaded once: `~/.cache/nexus`.
///
/// # Errors
/// If neither `HOME` nor `XDG_CACHE_HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither HOME nor XDG_CACHE_HOME is set: there is no place for a cache")?;
    Ok(cache.join("nexus"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_the_command_that_builds_it() {
        let error = path("nexus-nothing").unwrap_err().to_string();
        assert!(
            error.contains("cargo build -p nexus-nothing") && !error.contains("/deps/"),
            "{error}"
        );
    }
}
