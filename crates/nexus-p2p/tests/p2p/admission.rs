//! Who gets in, over which transport, and who is put out.

use nexus_p2p::{ClusterKey, Event, Reason};

use crate::insider::Insider;
use crate::support::{Node, pair, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_clusters_key_is_refused_and_sees_nothing() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    let address = one.tcp();
    let mut stranger = Node::start(&ClusterKey::generate(), 3, |options| {
        options.bootstrap = vec![address];
    })
    .await;
    let why = one.refused(Reason::Handshake).await;
    assert!(why.contains("another cluster's key"), "{why}");
    stranger.refused(Reason::Handshake).await;
    one.link.publish(b"secret".to_vec()).unwrap();
    two.gossip(b"secret").await;
    until("the stranger tried again", || {
        stranger.link.counters().dials > 3
    })
    .await;
    assert!(stranger.link.peers().is_empty());
    assert_eq!(one.link.peers().len(), 1);
    let only_refusals = stranger
        .told()
        .iter()
        .all(|event| matches!(event, Event::Refused { .. }));
    assert!(only_refusals, "{:?}", stranger.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_without_the_prologue_finishes_no_handshake() {
    let mut one = Node::start(&ClusterKey::generate(), 1, |_| {}).await;
    let mut stranger = Insider::new(None, "none", |_| true);
    let error = stranger.dial(&one.tcp()).await.unwrap_err();
    assert!(!error.is_empty());
    one.refused(Reason::Handshake).await;
    assert_eq!(one.link.counters().connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_an_unknown_peer_is_refused_and_comes_in_once_it_is_a_member() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    let address = one.quic();
    let mut two = Node::start(&key, 2, |options| options.bootstrap = vec![address]).await;
    let why = one.refused(Reason::UnknownOverQuic).await;
    assert!(why.contains("TCP"), "{why}");
    assert!(one.link.peers().is_empty());
    one.link
        .set_members(vec![two.as_member(Vec::new())], Vec::new());
    assert!(one.up(2).await.address.contains("quic-v1"));
    assert!(two.up(1).await.address.contains("quic-v1"));
    let (one, two) = (one.answering(), two.answering());
    let patience = crate::support::DEADLINE;
    let long = vec![1; 3_000_000];
    assert_eq!(
        one.link.ask(2, 1, long.clone(), patience).await.unwrap(),
        long
    );
    assert_eq!(
        two.link.ask(1, 1, b"ab".to_vec(), patience).await.unwrap(),
        b"ba"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_stranger_with_any_key_is_refused() {
    let mut one = Node::start(&ClusterKey::generate(), 1, |_| {}).await;
    let mut stranger = Insider::new(None, "none", |_| true);
    // Its own handshake may end before it is refused.
    let _ = stranger.dial(&one.quic()).await;
    one.refused(Reason::UnknownOverQuic).await;
    assert_eq!(one.link.counters().connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_peer_is_cut_off_and_denied() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    one.link.set_members(Vec::new(), vec![two.id()]);
    one.down(2).await;
    two.down(1).await;
    let count = |node: &Node| node.link.counters().refused[&Reason::Removed];
    until("it is denied when it dials", || count(&one) >= 3).await;
    let why = one.refused(Reason::Removed).await;
    assert!(why.contains("removed"), "{why}");
    assert!(one.link.peers().is_empty());
    // Taken back, it comes in again.
    one.link
        .set_members(vec![two.as_member(Vec::new())], Vec::new());
    one.up(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_allowed_peers_keeps_others_with_the_key_out() {
    let key = ClusterKey::generate();
    let two = Node::start(&key, 2, |_| {}).await;
    let (id, address) = (two.id(), two.tcp());
    let mut one = Node::start(&key, 1, |options| {
        options.allowed_peers = vec![id];
        options.bootstrap = vec![address];
    })
    .await;
    one.up(2).await;
    let address = one.tcp();
    let three = Node::start(&key, 3, |options| options.bootstrap = vec![address]).await;
    one.refused(Reason::NotAllowed).await;
    assert_eq!(one.link.peers().len(), 1);
    assert!(three.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_misbehaves_is_cut_off_for_a_while_and_longer_each_time() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    for round in 1..=2 {
        one.link.misbehaved(2, "a broken delta");
        one.down(2).await;
        two.down(1).await;
        one.refused(Reason::Banned).await;
        one.up(2).await;
        two.up(1).await;
        let counters = one.link.counters();
        assert_eq!((counters.bans, counters.misbehaved), (round, round));
    }
}
