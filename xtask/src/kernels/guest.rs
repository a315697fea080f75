//! The machine that a kernel is tried on: what is in its initramfs, and how it is started.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nexus_testkit::command;

use super::cpio::Archive;
use super::packages::Kernel;
use crate::shell;

/// Which of the golden tests run there: all that are for root.
pub const FILTER: &[&str] = &["--ignored"];

/// What the tests call.
const PROGRAMS: &[&str] = &["bpftool", "ethtool", "ip", "nsenter"];

/// The first process. The tests speak on the second serial line, the kernel on the first.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc
$b mount -t sysfs s /sys
$b mount -t bpf b /sys/fs/bpf
$b mount -t devtmpfs d /dev
for module in /modules/*; do $b insmod $module; done
export PATH=/bin NEXUS_SLOW_MACHINE=1
/tests TEST_ARGUMENTS >/dev/ttyS1 2>&1
$b poweroff -f
";

/// Writes the initramfs: the tests, what they read and call, and what that needs.
pub fn initramfs(
    root: &Path,
    kernel: &Kernel,
    busybox: &Path,
    tests: &Path,
    out: &Path,
) -> Result<()> {
    let file = File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    let arguments = [FILTER, &["--test-threads=1", "--color=never"]].concat();
    let init = INIT.replace("TEST_ARGUMENTS", &arguments.join(" "));
    archive.file(Path::new("/init"), init.as_bytes())?;
    // No file system is mounted over /run and /tmp: the repository may lie there.
    for folder in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
        archive.folder(Path::new(folder))?;
    }
    archive.copy(Path::new("/bin/busybox"), busybox)?;
    add_program(&mut archive, Path::new("/tests"), tests)?;
    for program in PROGRAMS {
        let from = shell::find(program)
            .with_context(|| format!("no {program} here: `cargo xtask prepare` installs it"))?;
        add_program(&mut archive, &Path::new("/bin").join(program), &from)?;
    }
    for module in &kernel.modules {
        let name = module.file_name().context("a module without a name")?;
        archive.copy(&Path::new("/modules").join(name), module)?;
    }
    // These stand where the tests were built to look for them.
    let object = root.join("target/bpf/nexus-ebpf");
    archive.copy(&object, &object)?;
    for folder in ["golden/packets", "captures"] {
        let folder = root.join("nexus-sidecar/tests").join(folder);
        let listed = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for path in files {
            archive.copy(&path, &path)?;
        }
    }
    archive.finish()?;
    Ok(())
}

/// Adds a program, and the libraries that it is linked with at their own places.
fn add_program(archive: &mut Archive<BufWriter<File>>, at: &Path, from: &Path) -> Result<()> {
    archive.copy(at, from)?;
    let linked = command::output(Command::new("ldd").arg(from))?;
    for library in linked.lines().filter_map(library) {
        archive.copy(library, library)?;
    }
    Ok(())
}

/// The path in a line of ldd's.
fn library(line: &str) -> Option<&Path> {
    let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
    Some(Path::new(path))
}

/// The emulator with that kernel; what the tests print comes out of it, the kernel's log goes to `log`.
pub fn boot(kernel: &Kernel, initramfs: &Path, log: &Path) -> Command {
    // What else runs here goes first, but the emulator does go on: with less it would be silent for minutes.
    let mut qemu = Command::new("nice");
    qemu.args(["-n", "10", "qemu-system-x86_64"]);
    qemu.args(["-accel", "tcg,thread=single", "-cpu", "max"]);
    qemu.args(["-machine", "q35", "-smp", "1", "-m", "512"]);
    qemu.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
    qemu.arg("-no-reboot").arg("-serial");
    qemu.arg(format!("file:{}", log.display()));
    qemu.args(["-serial", "stdio", "-kernel"])
        .arg(&kernel.image);
    qemu.arg("-initrd").arg(initramfs);
    // Where the host is busy, the kernel's check of its timer interrupt misses ticks, and it panics.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
    qemu.stdin(Stdio::null());
    qemu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_both_kinds_of_lines_and_the_kernels_own_is_left_out() {
        let read = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(
            read("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f4b2161e000)").as_deref(),
            Some("/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(
            read("\t/lib64/ld-linux-x86-64.so.2 (0x00007f4b21f1b000)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(read("\tlinux-vdso.so.1 (0x00007f4b21f19000)"), None);
    }
}
