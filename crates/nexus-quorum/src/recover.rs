//! The way out when a majority of the voters is lost for good: one node goes on alone, as a new cluster with the old state.
//!
//! This is the one step that no quorum agrees to. What the lost voters had acknowledged and this node never got is gone, so
//! the node with the longest log should be taken. The others must not come back: the cluster gets a new name, so that they
//! are refused; they join again with a new file under a new number.

use std::collections::BTreeSet;
use std::path::Path;

use openraft::{CommittedLeaderId, EmptyNode, EntryPayload};

use crate::error::QuorumError;
use crate::store::{Cluster, Store};
use crate::types::{Batch, Command, LogId, Membership, ProposalId, RaftEntry, Vote};

/// What going on alone has made of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The last entry that the file had. Compare it between the nodes that are left before one of them is chosen.
    pub last_index: u64,
    /// The term in which the node goes on.
    pub term: u64,
}

/// Look at the file of node `number` without changing what it says: the place of its last log entry, (term, index).
///
/// Of the nodes that are left, the one with the greatest pair has everything that any of them has.
pub fn last_entry(path: &Path, number: u32) -> Result<Option<(u64, u64)>, QuorumError> {
    let store = existing(path, number)?;
    let last = store.log_ends().1;
    store.close().map_err(|error| store.named(error))?;
    Ok(last.map(|last| (last.leader_id.term, last.index)))
}

/// Make node `number`, whose quorum must not be open, the only member of a new cluster that has all the node has.
/// `command` is the first one of the new cluster: what the machine must know of this before anything else.
///
/// For when a majority of the voters is lost for good, or all there is is an old copy, and only then: used while the
/// others live, it makes two clusters.
pub fn go_on_alone(path: &Path, number: u32, command: Vec<u8>) -> Result<Recovered, QuorumError> {
    let store = existing(path, number)?;
    let (Some(last), Some(vote)) = (store.log_ends().1, store.vote()) else {
        return Err(QuorumError::NeverMember {
            path: path.to_owned(),
        });
    };
    let term = vote
        .leader_id
        .term
        .max(last.leader_id.term)
        .saturating_add(1);
    let leader = CommittedLeaderId::new(term, number);
    let place = |offset| LogId::new(leader, last.index.saturating_add(offset));
    let alone = Membership::new(
        vec![BTreeSet::from([number])],
        std::collections::BTreeMap::from([(number, EmptyNode::default())]),
    );
    let members = RaftEntry {
        log_id: place(1),
        payload: EntryPayload::Membership(alone),
    };
    let first = RaftEntry {
        log_id: place(2),
        payload: EntryPayload::Normal(Batch {
            term,
            leader: number,
            // The time goes on where the state stands.
            at: 0,
            commands: vec![Command {
                // Opening the file has counted a start, which proposes nothing else.
                id: ProposalId {
                    origin: number,
                    boot: store.boot(),
                    seq: 1,
                    floor: 1,
                },
                bytes: command,
            }],
        }),
    };
    let name = Cluster {
        name: rand::random(),
        own: true,
    };
    // One transaction: after a crash it is done or not begun.
    let done = store.replace_members([members, first], Vote::new_committed(term, number), name);
    done.and_then(|()| store.close())
        .map_err(|error| store.named(error))?;
    Ok(Recovered {
        last_index: last.index,
        term,
    })
}

fn existing(path: &Path, number: u32) -> Result<Store, QuorumError> {
    if !path.is_file() {
        return Err(QuorumError::Io {
            path: path.to_owned(),
            why: "it is not there".to_owned(),
        });
    }
    Store::open(path, number)
}
