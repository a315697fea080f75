//! Every mistake in `radius:` gets one error that names its field.

use super::*;

const GOOD: &str = "
clients:
  - {address: 192.0.2.0/24, secret: s1}
upstream:
  servers: [{address: '192.0.2.1:1812', secret: s2}]
";

fn check(yaml: &str) -> Result<Settings, String> {
    let config: RadiusConfig = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())
}

#[test]
fn defaults_are_safe() {
    let config: RadiusConfig = serde_saphyr::from_str(GOOD).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1812");
    assert!(config.clients[0].require_message_authenticator);
    let settings = config.check().unwrap();
    assert_eq!(
        (settings.max_in_flight, settings.nas_port_id.len()),
        (1024, 2)
    );
    let BackendSettings::Upstream { servers, limits } = settings.backend else {
        panic!()
    };
    assert!(servers[0].1.require_message_authenticator);
    assert_eq!((limits.sockets, limits.in_flight), (4, 1024));
    assert!(
        !format!("{config:?}").contains("s1"),
        "secrets are not printed"
    );
}

#[test]
fn without_clients_nothing_is_listened_on() {
    let upstream = GOOD.split_once("upstream:").unwrap().1;
    let settings = check(&format!("upstream:{upstream}")).unwrap();
    assert_eq!(settings.listen, None);
    assert!(check(GOOD).unwrap().listen.is_some());
}

#[test]
fn a_single_address_is_a_client_too() {
    for address in ["192.0.2.7", "'2001:db8::7'", "'2001:db8::/32'"] {
        check(&GOOD.replace("192.0.2.0/24", address)).unwrap();
    }
}

#[test]
fn each_mistake_names_its_field_and_what_to_do() {
    let twice = "192.0.2.0/24, secret: s1}\n  - {address: 192.0.2.9/24";
    let two = "'192.0.2.1:1812', secret: a}, {address: '192.0.2.1:1812'";
    for (from, to, field) in [
        ("192.0.2.0/24", "nas-1", "radius.clients[0].address"),
        ("192.0.2.0/24", "192.0.2.0/33", "radius.clients[0].address"),
        (
            "192.0.2.0/24",
            twice,
            "radius.clients: two clients have the address 192.0.2.0/24",
        ),
        ("secret: s1", "secret: ''", "radius.clients[0].secret"),
        (", secret: s1", "", "radius.clients[0]: there is no secret"),
        (
            "secret: s1",
            "secret: s1, secret_file: /x",
            "radius.clients[0]: secret and secret_file",
        ),
        (
            "secret: s1",
            "secret_file: /nonexistent",
            "radius.clients[0].secret_file",
        ),
        ("secret: s1", "secret: s1, secrte: x", "secrte"),
        (
            "{address: '192.0.2.1:1812', secret: s2}",
            "",
            "radius.upstream.servers: 0 servers",
        ),
        (
            "'192.0.2.1:1812'",
            two,
            "radius.upstream.servers[1].address",
        ),
        (
            "192.0.2.1:1812",
            "192.0.2.1:0",
            "radius.upstream.servers[0].address",
        ),
        (
            "192.0.2.1:1812",
            "0.0.0.0:1812",
            "radius.upstream.servers[0].address",
        ),
        (
            "upstream:",
            "upstream:\n  timeout: 31s",
            "radius.upstream.timeout",
        ),
        (
            "upstream:",
            "upstream:\n  retries: 11",
            "radius.upstream.retries",
        ),
        (
            "upstream:",
            "users_file: /x\nupstream:",
            "radius: users_file and upstream",
        ),
        (
            "upstream:",
            "max_in_flight: 0\nupstream:",
            "radius.max_in_flight",
        ),
        (
            "upstream:",
            "subscriber_id: '{Usr}'\nupstream:",
            "radius.subscriber_id: {Usr}",
        ),
        (
            "upstream:",
            "nas_port_id: ['{*}']\nupstream:",
            "radius.nas_port_id[0]",
        ),
        (
            "upstream:",
            "default_pool: 'a b'\nupstream:",
            "default_pool",
        ),
    ] {
        let yaml = GOOD.replacen(from, to, 1);
        assert_ne!(yaml, GOOD);
        let error = check(&yaml).unwrap_err();
        assert!(error.contains(field), "{yaml}\n{error}");
    }
    let nobody = check("clients: [{address: 192.0.2.1, secret: s}]").unwrap_err();
    assert!(nobody.contains("give users_file or upstream"), "{nobody}");
    let no_users = check("clients: [{address: 192.0.2.1, secret: s}]\nusers_file: /nonexistent");
    assert!(
        no_users
            .unwrap_err()
            .contains("radius.users_file: cannot read /nonexistent")
    );
}

#[test]
fn a_secret_file_is_read_without_its_newline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "hush hush\n").unwrap();
    let secret = read_secret("f", None, Some(&path)).unwrap();
    assert_eq!(secret, Secret::new("hush hush").unwrap());
    std::fs::write(&path, "\n").unwrap();
    let error = read_secret("f", None, Some(&path)).unwrap_err().to_string();
    assert!(
        error.contains("f.secret_file: the shared secret is empty"),
        "{error}"
    );
}
