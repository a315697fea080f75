//! A small disk: a tmpfs that fills up and can be emptied again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The disk; dropped, it is unmounted.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many MiB at `path`, which is made.
    ///
    /// # Errors
    /// If the caller is not root.
    pub fn create(path: &Path, mebibytes: u32) -> Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let options = format!("size={mebibytes}m,mode=0700");
        mount(
            Some("nexus-bench"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| {
            format!(
                "cannot mount a tmpfs at {}: that needs root",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Leaves about so many MiB free: a file takes the rest.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn fill_but(&self, mebibytes: u64) -> Result<()> {
        use std::io::Write as _;
        let path = self.path.join(FILLER);
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let piece = vec![0xa5; 1 << 18];
        while self.free()? > mebibytes << 20 && file.write_all(&piece).is_ok() {}
        Ok(())
    }

    /// Leaves no byte free: a file takes all of it.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let path = self.path.join(FILLER);
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0xa5; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn empty(&self) -> Result<()> {
        let path = self.path.join(FILLER);
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Bytes that are free.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn free(&self) -> Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path)
            .with_context(|| format!("cannot look at {}", self.path.display()))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

const FILLER: &str = "filler";

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Unmounts the disks of test processes that are gone: killed before they could clean up.
pub fn sweep() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        if words.next() == Some("nexus-bench")
            && let Some(path) = words.next()
            && let Some(owner) = owner(path)
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

/// The process that made the directory which the path leads through: 12 in `/tmp/nx12-0-x-abc/n1/store`.
fn owner(path: &str) -> Option<u32> {
    path.split('/')
        .find_map(|part| part.strip_prefix("nx")?.split_once('-')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_tells_whose_it_is() {
        assert_eq!(owner("/tmp/nx12-0-cluster-Ab3/n1/store"), Some(12));
        assert_eq!(owner("/tmp/nexus/store"), None);
    }

    #[test]
    #[ignore = "needs root: mounts a tmpfs"]
    fn a_full_disk_takes_nothing_until_it_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small");
        let disk = SmallDisk::create(&path, 1).unwrap();
        disk.fill().unwrap();
        assert_eq!(disk.free().unwrap(), 0);
        assert!(std::fs::write(path.join("more"), [1; 4096]).is_err());
        disk.empty().unwrap();
        std::fs::write(path.join("more"), [1; 4096]).unwrap();
        drop(disk);
        assert!(!path.join("more").exists());
    }
}
