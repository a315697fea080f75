//! Kernels and a shell from Debian packages that are unpacked, not installed, and kept in the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::command;

use crate::unpack::kept;
use crate::{prepare, shell};

/// Packages that depend on the newest kernel of a series: Debian 12's own, and its backport.
pub const SERIES: [&str; 2] = ["linux-image-amd64", "linux-image-6.12-amd64"];
const PREFIX: &str = "linux-image-";

/// Modules that the tests need, each behind those that it needs itself: bonds, and veth pairs.
const MODULES: [&str; 3] = [
    "net/tls/tls",
    "drivers/net/bonding/bonding",
    "drivers/net/veth",
];
/// How they may be packed.
const ENDINGS: [&str; 2] = [".ko", ".ko.xz"];

/// Name of a module in the cache: in the order of its name it is loaded.
fn named(number: usize, module: &str, ending: &str) -> String {
    let name = module.rsplit('/').next().unwrap_or(module);
    format!("{number}-{name}{ending}")
}

/// A kernel to try.
pub struct Kernel {
    /// As `uname -r` says it there.
    pub release: String,
    /// What is booted.
    pub image: PathBuf,
    /// What has to be loaded, in this order.
    pub modules: Vec<PathBuf>,
}

/// The kernels of [`SERIES`], downloaded if they are not in the cache yet.
pub fn kernels() -> Result<Vec<Kernel>> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the kernels that are tried are for x86-64, and this machine is another");
    }
    let cache = cache()?;
    let packages = newest(&cache)?;
    let mut kernels = Vec::new();
    for package in &packages {
        let release = package.trim_start_matches(PREFIX);
        let folder = kept(&cache, package, |unpacked| {
            let image = format!("{unpacked}/boot/vmlinuz-{release}");
            let mut files = vec![(image, "vmlinuz".to_owned())];
            for (number, module) in MODULES.iter().enumerate() {
                for ending in ENDINGS {
                    let file = format!("{module}{ending}");
                    let from = format!("{unpacked}/lib/modules/{release}/kernel/{file}");
                    files.push((from, named(number, module, ending)));
                }
            }
            files
        })?;
        let modules = MODULES.iter().enumerate().flat_map(|(number, module)| {
            ENDINGS.map(|ending| folder.join(named(number, module, ending)))
        });
        kernels.push(Kernel {
            release: release.to_owned(),
            image: folder.join("vmlinuz"),
            modules: modules.filter(|path| path.exists()).collect(),
        });
    }
    forget_others(&cache, &packages);
    Ok(kernels)
}

/// A shell that needs no library.
pub fn busybox() -> Result<PathBuf> {
    // Not installed: Debian's busybox-static and busybox push each other out.
    let folder = kept(&cache()?, "busybox-static", |unpacked| {
        vec![
            (format!("{unpacked}/bin/busybox"), "busybox".to_owned()),
            (format!("{unpacked}/usr/bin/busybox"), "busybox".to_owned()),
        ]
    })?;
    Ok(folder.join("busybox"))
}

fn cache() -> Result<PathBuf> {
    let folder = shell::cache()?.join("kernels");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Names of the packages that hold the newest kernel of each series, as far as the package lists
/// know; these are refreshed only if something has to be downloaded.
fn newest(cache: &Path) -> Result<BTreeSet<String>> {
    let ask = || -> Result<BTreeSet<String>> {
        let mut depends = Command::new("apt-cache");
        depends.arg("depends").args(SERIES);
        // One series that is not offered here is no error: the other one is.
        let said = command::run(&mut depends, command::SHORT)?;
        Ok(said.stdout.lines().filter_map(dependency).collect())
    };
    let known = ask()?;
    let whole = !known.is_empty() && known.iter().all(|package| cache.join(package).is_dir());
    if whole {
        return Ok(known);
    }
    if shell::is_root() {
        prepare::refresh_package_lists();
    }
    let offered = ask()?;
    if offered.is_empty() {
        bail!("apt offers neither {}", SERIES.join(" nor "));
    }
    Ok(offered)
}

/// The kernel package that a line of `apt-cache depends` names.
fn dependency(line: &str) -> Option<String> {
    let name = line.trim().strip_prefix("Depends: ")?;
    name.starts_with(PREFIX).then(|| name.to_owned())
}

/// Older kernels in the cache are not tried again.
fn forget_others(cache: &Path, packages: &BTreeSet<String>) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && !packages.contains(&name) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_packages_are_read_from_what_apt_prints() {
        let printed = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  \
                       Depends: other\nlinux-image-6.12-amd64\n  \
                       Depends: linux-image-6.12.117+deb12-amd64\n";
        let names: Vec<String> = printed.lines().filter_map(dependency).collect();
        assert_eq!(
            names,
            [
                "linux-image-6.1.0-56-amd64",
                "linux-image-6.12.117+deb12-amd64"
            ]
        );
    }
}
