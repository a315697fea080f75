//! The kernel's map: what it does not take, does not let go, and what leaves it before the disk is done.

use super::*;

#[tokio::test]
async fn what_the_map_does_not_take_is_not_answered_and_nothing_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    map.full.store(true, Ordering::Relaxed);
    let refused = running.edge.authorize(subscriber(1)).await;
    assert!(matches!(refused, Err(EdgeError::Map(_))), "{refused:?}");
    assert!(running.edge.bindings(None).await.unwrap().is_empty());
    map.full.store(false, Ordering::Relaxed);
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    assert!(!grant.known);
    // It was accepted, so a write that fails later does not end it.
    map.full.store(true, Ordering::Relaxed);
    assert!(running.edge.authorize(subscriber(1)).await.is_err());
    assert_eq!(running.edge.bindings(None).await.unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_replaced_does_not_go_on_answering() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    map.full.store(true, Ordering::Relaxed);
    let mut other = subscriber(1);
    other.subscriber = SubscriberId::new("other").unwrap();
    assert!(running.edge.authorize(other).await.is_err());
    assert_eq!(map.entries.lock().unwrap().get(&key(1)), None);
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_could_not_be_removed_is_removed_as_soon_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let running = Running::start(folder.path(), map.clone()).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    map.stuck.store(true, Ordering::Relaxed);
    let who = subscriber(1).subscriber;
    let ended = running.edge.end_session(who, "session-stop").await;
    assert_eq!(ended, Ok(true));
    assert_eq!(map.entries.lock().unwrap().len(), 1);
    map.stuck.store(false, Ordering::Relaxed);
    running.edge.status().await.unwrap();
    running.edge.status().await.unwrap();
    assert!(map.entries.lock().unwrap().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn an_ending_entry_does_not_wait_for_the_disk_and_is_back_if_the_end_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let map = MemoryMap::default();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let running = Running::start_on(store.clone(), map.clone()).await;
    running.registered().await;
    let grant = running.edge.authorize(subscriber(1)).await.unwrap();
    tokio::task::spawn_blocking(move || store.flush_and_close())
        .await
        .unwrap()
        .unwrap();
    let who = subscriber(1).subscriber;
    let ended = running.edge.end_session(who, "session-stop").await;
    assert_eq!(ended, Err(EdgeError::Stopped));
    assert!(
        map.entries.lock().unwrap().is_empty(),
        "it rests from the decision on, so no lease may be renewed after it"
    );
    assert!(running.task.await.unwrap().is_err());
    let running = Running::start(folder.path(), map.clone()).await;
    let entry = map.entries.lock().unwrap()[&key(1)];
    assert_eq!(entry.address, grant.address.octets());
    running.stop().await;
}
