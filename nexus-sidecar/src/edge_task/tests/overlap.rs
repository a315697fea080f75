//! One group on its way to the disk while the next one gathers.

use super::*;
use crate::edge_handle::{EdgeRequest, Grant};

type Asked = oneshot::Receiver<Result<Grant, EdgeError>>;

async fn registered(folder: &Path, map: MemoryMap) -> EdgeTask<MemoryMap> {
    let (mut task, _, _) = open("olt-1", folder, map).await.unwrap();
    for event in [
        CentreEvent::Registered {
            sent_at: boot_now().unwrap(),
            terms: Duration::from_secs(3600).into(),
            config: config(),
            endpoint: "centre:9001".to_owned(),
        },
        CentreEvent::SnapshotBegin,
        CentreEvent::SnapshotEnd,
    ] {
        task.take(Input::Event(event)).unwrap();
    }
    task.settle().await.unwrap();
    task
}

fn authorize(task: &mut EdgeTask<MemoryMap>, n: u8) -> Asked {
    let (reply, asked) = oneshot::channel();
    let request = EdgeRequest::Authorize(Box::new(subscriber(n)), reply);
    task.take_or_hold(Input::Request(request)).unwrap();
    asked
}

fn end(task: &mut EdgeTask<MemoryMap>, n: u8) -> oneshot::Receiver<Result<bool, EdgeError>> {
    let (reply, asked) = oneshot::channel();
    let who = subscriber(n).subscriber;
    let request = EdgeRequest::EndSession(who, "session-stop".to_owned(), reply);
    task.take_or_hold(Input::Request(request)).unwrap();
    asked
}

async fn landed(task: &mut EdgeTask<MemoryMap>) {
    Flight::landed(&mut task.flight).await.unwrap();
    task.go_on().await.unwrap();
}

#[tokio::test]
async fn each_group_is_done_and_answered_after_its_own_flush() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut task = registered(folder.path(), map.clone()).await;
    let mut first = authorize(&mut task, 1);
    task.submit().await.unwrap();
    let mut second = authorize(&mut task, 2);
    Flight::landed(&mut task.flight).await.unwrap();
    assert!(first.try_recv().is_err(), "not done yet");
    task.go_on().await.unwrap();
    first.try_recv().unwrap().unwrap();
    assert!(second.try_recv().is_err(), "it has just been sent");
    assert!(map.entries.lock().unwrap().contains_key(&key(1)));
    assert!(!map.entries.lock().unwrap().contains_key(&key(2)));
    landed(&mut task).await;
    second.try_recv().unwrap().unwrap();
    assert!(map.entries.lock().unwrap().contains_key(&key(2)));
}

#[tokio::test]
async fn what_had_only_gathered_is_gone_after_a_crash_and_nobody_was_told_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut task = registered(folder.path(), map.clone()).await;
    let mut first = authorize(&mut task, 1);
    task.submit().await.unwrap();
    let mut second = authorize(&mut task, 2);
    Flight::landed(&mut task.flight).await.unwrap();
    drop(task);
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    let running = Running::start(folder.path(), map.clone()).await;
    let bindings = running.edge.bindings(None).await.unwrap();
    let bound: Vec<_> = bindings.iter().map(|one| one.subscriber.as_str()).collect();
    assert_eq!(bound, ["sub-1"]);
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_ends_on_its_way_to_the_disk_is_neither_written_nor_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut task = registered(folder.path(), map.clone()).await;
    let mut given = authorize(&mut task, 1);
    task.submit().await.unwrap();
    let mut ended = end(&mut task, 1);
    landed(&mut task).await;
    assert_eq!(given.try_recv().unwrap(), Err(EdgeError::Ended));
    assert!(map.entries.lock().unwrap().is_empty());
    assert!(ended.try_recv().is_err(), "not durable yet");
    let mut again = authorize(&mut task, 1);
    landed(&mut task).await;
    assert_eq!(ended.try_recv().unwrap(), Ok(true));
    landed(&mut task).await;
    again.try_recv().unwrap().unwrap();
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    assert!(task.leaving.is_empty());
}

#[tokio::test]
async fn what_looks_at_everything_waits_until_nothing_is_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = registered(folder.path(), MemoryMap::default()).await;
    let mut first = authorize(&mut task, 1);
    task.submit().await.unwrap();
    let (reply, mut report) = oneshot::channel();
    let event = CentreEvent::Report(reply);
    task.take_or_hold(Input::Event(event)).unwrap();
    assert!(!task.takes_more(), "nothing overtakes it");
    landed(&mut task).await;
    first.try_recv().unwrap().unwrap();
    assert!(report.try_recv().is_err());
    assert!(!task.takes_more(), "it is alone");
    landed(&mut task).await;
    assert_eq!(report.try_recv().unwrap().active_subscribers, 1);
    assert!(task.takes_more());
}

#[tokio::test]
async fn what_was_taken_back_is_not_told_to_who_asked_again_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let mut task = registered(folder.path(), map.clone()).await;
    let mut first = authorize(&mut task, 1);
    task.submit().await.unwrap();
    let mut again = authorize(&mut task, 1);
    map.full.store(true, Ordering::Relaxed);
    landed(&mut task).await;
    map.full.store(false, Ordering::Relaxed);
    assert!(first.try_recv().is_err(), "it is taken back durably first");
    task.settle().await.unwrap();
    let first = first.try_recv().unwrap();
    assert!(matches!(first, Err(EdgeError::Map(_))), "{first:?}");
    assert_eq!(again.try_recv().unwrap(), Err(EdgeError::Ended));
    assert_eq!(task.edge.bindings(None).count(), 0);
    assert!(map.entries.lock().unwrap().is_empty());
    assert!(task.leaving.is_empty());
}
