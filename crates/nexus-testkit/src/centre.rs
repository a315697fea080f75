//! The centre: nexus-server in a namespace of its own, with the customer's configuration.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::link;
use crate::netns::Namespace;
use crate::process::Process;
use crate::programs;
use crate::rest::{Response, Rest};

/// Address of the centre; it stands on the loopback interface and is routed to, as a service is.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Base of the REST API.
pub const REST: &str = "http://10.99.0.1:9000";

/// The centre.
#[derive(Debug)]
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
    ///
    /// # Errors
    /// If the caller is not root, or a file cannot be written.
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
    ///
    /// # Errors
    /// If it is not built, or does not become ready.
    pub fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let program = programs::path("nexus-server")?;
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
    ///
    /// # Errors
    /// If it does not run, or its end is not clean.
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

    /// `kill -9`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().context("nexus-server does not run")?;
        server.kill()
    }

    /// GET.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.rest.get(&self.namespace, path)
    }

    /// POST.
    ///
    /// # Errors
    /// If there is no answer.
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

# Seconds instead of minutes, so that nobody need wait.
olt:
  heartbeat_interval: 1s
  lease: 10m
"#,
        directory.display()
    )
}
