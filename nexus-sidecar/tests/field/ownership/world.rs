//! A centre and OLT hosts, each in a namespace of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nexus_testkit::bpf::{self, Pins};
use nexus_testkit::centre::{self, Centre, REST};
use nexus_testkit::field::host::read_map;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::olt_host::{RADIUS, SECRET, nothing_waits, pin_root};
use nexus_testkit::process::Process;
use nexus_testkit::radclient::{AccessRequest, Answer, authenticate};
use nexus_testkit::{command, programs};
use serde_json::Value;
use tempfile::TempDir;

/// Only a failing test waits so long.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Pause between two looks, each of which is a program that starts.
const BETWEEN: Duration = Duration::from_millis(200);

/// Of everybody.
const PASSWORD: &str = "open-sesame";

/// A host with its sidecar. Fields are dropped in this order.
pub struct Host {
    pub sidecar: Process,
    pub namespace: Namespace,
    config: PathBuf,
    link: String,
    pins: Pins,
}

/// Everything. Fields are dropped in this order.
pub struct World {
    pub hosts: Vec<Host>,
    pub centre: Centre,
    prefix: String,
    directory: TempDir,
}

impl World {
    /// A centre with these pools, that gives leases of so many seconds. A host whose machine stands still for a while
    /// is not offline for that.
    pub fn start(name: &str, lease_secs: u64, pools: &[Value]) -> Self {
        Self::start_with(name, lease_secs, "policies: {}", pools)
    }

    /// The same, with one more line under `olt`.
    pub fn start_with(name: &str, lease_secs: u64, more: &str, pools: &[Value]) -> Self {
        bpf::ensure_bpffs().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let prefix = unique_prefix(name);
        let mut centre = Centre::create(&prefix, directory.path()).unwrap();
        let config = directory.path().join("nexus.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains("lease: 10m"), "{text}");
        // Heartbeats come every second, and a lease must last longer than this many.
        let missed = (lease_secs / 2).clamp(3, 100);
        std::fs::write(
            &config,
            text.replace(
                "lease: 10m",
                &format!("lease: {lease_secs}s\n  offline_after: {missed}\n  {more}"),
            ),
        )
        .unwrap();
        centre.start().unwrap();
        for pool in pools {
            let answer = centre.post("/api/v1/pools", pool).unwrap();
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        Self {
            hosts: Vec::new(),
            centre,
            prefix,
            directory,
        }
    }

    /// Adds a host with this OLT id; `users` is its users file. Nothing is waited for.
    pub fn add(&mut self, olt: &str, users: &str) -> usize {
        let number = self.hosts.len();
        let name = format!("h{number}");
        let namespace = Namespace::create(&self.prefix, &name).unwrap();
        link::veth(
            End::new(&namespace, "access0"),
            End::new(&namespace, "line0"),
        )
        .unwrap();
        let link = format!("olt{number}");
        link::veth(
            End::new(&self.centre.namespace, &link),
            End::new(&namespace, "core0"),
        )
        .unwrap();
        let (there, here) = (4 * number + 1, 4 * number + 2);
        link::add_address(
            &self.centre.namespace,
            &link,
            &format!("10.99.1.{there}/30"),
        )
        .unwrap();
        link::add_address(&namespace, "core0", &format!("10.99.1.{here}/30")).unwrap();
        let (to, via) = (centre::ADDRESS.to_string(), format!("10.99.1.{there}"));
        namespace
            .run("ip", &["route", "add", &to, "via", &via])
            .unwrap();
        let folder = self.directory.path().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("users.yaml"), users).unwrap();
        let pins = pin_root(&format!("{}-{name}", self.prefix));
        let config = folder.join("sidecar.yaml");
        std::fs::write(&config, config_text(olt, &folder, &pins)).unwrap();
        let program = programs::path("nexus-sidecar").unwrap();
        let mut command = namespace.command(&program);
        command.arg("run").arg("--config").arg(&config);
        let sidecar = Process::spawn(&name, &mut command, &folder.join("log")).unwrap();
        self.hosts.push(Host {
            sidecar,
            namespace,
            config,
            link,
            pins: Pins(pins),
        });
        number
    }

    /// Adds a host and waits until it may give of all these pools.
    pub fn add_ready(&mut self, olt: &str, users: &str, pools: &[&str]) -> usize {
        let number = self.add(olt, users);
        self.until(number, "registered, with shards", |status| {
            let shards = status["shards"].as_array().unwrap();
            status["cannot_allocate"].is_null()
                && pools
                    .iter()
                    .all(|pool| shards.iter().any(|shard| shard["pool"] == **pool))
        });
        number
    }

    /// Waits until a host's status is as wanted.
    pub fn until(&mut self, host: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let host = &mut self.hosts[host];
        let (config, namespace) = (&host.config, &host.namespace);
        let look = || {
            let status = status(namespace, config).ok();
            let status = status.filter(|status| wanted(status));
            if status.is_none() {
                std::thread::sleep(BETWEEN);
            }
            Ok(status)
        };
        host.sidecar.wait_until(what, LIMIT, look).unwrap()
    }

    /// Waits until the centre has acknowledged everything of a host.
    pub fn synced(&mut self, host: usize) {
        self.until(host, "everything acknowledged", |status| {
            status["mode"] == "connected" && nothing_waits(status)
        });
    }

    /// The same, again until it is answered: on a busy machine radclient may give up too early.
    pub fn answer(&self, host: usize, name: &str) -> Answer {
        wait_for(&format!("an answer for {name}"), || {
            Some(self.login(host, name)).filter(|answer| !answer.kind.is_empty())
        })
    }

    /// Authenticates a subscriber at a host, on a line of its own.
    pub fn login(&self, host: usize, name: &str) -> Answer {
        let number: u8 = name
            .bytes()
            .map(|byte| byte.wrapping_mul(7))
            .fold(1, u8::wrapping_add);
        let mac = [2, 0, 0, 0, 1, number];
        let request = AccessRequest::new(name, PASSWORD, mac, &format!("olt 1/1:100.{number}"));
        authenticate(&self.hosts[host].namespace, RADIUS, SECRET, &request).unwrap()
    }

    /// The address that a subscriber gets, if it gets one.
    pub fn address(&self, host: usize, name: &str) -> String {
        let answer = self.answer(host, name);
        assert_eq!(answer.kind, "Access-Accept", "{}", answer.output);
        answer.get("Framed-IP-Address").unwrap().to_owned()
    }

    /// What a host's sidecar has for a subscriber: type and resource.
    pub fn bound(&self, host: usize, subscriber: &str) -> Vec<(String, String)> {
        let host = &self.hosts[host];
        let text = ask(&host.namespace, &host.config, "bindings").unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        let rows = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["subscriber"] == subscriber)
            .map(|row| (text_of(&row, "kind"), text_of(&row, "address")))
            .collect()
    }

    /// Entries of a host's kernel map that have not ended.
    pub fn lasting_entries(&self, host: usize) -> usize {
        let version = format!("v{}", nexus_abi::ABI_VERSION);
        let pins = &self.hosts[host].pins.0;
        let map = pins.join(version).join(nexus_abi::map::BINDINGS);
        let (began, _, entries) = read_map(&map).unwrap();
        let lasting = entries.iter().filter(|entry| entry.valid_until > began);
        lasting.count()
    }

    /// Active records at the centre of a subscriber: type, resource and OLT.
    pub fn recorded(&self, subscriber: &str) -> Vec<(String, String, String)> {
        let path = format!("/api/v1/allocations?subscriber_id={subscriber}&state=active");
        let page = self.centre.get(&path).unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let rows = page.body["allocations"].as_array().unwrap();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    text_of(row, "type"),
                    text_of(row, "resource"),
                    text_of(row, "olt_id"),
                )
            })
            .collect();
        rows.sort();
        rows
    }

    /// The operator ends everything that a subscriber has.
    pub fn release(&self, subscriber: &str) {
        let url = format!("{REST}/api/v1/allocate/{subscriber}");
        let namespace = &self.centre.namespace;
        namespace
            .run("curl", &["-sf", "-X", "DELETE", &url])
            .unwrap();
    }

    /// Cuts a host off, or joins it again.
    pub fn cut(&self, host: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        let link = &self.hosts[host].link;
        self.centre
            .namespace
            .run("ip", &["link", "set", link, state])
            .unwrap();
    }
}

/// Waits for a condition of several hosts.
pub fn wait(what: &str, done: impl Fn() -> bool) {
    wait_for(what, || done().then_some(()));
}

/// Waits for a value.
pub fn wait_for<T>(what: &str, value: impl Fn() -> Option<T>) -> T {
    let look = || {
        let value = value();
        if value.is_none() {
            std::thread::sleep(BETWEEN);
        }
        Ok(value)
    };
    wait_until(what, LIMIT, look).unwrap()
}

fn status(namespace: &Namespace, config: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&ask(namespace, config, "status")?)?)
}

fn ask(namespace: &Namespace, config: &Path, what: &str) -> anyhow::Result<String> {
    let program = programs::path("nexus-sidecar")?;
    let mut command = namespace.command(&program);
    command.args([what, "--json", "--config"]).arg(config);
    command::output(&mut command)
}

fn text_of(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap().to_owned()
}

/// A users file of these names; `more` is added to each.
pub fn users(names: &[&str], more: &str) -> String {
    let user = |name: &&str| format!("  - {{ username: {name}, password: {PASSWORD}{more} }}\n");
    format!("users:\n{}", names.iter().map(user).collect::<String>())
}

fn config_text(olt: &str, folder: &Path, pins: &Path) -> String {
    let folder = folder.display();
    format!(
        "olt: {{ id: {olt}, name: {olt}, region: east, address: '10.99.1.2:9000', capacity: 100 }}\n\
         nexus_endpoints: ['{centre}:9001']\n\
         interfaces: [{{ name: access0, mode: native }}]\n\
         storage: {{ path: {folder}/edge }}\n\
         fast_path: {{ pin_path: {pins}, max_bindings: 1024 }}\n\
         control: {{ socket: {folder}/control.sock }}\n\
         radius:\n  listen: {RADIUS}\n  clients: [{{ address: 127.0.0.1, secret: {SECRET} }}]\n  users_file: {folder}/users.yaml\n",
        centre = centre::ADDRESS,
        pins = pins.display(),
    )
}
