//! What of the log counts, with which stamp, and that a snapshot carries all of it.

use std::sync::Mutex;

use openraft::{CommittedLeaderId, Membership};

use super::*;
use crate::machine::BoxFuture;
use crate::types::{Command, ProposalId};

/// Keeps what it is told; its snapshot is the number of commands.
#[derive(Default)]
struct Notebook(Mutex<Vec<Entry>>);

impl Machine for Notebook {
    fn apply(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Vec<u8>>, MachineError>> {
        let answers = entries.iter().map(|entry| entry.command.clone()).collect();
        self.0.lock().unwrap().extend(entries);
        Box::pin(std::future::ready(Ok(answers)))
    }

    fn snapshot(&self) -> BoxFuture<Result<Vec<u8>, MachineError>> {
        let told = u8::try_from(self.0.lock().unwrap().len()).unwrap();
        Box::pin(std::future::ready(Ok(vec![told])))
    }

    fn install(&self, snapshot: Vec<u8>) -> BoxFuture<Result<(), MachineError>> {
        assert_eq!(snapshot.len(), 1);
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Bench {
    state: State,
    notebook: Arc<Notebook>,
    shared: Arc<Shared>,
    _directory: tempfile::TempDir,
}

async fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&directory.path().join("q.redb"), 1).unwrap());
    let shared = Arc::new(Shared::new(1, store.boot()));
    let notebook = Arc::new(Notebook::default());
    let state = State::open(
        Arc::<Notebook>::clone(&notebook) as _,
        store,
        Arc::clone(&shared),
    )
    .await
    .unwrap();
    Bench {
        state,
        notebook,
        shared,
        _directory: directory,
    }
}

fn entry(term: u64, index: u64, payload: EntryPayload<Types>) -> RaftEntry {
    RaftEntry {
        log_id: LogId::new(CommittedLeaderId::new(term, 2), index),
        payload,
    }
}

fn members(index: u64, numbers: &[u32]) -> RaftEntry {
    let voters = numbers.iter().copied().collect();
    entry(
        1,
        index,
        EntryPayload::Membership(Membership::new(vec![voters], ())),
    )
}

/// A batch stamped in `term` by node 2, of one command of node `origin`.
fn batch(term: u64, at: u64, origin: u32, boot: u64, seq: u64) -> EntryPayload<Types> {
    let id = ProposalId {
        origin,
        boot,
        seq,
        floor: 0,
    };
    let command = Command {
        id,
        bytes: vec![u8::try_from(seq).unwrap()],
    };
    EntryPayload::Normal(Batch {
        term,
        leader: 2,
        at,
        commands: vec![command],
    })
}

#[tokio::test]
async fn what_a_deposed_leader_stamped_and_what_came_before_does_not_count() {
    let mut bench = bench().await;
    let outcomes = bench
        .state
        .apply(vec![
            members(0, &[1, 2]),
            entry(3, 1, batch(3, 100, 2, 1, 0)),
            // Stamped in term 2, written in term 3: the stamp would be of another office.
            entry(3, 2, batch(2, 900, 2, 1, 1)),
            // The same command again, and then one whose stamp lags.
            entry(3, 3, batch(3, 200, 2, 1, 0)),
            entry(4, 4, batch(4, 150, 2, 1, 2)),
            // Of a node that is no member.
            entry(4, 5, batch(4, 300, 9, 1, 0)),
            entry(4, 6, EntryPayload::Blank),
        ])
        .await
        .unwrap();
    use Outcome::{Counted, Nothing, Void};
    assert_eq!(
        outcomes,
        [Nothing, Counted, Void, Counted, Counted, Counted, Nothing]
    );
    let told: Vec<_> = bench
        .notebook
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry.ordinal,
                entry.index,
                entry.at.as_nanos(),
                entry.command.clone(),
            )
        })
        .collect();
    assert_eq!(told, [(1, 1, 100, vec![0]), (2, 4, 200, vec![2])]);
    assert_eq!((bench.shared.greatest(), bench.shared.ordinal()), (300, 2));
}

#[tokio::test]
async fn a_snapshot_carries_stamp_order_members_and_names() {
    let mut first = bench().await;
    let log = vec![members(0, &[1, 2]), entry(1, 1, batch(1, 70, 2, 5, 3))];
    first.state.apply(log).await.unwrap();
    let snapshot = first
        .state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    assert_eq!(
        first
            .state
            .get_current_snapshot()
            .await
            .unwrap()
            .unwrap()
            .meta,
        snapshot.meta
    );

    let mut second = bench().await;
    second
        .state
        .install_snapshot(&snapshot.meta, snapshot.snapshot)
        .await
        .unwrap();
    assert_eq!(
        second.state.applied_state().await.unwrap(),
        first.state.applied_state().await.unwrap()
    );
    assert_eq!((second.shared.greatest(), second.shared.ordinal()), (70, 1));
    second
        .state
        .apply(vec![
            entry(1, 2, batch(1, 71, 2, 5, 3)),
            entry(1, 3, batch(1, 72, 2, 5, 4)),
        ])
        .await
        .unwrap();
    let told = second.notebook.0.lock().unwrap().clone();
    assert_eq!(
        told.iter()
            .map(|entry| (entry.ordinal, entry.index))
            .collect::<Vec<_>>(),
        [(2, 3)]
    );
}

#[tokio::test]
async fn a_snapshot_that_is_none_is_refused() {
    let mut bench = bench().await;
    bench.state.apply(vec![members(0, &[1])]).await.unwrap();
    let snapshot = bench
        .state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    for bytes in [&[][..], &[0, 0, 0], &[255; 40], &snapshot.snapshot.0[..6]] {
        let refused = bench.state.become_snapshot(&snapshot.meta, bytes).await;
        assert!(refused.is_err(), "{bytes:?}");
    }
    let mut other = snapshot.meta.clone();
    other.last_log_id = Some(LogId::new(CommittedLeaderId::new(9, 9), 9));
    assert!(
        bench
            .state
            .become_snapshot(&other, &snapshot.snapshot.0)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_file_that_forgot_proposals_of_its_own_is_found_out() {
    // The cluster knows of start 9 of this node; its file knows of none but this first one.
    let mut bench = bench().await;
    bench.state.apply(vec![members(0, &[1, 2])]).await.unwrap();
    let refused = bench
        .state
        .apply(vec![entry(1, 1, batch(1, 5, 1, 9, 0))])
        .await;
    assert!(refused.is_err());
    let why = bench.shared.why_stopped().unwrap();
    assert!(
        why.contains("an old copy of the file was put back"),
        "{why}"
    );
}
