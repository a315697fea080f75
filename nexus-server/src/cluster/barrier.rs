//! Asks a majority of the servers what it has, each time shards have moved or an OLT wants to read its records: only when
//! this server has all of that too are the new owners told, and the reader.
//!
//! What an OLT may count on is on a majority ([`crate::confirm`]), and the move was decided by a majority, so
//! that what was counted on before the move is among the answers that are given after it.

use std::time::Duration;

use futures::future::join_all;
use nexus_clset::{Digest, NodeId, VersionVector};
use nexus_p2p::Link;
use tokio::sync::watch;
use tokio::time::timeout;

use super::channel;
use crate::actor::Handle;
use crate::refused::Refused;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time it is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a caller of the API is left waiting for what other servers have.
pub const API_WAIT: Duration = Duration::from_secs(5);
/// How long an OLT is left waiting for its configuration; it asks again then.
pub const CONFIG_WAIT: Duration = Duration::from_secs(8);
/// How long it is left waiting for its records, on a stream that is open; it asks another server then. Longer than servers
/// are behind each other on a machine that is far too busy: who asks anew waits for what is newer.
pub const READ_WAIT: Duration = Duration::from_secs(60);

/// Moves of shards to OLTs, numbered as this server carried them out, and readings in one row with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest one.
    pub moved: u64,
    /// The newest one that may be told.
    pub passed: u64,
}

/// Asks for ever, whenever shards have moved.
pub async fn run(link: Link, centre: Handle, mut progress: watch::Receiver<Progress>) {
    loop {
        let now = *progress.borrow_and_update();
        if now.passed < now.moved {
            if ask(&link, &centre, now.moved).await == Err(Refused::Stopping) {
                return;
            }
            // Passed, more moves, or time to ask again.
            if let Ok(Err(_)) = timeout(AGAIN, progress.changed()).await {
                return;
            }
        } else if progress.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until this server may tell an OLT of the moves and readings up to that number.
///
/// # Errors
/// [`Refused::NotNow`] if it does not get there within `limit`.
pub async fn wait(
    mut progress: watch::Receiver<Progress>,
    number: u64,
    limit: Duration,
) -> Result<(), Refused> {
    match timeout(limit, progress.wait_for(|now| now.passed >= number)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Refused::Stopping),
        Err(_) => Err(Refused::NotNow(
            "it has yet to learn what a majority of the servers has on record: ask again"
                .to_owned(),
        )),
    }
}

async fn ask(link: &Link, centre: &Handle, number: u64) -> Result<(), Refused> {
    let (others, needed) = centre
        .patient(|centre, _| Ok((centre.other_voters(), centre.acks().needed)))
        .await?;
    let answers = join_all(others.iter().map(|node| seen(link, *node))).await;
    let answers: Vec<VersionVector> = answers.into_iter().flatten().collect();
    if answers.len() < needed {
        tracing::debug!(
            answers = answers.len(),
            needed,
            "no majority says what it has"
        );
        return Ok(());
    }
    centre
        .patient(move |centre, _| {
            centre.majority_had(number, &answers);
            Ok(())
        })
        .await
}

async fn seen(link: &Link, node: NodeId) -> Option<VersionVector> {
    let answer = link.ask(node.0, channel::SEEN, Vec::new(), PATIENCE).await;
    let digest = Digest::decode(&answer.ok()?).inspect_err(|error| {
        link.misbehaved(node.0, &error.to_string());
    });
    Some(digest.ok()?.seen)
}
