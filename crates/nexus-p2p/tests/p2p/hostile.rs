//! Garbage, silence, and peers that stand still.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use nexus_p2p::{AskError, ClusterKey, Event, Reason};
use rand::RngCore as _;

use crate::insider::{Insider, framed};
use crate::support::{DEADLINE, Node, pair, until};

fn asked_or_gossip(node: &mut Node) -> usize {
    let told = node.told().iter();
    told.filter(|event| matches!(event, Event::Asked { .. } | Event::Gossip { .. }))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_does_not_keep_a_node_from_joining() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    let port = one.port();
    for round in 0..10 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut garbage = vec![0; 5000];
        rand::rng().fill_bytes(&mut garbage);
        if round % 2 == 0 {
            // As far as the choice of the protocol it is a good peer.
            garbage.splice(0..0, *b"\x13/multistream/1.0.0\n\x07/noise\n");
        }
        let _ = stream.write_all(&garbage);
    }
    one.refused(Reason::Handshake).await;
    let address = one.tcp();
    let mut two = Node::start(&key, 2, |options| options.bootstrap = vec![address]).await;
    two.up(1).await;
    one.up(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_do_not_keep_a_node_from_joining() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    let to: SocketAddr = format!("127.0.0.1:{}", one.port()).parse().unwrap();
    let silent: Vec<_> = (0..60)
        .map(|_| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            tokio::spawn(socket.connect(to))
        })
        .collect();
    one.refused(Reason::Limit).await;
    let address = one.tcp();
    let mut two = Node::start(&key, 2, |options| options.bootstrap = vec![address]).await;
    two.up(1).await;
    one.up(2).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_hellos_no_question_and_no_gossip_is_taken_or_sent() {
    let key = ClusterKey::generate();
    let (mut one, mut two) = pair(&key).await;
    // It accepts this node's Hello and says none of its own, so the connection lasts a while.
    let own = one.id().parse().unwrap();
    let mut early = Insider::new(Some(&key), "test", |peer| *peer < own);
    let to = early.dial(&one.tcp()).await.unwrap();
    early.ask(to, vec![1, 0, 0, 0, 1, 42]);
    let mut count = 0;
    let heard = early
        .run_until(|heard| {
            // Meanwhile there is gossip to be overheard.
            count += 1;
            one.link
                .publish(format!("secret {count}").into_bytes())
                .unwrap();
            !heard.unanswered.is_empty() && count > 20
        })
        .await;
    assert!(!early.publish(b"loud"), "it knows of no listener");
    assert!(heard.gossip.is_empty() && heard.listeners == 0, "{heard:?}");
    assert_eq!(asked_or_gossip(&mut one), 0);
    two.gossip(b"secret 20").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_key_and_says_no_hello_is_disconnected() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    // It accepts whatever it hears; as the one that elects it may.
    let own = one.id().parse().unwrap();
    let mut silent = Insider::new(Some(&key), "test", |peer| *peer < own);
    silent.dial(&one.tcp()).await.unwrap();
    silent.run_until(|heard| heard.closed > 0).await;
    one.refused(Reason::Silent).await;
    assert!(one.link.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_accepts_out_of_turn_is_banned() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    let own = one.id().parse().unwrap();
    let mut hasty = Insider::new(Some(&key), "test", |peer| *peer > own);
    hasty.dial(&one.tcp()).await.unwrap();
    hasty.run_until(|heard| heard.closed > 0).await;
    let why = one.refused(Reason::Garbage).await;
    assert!(why.contains("before it was accepted"), "{why}");
    assert_eq!(one.link.counters().bans, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_is_none_or_too_long_is_counted_and_its_sender_banned() {
    let key = ClusterKey::generate();
    for garbage in [
        framed(b"{\"cluster\":1}"),
        framed(b"\xff\xfe"),
        vec![0xff; 100],
    ] {
        let mut one = Node::start(&key, 1, |_| {}).await;
        let mut bad = Insider::new(Some(&key), "test", |_| true);
        let to = bad.dial(&one.tcp()).await.unwrap();
        bad.say_hello(to, garbage);
        bad.run_until(|heard| heard.closed > 0).await;
        one.refused(Reason::Garbage).await;
        let counters = one.link.counters();
        assert_eq!((counters.garbage, counters.bans), (1, 1));
        let _ = bad.dial(&one.tcp()).await;
        bad.run_until(|heard| heard.closed > 0 || one.link.counters().refused[&Reason::Banned] > 0)
            .await;
        one.refused(Reason::Banned).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_too_long_is_counted_and_its_sender_banned() {
    let key = ClusterKey::generate();
    let mut one = Node::start(&key, 1, |_| {}).await;
    // The smaller peer id elects, so this one may accept at once.
    let own = one.id().parse().unwrap();
    let mut bad = Insider::new(Some(&key), "test", |peer| *peer < own);
    let to = bad.dial(&one.tcp()).await.unwrap();
    bad.say_hello(to, bad.good_hello(9));
    bad.run_until(|heard| {
        heard
            .verdicts
            .iter()
            .any(|verdict| verdict.contains("true"))
    })
    .await;
    assert_eq!(one.up(9).await.name, "insider");
    bad.ask(to, vec![1, 0xff, 0xff, 0xff, 0xff]);
    bad.run_until(|heard| heard.closed > 0).await;
    one.down(9).await;
    let counters = one.link.counters();
    assert_eq!((counters.garbage, counters.bans), (1, 1));
    assert_eq!(asked_or_gossip(&mut one), 0);
}

/// A node whose whole runtime can be stopped, as SIGSTOP does with a process.
struct Stoppable {
    halt: mpsc::Sender<mpsc::Receiver<()>>,
    number: u32,
}

impl Stoppable {
    async fn start(key: &ClusterKey, number: u32, bootstrap: String) -> Self {
        let (halt, halts) = mpsc::channel::<mpsc::Receiver<()>>();
        let key = key.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let change = |options: &mut nexus_p2p::Options| options.bootstrap = vec![bootstrap];
                let mut node = Node::start(&key, number, change).await;
                loop {
                    match halts.try_recv() {
                        // The only thread of this runtime stands still here.
                        Ok(until) => drop(until.recv()),
                        Err(mpsc::TryRecvError::Disconnected) => break,
                        Err(mpsc::TryRecvError::Empty) => {}
                    }
                    while node.events.try_recv().is_ok() {}
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                node.link.stop().await;
            });
        });
        Self { halt, number }
    }

    /// Stands still until the sender is dropped.
    fn halt(&self) -> mpsc::Sender<()> {
        let (go_on, until) = mpsc::channel();
        self.halt.send(until).unwrap();
        go_on
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stands_still_blocks_nobody_is_cut_off_and_may_come_back() {
    let key = ClusterKey::generate();
    let (mut one, mut two) = pair(&key).await;
    let still = Stoppable::start(&key, 3, one.tcp()).await;
    one.up(still.number).await;
    let halted = still.halt();
    let asked = one.link.clone();
    let asked = tokio::spawn(async move {
        // All places of the channel, each with more than the window of its stream.
        let questions = (0..64).map(|_| asked.ask(3, 1, vec![7; 1_000_000], DEADLINE));
        futures::future::join_all(questions).await
    });
    // Much gossip on top; the other peer gets it all the while.
    let from = one.link.clone();
    let mut last = Vec::new();
    for round in 0..200u32 {
        last = vec![0; 200_000];
        last[..4].copy_from_slice(&round.to_be_bytes());
        until("there is room", || from.publish(last.clone()).is_ok()).await;
        if round % 20 == 0 {
            two.gossip(&last).await;
        }
    }
    two.gossip(&last).await;
    let answer = one.link.ask(2, 9, Vec::new(), DEADLINE).await;
    assert_eq!(answer, Err(AskError::UnknownChannel(9)));
    one.down(still.number).await;
    for answer in asked.await.unwrap() {
        let error = answer.unwrap_err();
        assert!(
            matches!(error, AskError::Lost | AskError::Timeout),
            "{error:?}"
        );
    }
    drop(halted);
    one.up(still.number).await;
    assert_eq!(one.link.counters().bans, 0);
}
