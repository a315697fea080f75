//! Gossip from a cold start.

use nexus_p2p::{ClusterKey, Event, MOST_GOSSIP_BYTES, PublishError};

use crate::support::{Node, pair, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_meet_and_the_first_message_each_way_arrives() {
    let (mut one, mut two) = pair(&ClusterKey::generate()).await;
    // Straight after the Up: nothing waits for a mesh.
    one.link.publish(b"a".to_vec()).unwrap();
    assert_eq!(two.gossip(b"a").await, 1);
    two.link.publish(b"b".to_vec()).unwrap();
    assert_eq!(one.gossip(b"b").await, 2);
    let info = &one.link.peers()[0];
    assert_eq!((info.number, info.version), (2, 1));
    until("there is a round-trip time", || {
        one.link.peers()[0].rtt.is_some()
    })
    .await;
    let info = &one.link.peers()[0];
    assert!(info.bytes_in > 0 && info.bytes_out > 0, "{info:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_of_five_nodes_reaches_all_from_a_cold_start() {
    let key = ClusterKey::generate();
    let first = Node::start(&key, 1, |_| {}).await;
    let address = first.tcp();
    let mut nodes = vec![first];
    for number in 2..=5 {
        let bootstrap = vec![address.clone()];
        nodes.push(Node::start(&key, number, |options| options.bootstrap = bootstrap).await);
    }
    // Only the first is known to all; the owner tells the rest, as the server does from its table.
    let members: Vec<_> = nodes
        .iter()
        .map(|node| node.as_member(node.link.addresses()))
        .collect();
    for node in &nodes {
        node.link.set_members(members.clone(), Vec::new());
    }
    for node in &nodes {
        until("all are up", || node.link.peers().len() == 4).await;
    }
    for at in 0..nodes.len() {
        let from = nodes[at].number();
        let message = format!("from {from}").into_bytes();
        nodes[at].link.publish(message.clone()).unwrap();
        for node in &mut nodes {
            if node.number() != from {
                assert_eq!(node.gossip(&message).await, from);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_message_passes_and_a_longer_one_is_not_taken() {
    let (one, mut two) = pair(&ClusterKey::generate()).await;
    let longest = vec![7; MOST_GOSSIP_BYTES];
    one.link.publish(longest.clone()).unwrap();
    assert_eq!(two.gossip(&longest).await, 1);
    let too_long = vec![7; MOST_GOSSIP_BYTES + 1];
    assert_eq!(
        one.link.publish(too_long),
        Err(PublishError::TooLong(MOST_GOSSIP_BYTES + 1))
    );
    assert_eq!(one.link.counters().gossip_refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_does_not_listen_loses_gossip_but_no_coming_or_going() {
    let key = ClusterKey::generate();
    let (one, mut two) = pair(&key).await;
    until("the owner's queue overflows", || {
        for _ in 0..50 {
            let count = one.link.counters().gossip_published;
            let _ = one
                .link
                .publish(format!("{count} {}", rand::random::<u64>()).into_bytes());
        }
        two.link.counters().gossip_dropped > 0
    })
    .await;
    let address = two.tcp();
    let three = Node::start(&key, 3, |options| options.bootstrap = vec![address]).await;
    until("the third is up at the second", || {
        two.link.peers().len() == 2
    })
    .await;
    three.link.stop().await;
    until("the third is gone", || two.link.peers().len() == 1).await;
    let up = two.up(3).await;
    assert_eq!(up.name, "node-3");
    two.down(3).await;
    let gossip = two
        .seen
        .iter()
        .filter(|event| matches!(event, Event::Gossip { .. }))
        .count();
    assert!(gossip > 100, "{gossip}");
}
