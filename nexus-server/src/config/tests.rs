//! Tests of the configuration: the document to the letter, and every mistake with its line.

use super::*;

const DOCUMENT: &str = r#"
server:
  http_port: 9000
  grpc_port: 9001
  metrics_port: 9002

node:
  id: "nexus-east-01"        # Auto-generated if not set
  role: "core"               # core, write, read
  region: "east"

p2p:
  listen_port: 33123
  bootstrap:
    - "/ip4/10.0.0.1/tcp/33123/p2p/QmPeer1..."
    - "/ip4/10.0.0.2/tcp/33123/p2p/QmPeer2..."

storage:
  path: "/var/lib/nexus/data"

clset:
  topic: "nexus-state"
  rebroadcast_interval: 5s
  num_workers: 50

graceful_shutdown:
  timeout: 2m
  grace_period: 10s

pools:
  - id: "residential-ipv4"
    type: "ipv4"
    cidr: "100.64.0.0/10"      # CGNAT space
    sharding_factor: 100       # Virtual nodes in hashring
    exclusions:
      - "100.64.0.0/24"        # Reserved for infrastructure
    metadata:
      region: "east"
      service_type: "residential"

  - id: "business-vlans"
    type: "vlan"
    range: "1000-2000"
    sharding_factor: 10
    metadata:
      service_type: "business"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("nexus.yaml"), text).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text)
}

#[test]
fn the_yaml_of_the_document_is_read_to_the_letter() {
    let config = parse(DOCUMENT).unwrap();
    assert_eq!(config.server.http_port, 9000);
    assert_eq!(config.node.id.as_ref().unwrap().as_str(), "nexus-east-01");
    assert_eq!(config.p2p.bootstrap.len(), 2);
    assert_eq!(config.clset.num_workers, 50);
    assert_eq!(
        config.graceful_shutdown.timeout,
        HumanDuration::from_secs(120)
    );
    assert_eq!(config.seed_pools().len(), 2);
    assert_eq!(config.lease(), Duration::from_secs(24 * 3600));
    assert_eq!(config.offline_after(), Duration::from_secs(90));
    assert_eq!(config.listen(1).to_string(), "127.0.0.1:1");
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "\n# nothing\n"] {
        assert_eq!(parse(text).unwrap().server.grpc_port, 9001);
    }
}

#[test]
fn an_unknown_field_is_refused_with_file_and_line() {
    let error = refusal("server:\n  http_port: 9000\n  htp_port: 1\n");
    assert!(error.contains("nexus.yaml"), "{error}");
    assert!(error.contains("htp_port"), "{error}");
    assert!(error.contains("line 3"), "{error}");
    assert!(error.contains("check-config"), "{error}");
}

#[test]
fn broken_yaml_is_refused_with_file_and_line() {
    let error = refusal("server:\n  http_port: [9000\nnode: {}\n");
    assert!(
        error.contains("nexus.yaml") && error.contains("line"),
        "{error}"
    );
}

#[test]
fn an_address_that_others_can_reach_needs_the_flag_that_says_so() {
    let error = refusal("server:\n  listen_address: 0.0.0.0\n");
    assert!(
        error.starts_with("nexus.yaml:2: server.listen_address"),
        "{error}"
    );
    assert!(
        error.contains("insecure_listen_without_tls: true"),
        "{error}"
    );
    parse("server:\n  listen_address: 0.0.0.0\n  insecure_listen_without_tls: true\n").unwrap();
    parse("server:\n  listen_address: \"::1\"\n").unwrap();
}

#[test]
fn bad_pools_are_refused_at_their_line() {
    let overlap = "pools:\n  - id: a\n    type: ipv4\n    cidr: 10.0.0.0/16\n  - id: b\n    type: ipv4\n    cidr: 10.0.1.0/24\n";
    let error = refusal(overlap);
    assert!(
        error.starts_with("nexus.yaml:5: pools[1]: 10.0.1.0/24 of pool b overlaps"),
        "{error}"
    );
    let twice = "pools:\n  - {id: a, type: ipv4, cidr: 10.0.0.0/16}\n  - {id: a, type: ipv4, cidr: 10.1.0.0/16}\n";
    assert!(refusal(twice).contains("the id a is used twice"));
    let outside = "pools:\n  - {id: a, type: ipv4, cidr: 10.0.0.0/16, exclusions: [10.1.0.0/24]}\n";
    let error = refusal(outside);
    assert!(
        error.contains("nexus.yaml:2") && error.contains("10.1.0.0/24"),
        "{error}"
    );
}

#[test]
fn values_that_make_no_sense_are_refused_with_a_remedy() {
    for (text, expected) in [
        ("server: {http_port: 9001}", "port 9001 is used twice"),
        ("clset: {num_workers: 0}", "at least 1"),
        ("node: {id: a/b}", "a/b"),
        ("node: {role: boss}", "boss"),
        ("node:\n  id: a\n  role: read", "nexus.yaml:3: node.role"),
        (
            "# x\nserver:\n  http_port: 1 # grpc_port: 2\n  metrics_port: 1",
            "nexus.yaml:4: server.metrics_port",
        ),
        (
            "server: {http_port: 1}\nolt: {offline_after: 0}",
            "nexus.yaml:2: olt.offline_after",
        ),
        ("olt:\n  heartbeat_interval: 20h", "nexus.yaml: olt.lease"),
        ("olt: {lease: 10s}", "too short"),
        ("olt: {lease: 91d}", "out of bounds"),
        (
            "olt:\n  reclaim_after: 0s",
            "nexus.yaml:2: olt.reclaim_after",
        ),
        ("olt: {reclaim_after: soon}", "30s, 10m or 24h"),
        ("olt: {heartbeat_interval: 1ms}", "at least 100ms"),
        ("olt: {offline_after: 0}", "1 to 100"),
        ("olt: {endpoints: [nexus-1]}", "host:port"),
        ("graceful_shutdown: {grace_period: 3m}", "make it shorter"),
        ("clset: {rebroadcast_interval: soon}", "30s, 10m or 24h"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains("nexus.yaml"), "{text}: {error}");
    }
}
