//! Names, own addresses, restarts, and what keeps a node from starting.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nexus_p2p::{ClusterKey, Event, Link, P2pError};

use crate::support::{Node, options, pair, path_in, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_leads_to_the_peer_and_to_this_node_itself_without_harm() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    let other = one.port();
    let own = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut two = Node::start(&key, 2, |options| {
        options.listen = format!("0.0.0.0:{own}").parse().unwrap();
        options.bootstrap = vec![
            format!("/dns4/localhost/tcp/{own}"),
            // Not among the listening addresses, so only the handshake tells.
            format!("/ip4/127.0.0.2/tcp/{own}"),
            format!("/dns4/localhost/tcp/{other}"),
            format!("/dns/no-such-host.invalid/tcp/{other}"),
        ];
    })
    .await;
    two.up(1).await;
    one.up(2).await;
    until("it has met itself", || {
        two.link.counters().dials_to_self > 1
    })
    .await;
    until("the other name is tried for ever", || {
        two.link.counters().names_unresolved > 2
    })
    .await;
    assert_eq!(two.link.peers().len(), 1);
    assert!(
        two.told()
            .iter()
            .all(|event| !matches!(event, Event::Down { .. }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_keeps_its_peer_id_and_comes_back_on_the_same_port() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    let (id, address, port) = (one.id(), one.tcp(), one.port());
    let same = format!("127.0.0.1:{port}").parse().unwrap();
    one = one.restart(|options| options.listen = same).await;
    assert_eq!((one.id(), one.tcp()), (id, address));
    two.down(1).await;
    two.up(1).await;
    one.up(2).await;
    two.link.publish(b"again".to_vec()).unwrap();
    one.gossip(b"again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_on_another_port_is_found_there() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    let old = two.tcp();
    one.link
        .set_members(vec![two.as_member(vec![old.clone()])], Vec::new());
    two = two.restart(|options| options.bootstrap.clear()).await;
    assert_ne!(two.tcp(), old);
    one.down(2).await;
    // Only the owner of one can know the new address now.
    one.link
        .set_members(vec![two.as_member(vec![old, two.tcp()])], Vec::new());
    let info = one.up(2).await;
    assert!(info.addresses.contains(&two.tcp()), "{info:?}");
    two.up(1).await;
    // And by itself, when it dials.
    let address = one.tcp();
    two = two
        .restart(|options| options.bootstrap = vec![address])
        .await;
    one.down(2).await;
    let info = one.up(2).await;
    assert!(info.addresses.contains(&two.tcp()), "{info:?}");
}

async fn error_of(change: impl FnOnce(&mut nexus_p2p::Options)) -> String {
    let room = tempfile::tempdir().unwrap();
    let mut options = options(&room, &ClusterKey::generate(), 1);
    change(&mut options);
    match Link::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_said_on_tcp_and_on_udp() {
    let one = Node::start(&ClusterKey::generate(), 1, |_| {}).await;
    let taken = format!("127.0.0.1:{}", one.port()).parse().unwrap();
    let error = error_of(|options| options.listen = taken).await;
    assert!(
        error.contains(&taken.to_string()) && error.contains("p2p.listen_port"),
        "{error}"
    );
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = udp.local_addr().unwrap();
    let error = error_of(|options| options.listen = taken).await;
    assert!(error.contains("UDP"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_option_is_named_with_what_is_wrong() {
    let bad = "/ip4/192.0.2.1/udp/4001".to_owned();
    let error = error_of(|options| options.bootstrap = vec![bad.clone()]).await;
    assert!(
        error.contains("p2p.bootstrap") && error.contains(&bad),
        "{error}"
    );
    let bare = "/ip4/192.0.2.1/udp/4001/quic-v1".to_owned();
    let error = error_of(|options| options.bootstrap = vec![bare]).await;
    assert!(error.contains("/p2p/ID"), "{error}");
    let error = error_of(|options| options.allowed_peers = vec!["nobody".to_owned()]).await;
    assert!(
        error.contains("p2p.allowed_peers") && error.contains("nobody"),
        "{error}"
    );
    let error = error_of(|options| options.advertise = vec!["here".to_owned()]).await;
    assert!(error.contains("p2p.advertise"), "{error}");
    let error = error_of(|options| options.hello.number = 0).await;
    assert!(error.contains("number"), "{error}");
    let error = error_of(|options| options.topic.clear()).await;
    assert!(error.contains("clset.topic"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_others_can_read_keeps_the_node_from_starting() {
    let room = tempfile::tempdir().unwrap();
    let options = options(&room, &ClusterKey::generate(), 1);
    let path = path_in(&room, "node.key");
    fs::write(&path, "0".repeat(64)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let Err(error @ P2pError::KeyFile { .. }) = Link::start(options).await.map(|_| ()) else {
        panic!("it started");
    };
    assert!(error.to_string().contains("chmod"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_on_all_of_ipv6_takes_ipv4_too() {
    let key = ClusterKey::generate();
    let listen = "[::]:0".parse().unwrap();
    let mut one = Node::start(&key, 1, |options| options.listen = listen).await;
    let port = one.port();
    for (number, host) in [(2, "/ip4/127.0.0.1"), (3, "/ip6/::1")] {
        let bootstrap = vec![format!("{host}/tcp/{port}")];
        let _other = Node::start(&key, number, |options| options.bootstrap = bootstrap).await;
        let info = one.up(number).await;
        assert!(info.address.starts_with(host), "{info:?}");
    }
}
