//! Compiles the kernel programs: finds a toolchain that can, finds or builds the linker, says which.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{console, prepare, shell};

/// Packages for the BPF target: folder and binary.
const PACKAGES: &[(&str, &str)] = &[
    ("nexus-ebpf", "nexus-ebpf"),
    ("crates/nexus-testkit/access-node", "nexus-access-node"),
    ("crates/nexus-testkit/traffic", "nexus-traffic"),
];
const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.10.3";
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// A Rust toolchain that has the sources of `core`.
struct Toolchain {
    name: String,
    cargo: PathBuf,
    rustc: PathBuf,
}

/// Builds every kernel program; the objects stand in `target/bpf` afterwards.
pub fn run(root: &Path) -> Result<()> {
    let toolchain = toolchain()?;
    let out = root.join("target/bpf");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let linker = linker(&out)?;
    eprintln!(
        "{} BPF toolchain: {}, bpf-linker {LINKER_VERSION}",
        console::tick(),
        toolchain.name
    );
    for (folder, binary) in PACKAGES {
        build(root, &toolchain, &linker, folder)
            .with_context(|| format!("cannot build {folder} for {TARGET}"))?;
        let built = root
            .join("target/bpf-build")
            .join(TARGET)
            .join("release")
            .join(binary);
        let object = out.join(binary);
        install_if_changed(&built, &object)?;
        eprintln!("{} {}", console::tick(), object.display());
    }
    Ok(())
}

fn build(root: &Path, toolchain: &Toolchain, linker: &Path, folder: &str) -> Result<()> {
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
    ];
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(root.join(folder))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--target",
            TARGET,
        ])
        .args(["-Zbuild-std=core", "--target-dir"])
        .arg(root.join("target/bpf-build"))
        // What the cargo above this program has set is meant for the host.
        .env_remove("CARGO")
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    shell::show(&mut cargo)
}

/// Replaces `object` only if it differs, so that nothing is built again for nothing.
fn install_if_changed(built: &Path, object: &Path) -> Result<()> {
    let new = fs::read(built).with_context(|| format!("no {} after the build", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(object, new).with_context(|| format!("cannot write {}", object.display()))
}

/// The first that is there: a rustup nightly with sources, a distribution's toolchain with sources;
/// else Debian's is installed.
fn toolchain() -> Result<Toolchain> {
    if let Some(toolchain) = rustup_nightly().or_else(distribution) {
        return Ok(toolchain);
    }
    eprintln!("- no toolchain here has the sources of core: Debian packages {DEBIAN_PACKAGES:?}");
    prepare::install(DEBIAN_PACKAGES).context(
        "a toolchain with the sources of core is needed: \
         `rustup toolchain install nightly --component rust-src`, or on Debian \
         `apt-get install rustc-web cargo-web rust-web-src`",
    )?;
    distribution().with_context(|| {
        let llvm = |rustc: &str| llvm_major(Path::new(rustc)).unwrap_or_else(|| "none".into());
        format!(
            "rustc-web, cargo-web and rust-web-src are installed but cannot build the kernel \
             program: /usr/bin/rustc has LLVM {}, rustup's rustc and so bpf-linker have LLVM {}, \
             which must be the same; `apt-cache policy rustc-web` shows the versions to be had \
             (Debian 12: 1.96 from its security suite)",
            llvm("/usr/bin/rustc"),
            llvm("rustc")
        )
    })
}

fn rustup_nightly() -> Option<Toolchain> {
    let which =
        |program| output(Command::new("rustup").args(["which", "--toolchain", "nightly", program]));
    let (cargo, rustc) = (which("cargo")?.into(), PathBuf::from(which("rustc")?));
    usable(&rustc).then_some(Toolchain {
        name: "rustup nightly".into(),
        cargo,
        rustc,
    })
}

fn distribution() -> Option<Toolchain> {
    let (cargo, rustc) = (
        PathBuf::from("/usr/bin/cargo"),
        PathBuf::from("/usr/bin/rustc"),
    );
    if !cargo.is_file() || !usable(&rustc) {
        return None;
    }
    let version = output(Command::new(&rustc).arg("--version"))?;
    Some(Toolchain {
        name: format!("the distribution's {version}"),
        cargo,
        rustc,
    })
}

/// Whether `rustc` has the sources of `core` and the LLVM that the linker works with.
fn usable(rustc: &Path) -> bool {
    let Some(sysroot) = output(Command::new(rustc).args(["--print", "sysroot"])) else {
        return false;
    };
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    core.is_file() && llvm_major(rustc) == llvm_major(Path::new("rustc"))
}

fn llvm_major(rustc: &Path) -> Option<String> {
    let version = output(Command::new(rustc).arg("-vV"))?;
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next().map(str::to_owned)
}

/// A script that starts bpf-linker with the LLVM it was built against.
fn linker(out: &Path) -> Result<PathBuf> {
    let program = linker_program()?;
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))
        .context("`rustc --print sysroot` does not answer")?;
    let script = out.join("linker");
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{sysroot}/lib' exec '{}' \"$@\"\n",
        program.display()
    );
    // Written only if it differs: cargo looks at the linker's time of change.
    if !fs::read_to_string(&script).is_ok_and(|old| old == text) {
        fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(script)
}

/// bpf-linker from the PATH or from this project's cache; else it is built once, into the cache.
fn linker_program() -> Result<PathBuf> {
    if let Some(found) = shell::find("bpf-linker").filter(|found| is_wanted_linker(found)) {
        return Ok(found);
    }
    let folder = shell::cache()?.join("bpf-linker").join(LINKER_VERSION);
    let program = folder.join("bin/bpf-linker");
    if is_wanted_linker(&program) {
        return Ok(program);
    }
    eprintln!(
        "- bpf-linker {LINKER_VERSION} is missing: it is built once, into {}",
        folder.display()
    );
    let mut install = Command::new("cargo");
    install
        .args([
            "install",
            "bpf-linker",
            "--quiet",
            "--locked",
            "--version",
            LINKER_VERSION,
            "--root",
        ])
        .arg(&folder)
        .env_remove("CARGO_TARGET_DIR");
    shell::show(&mut install).with_context(|| {
        format!("by hand: `cargo install bpf-linker --locked --version {LINKER_VERSION}`")
    })?;
    if !is_wanted_linker(&program) {
        bail!("{} was built but does not start", program.display());
    }
    Ok(program)
}

fn is_wanted_linker(program: &Path) -> bool {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    output(
        Command::new(program)
            .arg("--version")
            .env("LD_LIBRARY_PATH", format!("{sysroot}/lib")),
    )
    .is_some_and(|version| version.contains(LINKER_VERSION))
}

/// What a command prints, trimmed; `None` if it cannot be started or fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
