//! bpffs and `bpftool`: loading, pinning, reading and writing maps without a loader library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::command;

/// Where bpffs belongs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Mounts bpffs if it is not mounted. Returns whether it had to.
///
/// # Errors
/// If the kernel refuses.
pub fn ensure_bpffs() -> Result<bool> {
    let mounted = statfs(BPFFS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    if mounted {
        return Ok(false);
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("cannot mount bpffs: try `mount -t bpf bpf {BPFFS}` as root"))?;
    Ok(true)
}

/// An object's programs and maps, pinned below one directory until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    root: PathBuf,
}

impl Pinned {
    /// Loads all programs of an object and pins them and its maps below `/sys/fs/bpf/{name}`.
    ///
    /// # Errors
    /// If bpffs cannot be mounted, or `bpftool` (that is: libbpf or the verifier) refuses.
    pub fn load(object: &Path, name: &str) -> Result<Self> {
        ensure_bpffs()?;
        if !object.exists() {
            bail!(
                "{} is not built: run `cargo xtask build-ebpf`",
                object.display()
            );
        }
        let pinned = Self {
            root: Path::new(BPFFS).join(name),
        };
        let directory = |kind: &str| pinned.root.join(kind);
        std::fs::create_dir_all(directory("programs"))
            .context("cannot make a directory in bpffs")?;
        std::fs::create_dir_all(directory("maps")).context("cannot make a directory in bpffs")?;
        command::output(
            Command::new("bpftool")
                .args(["prog", "loadall"])
                .arg(object)
                .arg(directory("programs"))
                .arg("pinmaps")
                .arg(directory("maps")),
        )?;
        Ok(pinned)
    }

    /// Where a program is pinned.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = unpin(&self.root);
    }
}

/// Removes a directory of pins with all that is in it; nothing if it is not there.
///
/// # Errors
/// If something in it cannot be removed.
pub fn unpin(root: &Path) -> Result<()> {
    if !root.starts_with(BPFFS) || root == Path::new(BPFFS) {
        bail!("{} is not a directory below {BPFFS}", root.display());
    }
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the pins in {}", root.display()))
        }
        _ => Ok(()),
    }
}

/// A directory below bpffs whose pins are removed when this is dropped.
#[derive(Debug)]
pub struct Pins(pub PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        // It may never have come to any.
        let _ = unpin(&self.0);
    }
}

/// Id of a pinned map; it stays valid as long as a program uses the map.
///
/// # Errors
/// If there is no map.
pub fn map_id(pin: &Path) -> Result<u64> {
    let text = command::output(
        Command::new("bpftool")
            .args(["-j", "map", "show", "pinned"])
            .arg(pin),
    )?;
    let shown: Value = serde_json::from_str(&text).context("bpftool did not print JSON")?;
    shown
        .get("id")
        .and_then(Value::as_u64)
        .with_context(|| format!("no map at {}", pin.display()))
}

/// Writes an entry; key and value are the bytes as they stand in memory.
///
/// # Errors
/// If `bpftool` refuses.
pub fn map_update(id: u64, key: &[u8], value: &[u8]) -> Result<()> {
    let mut update = Command::new("bpftool");
    update.args(["map", "update", "id", &id.to_string(), "key"]);
    update.args(key.iter().map(u8::to_string));
    update.arg("value").args(value.iter().map(u8::to_string));
    command::output(&mut update)?;
    Ok(())
}

/// Removes an entry; the key is its bytes as they stand in memory.
///
/// # Errors
/// If `bpftool` refuses, or there is no such entry.
pub fn map_delete(id: u64, key: &[u8]) -> Result<()> {
    let mut delete = Command::new("bpftool");
    delete.args(["map", "delete", "id", &id.to_string(), "key"]);
    delete.args(key.iter().map(u8::to_string));
    command::output(&mut delete)?;
    Ok(())
}

/// Reads a pinned map; each entry is an object with `key`, `value` and, where the map has BTF,
/// `formatted` with named fields.
///
/// # Errors
/// If `bpftool` refuses.
pub fn map_dump(pin: &Path) -> Result<Vec<Value>> {
    dump(pin)
}

/// The raw bytes of each value of a pinned map: a small part of the time that [`map_dump`] takes.
///
/// # Errors
/// If `bpftool` refuses, or prints something else.
pub fn map_values(pin: &Path) -> Result<Vec<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Row {
        value: Bytes,
    }
    let rows: Vec<Row> = dump(pin)?;
    Ok(rows.into_iter().map(|row| row.value.0).collect())
}

fn dump<T: DeserializeOwned>(pin: &Path) -> Result<Vec<T>> {
    let text = command::output(
        Command::new("bpftool")
            .args(["-j", "map", "dump", "pinned"])
            .arg(pin),
    )?;
    serde_json::from_str(&text)
        .with_context(|| format!("cannot read the dump of {}", pin.display()))
}

/// A list of `"0x1f"`.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Words).map(Self)
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of bytes as \"0x1f\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(word) = words.next_element::<&str>()? {
            let byte = u8::from_str_radix(word.trim_start_matches("0x"), 16);
            bytes.push(byte.map_err(serde::de::Error::custom)?);
        }
        Ok(bytes)
    }
}

/// The raw bytes of a dumped key or value, which `bpftool` writes as a list of `"0x1f"`.
#[must_use]
pub fn raw_bytes(value: &Value) -> Option<Vec<u8>> {
    value
        .as_array()?
        .iter()
        .map(|byte| u8::from_str_radix(byte.as_str()?.trim_start_matches("0x"), 16).ok())
        .collect()
}

/// Reads a pinned per-CPU array of 64-bit counters: index to the sum over all CPUs.
///
/// # Errors
/// If `bpftool` refuses, or the map is not of that kind.
pub fn counters(pin: &Path) -> Result<BTreeMap<u32, u64>> {
    let mut sums = BTreeMap::new();
    for entry in map_dump(pin)? {
        let sum = counter(&entry).with_context(|| {
            format!(
                "an entry of {} is not a per-CPU counter: {entry}",
                pin.display()
            )
        })?;
        sums.extend([sum]);
    }
    Ok(sums)
}

fn counter(entry: &Value) -> Option<(u32, u64)> {
    let key: [u8; 4] = raw_bytes(entry.get("key")?)?.try_into().ok()?;
    let mut sum = 0_u64;
    for on_cpu in entry.get("values")?.as_array()? {
        let value: [u8; 8] = raw_bytes(on_cpu.get("value")?)?.try_into().ok()?;
        sum = sum.saturating_add(u64::from_ne_bytes(value));
    }
    Some((u32::from_ne_bytes(key), sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_over_all_cpus() {
        let one = serde_json::json!([
            "0x01", "0x00", "0x00", "0x00", "0x00", "0x00", "0x00", "0x00"
        ]);
        let entry = serde_json::json!({
            "key": ["0x05", "0x00", "0x00", "0x00"],
            "values": [{ "cpu": 0, "value": one }, { "cpu": 1, "value": one }],
        });
        assert_eq!(counter(&entry), Some((5, 2)));
        assert_eq!(counter(&serde_json::json!({ "key": ["0x05"] })), None);
    }

    #[test]
    fn only_what_lies_below_bpffs_is_unpinned() {
        assert!(unpin(Path::new("/tmp/x")).is_err());
        assert!(unpin(Path::new(BPFFS)).is_err());
    }
}
