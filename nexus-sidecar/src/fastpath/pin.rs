//! Folders of pinned maps and links: one per generation of maps, chosen, made, and taken down.
//!
//! A generation is a folder `v<ABI version>` or `v<ABI version>-<number>` below the pin root: a set of
//! maps that fit one program and one size, and the links of the interfaces whose program works on them.
//! There is one, except while an upgrade is under way: then the new generation is filled while the old
//! one answers, each link is updated to the new program and only then moved to the new folder, and the
//! old folder goes last. Wherever that is cut off, each link is pinned in one of the folders and runs a
//! program over maps that were right when it got it; the next start finds the maps that fit and goes on
//! from there.

mod layout;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use nexus_abi::{ABI_VERSION, map};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::FastPathError;
use layout::{Unfit, unfit};

/// The program's maps that are pinned; all others hold nothing beyond one packet.
pub const MAPS: [&str; 7] = [
    map::KINDS,
    map::BINDINGS,
    map::CIRCUITS,
    map::PROFILES,
    map::COUNTERS,
    map::PUNTS,
    map::EVENTS,
];

/// Pin of the seed that keys are placed by, an array of one number that only user space looks at.
pub const SEED: &str = "SEED";

/// Entries of the maps that are sized to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of `BINDINGS`.
    pub buckets: u32,
    /// Of `CIRCUITS`.
    pub circuits: u32,
}

/// Keeps other writers away from the maps below a pin root, until it is dropped or the process ends.
pub type Lock = Flock<File>;

/// Makes the pin root, which has to be on a bpffs, and takes it for this process alone.
pub fn prepare(root: &Path) -> Result<Lock, FastPathError> {
    let existing = root
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .ok_or_else(|| FastPathError::NotBpffs {
            path: root.to_owned(),
        })?;
    let kind = statfs(existing).map_err(|errno| folder(existing)(errno.into()))?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        return Err(FastPathError::NotBpffs {
            path: root.to_owned(),
        });
    }
    fs::create_dir_all(root).map_err(folder(root))?;
    let file = File::open(root).map_err(folder(root))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => FastPathError::InUse {
            path: root.to_owned(),
        },
        errno => folder(root)(errno.into()),
    })
}

/// The generation whose maps have these sizes, or a new one.
pub fn choose(root: &Path, sizes: Sizes) -> Result<PathBuf, FastPathError> {
    for generation in generations(root)? {
        if version(&generation) != Some(ABI_VERSION) {
            continue;
        }
        match unfit(&generation, sizes)? {
            None => return Ok(generation),
            Some(Unfit {
                name,
                expected,
                found,
            }) => {
                tracing::warn!(
                    generation = %generation.display(), map = name, %found, %expected,
                    "pinned maps do not fit: new ones are made beside them, the old ones answer until those are filled"
                );
            }
        }
    }
    let free = (0..)
        .map(|number| root.join(named(number)))
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| root.join(named(0)));
    fs::create_dir_all(&free).map_err(folder(&free))?;
    Ok(free)
}

/// Checks the maps that the embedded object has made: it may have been built before this program.
pub fn check(pins: &Path, sizes: Sizes) -> Result<(), FastPathError> {
    match unfit(pins, sizes)? {
        None => Ok(()),
        Some(Unfit { name, .. }) => {
            tracing::error!(
                map = name,
                "the embedded kernel program is of another version"
            );
            Err(FastPathError::Object)
        }
    }
}

/// Name of a generation: the first one has no number.
fn named(number: u32) -> String {
    match number {
        0 => format!("v{ABI_VERSION}"),
        // A bpffs takes no dots in names.
        number => format!("v{ABI_VERSION}-{number}"),
    }
}

/// A pinned map.
pub fn open(pins: &Path, name: &'static str) -> Result<MapData, FastPathError> {
    MapData::from_pin(pins.join(name)).map_err(|source| FastPathError::map(name, source))
}

/// Removes links and maps of every generation below `root`: the program leaves its interfaces and no
/// subscriber is answered in the kernel any more. Whatever else stands there is left alone. Returns
/// what was removed.
pub fn detach(root: &Path) -> Result<Vec<PathBuf>, FastPathError> {
    let mut removed = Vec::new();
    for generation in generations(root)? {
        remove(&generation, &mut removed)?;
    }
    remove_if_empty(root)?;
    Ok(removed)
}

/// Removes links of interfaces that are not among `attached`, a list of names of links, and all
/// generations but `current`, which gets the name without a number if that is free then. Returns its
/// path and what was removed.
pub fn tidy(
    root: &Path,
    current: &Path,
    attached: &[&str],
) -> Result<(PathBuf, Vec<PathBuf>), FastPathError> {
    let mut removed = Vec::new();
    for generation in generations(root)? {
        if generation != current {
            remove(&generation, &mut removed)?;
            continue;
        }
        for pin in entries(&generation)? {
            let name = name_of(&pin);
            if name.starts_with(LINK_PREFIX) && !attached.contains(&name.as_str()) {
                unpin(&pin, &mut removed)?;
            }
        }
    }
    let first = root.join(named(0));
    if current == first || first.exists() {
        return Ok((current.to_owned(), removed));
    }
    fs::rename(current, &first).map_err(folder(current))?;
    Ok((first, removed))
}

fn remove(generation: &Path, removed: &mut Vec<PathBuf>) -> Result<(), FastPathError> {
    let mut pins: Vec<_> = entries(generation)?
        .into_iter()
        .filter(|pin| is_ours(pin))
        .collect();
    // Links first, so that no program runs on maps that are gone.
    pins.sort_by_key(|pin| (!name_of(pin).starts_with(LINK_PREFIX), pin.clone()));
    for pin in pins {
        unpin(&pin, removed)?;
    }
    remove_if_empty(generation)
}

fn unpin(pin: &Path, removed: &mut Vec<PathBuf>) -> Result<(), FastPathError> {
    fs::remove_file(pin).map_err(folder(pin))?;
    removed.push(pin.to_owned());
    Ok(())
}

const LINK_PREFIX: &str = "link-";

/// Name of the pin of a link.
pub fn link_name(interface: &str, ifindex: u32) -> String {
    format!("{LINK_PREFIX}{}-{ifindex}", interface.replace('.', "_"))
}

/// Where links of this name are pinned, in whichever generation: at most one of them is alive.
pub fn find_links(root: &Path, name: &str) -> Result<Vec<PathBuf>, FastPathError> {
    let pins = generations(root)?
        .into_iter()
        .map(|generation| generation.join(name));
    Ok(pins.filter(|pin| pin.exists()).collect())
}

/// An earlier generation of this ABI version, whatever its size, and that size.
pub fn earlier(root: &Path, current: &Path) -> Result<Option<(PathBuf, Sizes)>, FastPathError> {
    for generation in generations(root)? {
        if generation == current || version(&generation) != Some(ABI_VERSION) {
            continue;
        }
        if let Some(sizes) = layout::sizes(&generation)? {
            return Ok(Some((generation, sizes)));
        }
    }
    Ok(None)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// All generations of all ABI versions, the one without a number before the others.
fn generations(root: &Path) -> Result<Vec<PathBuf>, FastPathError> {
    let mut found = entries(root)?;
    found.retain(|folder| version(folder).is_some());
    Ok(found)
}

/// The ABI version of a generation; `None`: it is none.
fn version(folder: &Path) -> Option<u32> {
    let name = name_of(folder);
    let text = name.strip_prefix('v')?;
    let (version, number) = text.split_once('-').unwrap_or((text, "0"));
    number.parse::<u32>().ok()?;
    version.parse().ok()
}

fn is_ours(pin: &Path) -> bool {
    let name = name_of(pin);
    name.starts_with(LINK_PREFIX) || name == SEED || MAPS.contains(&name.as_str())
}

fn remove_if_empty(path: &Path) -> Result<(), FastPathError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(folder(path)(source)),
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, FastPathError> {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut paths = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(folder(path))?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(folder(path)(source)),
    }
}

pub(super) fn folder(path: &Path) -> impl Fn(io::Error) -> FastPathError {
    let path = path.to_owned();
    move |source| FastPathError::PinFolder {
        path: path.clone(),
        source,
    }
}
