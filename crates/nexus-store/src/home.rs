//! The directory of a store: its lock, its format, its high-water mark, and how a damaged one moves aside.
//!
//! ```text
//! <path>/lock         flock of the process that has the store open; holds its pid
//! <path>/format       one line: FORMAT
//! <path>/high-water   number of the last group of commits known to be on disk
//! <path>/rows/        sled's own directory
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// What the format file says. Changes with the framing of rows or the layout of the directory.
const FORMAT: &str = "nexus-store 1";

/// Most stores moved aside under one name before we ask a person to clean up.
const MAX_MOVED_ASIDE: u32 = 1000;

/// A damaged store that was moved out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedAside {
    /// Where it is now.
    pub to: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// A locked store directory.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    /// Whether it was made by this call.
    pub(crate) created: bool,
    /// Held for its lock.
    _lock: File,
    high_water: File,
}

impl Home {
    /// Makes or takes over the directory at `path` and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        create_directory(path)?;
        let stranger = stranger(path)?;
        let lock = lock(path)?;
        let created = match read_format(path)? {
            Some(format) if format == FORMAT => false,
            Some(found) => {
                return Err(StoreError::OtherFormat {
                    path: path.to_owned(),
                    found,
                    ours: FORMAT,
                });
            }
            None => match stranger {
                Some(found) => {
                    return Err(StoreError::NotAStore {
                        path: path.to_owned(),
                        found,
                    });
                }
                None => true,
            },
        };
        if created {
            write_format(path)?;
            sync_directory(path)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                sync_directory(parent)?;
            }
        }
        let mark = path.join("high-water");
        let high_water = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&mark)
            .map_err(|e| StoreError::io("open", &mark, &e))?;
        Ok(Self {
            path: path.to_owned(),
            created,
            _lock: lock,
            high_water,
        })
    }

    /// Where sled keeps its files.
    pub(crate) fn rows(&self) -> PathBuf {
        self.path.join("rows")
    }

    /// Number of the last group that was surely on disk, 0 if none was noted.
    pub(crate) fn high_water(&self) -> u64 {
        let mut mark = [0; 12];
        if self.high_water.read_exact_at(&mut mark, 0).is_err() {
            return 0;
        }
        let [n0, n1, n2, n3, n4, n5, n6, n7, crc @ ..] = mark;
        let number = [n0, n1, n2, n3, n4, n5, n6, n7];
        if crc32fast::hash(&number) == u32::from_le_bytes(crc) {
            u64::from_le_bytes(number)
        } else {
            0
        }
    }

    /// Notes that group `number` is on disk. Not synced on purpose: it follows the flush, so that it can
    /// be behind after a power loss, but never ahead of what the store must still hold.
    pub(crate) fn set_high_water(&self, number: u64) -> Result<(), StoreError> {
        let mut mark = [0; 12];
        let (head, tail) = mark.split_at_mut(8);
        head.copy_from_slice(&number.to_le_bytes());
        tail.copy_from_slice(&crc32fast::hash(&number.to_le_bytes()).to_le_bytes());
        self.high_water
            .write_all_at(&mark, 0)
            .map_err(|e| StoreError::io("write", &self.path.join("high-water"), &e))
    }

    /// Renames the directory to the first free `<path>.corrupt-<n>` and makes a new one.
    pub(crate) fn move_aside(self, why: String) -> Result<(Self, MovedAside), StoreError> {
        let to = free_name(&self.path)?;
        fs::rename(&self.path, &to).map_err(|e| StoreError::CannotMoveAside {
            path: self.path.clone(),
            to: to.clone(),
            detail: e.to_string(),
        })?;
        let home = Self::open(&self.path)?;
        Ok((home, MovedAside { to, why }))
    }
}

fn create_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => StoreError::NotADirectory {
            path: path.to_owned(),
        },
        _ => StoreError::io("create directory", path, &e),
    })
}

/// A name in the directory that a store never makes before its format file.
fn stranger(path: &Path) -> Result<Option<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| StoreError::io("list", path, &e))? {
        let entry = entry.map_err(|e| StoreError::io("list", path, &e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names
        .into_iter()
        .find(|name| !["lock", "format.new", "lost+found"].contains(&name.as_str())))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|e| StoreError::io("open", &name, &e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let holder = match file.read_to_string(&mut pid) {
                Ok(_) => pid.trim().parse().ok(),
                Err(_) => None,
            };
            return Err(StoreError::Locked {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &name, &e)),
    }
    // The pid is a hint for the message above; the lock is what counts.
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| StoreError::io("write", &name, &e))?;
    Ok(file)
}

fn read_format(path: &Path) -> Result<Option<String>, StoreError> {
    let name = path.join("format");
    match fs::read(&name) {
        Ok(bytes) => Ok(Some(
            String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default())
                .trim()
                .to_owned(),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("read", &name, &e)),
    }
}

fn write_format(path: &Path) -> Result<(), StoreError> {
    let (new, name) = (path.join("format.new"), path.join("format"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, &name)
    };
    write().map_err(|e| StoreError::io("write", &name, &e))
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| StoreError::io("sync", path, &e))
}

fn free_name(path: &Path) -> Result<PathBuf, StoreError> {
    for n in 1..=MAX_MOVED_ASIDE {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{n}"));
        let candidate = PathBuf::from(name);
        if candidate.symlink_metadata().is_err() {
            return Ok(candidate);
        }
    }
    Err(StoreError::CannotMoveAside {
        path: path.to_owned(),
        to: path.with_extension("corrupt-<n>"),
        detail: format!("{MAX_MOVED_ASIDE} damaged stores are there already: remove some"),
    })
}
