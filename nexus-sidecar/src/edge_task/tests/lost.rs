//! A store that is not what this host has written last, and a machine that stood still.

use super::*;

fn origin(folder: &Path) -> Origin {
    Origin {
        mark: Some(folder.join("control.mark")),
        product: Some("machine-1".to_owned()),
    }
}

async fn start(folder: &Path, origin: &Origin) -> Running {
    let access = Access::new([interface(Policies::default())]);
    let store = Store::open(&folder.join("store"), Options::default()).unwrap();
    let metrics = Metrics::new().unwrap();
    let olt = OltId::new("olt-1").unwrap();
    let map = MemoryMap::default();
    let started = EdgeTask::start(olt, store, map, access, origin, metrics).await;
    let (task, edge, centre) = started.unwrap();
    let (stopper, shutdown) = shutdown::channel();
    Running {
        edge,
        centre,
        stopper,
        task: tokio::spawn(task.run(shutdown)),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn an_older_image_put_back_on_the_same_boot_gives_nothing_before_the_record_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (store, image) = (folder.path().join("store"), folder.path().join("image"));
    let origin = origin(folder.path());
    let running = start(folder.path(), &origin).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    let session = running.edge.status().await.unwrap().session;
    running.stop().await;
    copy(&store, &image);
    // A restart as such changes nothing.
    let running = start(folder.path(), &origin).await;
    let status = running.edge.status().await.unwrap();
    assert_eq!((status.session, status.unacked), (session.clone(), 1));
    running.edge.authorize(subscriber(2)).await.unwrap();
    running.stop().await;
    std::fs::remove_dir_all(&store).unwrap();
    copy(&image, &store);
    let running = start(folder.path(), &origin).await;
    let status = running.edge.status().await.unwrap();
    assert_ne!(status.session, session);
    assert_eq!((status.lease_left_secs, status.shards.len()), (None, 0));
    assert_eq!((status.unacked, status.suspended), (0, 1));
    let refused = running.edge.authorize(subscriber(3)).await.unwrap_err();
    assert!(matches!(refused, EdgeError::LeaseEnded), "{refused}");
    running.registered().await;
    running.edge.authorize(subscriber(3)).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_store_of_another_machine_is_gone_on_from_under_a_new_session() {
    let folder = tempfile::tempdir().unwrap();
    let mut origin = origin(folder.path());
    let running = start(folder.path(), &origin).await;
    running.registered().await;
    running.edge.authorize(subscriber(1)).await.unwrap();
    let session = running.edge.status().await.unwrap().session;
    running.stop().await;
    origin.product = Some("machine-2".to_owned());
    let running = start(folder.path(), &origin).await;
    let status = running.edge.status().await.unwrap();
    assert_ne!(status.session, session);
    assert_eq!(status.lease_left_secs, None);
    let after = status.session;
    running.stop().await;
    // From now on it is this machine's.
    let running = start(folder.path(), &origin).await;
    assert_eq!(running.edge.status().await.unwrap().session, after);
    running.stop().await;
}

#[tokio::test]
async fn what_was_given_before_the_process_stood_still_is_not_answered_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let (mut task, _, _) = open_on("olt-1", store, MemoryMap::default()).await.unwrap();
    let start = boot_now().unwrap();
    let mut fx = Effects::new();
    let lease = Duration::from_secs(100);
    task.edge.registered(start, start, lease, config(), &mut fx);
    task.edge.snapshot_begin();
    task.edge.snapshot_end(start, &mut fx);
    let (reply, mut answered) = oneshot::channel();
    let request = EdgeRequest::Authorize(Box::new(subscriber(1)), reply);
    let answer = task.request(start, request, &mut fx);
    task.gather(fx).unwrap();
    task.settle().await.unwrap();
    task.answer(start + lease, answer);
    let answer = answered.try_recv().unwrap();
    assert_eq!(answer.unwrap_err(), EdgeError::LeaseEnded);
}
