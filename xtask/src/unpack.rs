//! Debian packages that are unpacked, not installed, and of which a few files are kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::command;

use crate::{console, prepare};

/// Unpacking a kernel takes seconds; not so on a machine that does much else.
const UNPACKING: Duration = Duration::from_secs(5 * 60);

/// What a folder in the cache was asked to hold.
const LIST: &str = "list";

/// The folder in the cache with the files of `package` that `wanted` names (where it is when
/// unpacked, and what it is called in the cache; one that is not there is left out). It is whole or
/// not there, and made anew when other files are wanted.
pub fn kept(
    cache: &Path,
    package: &str,
    wanted: impl Fn(&str) -> Vec<(String, String)>,
) -> Result<PathBuf> {
    let folder = cache.join(package);
    let list: Vec<String> = wanted("").into_iter().map(|(_, name)| name).collect();
    let list = list.join("\n");
    if fs::read_to_string(folder.join(LIST)).is_ok_and(|kept| kept == list) {
        return Ok(folder);
    }
    eprintln!("- {package} is not in {}: downloaded once", cache.display());
    let work = cache.join(format!(".{package}.new"));
    let _ = fs::remove_dir_all(&work);
    let done = (|| {
        let files = work.join("files");
        fs::create_dir_all(&files).with_context(|| format!("cannot create {}", files.display()))?;
        let archive = prepare::download(package, &work)?;
        let unpacked = work.join("unpacked");
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(&archive).arg(&unpacked);
        let finished = command::run(&mut unpack, UNPACKING)?;
        if !finished.status.success() {
            bail!("cannot unpack {package}: {}", finished.stderr.trim());
        }
        let mut first = None;
        for (from, name) in wanted(&unpacked.display().to_string()) {
            if Path::new(&from).is_file() {
                fs::copy(&from, files.join(&name))
                    .with_context(|| format!("cannot copy {from}"))?;
                first = first.or(Some(name));
            }
        }
        first.with_context(|| format!("{package} does not hold what was looked for"))?;
        fs::write(files.join(LIST), &list).context("cannot write the list of files")?;
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&files, &folder).with_context(|| format!("cannot make {}", folder.display()))
    })();
    let _ = fs::remove_dir_all(&work);
    done?;
    eprintln!("{} {}", console::tick(), folder.display());
    Ok(folder)
}
