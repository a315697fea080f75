//! The servers to compare with, each with the settings that serve it best and its leases on the same disk as ours.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nexus_testkit::process::Process;
use serde_json::json;

use super::line::{Line, PREFIX, SERVER, SERVER_END};

const START_LIMIT: Duration = Duration::from_secs(20);
const NETWORK: &str = "100.64.0.0";
const MASK: &str = "255.192.0.0";
/// 65,536 addresses.
const FIRST: &str = "100.65.0.0";
const LAST: &str = "100.65.255.255";
const LEASE_SECONDS: u32 = 3600;

/// Kea with one thread per processor, a queue that holds a burst (the default is 64 packets), and its leases in a
/// memfile that is written, as by default. `cache-threshold` spares it the writing when a client asks again soon; that
/// favours it here.
pub fn kea(line: &Line, directory: &Path) -> Result<Process> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let config = json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [SERVER_END], "dhcp-socket-type": "raw" },
        "multi-threading": {
            "enable-multi-threading": true,
            "thread-pool-size": threads,
            "packet-queue-size": 16_384,
        },
        "lease-database": {
            "type": "memfile",
            "persist": true,
            "name": directory.join("kea-leases.csv"),
        },
        "dhcp-ddns": { "enable-updates": false },
        "valid-lifetime": LEASE_SECONDS,
        "cache-threshold": 0.25,
        "subnet4": [{
            "id": 1,
            "subnet": format!("{NETWORK}/{PREFIX}"),
            "pools": [{ "pool": format!("{FIRST} - {LAST}") }],
            "option-data": [
                { "name": "routers", "data": SERVER },
                { "name": "domain-name-servers", "data": "9.9.9.9, 149.112.112.112" },
            ],
        }],
        "loggers": [{
            "name": "kea-dhcp4",
            "severity": "WARN",
            "output_options": [{ "output": "stdout" }],
        }, {
            "name": "kea-dhcp4.dhcp4",
            "severity": "INFO",
            "output_options": [{ "output": "stdout" }],
        }, {
            "name": "kea-dhcp4.leases",
            "severity": "WARN",
            "output_options": [{ "output": "stdout" }],
        }],
    }});
    let file = directory.join("kea.json");
    std::fs::write(&file, config.to_string()).context("cannot write kea.json")?;
    let mut command = line.server.command("kea-dhcp4");
    command
        .arg("-c")
        .arg(&file)
        .env("KEA_PIDFILE_DIR", directory)
        .env("KEA_LOCKFILE_DIR", directory);
    let mut process = Process::spawn("kea-dhcp4", &mut command, &directory.join("kea.log"))?;
    process.wait_for_line("DHCP4_STARTED", START_LIMIT)?;
    Ok(process)
}

/// dnsmasq without DNS, without a ping before each offer, without a line of log for each message. `keep`: it writes its
/// leases to the disk, as by default.
pub fn dnsmasq(line: &Line, directory: &Path, keep: bool) -> Result<Process> {
    let mut command = line.server.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--no-ping",
        "--quiet-dhcp",
        "--log-facility=-",
        "--dhcp-authoritative",
        "--dhcp-lease-max=100000",
        "--bind-interfaces",
    ]);
    command.arg(format!("--interface={SERVER_END}"));
    command.arg(format!(
        "--dhcp-range={FIRST},{LAST},{MASK},{LEASE_SECONDS}"
    ));
    command.arg(format!("--dhcp-option=option:router,{SERVER}"));
    command.arg("--dhcp-option=option:dns-server,9.9.9.9,149.112.112.112");
    let file = |name: &str| directory.join(name).display().to_string();
    command.arg(format!("--dhcp-leasefile={}", file("dnsmasq.leases")));
    if !keep {
        // It reads its leases from a script then, and this one has none.
        command.args(["--leasefile-ro", "--dhcp-script=/bin/true"]);
    }
    command.arg(format!("--pid-file={}", file("dnsmasq.pid")));
    let mut process = Process::spawn("dnsmasq", &mut command, &directory.join("dnsmasq.log"))?;
    process.wait_for_line("DHCP, IP range", START_LIMIT)?;
    Ok(process)
}

/// ISC dhcpd without a ping before each offer; up to 28 ACKs share one write to the disk, or wait for it 0.25 s at most.
pub fn dhcpd(line: &Line, directory: &Path) -> Result<Process> {
    let config = format!(
        "authoritative;\nping-check false;\ndelayed-ack 28;\nmax-ack-delay 250000;\ndefault-lease-time {LEASE_SECONDS};\nmax-lease-time {LEASE_SECONDS};\n\
         ddns-update-style none;\n\
         subnet {NETWORK} netmask {MASK} {{\n  range {FIRST} {LAST};\n  option routers {SERVER};\n\
         \x20 option domain-name-servers 9.9.9.9, 149.112.112.112;\n}}\n"
    );
    let file = directory.join("dhcpd.conf");
    std::fs::write(&file, config).context("cannot write dhcpd.conf")?;
    let leases = directory.join("dhcpd.leases");
    std::fs::write(&leases, "").context("cannot write dhcpd.leases")?;
    let mut command = line.server.command("dhcpd");
    command.args(["-4", "-f", "-cf"]).arg(&file);
    command.arg("-lf").arg(&leases);
    command.arg("-pf").arg(directory.join("dhcpd.pid"));
    command.arg(SERVER_END);
    let mut process = Process::spawn("dhcpd", &mut command, &directory.join("dhcpd.log"))?;
    // It listens once it has said so; what it says afterwards goes to syslog.
    process.wait_for_line("Sending on   Socket", START_LIMIT)?;
    Ok(process)
}
