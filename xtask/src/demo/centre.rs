//! The centre of the demo: nexus-server in a namespace of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_testkit::link;
use nexus_testkit::netns::Namespace;
use nexus_testkit::process::Process;
use serde_json::Value;

use super::edge;
use super::rest::{Response, Rest};

/// Address of the centre; it stands on the loopback interface and is routed to, as a service is.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Base of the REST API.
pub const REST: &str = "http://10.99.0.1:9000";

/// The centre.
pub struct Centre {
    /// nexus-server, while it runs.
    pub server: Option<Process>,
    /// Where it lives.
    pub namespace: Namespace,
    rest: Rest,
    config: PathBuf,
    log: PathBuf,
}

impl Centre {
    /// Makes the namespace and writes the configuration; nothing runs yet.
    pub fn create(prefix: &str, directory: &Path) -> Result<Self> {
        let namespace = Namespace::create(prefix, "centre")?;
        link::add_address(&namespace, "lo", &format!("{ADDRESS}/32"))?;
        let config = directory.join("nexus.yaml");
        std::fs::write(&config, config_text(directory)).context("cannot write nexus.yaml")?;
        Ok(Self {
            server: None,
            namespace,
            rest: Rest::new(REST.to_owned()),
            config,
            log: directory.join("nexus-server.log"),
        })
    }

    /// Starts nexus-server and waits until it is ready. Returns how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let program = edge::program("nexus-server")?;
        let mut command = self.namespace.command(&program);
        command.arg("--config").arg(&self.config);
        let mut server = Process::spawn("nexus-server", &mut command, &self.log)?;
        let ready = || {
            Ok(self
                .get("/ready")
                .ok()
                .filter(|answer| answer.status == 200))
        };
        server.wait_until("ready to serve", Duration::from_secs(30), ready)?;
        self.server = Some(server);
        Ok(began.elapsed())
    }

    /// SIGTERM; waits for a clean end. Returns how long that took.
    pub fn stop(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let server = self.server.as_mut().context("nexus-server does not run")?;
        let status = server.terminate(Duration::from_secs(20))?;
        anyhow::ensure!(
            status.success(),
            "nexus-server ended with {status} after SIGTERM"
        );
        self.server = None;
        Ok(began.elapsed())
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.rest.get(&self.namespace, path)
    }

    /// POST.
    pub fn post(&self, path: &str, body: &Value) -> Result<Response> {
        self.rest.post(&self.namespace, path, body)
    }

    /// Leaves it running when this is dropped.
    pub fn keep(&mut self) {
        self.namespace.keep();
        if let Some(server) = &mut self.server {
            server.leave_running();
        }
    }
}

/// The customer's own YAML; what is ours stands behind a comment.
fn config_text(directory: &Path) -> String {
    format!(
        r#"server:
  http_port: 9000
  grpc_port: 9001
  metrics_port: 9002
  # The OLT is another host, and TLS comes later.
  listen_address: {ADDRESS}
  insecure_listen_without_tls: true

node:
  id: "nexus-east-01"
  role: "core"
  region: "east"

p2p:
  listen_port: 33123
  bootstrap: []

storage:
  path: "{}/centre"

clset:
  topic: "nexus-state"
  rebroadcast_interval: 5s
  num_workers: 50

graceful_shutdown:
  timeout: 2m
  grace_period: 10s

# Seconds instead of minutes, so that the demo need not wait.
olt:
  heartbeat_interval: 1s
  lease: 10m
"#,
        directory.display()
    )
}
