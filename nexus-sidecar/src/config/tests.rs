//! Good and bad configuration files.

use super::*;

const GOOD: &str = "
olt: {id: olt-east-01, region: east}
nexus_endpoints: ['127.0.0.1:9001']
interfaces:
  - name: eth1
";

fn parse(text: &str) -> Result<SidecarConfig, String> {
    SidecarConfig::parse(Path::new("sidecar.yaml"), text).map_err(|error| error.to_string())
}

#[test]
fn a_short_file_is_enough_and_the_rest_has_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.olt.name, "olt-east-01");
    assert_eq!(config.olt.capacity, 2000);
    let [interface] = config.interfaces.as_slice() else {
        panic!("one interface");
    };
    assert_eq!(interface.mode, XdpMode::Native);
    assert_eq!(interface.identity, [Identity::Line, Identity::Mac]);
    assert_eq!(
        config.fast_path.pin_path,
        PathBuf::from("/sys/fs/bpf/nexus")
    );
    assert_eq!(config.fast_path.max_bindings, 65_536);
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9103");
    assert_eq!(config.control.socket, default_control_socket());
}

#[test]
fn what_is_wrong_is_said_with_file_field_and_remedy() {
    let with = |extra: &str| format!("{GOOD}{extra}\n");
    let interface = |extra: &str| GOOD.replace("name: eth1", &format!("name: eth1\n    {extra}"));
    for (text, expected) in [
        ("olt: [".to_owned(), "sidecar.yaml"),
        (with("colour: blue"), "colour"),
        (with("fast_path: {pin_pth: /x}"), "pin_pth"),
        (
            with("fast_path: {max_bindings: 0}"),
            "fast_path.max_bindings",
        ),
        (
            GOOD.replace("olt-east-01", "olt/east"),
            "OLT id `olt/east` contains '/'",
        ),
        (
            GOOD.replace("olt-east-01", "nexus"),
            "the cluster's own name",
        ),
        (
            GOOD.replace("127.0.0.1:9001", "127.0.0.1"),
            "write host:port",
        ),
        (
            GOOD.replace("127.0.0.1:9001", "http://x:9001"),
            "nexus_endpoints[0]",
        ),
        (GOOD.replace("['127.0.0.1:9001']", "[]"), "nexus_endpoints"),
        (
            GOOD.replace("eth1", "a-name-that-is-too-long"),
            "interfaces[0].name",
        ),
        (with("  - name: eth1"), "interfaces[1].name"),
        (
            GOOD.replace("- name: eth1", &"- name: eth1\n  ".repeat(65)),
            "1 to 64 interfaces",
        ),
        (interface("identity: [line, mac, line]"), "each once"),
        (
            interface("identity: [circuit-id, circuit-id+remote-id]"),
            "not both",
        ),
        (interface("identity: [remote-id]"), "remote-id"),
        (
            interface("server_id: 224.0.0.1"),
            "interfaces[0].server_id: 224.0.0.1",
        ),
        (interface("server_id: gateway"), "invalid IPv4 address"),
        (
            interface("policies: {quarantine: 2d}"),
            "interfaces[0].policies.quarantine: 2d",
        ),
        (with("policies: {quarantine: 0s}"), "policies.quarantine"),
        (with("policies: {mac_changes: ignore}"), "ignore"),
        (with("policies: {macs: refuse}"), "macs"),
        (
            GOOD.replace("name: eth1", "name: eth1\n    identity: []"),
            "interfaces[0].identity",
        ),
        (
            GOOD.replace("name: eth1", "name: eth1\n    mode: quick"),
            "quick",
        ),
        (
            with("metrics: {listen: '0.0.0.0:9103'}"),
            "insecure_listen_without_tls: true",
        ),
        (with("radius: {clients: []}"), "radius.clients"),
        (
            "nexus_endpoints: ['a:1']\ninterfaces: [{name: eth1}]".to_owned(),
            "olt",
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text}\n=> {error}");
        assert!(error.contains("sidecar.yaml"), "{error}");
    }
}

#[test]
fn interfaces_have_what_is_theirs_and_the_rest_from_the_host() {
    use nexus_core::edge::Policy;

    let config = parse(
        "
olt: {id: olt-east-01}
nexus_endpoints: ['127.0.0.1:9001']
policies: {subscriber_moves: refuse, quarantine: 5m}
interfaces:
  - name: eth1
    identity: [circuit-id+remote-id, vlan]
    server_id: 192.0.2.1
    pool: business
    policies: {mac_changes: quarantine}
  - {name: bond0.5, mode: generic, policies: {subscriber_moves: take-over}}
",
    )
    .unwrap();
    let [eth1, bond] = config.interfaces.as_slice() else {
        panic!("two interfaces");
    };
    assert_eq!(
        eth1.identity,
        [Identity::CircuitIdAndRemoteId, Identity::Vlan]
    );
    assert_eq!(eth1.server_id.unwrap().to_string(), "192.0.2.1");
    assert_eq!(eth1.pool.as_ref().unwrap().as_str(), "business");
    let policies = |interface: &InterfaceSection| {
        let policies = interface.policies.over(config.policies).policies();
        (
            policies.subscriber_moves,
            policies.mac_changes,
            policies.quarantine.as_secs(),
        )
    };
    assert_eq!(policies(eth1), (Policy::Refuse, Policy::Quarantine, 300));
    assert_eq!(policies(bond), (Policy::TakeOver, Policy::TakeOver, 300));
    let all = "identity: [line, vlan, circuit-id, mac]";
    let text = GOOD.replace("name: eth1", &format!("name: eth1\n    {all}"));
    let names = parse(&text).unwrap().interfaces[0]
        .identity
        .iter()
        .map(|identity| identity.as_str())
        .collect::<Vec<_>>();
    assert_eq!(names, ["line", "vlan", "circuit-id", "mac"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = SidecarConfig::load(Path::new("/nonexistent/sidecar.yaml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/sidecar.yaml"));
}

#[test]
fn a_mistake_beside_a_secret_is_said_without_the_secret() {
    let radius = |client: &str| {
        format!(
            "{GOOD}radius:\n  upstream: {{servers: [{{address: '192.0.2.1:1812', secret: hush-hush}}]}}\n  clients:\n    - address: 192.0.2.7\n      {client}\n"
        )
    };
    for client in [
        "secret: hush-hush\n      colour: blue",
        "secret: [hush-hush]",
        "secret: {a: hush-hush}",
        "secret: hush-hush\n      secret: hush-hush",
        "secret: 'hush-hush",
        "secret: *hush-hush",
        "secret: !!int hush-hush",
        "secret: hush-hush\n      require_message_authenticator: hush-hush",
        "hush-hush",
    ] {
        let error = parse(&radius(client)).unwrap_err();
        assert!(!error.contains("hush"), "{client}: {error}");
    }
}
