//! Files with a secret: who may read them, and how one comes into being whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::P2pError;

/// Far more than a key with white space around it needs.
const MOST_BYTES: u64 = 4096;

/// The text of the file, or `None` if there is none. `forbidden` are mode bits that must not be set.
pub(super) fn read(
    kind: &'static str,
    path: &Path,
    forbidden: u32,
) -> Result<Option<String>, P2pError> {
    let wrong = |what: String| P2pError::KeyFile {
        kind,
        path: path.to_owned(),
        what,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot be opened: {error}"))),
    };
    // Asked of the open file, so that it cannot be exchanged in between.
    let about = file
        .metadata()
        .map_err(|error| wrong(format!("cannot be examined: {error}")))?;
    if !about.is_file() {
        return Err(wrong("is not a regular file".to_owned()));
    }
    let mode = about.mode() & 0o777;
    if mode & forbidden != 0 {
        let (who, allowed) = if forbidden & 0o070 == 0 {
            ("others than its owner and group", "o-rwx")
        } else {
            ("others than its owner", "go-rwx")
        };
        return Err(wrong(format!(
            "mode {mode:04o} lets {who} at it; run `chmod {allowed} {}`, and if somebody may have \
             read it, make a new key",
            path.display()
        )));
    }
    let mut text = String::new();
    match file.take(MOST_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some("\u{fffd}".to_owned())),
        Err(error) => Err(wrong(format!("cannot be read: {error}"))),
    }
}

/// Makes the file with mode 0600 and this text, durably; returns what stands in it.
///
/// It is written under another name and linked to its own, so that a crash leaves the whole key or
/// none. If another process was faster, its key stands.
pub(super) fn create(kind: &'static str, path: &Path, text: &str) -> Result<String, P2pError> {
    let wrong = |what: String| P2pError::KeyFile {
        kind,
        path: path.to_owned(),
        what: format!("cannot be made: {what}"),
    };
    let io = |error: std::io::Error| wrong(error.to_string());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !directory.is_dir() {
        return Err(wrong(format!(
            "there is no directory {}; make it first",
            directory.display()
        )));
    }
    let mut name = path
        .file_name()
        .ok_or_else(|| wrong("the path names no file".to_owned()))?
        .to_owned();
    name.push(format!(
        ".new-{}-{:016x}",
        std::process::id(),
        rand::random::<u64>()
    ));
    let draft = directory.join(name);
    let written = write(&draft, text).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&draft);
    written.map_err(io)?;
    removed.map_err(io)?;
    File::open(&directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)?;
    read(kind, path, 0o077)?.ok_or_else(|| wrong("it vanished at once".to_owned()))
}

fn write(draft: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
