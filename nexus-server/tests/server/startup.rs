//! Starting with a wrong configuration, next to another server, and stopping.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{LIMIT, TestOlt, TestServer, block_on, configuration, program};

fn run(arguments: &[&str], config: &Path) -> Output {
    program()
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap()
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_example_configuration_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/nexus.yaml");
    let output = run(&["check-config"], &example);
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("ok, 2 pools")
    );
}

#[test]
fn the_configuration_of_the_kubernetes_base_is_valid() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/nexus.yaml");
    assert!(run(&["check-config"], &base).status.success());
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_touched() {
    let dir = TempDir::new().unwrap();
    for (extra, expected) in [
        ("sever: {}\n", "sever"),
        ("node: {role: boss}\n", "boss"),
        (
            "pools: [{id: a, type: ipv4, cidr: 10.0.0.0/16, exclusions: [11.0.0.0/24]}]\n",
            "nexus.yaml:3",
        ),
        ("olt: {lease: 1s}\n", "olt.lease"),
        ("node: [\n", "line"),
    ] {
        let path = configuration(dir.path(), extra);
        for arguments in [&["check-config"][..], &[]] {
            let error = failure(&run(arguments, &path));
            assert!(
                error.contains(expected) && error.contains("nexus.yaml"),
                "{extra}: {error}"
            );
        }
        assert!(!dir.path().join("data").exists());
    }
    let missing = failure(&run(&[], &dir.path().join("none.yaml")));
    assert!(
        missing.contains("none.yaml") && missing.contains("--config"),
        "{missing}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = dir.path().join("nexus.yaml");
    let text = format!(
        "server: {{http_port: 0, grpc_port: {port}, metrics_port: 0}}\nstorage: {{path: {}}}\n",
        dir.path().join("data").display()
    );
    std::fs::write(&path, text).unwrap();
    let error = failure(&run(&[], &path));
    assert!(
        error.contains(&port.to_string()) && error.contains("grpc_port"),
        "{error}"
    );
}

#[test]
fn a_second_server_on_the_same_store_is_refused() {
    let server = TestServer::start("");
    let other = TempDir::new().unwrap();
    let path = other.path().join("nexus.yaml");
    let data = server.dir.path().join("data");
    let text = format!(
        "server: {{http_port: 0, grpc_port: 0, metrics_port: 0}}\nstorage: {{path: {}}}\n",
        data.display()
    );
    std::fs::write(&path, text).unwrap();
    let error = failure(&run(&[], &path));
    assert!(error.contains("locked"), "{error}");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn sigterm_ends_streams_and_the_program_with_success_and_keeps_everything() {
    let mut server = TestServer::with_pool();
    block_on(async {
        let mut olt = TestOlt::register(&server, "olt-1", "s-1").await;
        let request = nexus_proto::v1::WatchRequest {
            olt_id: "olt-1".into(),
            revision: 0,
            session: "s-1".into(),
            config_revision: 0,
        };
        let mut stream = olt.client.watch_config(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        server
            .post(
                "/api/v1/allocate",
                &json!({"pool_id": "residential-ipv4", "subscriber_id": "s"}),
            )
            .ok();
        assert!(server.terminate().success());
        let end = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!(end.code(), tonic::Code::Unavailable);
        server.restart();
        assert_eq!(server.get("/api/v1/allocations/s").status, 200);
        assert!(server.terminate().success());
    });
}

#[test]
fn a_request_in_flight_is_answered_before_the_program_ends() {
    let mut server = TestServer::with_pool();
    let body = json!({"pool_id": "residential-ipv4", "subscriber_id": "s"}).to_string();
    let mut connection = TcpStream::connect(server.address("http")).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST /api/v1/allocate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(5);
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(first.as_bytes()).unwrap();
    // The server has begun with this request once it has answered a later one.
    assert_eq!(server.get("/health").status, 200);
    nix::sys::signal::kill(server.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    while TcpStream::connect(server.address("http")).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    connection.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(server.ended().success());
}
