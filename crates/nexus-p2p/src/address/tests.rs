//! Addresses as operators write them, right and wrong.

use super::*;

const ID: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

#[test]
fn the_forms_of_the_manual_are_read() {
    for text in [
        "/ip4/192.0.2.1/tcp/4001".to_owned(),
        "/ip6/2001:db8::1/tcp/4001".to_owned(),
        "/dns/nexus.example/tcp/4001".to_owned(),
        format!("/dns4/nexus-0.nexus/tcp/4001/p2p/{ID}"),
        format!("/dns6/nexus-0.nexus/udp/4001/quic-v1/p2p/{ID}"),
        format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{ID}"),
    ] {
        let place = Place::parse(&text).unwrap();
        assert_eq!(place.quic, text.contains("quic"));
        assert_eq!(place.peer.is_some(), text.contains("p2p"));
        assert_eq!(place.port, 4001);
    }
}

#[test]
fn other_forms_are_refused_with_a_word() {
    for text in [
        "",
        "192.0.2.1:4001",
        "/ip4/192.0.2.1",
        "/ip4/192.0.2.1/udp/4001",
        "/ip4/192.0.2.1/udp/4001/quic",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/192.0.2.1/tcp/0",
        "/ip4/192.0.2.1/tcp/4001/ws",
        "/dnsaddr/nexus.example",
        "/tcp/4001",
        "/ip4/192.0.2.1/tcp/4001/p2p/12D3",
        "/memory/1",
    ] {
        let error = Place::of_option("p2p.bootstrap", text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(text) && error.contains("p2p.bootstrap"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_name_is_resolved_by_family_and_an_unknown_one_says_so() {
    let place = Place::parse("/dns4/localhost/tcp/4001").unwrap();
    let found = place.resolve().await.unwrap();
    assert_eq!(found, ["/ip4/127.0.0.1/tcp/4001".parse().unwrap()]);
    let place = Place::parse("/dns/no-such-host.invalid/tcp/4001").unwrap();
    assert!(
        place
            .resolve()
            .await
            .unwrap_err()
            .contains("no-such-host.invalid")
    );
}
