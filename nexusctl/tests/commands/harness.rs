//! The real server program on ephemeral ports, and nexusctl asking it.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest time that anything may take; only a failing test takes it.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Server {
    dir: TempDir,
    config: PathBuf,
    child: Child,
    pub url: String,
}

/// The server beside this program, built from the same sources, once. Cargo hands tests only the programs of
/// their own package.
pub fn server_program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_nexusctl")).with_file_name("nexus-server");
        let target = program.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "nexus-server"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.arg("--target-dir").arg(target).status().unwrap();
        assert!(built.success());
        program
    });
    &PROGRAM
}

fn spawn(config: &Path, ready: &Path) -> Child {
    Command::new(server_program())
        .arg("--config")
        .arg(config)
        .arg("--ready-file")
        .arg(ready)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A port that is free for TCP and UDP now.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for TCP and UDP")
}

/// Waits until something is there.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "not in time: {what}");
        sleep(Duration::from_millis(50));
    }
}

impl Server {
    /// A server that runs alone, and is ready.
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("nexus.yaml");
        let text = format!(
            "server: {{http_port: 0, grpc_port: 0, metrics_port: 0}}\nstorage: {{path: {}}}\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let ready = dir.path().join("ready.json");
        let mut child = spawn(&config, &ready);
        let addresses: Value = until("the server is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the server has ended");
            let text = std::fs::read_to_string(&ready).ok()?;
            Some(serde_json::from_str(&text).unwrap())
        });
        let url = format!("http://{}", addresses["http"].as_str().unwrap());
        Self {
            dir,
            config,
            child,
            url,
        }
    }

    /// A server that looks for others at a port of this host. It answers, and is ready only once it belongs to a
    /// cluster.
    pub fn looking_for(name: &str, key: &Path, own_port: u16, other_port: u16) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("nexus.yaml");
        let http = free_port();
        let text = format!(
            "server: {{http_port: {http}, grpc_port: 0, metrics_port: 0}}\n\
             node: {{id: {name}}}\n\
             p2p:\n  \
               listen_address: 127.0.0.1\n  \
               listen_port: {own_port}\n  \
               cluster_key_file: {key}\n  \
               bootstrap: [/ip4/127.0.0.1/tcp/{other_port}]\n\
             clset: {{rebroadcast_interval: 500ms}}\n\
             storage: {{path: {data}}}\n",
            key = key.display(),
            data = dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = spawn(&config, &dir.path().join("ready.json"));
        let mut server = Self {
            dir,
            config,
            child,
            url: format!("http://127.0.0.1:{http}"),
        };
        server.answers();
        server
    }

    fn answers(&mut self) {
        until("the server answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.url);
            ureq::get(format!("{}/health", self.url)).call().ok()
        });
    }

    /// As a crash does it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(&self.config, &self.dir.path().join("ready.json"));
        self.answers();
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        nexusctl(&self.url, arguments)
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.text(&all)).unwrap()
    }

    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexusctl"));
    command
        .args(arguments)
        .env("NEXUS_SERVER", server)
        .stdin(Stdio::null());
    command
}

pub fn nexusctl(server: &str, arguments: &[&str]) -> Output {
    command(server, arguments).output().unwrap()
}
