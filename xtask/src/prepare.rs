//! The tools that tests and the demo use: looked for, and installed where `apt-get` can.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nexus_testkit::{bpf, relay};

use crate::{console, shell, unpack};

/// A program and the Debian package that it comes from.
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool {
        program,
        package,
        purpose,
    }
}

/// Everything that tests and the demo use.
pub const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", "network namespaces and veth pairs"),
    tool("tc", "iproute2", "the access node's programs"),
    tool("nft", "nftables", "links between servers that are cut"),
    tool("faketime", "faketime", "wall clocks that are stepped"),
    tool("nsenter", "util-linux", "commands inside a namespace"),
    tool(
        "taskset",
        "util-linux",
        "clients and their lines on one processor",
    ),
    tool(
        "chrt",
        "util-linux",
        "lines that are not faster than real ones",
    ),
    tool("bpftool", "bpftool", "loading objects, reading maps"),
    tool("ethtool", "ethtool", "offloads off"),
    tool("tcpdump", "tcpdump", "captures"),
    tool("udhcpc", "udhcpc", "a DHCP client"),
    tool(
        "busybox",
        "busybox",
        "a DHCP server to try the clients with",
    ),
    tool("dhclient", "isc-dhcp-client", "another DHCP client"),
    tool("dhcpcd", "dhcpcd-base", "another DHCP client"),
    tool("systemd-networkd", "systemd", "another DHCP client"),
    tool("unshare", "util-linux", "clients with files of their own"),
    tool("dhcrelay", "isc-dhcp-relay", "a DHCP relay with option 82"),
    tool("dnsmasq", "dnsmasq-base", "another DHCP relay"),
    tool("radclient", "freeradius-utils", "a RADIUS client"),
    tool("freeradius", "freeradius", "an upstream RADIUS server"),
    tool("vtysh", "frr", "routes announced over BGP"),
    tool("bird", "bird2", "another BGP daemon"),
];

/// What `cargo xtask kernels` uses besides; without it that part is skipped.
pub const EMULATOR: &[Tool] = &[tool(
    "qemu-system-x86_64",
    "qemu-system-x86",
    "other kernels than this machine's",
)];

/// What `cargo xtask bench dhcp` measures with and compares with.
pub const SERVERS: &[Tool] = &[
    tool("perfdhcp", "kea-admin", "a load generator"),
    tool("kea-dhcp4", "kea-dhcp4-server", "a DHCP server"),
    tool("dnsmasq", "dnsmasq-base", "a DHCP server"),
    tool("dhcpd", "isc-dhcp-server", "a DHCP server"),
];

/// `cargo xtask prepare`
pub fn all() -> Result<()> {
    run()?;
    for tools in [EMULATOR, SERVERS] {
        ensure(tools)?;
        show(tools);
    }
    Ok(())
}

/// What every test and the demo need.
pub fn run() -> Result<()> {
    ensure(TOOLS)?;
    show(TOOLS);
    dhcp_helper()?;
    if shell::is_root() {
        let mounted = if bpf::ensure_bpffs()? {
            "mounted just now"
        } else {
            "mounted"
        };
        eprintln!("{} bpffs      {:24} {mounted}", console::tick(), bpf::BPFFS);
    } else {
        eprintln!(
            "- bpffs      {:24} not looked at: that needs root",
            bpf::BPFFS
        );
    }
    Ok(())
}

/// The one relay that Debian does not let stand beside `dhcrelay`: unpacked, not installed.
fn dhcp_helper() -> Result<()> {
    let package = relay::Kind::DhcpHelper.name();
    let cache = shell::cache()?;
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create {}", cache.display()))?;
    unpack::kept(&cache, package, |unpacked| {
        vec![(format!("{unpacked}/usr/sbin/{package}"), package.to_owned())]
    })?;
    let program = relay::dhcp_helper()?;
    eprintln!(
        "{} {package:10} {:24} another DHCP relay",
        console::tick(),
        program.display()
    );
    Ok(())
}

fn show(tools: &[Tool]) {
    for tool in tools {
        if let Some(path) = shell::find(tool.program) {
            let Tool {
                program, purpose, ..
            } = tool;
            eprintln!(
                "{} {program:10} {:24} {purpose}",
                console::tick(),
                path.display()
            );
        }
    }
}

/// Installs the packages of those tools that are missing; says nothing if none is.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = missing(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    for Tool {
        program,
        package,
        purpose,
    } in missing
    {
        eprintln!("- {program} is missing ({purpose}): Debian package {package}");
    }
    install(&packages)?;
    if let Some(tool) = self::missing(tools).first() {
        bail!(
            "{} was installed, but there is no {} now",
            tool.package,
            tool.program
        );
    }
    Ok(())
}

fn missing(tools: &[Tool]) -> Vec<&Tool> {
    tools
        .iter()
        .filter(|tool| shell::find(tool.program).is_none())
        .collect()
}

/// Installs Debian packages; daemons among them are not started.
pub fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!(
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    if shell::find("apt-get").is_none() {
        bail!("no apt-get here: install these by hand, on Debian with `{by_hand}`");
    }
    if !shell::is_root() {
        bail!("installing needs root: run `sudo {by_hand}`, or this command as root");
    }
    let _quiet = NoDaemons::establish()?;
    refresh_package_lists();
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    shell::show(&mut apt(&arguments))
        .with_context(|| format!("cannot install what is missing; by hand: `{by_hand}`"))
}

/// Once per run, and never skipped: lists that lack a suite offer versions that are too old. A
/// machine without a mirror at hand goes on with the lists that it has.
pub fn refresh_package_lists() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if let Err(error) = shell::show(&mut apt(&["update"])) {
            eprintln!("- {error:#}: going on with the package lists that are here");
        }
    });
}

/// Downloads a Debian package into `folder` without installing it; returns the file.
pub fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    if shell::find("apt-get").is_none() {
        bail!("no apt-get here to download {package} with");
    }
    let mut download = apt(&["download", package]);
    download.current_dir(folder);
    if shell::is_root() {
        refresh_package_lists();
        // Apt's own user cannot write there.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    shell::show(&mut download).with_context(|| format!("cannot download {package}"))?;
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .with_context(|| format!("apt-get left no {package} in {}", folder.display()))
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    // Another apt on this machine is waited for, not an error.
    apt.args([
        "--quiet",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Acquire::Retries=3",
    ]);
    apt.args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null());
    apt
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Keeps packages from starting their daemons while it lives: Debian asks `policy-rc.d`, and 101
/// means no. An administrator's own policy stays.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn establish() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let policy = Self { ours: true };
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .with_context(|| format!("cannot write {POLICY}"))?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(policy)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}
