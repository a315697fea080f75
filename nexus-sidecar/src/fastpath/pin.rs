//! The folder of pinned maps and links: made, checked, and taken down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use nexus_abi::{ABI_VERSION, BindingKey, Entry, OUTCOME_COUNT, PROFILE_COUNT, Profile, map};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::FastPathError;

/// The maps that are pinned; all others hold nothing beyond one packet.
pub const MAPS: [&str; 3] = [map::BINDINGS, map::PROFILES, map::COUNTERS];

/// Makes the folder of this ABI version below `root`, which has to be on a bpffs.
pub fn prepare(root: &Path) -> Result<PathBuf, FastPathError> {
    let existing = root
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .ok_or_else(|| FastPathError::NotBpffs {
            path: root.to_owned(),
        })?;
    let kind = statfs(existing).map_err(|errno| FastPathError::PinFolder {
        path: existing.to_owned(),
        source: errno.into(),
    })?;
    if kind.filesystem_type() != BPF_FS_MAGIC {
        return Err(FastPathError::NotBpffs {
            path: root.to_owned(),
        });
    }
    let pins = root.join(format!("v{ABI_VERSION}"));
    fs::create_dir_all(&pins).map_err(|source| FastPathError::PinFolder {
        path: pins.clone(),
        source,
    })?;
    Ok(pins)
}

/// Compares each pinned map with what this program expects: aya would silently use a map of another
/// layout.
pub fn check_layouts(pins: &Path, max_bindings: u32) -> Result<(), FastPathError> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (key, entry) = (size(size_of::<BindingKey>()), size(size_of::<Entry>()));
    let profile = size(size_of::<Profile>());
    check(
        pins,
        map::BINDINGS,
        MapType::Hash,
        [key, entry, max_bindings],
    )?;
    check(
        pins,
        map::PROFILES,
        MapType::Array,
        [4, profile, PROFILE_COUNT],
    )?;
    check(
        pins,
        map::COUNTERS,
        MapType::PerCpuArray,
        [4, 8, OUTCOME_COUNT],
    )
}

/// `expected`: key size, value size and number of entries.
fn check(
    pins: &Path,
    name: &'static str,
    kind: MapType,
    expected: [u32; 3],
) -> Result<(), FastPathError> {
    let path = pins.join(name);
    if !path.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(&path).map_err(|source| FastPathError::map(name, source))?;
    let found_kind = info
        .map_type()
        .map_err(|source| FastPathError::map(name, source))?;
    let found = [info.key_size(), info.value_size(), info.max_entries()];
    if found_kind == kind && found == expected {
        return Ok(());
    }
    Err(FastPathError::Layout {
        path,
        expected: format!("{kind:?} {}", shape(expected)),
        found: format!("{found_kind:?} {}", shape(found)),
    })
}

fn shape([key, value, entries]: [u32; 3]) -> String {
    format!("with keys of {key} bytes, values of {value} bytes, {entries} entries")
}

/// Removes links and maps of every ABI version below `root`: the program leaves its interfaces and
/// no subscriber is answered in the kernel any more. Whatever else stands there is left alone.
/// Returns what was removed.
pub fn detach(root: &Path) -> Result<Vec<PathBuf>, FastPathError> {
    let mut removed = Vec::new();
    for folder in entries(root)?
        .into_iter()
        .filter(|folder| is_version(folder))
    {
        let mut pins: Vec<_> = entries(&folder)?
            .into_iter()
            .filter(|pin| is_ours(pin))
            .collect();
        // Links first, so that no program runs on maps that are gone.
        pins.sort_by_key(|pin| (!name_of(pin).starts_with(LINK_PREFIX), pin.clone()));
        for pin in pins {
            fs::remove_file(&pin).map_err(|source| FastPathError::PinFolder {
                path: pin.clone(),
                source,
            })?;
            removed.push(pin);
        }
        remove_if_empty(&folder)?;
    }
    remove_if_empty(root)?;
    Ok(removed)
}

const LINK_PREFIX: &str = "link-";

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn is_version(folder: &Path) -> bool {
    name_of(folder)
        .strip_prefix('v')
        .is_some_and(|version| version.parse::<u32>().is_ok())
}

fn is_ours(pin: &Path) -> bool {
    let name = name_of(pin);
    name.starts_with(LINK_PREFIX) || MAPS.contains(&name.as_str())
}

fn remove_if_empty(folder: &Path) -> Result<(), FastPathError> {
    match fs::remove_dir(folder) {
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
        Err(source) => Err(FastPathError::PinFolder {
            path: folder.to_owned(),
            source,
        }),
    }
}

/// Name of the pin of a link.
pub fn link_name(interface: &str, ifindex: u32) -> String {
    // A bpffs takes no dots in names.
    format!("{LINK_PREFIX}{}-{ifindex}", interface.replace('.', "_"))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FastPathError> {
    let failed = |source| FastPathError::PinFolder {
        path: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut paths = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(failed)?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}
