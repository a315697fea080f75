//! Starts the program on ephemeral ports with a store of its own, and talks to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nexus_proto::v1;
use nexus_proto::v1::nexus_client::NexusClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

/// Longest time that anything may take; only a failing test takes it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Short lengths, so that leases and silences can end within a test.
pub const FAST: &str = "olt: {heartbeat_interval: 200ms, offline_after: 3, lease: 2s}\n";

pub struct TestServer {
    pub dir: TempDir,
    extra: String,
    child: Child,
    addresses: Value,
    agent: ureq::Agent,
}

pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Value,
}

impl TestServer {
    /// A server with an empty store. `extra` is added to its configuration.
    pub fn start(extra: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let (child, addresses) = spawn(dir.path(), extra);
        // No connection is used twice: after an answer that did not wait for the request's body the
        // server closes it, and a request sent at that moment is lost, as with any HTTP server.
        let config = ureq::Agent::config_builder()
            .max_idle_connections(0)
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build();
        Self {
            dir,
            extra: extra.to_owned(),
            child,
            addresses,
            agent: config.into(),
        }
    }

    /// A server with the customer's pool.
    pub fn with_pool() -> Self {
        let server = Self::start("");
        server.create_pool("residential-ipv4", "100.64.0.0/10");
        server
    }

    pub fn create_pool(&self, id: &str, cidr: &str) {
        let pool = serde_json::json!({"id": id, "type": "ipv4", "cidr": cidr, "exclusions": []});
        let answer = self.post("/api/v1/pools", &pool);
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// `kill -9`, then started again with the same store.
    pub fn crash_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart();
    }

    pub fn restart(&mut self) {
        let (child, addresses) = spawn(self.dir.path(), &self.extra);
        self.child = child;
        self.addresses = addresses;
    }

    /// SIGTERM; gives how the program ended.
    pub fn terminate(&mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        wait(&mut self.child)
    }

    /// Waits for the end of a program that was already asked to stop.
    pub fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn address(&self, of: &str) -> SocketAddr {
        self.addresses[of].as_str().unwrap().parse().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address("http"))
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(self.url(path)).call())
    }

    pub fn delete(&self, path: &str) -> Answer {
        answer(self.agent.delete(self.url(path)).call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            &body.to_string(),
        )
    }

    pub fn put(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send("PUT", path, &all, &body.to_string())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(self.agent.run(request.body(body.to_owned()).unwrap()))
    }

    pub fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("metrics"));
        let mut response = self.agent.get(url).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    pub async fn grpc(&self) -> NexusClient<Channel> {
        NexusClient::connect(format!("http://{}", self.address("grpc")))
            .await
            .unwrap()
    }

    /// Asks until `good` is true of the answer.
    pub fn until(&self, path: &str, good: impl Fn(&Answer) -> bool) -> Answer {
        let begin = Instant::now();
        loop {
            let answer = self.get(path);
            if good(&answer) {
                return answer;
            }
            assert!(begin.elapsed() < LIMIT, "{path} stays at {}", answer.body);
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// Checks that this is a problem body of that status, and gives its type without the prefix.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(!self.body["title"].as_str().unwrap().is_empty());
        assert!(!self.body["detail"].as_str().unwrap().is_empty());
        let kind = self.body["type"].as_str().unwrap();
        kind.strip_prefix("urn:nexus:problem:").unwrap().to_owned()
    }

    pub fn ok(self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.body
        );
        self.body
    }
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// Writes a configuration with free ports into `dir`.
pub fn configuration(dir: &Path, extra: &str) -> PathBuf {
    let path = dir.join("nexus.yaml");
    let text = format!(
        "server: {{http_port: 0, grpc_port: 0, metrics_port: 0}}\nstorage: {{path: {}}}\n{extra}",
        dir.join("data").display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-server"));
    command.stdin(Stdio::null()).env_remove("NEXUS_CONFIG");
    command
}

fn spawn(dir: &Path, extra: &str) -> (Child, Value) {
    let ready = dir.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut child = program()
        .arg("--config")
        .arg(configuration(dir, extra))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let begin = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(&ready) {
            return (child, serde_json::from_str(&text).unwrap());
        }
        let ended = child.try_wait().unwrap();
        let log = || std::fs::read_to_string(dir.join("log")).unwrap();
        assert!(
            ended.is_none() && begin.elapsed() < LIMIT,
            "{ended:?} {}",
            log()
        );
        sleep(Duration::from_millis(10));
    }
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("the program does not end");
        }
        sleep(Duration::from_millis(10));
    }
}

/// An OLT as its sidecar would talk: its session, its numbers, and the shards that it was given.
pub struct TestOlt {
    pub client: NexusClient<Channel>,
    pub id: String,
    pub session: String,
    pub seq: u64,
    pub config: v1::OltConfig,
}

impl TestOlt {
    pub async fn register(server: &TestServer, id: &str, session: &str) -> Self {
        Self::try_register(server, id, session).await.unwrap()
    }

    pub async fn try_register(
        server: &TestServer,
        id: &str,
        session: &str,
    ) -> Result<Self, tonic::Status> {
        let mut client = server.grpc().await;
        let request = v1::RegisterRequest {
            id: id.into(),
            name: id.to_uppercase(),
            region: "east".into(),
            address: "10.1.1.10:9000".into(),
            capacity: 2000,
            session: session.into(),
            last_seq: 0,
            ..v1::RegisterRequest::default()
        };
        let response = client.register(request).await?.into_inner();
        assert!(response.lease_ms > 0);
        Ok(Self {
            client,
            id: id.into(),
            session: session.into(),
            seq: 0,
            config: response.config.unwrap(),
        })
    }

    pub fn shards(&self, pool: &str) -> Vec<v1::ShardGrant> {
        let pools = self.config.pools.iter().filter(|part| part.id == pool);
        pools.flat_map(|part| part.shards.clone()).collect()
    }

    /// The `n`th address of the first shard.
    pub fn address(&self, pool: &str, n: u32) -> String {
        let range = &self.shards(pool)[0].range;
        let net: std::net::Ipv4Addr = range.split('/').next().unwrap().parse().unwrap();
        std::net::Ipv4Addr::from_bits(net.to_bits() + n).to_string()
    }

    pub fn claim(&mut self, pool: &str, subscriber: &str, resource: &str) -> v1::AllocateRequest {
        self.seq += 1;
        let grant = self.shards(pool).remove(0);
        v1::AllocateRequest {
            pool_id: pool.into(),
            subscriber_id: subscriber.into(),
            olt_id: self.id.clone(),
            metadata: [("circuit_id".to_owned(), "0/1/5/32".to_owned())].into(),
            resource: resource.into(),
            shard: grant.shard,
            epoch: grant.epoch,
            session: self.session.clone(),
            seq: self.seq,
            acked_below: 0,
            timestamp: "2024-12-19T10:30:00Z".into(),
        }
    }

    pub async fn allocate(
        &mut self,
        pool: &str,
        subscriber: &str,
        resource: &str,
    ) -> Result<v1::Allocation, tonic::Status> {
        let claim = self.claim(pool, subscriber, resource);
        self.send(claim).await
    }

    pub async fn send(
        &mut self,
        claim: v1::AllocateRequest,
    ) -> Result<v1::Allocation, tonic::Status> {
        let response = self.client.allocate(claim).await?;
        Ok(response.into_inner().allocation.unwrap())
    }

    pub fn release(&mut self, of: &v1::AllocateRequest) -> v1::DeallocateRequest {
        self.seq += 1;
        v1::DeallocateRequest {
            subscriber_id: of.subscriber_id.clone(),
            pool_id: of.pool_id.clone(),
            olt_id: self.id.clone(),
            resource: of.resource.clone(),
            shard: of.shard,
            epoch: of.epoch,
            session: self.session.clone(),
            seq: self.seq,
            acked_below: 0,
            reason: "session-stop".into(),
        }
    }

    pub fn heartbeat_request(&self) -> v1::HeartbeatRequest {
        v1::HeartbeatRequest {
            olt_id: self.id.clone(),
            session: self.session.clone(),
            active_subscribers: 7,
            metrics: [("load".to_owned(), 0.5)].into(),
            config_revision: self.config.revision,
            shard_use: Vec::new(),
            released_shards: Vec::new(),
            last_seq: self.seq,
            ..v1::HeartbeatRequest::default()
        }
    }

    pub async fn heartbeat(&mut self) -> Result<v1::HeartbeatResponse, tonic::Status> {
        let request = self.heartbeat_request();
        Ok(self.client.heartbeat(request).await?.into_inner())
    }

    pub async fn fetch_config(&mut self) {
        let request = v1::ConfigRequest {
            olt_id: self.id.clone(),
            session: self.session.clone(),
        };
        let response = self.client.get_config(request).await.unwrap();
        self.config = response.into_inner().config.unwrap();
    }
}

/// A runtime for the gRPC half of a test.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(LIMIT * 3, future).await.unwrap() })
}
