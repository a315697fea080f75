//! Hellos: versions, numbers, changes.

use nexus_p2p::{ClusterKey, Event, Hello, Reason};

use crate::support::{Node, pair, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_and_a_newer_version_use_the_highest_common_one() {
    let key = ClusterKey::generate();
    let mut new = Node::start(&key, 1, |options| options.hello.versions = 2..=3).await;
    let address = new.tcp();
    let mut old = Node::start(&key, 2, |options| {
        options.hello.versions = 1..=2;
        options.bootstrap = vec![address];
    })
    .await;
    assert_eq!(new.up(2).await.version, 2);
    let info = old.up(1).await;
    assert_eq!((info.version, info.versions), (2, 2..=3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_common_version_both_say_so() {
    let key = ClusterKey::generate();
    let mut new = Node::start(&key, 1, |options| options.hello.versions = 3..=4).await;
    let address = new.tcp();
    let mut old = Node::start(&key, 2, |options| {
        options.hello.versions = 1..=2;
        options.bootstrap = vec![address];
    })
    .await;
    let why = new
        .wait("a refusal", |event| match event {
            Event::Refused {
                reason: Reason::Version | Reason::TheyRefuse,
                why,
                ..
            } => Some(why.clone()),
            _ => None,
        })
        .await;
    assert!(why.contains("no common protocol version"), "{why}");
    let why = old
        .wait("a refusal", |event| match event {
            Event::Refused {
                reason: Reason::Version | Reason::TheyRefuse,
                why,
                ..
            } => Some(why.clone()),
            _ => None,
        })
        .await;
    assert!(why.contains("node-1") && why.contains("3 to 4"), "{why}");
    assert!(new.link.peers().is_empty() && old.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_this_nodes_number_is_refused_loudly() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 7, |_| {}).await;
    let address = one.tcp();
    let mut copy = Node::start(&key, 7, |options| {
        options.hello.name = "copy".to_owned();
        options.bootstrap = vec![address];
    })
    .await;
    let find = |event: &Event| match event {
        Event::Refused {
            reason: Reason::OwnNumber | Reason::TheyRefuse,
            why,
            ..
        } => Some(why.clone()),
        _ => None,
    };
    let why = one.wait("a refusal", find).await;
    assert!(why.contains("number 7") && why.contains("copy"), "{why}");
    copy.wait("a refusal", find).await;
    assert!(one.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_peers_number_is_refused_and_the_first_stays() {
    let key = ClusterKey::generate();
    let (mut one, two) = pair(&key).await;
    let address = one.tcp();
    let mut copy = Node::start(&key, 2, |options| options.bootstrap = vec![address]).await;
    let why = one.refused(Reason::NumberTaken).await;
    assert!(why.contains(&two.id()) && why.contains(&copy.id()), "{why}");
    copy.refused(Reason::TheyRefuse).await;
    assert_eq!(one.link.peers()[0].peer_id, two.id());
    // A member's number is kept for it while it is away, too.
    one.link
        .set_members(vec![two.as_member(Vec::new())], Vec::new());
    two.link.stop().await;
    one.down(2).await;
    one.refused(Reason::NumberTaken).await;
    assert!(one.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_hello_reaches_the_peers() {
    let (one, mut two) = pair(&ClusterKey::generate()).await;
    let before = one.link.addresses();
    for step in 0..20u8 {
        let hello = Hello {
            role: "write".to_owned(),
            extra: vec![step; 1024],
            ..one.options.hello.clone()
        };
        one.link.set_hello(hello).unwrap();
    }
    let info = two
        .wait("the change", |event| match event {
            Event::Changed(info) if info.extra == [19; 1024] => Some(info.clone()),
            _ => None,
        })
        .await;
    assert_eq!((info.number, info.role.as_str()), (1, "write"));
    assert_eq!(info.addresses, before);
    assert_eq!(two.link.peers()[0].role, "write");
    until("still up", || one.link.peers().len() == 1).await;
    assert_eq!(two.link.counters().disconnections, 0);
    let other = Hello {
        number: 9,
        ..one.options.hello.clone()
    };
    assert!(one.link.set_hello(other).is_err());
    let long = Hello {
        extra: vec![0; 1025],
        ..one.options.hello.clone()
    };
    assert!(one.link.set_hello(long).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_dial_each_other_at_the_same_time_keep_one_connection() {
    let key = ClusterKey::generate();
    for _ in 0..5 {
        let mut one = Node::start(&key, 1, |_| {}).await;
        let mut two = Node::start(&key, 2, |_| {}).await;
        let members = vec![
            one.as_member(one.link.addresses()),
            two.as_member(two.link.addresses()),
        ];
        one.link.set_members(members.clone(), Vec::new());
        two.link.set_members(members, Vec::new());
        one.up(2).await;
        two.up(1).await;
        until("one connection is left", || {
            let connections = |node: &Node| {
                let counters = node.link.counters();
                counters.connections - counters.disconnections
            };
            connections(&one) == 1 && connections(&two) == 1
        })
        .await;
        let (one, two) = (one.answering(), two.answering());
        let patience = std::time::Duration::from_secs(20);
        assert_eq!(
            one.link.ask(2, 1, b"ab".to_vec(), patience).await.unwrap(),
            b"ba"
        );
        assert_eq!(
            two.link.ask(1, 1, b"cd".to_vec(), patience).await.unwrap(),
            b"dc"
        );
    }
}
