//! Questions and answers.

use std::time::Duration;

use nexus_p2p::{AskError, ClusterKey, Event, MOST_QUESTION_BYTES, PublishError};

use crate::support::{DEADLINE, pair, until};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_answered_both_ways() {
    let (one, two) = pair(&ClusterKey::generate()).await;
    let (one, two) = (one.answering(), two.answering());
    assert_eq!(
        one.link.ask(2, 1, b"abc".to_vec(), PATIENCE).await.unwrap(),
        b"cba"
    );
    assert_eq!(
        two.link.ask(1, 2, b"def".to_vec(), PATIENCE).await.unwrap(),
        b"fed"
    );
    let long: Vec<u8> = (0..MOST_QUESTION_BYTES)
        .map(|at| (at % 251) as u8)
        .collect();
    let answer = one.link.ask(2, 1, long.clone(), PATIENCE).await.unwrap();
    assert!(answer.iter().rev().eq(&long));
    let many = (0..30u8).map(|at| {
        let link = one.link.clone();
        async move { link.ask(2, 1, vec![at, 0], PATIENCE).await }
    });
    for (at, answer) in futures::future::join_all(many)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer.unwrap(), [0, at as u8]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_of_having_no_answer_has_its_word() {
    let (one, mut two) = pair(&ClusterKey::generate()).await;
    let ask = |to, channel, bytes: &[u8]| one.link.ask(to, channel, bytes.to_vec(), PATIENCE);
    assert_eq!(ask(9, 1, b"x").await, Err(AskError::NotConnected(9)));
    assert_eq!(ask(2, 77, b"x").await, Err(AskError::UnknownChannel(77)));
    assert_eq!(two.link.counters().questions_unknown_channel, 1);
    let too_long = vec![0; MOST_QUESTION_BYTES + 1];
    assert_eq!(
        ask(2, 1, &too_long).await,
        Err(AskError::TooLong(too_long.len()))
    );

    let take = |event: &Event| matches!(event, Event::Asked { .. }).then_some(());
    let (answer, ()) = tokio::join!(ask(2, 1, b"drop"), async {
        two.wait("a question", take).await;
        two.seen.clear();
    });
    assert_eq!(answer, Err(AskError::Unanswered));
    let (answer, ()) = tokio::join!(ask(2, 1, b"later"), async {
        two.wait("a question", take).await;
        if let Some(Event::Asked { answer, .. }) = two.seen.pop() {
            answer.busy();
        }
    });
    assert_eq!(answer, Err(AskError::PeerBusy));
    let short = one
        .link
        .ask(2, 1, b"slow".to_vec(), Duration::from_millis(50))
        .await;
    assert_eq!(short, Err(AskError::Timeout));
    two.link.stop().await;
    until("the peer is gone", || one.link.peers().is_empty()).await;
    assert_eq!(ask(2, 1, b"x").await, Err(AskError::NotConnected(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_nothing_fills_its_own_places_only() {
    let key = ClusterKey::generate();
    let (mut one, silent) = pair(&key).await;
    let address = one.tcp();
    let three = crate::support::Node::start(&key, 3, |options| options.bootstrap = vec![address]);
    let three = three.await;
    one.up(3).await;
    let three = three.answering();
    let asked: Vec<_> = (0..100u8)
        .map(|at| {
            let link = one.link.clone();
            tokio::spawn(async move { link.ask(2, 1, vec![at; 100_000], PATIENCE).await })
        })
        .collect();
    // Those beyond the 64 places of the silent peer's channel are told at once.
    until("the rest is refused", || {
        one.link.counters().questions_failed >= 36
    })
    .await;
    assert_eq!(
        one.link.ask(2, 1, Vec::new(), PATIENCE).await,
        Err(AskError::Busy)
    );
    // Its other channels are free.
    assert_eq!(
        one.link.ask(2, 9, Vec::new(), PATIENCE).await,
        Err(AskError::UnknownChannel(9))
    );
    let answer = one.link.ask(3, 1, b"ab".to_vec(), DEADLINE).await;
    assert_eq!(answer.unwrap(), b"ba");
    assert_eq!(
        three.link.ask(1, 9, Vec::new(), PATIENCE).await,
        Err(AskError::UnknownChannel(9))
    );
    for task in &asked {
        task.abort();
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_stops_ends_its_questions_with_a_word() {
    let (one, mut two) = pair(&ClusterKey::generate()).await;
    let link = one.link.clone();
    let asked = tokio::spawn(async move { link.ask(2, 1, b"x".to_vec(), PATIENCE).await });
    let take = |event: &Event| matches!(event, Event::Asked { .. }).then_some(());
    two.wait("a question", take).await;
    let link = one.link.clone();
    one.link.stop().await;
    assert_eq!(asked.await.unwrap(), Err(AskError::Stopped));
    assert_eq!(
        link.ask(2, 1, Vec::new(), PATIENCE).await,
        Err(AskError::Stopped)
    );
    assert_eq!(link.publish(Vec::new()), Err(PublishError::Stopped));
    assert!(link.peers().is_empty());
    two.down(1).await;
}
