//! How long the audit keeps a server with many allocations from everything else:
//! `cargo run --release -p nexus-bench --example audit_meter [ALLOCATIONS [SERVER]]`, a million and
//! `target/release/nexus-server` if nothing is said.
//!
//! The allocations, half of them addresses and half delegated prefixes, are written into the store of a server that is
//! stopped. Started again, it is asked for its metrics and its audit, and for a little more than two minutes every 5 ms
//! whether it is well: that takes the way of all requests, so that the longest wait is what the audit costs them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use nexus_clset::{Fence, NodeId, Replica, UnixMillis, Write};
use nexus_store::{Batch, Options, ReplicaRows, Store};
use serde_json::{Value, json};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(600);
/// How long it is asked whether it is well, and how often.
const WATCHED: Duration = Duration::from_secs(130);
const EVERY: Duration = Duration::from_millis(5);
/// Writes of one change of the replica.
const AT_ONCE: usize = 12;
/// Stands in the one allocation that the server has made, and is replaced in each copy.
const SUBSCRIBER: &str = "subscriber-00000000";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: u32 = match arguments.next() {
        Some(text) => text.parse().context("a number of allocations")?,
        None => 1_000_000,
    };
    let program = arguments
        .next()
        .map_or_else(|| "target/release/nexus-server".into(), PathBuf::from);
    let directory = tempfile::tempdir()?;
    let example = {
        let server = Server::start(&program, directory.path())?;
        let pool = json!({"id": "bench", "type": "ipv4", "cidr": "10.0.0.0/8"});
        server.ask("POST", "/api/v1/pools", Some(&pool))?;
        let request = json!({"pool_id": "bench", "subscriber_id": SUBSCRIBER});
        let made = server.ask("POST", "/api/v1/allocate", Some(&request))?;
        let made: Value = serde_json::from_str(&made)?;
        let resource = made.pointer("/allocation/resource").and_then(Value::as_str);
        format!(
            "/allocations/default/ipv4/{}",
            resource.context("no resource in the answer")?
        )
    };
    let began = Instant::now();
    plant(&directory.path().join("data"), &example, count)?;
    eprintln!(
        "- {count} written in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    let server = Server::start(&program, directory.path())?;
    eprintln!("- ready after {:.1} s", began.elapsed().as_secs_f64());
    let scrape = times(20, || server.scrape().map(drop))?;
    show("GET /metrics", scrape);
    let audit = times(20, || server.ask("GET", "/api/v1/audit", None).map(drop))?;
    show("GET /api/v1/audit", audit);
    let until = Instant::now() + WATCHED;
    let mut waits = Vec::new();
    while Instant::now() < until {
        waits.extend(times(1, || server.ask("GET", "/health", None).map(drop))?);
        sleep(EVERY);
    }
    show("GET /health meanwhile", waits);
    println!("{}", server.ask("GET", "/api/v1/audit", None)?);
    Ok(())
}

fn times(count: usize, mut work: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            let began = Instant::now();
            work()?;
            Ok(began.elapsed())
        })
        .collect()
}

fn show(what: &str, mut all: Vec<Duration>) {
    all.sort();
    let at = |part: usize| {
        let place = all.len().saturating_sub(1).saturating_mul(part) / 1000;
        all.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    };
    println!(
        "{what}: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms of {}",
        at(500),
        at(990),
        at(1000),
        all.len()
    );
}

/// Copies what stands under a key as `count` allocations of as many subscribers.
fn plant(data: &Path, from: &str, count: u32) -> Result<()> {
    let identity: Value = serde_json::from_slice(&std::fs::read(data.join("identity.json"))?)?;
    let number = identity.get("number").and_then(Value::as_u64);
    let number = u32::try_from(number.context("no number in the identity")?)?;
    let now = UnixMillis(u64::try_from(
        SystemTime::UNIX_EPOCH.elapsed()?.as_millis(),
    )?);
    let store = Store::open(&data.join("store"), Options::default())?;
    let rows = ReplicaRows::from(store.clone());
    let (mut replica, boot) = Replica::open(rows, NodeId(number), now)?;
    store.commit_blocking(Batch::from(&boot))?;
    replica.settle(boot.ticket);
    let value = replica
        .get(from.as_bytes())?
        .context("no such allocation")?;
    let at = value
        .windows(SUBSCRIBER.len())
        .position(|part| part == SUBSCRIBER.as_bytes())
        .context("no subscriber in the allocation")?;
    let mut waiting = std::collections::VecDeque::new();
    for first in (0..count).step_by(AT_ONCE) {
        let all: Vec<(String, Vec<u8>)> = (first..count)
            .take(AT_ONCE)
            .map(|n| {
                let mut value = value.clone();
                let name = format!("subscriber-{n:08}");
                let place = value.get_mut(at..at.saturating_add(name.len()));
                place
                    .context("a name that is too long")?
                    .copy_from_slice(name.as_bytes());
                Ok((key(n), value))
            })
            .collect::<Result<_>>()?;
        let writes: Vec<Write<'_>> = all
            .iter()
            .map(|(key, value)| Write::put(key.as_bytes(), value, Fence::epoch(1)))
            .collect();
        let change = replica.write(&writes, now)?;
        if waiting.len() >= 256
            && let Some((ticket, commit)) = waiting.pop_front()
        {
            nexus_store::Commit::wait(commit)?;
            replica.settle(ticket);
        }
        waiting.push_back((change.ticket, store.try_submit(Batch::from(&change))?));
    }
    for (ticket, commit) in waiting {
        commit.wait()?;
        replica.settle(ticket);
    }
    drop(replica);
    Ok(store.flush_and_close()?)
}

/// Even ones are addresses, odd ones prefixes.
fn key(n: u32) -> String {
    if n.is_multiple_of(2) {
        let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + n / 2 + 1);
        return format!("/allocations/default/ipv4/{address}");
    }
    let prefix = (0x2001_0db8_u128 << 96) | (u128::from(n / 2) << 72);
    format!(
        "/allocations/default/ipv6/{}/56",
        Ipv6Addr::from_bits(prefix)
    )
}

struct Server {
    child: Child,
    addresses: Value,
}

impl Server {
    fn start(program: &Path, directory: &Path) -> Result<Self> {
        let (ready, config) = (directory.join("ready.json"), directory.join("nexus.yaml"));
        let _ = std::fs::remove_file(&ready);
        let text = format!(
            "server: {{http_port: 0, grpc_port: 0, metrics_port: 0}}\nstorage: {{path: {}}}\n",
            directory.join("data").display()
        );
        std::fs::write(&config, text)?;
        let mut child = Command::new(program)
            .arg("--config")
            .arg(config)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log"))?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let began = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let addresses = serde_json::from_str(&text)?;
                return Ok(Self { child, addresses });
            }
            let ended = child.try_wait()?;
            if ended.is_some() || began.elapsed() > LIMIT {
                bail!(
                    "{ended:?}: {}",
                    std::fs::read_to_string(directory.join("log"))?
                );
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        self.talk("http", method, path, body)
    }

    fn scrape(&self) -> Result<String> {
        self.talk("metrics", "GET", "/metrics", None)
    }

    fn talk(&self, to: &str, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        let address = self.addresses.get(to).and_then(Value::as_str);
        let mut stream = TcpStream::connect(address.context("no such address")?)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let body = body.map_or_else(String::new, Value::to_string);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: nexus\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        ensure!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        Ok(body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is waited for: its store is opened next.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}
