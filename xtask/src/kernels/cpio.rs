//! An initramfs: the kernel's "newc" form of a cpio archive, as Documentation/driver-api/early-userspace
//! of Linux describes it (buffer-format).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written; everything in it belongs to root and may be executed.
pub struct Archive<W> {
    to: W,
    entries: u32,
    present: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub fn new(to: W) -> Self {
        Self {
            to,
            entries: 0,
            present: BTreeSet::new(),
        }
    }

    /// Adds a file at an absolute path, and the folders above it; what is there already stays.
    pub fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        if !self.present.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.entry(path, PROGRAM, content)
    }

    /// Adds the file `from` of this machine at an absolute path.
    pub fn copy(&mut self, path: &Path, from: &Path) -> Result<()> {
        let content =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, &content)
    }

    /// Adds an empty folder, and those above it.
    pub fn folder(&mut self, path: &Path) -> Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        // The last one is the root, which is there.
        above.pop();
        for folder in above.into_iter().rev() {
            if self.present.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Result<W> {
        self.entry(Path::new(TRAILER), 0, &[])?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let name = path.to_str().context("a path that is not UTF-8")?;
        let name = name.trim_start_matches('/');
        let size = u32::try_from(content.len())
            .with_context(|| format!("{} is too large for an initramfs", path.display()))?;
        let name_size = u32::try_from(name.len() + 1)?;
        self.entries += 1;
        let links = 1;
        // inode, mode, uid, gid, links, time, size, device and own device, length of name, checksum
        let header = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        let mut head = String::from("070701");
        for number in header {
            head.push_str(&format!("{number:08x}"));
        }
        head.push_str(name);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Both parts of an entry end at multiples of four.
    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes)?;
        let behind = bytes.len().next_multiple_of(4) - bytes.len();
        self.to
            .write_all([0; 3].get(..behind).unwrap_or_default())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/b/one"), b"12345").unwrap();
        archive.file(Path::new("/a/b/two"), b"").unwrap();
        archive.file(Path::new("/a/b/one"), b"again").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let names: Vec<&str> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", TRAILER]);
        // Size of the first file, its name's length with the zero behind it, and its content padded.
        let one = text.split("070701").nth(3).unwrap();
        assert_eq!(&one[48..56], "00000005");
        assert_eq!(&one[88..96], "00000008");
        assert!(one.ends_with("12345\0\0\0"), "{one:?}");
    }
}
