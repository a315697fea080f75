//! Ours: nexus-server, and nexus-sidecar with its XDP program on the line; subscribers authorised through RADIUS.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::centre::{self, Centre};
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::Namespace;
use nexus_testkit::packet::{Mac, mac_text};
use nexus_testkit::process::Process;
use nexus_testkit::{command, olt_host, programs};
use serde_json::{Value, json};

use super::line::{Line, PREFIX, SERVER, SERVER_END};

const POOL: &str = "residential-ipv4";
const SECRET: &str = "bench-secret";
const PASSWORD: &str = "bench-password";
const RADIUS: &str = "127.0.0.1:1812";
/// Requests that radclient has under way; a socket of it has 256 ids.
const AT_ONCE: &str = "200";

const START_LIMIT: Duration = Duration::from_secs(60);
const AUTHORISE_LIMIT: Duration = Duration::from_secs(60);

/// Both programs. Fields are dropped in this order.
pub struct Ours {
    /// nexus-sidecar.
    pub sidecar: Process,
    /// Keeps nexus-server running.
    _centre: Centre,
    directory: PathBuf,
}

impl Ours {
    /// Starts them, and waits until addresses can be allocated. `subscribers` may come in: by RADIUS with a password, by
    /// IPoE with their MAC address alone; their name is that address in both cases.
    pub fn start(
        line: &Line,
        prefix: &str,
        directory: &Path,
        subscribers: impl Iterator<Item = Mac>,
    ) -> Result<Self> {
        let mut centre = Centre::create(prefix, directory)?;
        centre.start()?;
        let pool = json!({
            "id": POOL,
            "type": "ipv4",
            "cidr": format!("100.64.0.0/{PREFIX}"),
            "sharding_factor": 100,
            "exclusions": ["100.64.0.0/24"],
            "metadata": { "region": "east" },
            "dhcp": {
                "router": SERVER,
                "dns": ["9.9.9.9", "149.112.112.112"],
                "lease_time": "1h",
            },
        });
        let answer = centre.post("/api/v1/pools", &pool)?;
        ensure!(
            answer.status == 201,
            "nexus-server refused the pool: {}",
            answer.body
        );
        reach_centre(&centre.namespace, &line.server)?;

        let config = directory.join("sidecar.yaml");
        let users = directory.join("users.yaml");
        let mut text = "users:\n".to_owned();
        for mac in subscribers {
            let name = mac_text(mac);
            text += &format!("  - {{username: '{name}', password: {PASSWORD}}}\n");
        }
        std::fs::write(&users, text).context("cannot write users.yaml")?;
        std::fs::write(&config, config_text(prefix, directory, &users))
            .context("cannot write sidecar.yaml")?;
        let program = programs::path("nexus-sidecar")?;
        let mut run = line.server.command(&program);
        run.args(["run", "--config"]).arg(&config);
        let log = directory.join("nexus-sidecar.log");
        let mut sidecar = Process::spawn("nexus-sidecar", &mut run, &log)?;
        let status = || {
            let mut status = line.server.command(&program);
            status.args(["status", "--json", "--config"]).arg(&config);
            let text = command::output(&mut status).ok();
            let status: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
            Ok(status.filter(can_allocate).map(drop))
        };
        sidecar.wait_until("registered, with shards", START_LIMIT, status)?;
        Ok(Self {
            sidecar,
            _centre: centre,
            directory: directory.to_owned(),
        })
    }

    /// Authorises subscribers with these MAC addresses through RADIUS, and returns how long that took. Each of them is
    /// then in the kernel's map, and durable.
    pub fn authorise(&self, line: &Line, macs: impl Iterator<Item = Mac>) -> Result<Duration> {
        let mut requests = String::new();
        let mut count = 0;
        for mac in macs {
            let name = mac_text(mac);
            requests += &format!(
                "User-Name = \"{name}\"\nUser-Password = \"{PASSWORD}\"\nCalling-Station-Id = \"{name}\"\n\
                 Message-Authenticator = 0x00\n\n",
            );
            count += 1;
        }
        let file = self.directory.join("requests");
        std::fs::write(&file, requests).context("cannot write radclient's requests")?;
        let mut radclient = line.server.command("radclient");
        radclient.args(["-q", "-s", "-p", AT_ONCE, "-r", "5", "-t", "2", "-f"]);
        radclient.arg(&file).args([RADIUS, "auth", SECRET]);
        let began = Instant::now();
        let finished = command::run(&mut radclient, AUTHORISE_LIMIT)?;
        let took = began.elapsed();
        let accepted = accepted(&finished.stdout);
        ensure!(
            accepted == Some(count),
            "RADIUS accepted {accepted:?} of {count} subscribers; radclient said: {}{}",
            finished.stdout,
            finished.stderr
        );
        Ok(took)
    }
}

/// Out of radclient's summary.
fn accepted(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.contains("Accepted"))?;
    line.split(':').nth(1)?.trim().parse().ok()
}

fn can_allocate(status: &Value) -> bool {
    let at = |name: &str| status.get(name);
    at("mode").and_then(Value::as_str) == Some("connected")
        && at("cannot_allocate").is_none_or(Value::is_null)
        && at("shards")
            .and_then(Value::as_array)
            .is_some_and(|shards| !shards.is_empty())
}

fn reach_centre(centre: &Namespace, host: &Namespace) -> Result<()> {
    link::veth(End::new(centre, "olt0"), End::new(host, "core0"))?;
    link::add_address(centre, "olt0", "10.99.1.1/30")?;
    link::add_address(host, "core0", "10.99.1.2/30")?;
    let to = centre::ADDRESS.to_string();
    host.run("ip", &["route", "add", &to, "via", "10.99.1.1"])?;
    Ok(())
}

fn config_text(prefix: &str, directory: &Path, users: &Path) -> String {
    let files = directory.display();
    format!(
        "olt:\n  id: olt-bench\n  region: east\n  capacity: 60000\n\
         nexus_endpoints: [\"{centre}:9001\"]\n\
         interfaces:\n  - name: {SERVER_END}\n    mode: native\n    identity: [line, mac]\n\
         \x20   ipoe:\n      username: '{{mac}}'\n\
         storage:\n  path: {files}/edge\n\
         fast_path:\n  pin_path: {pins}\n  max_bindings: 65536\n\
         control:\n  socket: {files}/control.sock\n\
         radius:\n  listen: {RADIUS}\n  clients:\n    - address: 127.0.0.1\n      secret: {SECRET}\n\
         \x20 users_file: {users}\n  default_pool: {POOL}\n",
        centre = centre::ADDRESS,
        pins = olt_host::pin_root(prefix).display(),
        users = users.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accepted_are_read_out_of_the_summary() {
        let summary = "Packet summary:\n\tAccepted      : 41\n\tRejected      : 1\n";
        assert_eq!(accepted(summary), Some(41));
        assert_eq!(accepted("nothing"), None);
    }
}
