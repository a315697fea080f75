//! What the machine wants done, in two steps: first the changes of rows, durably; then the actions, in order.

use std::time::Duration;

use super::command::Outgoing;
use super::key::{LineKey, Place};
use super::policy::Conflict;
use super::row::{Row, RowKey};
use crate::id::{PoolId, Seq, SubscriberId};
use crate::resource::Resource;
use crate::time::BootTime;

/// A change of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Add or replace.
    Put(Box<Row>),
    /// Remove; no error if it is not there.
    Forget(RowKey),
}

/// Something that may be done only after all changes are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this entry into the kernel's map, over whatever stands at its place.
    PutBinding(MapEntry),
    /// Remove the entry of this place from the kernel's map. Before the changes are durable as well, because
    /// the rest of its address is counted from now.
    RemoveBinding(Place),
    /// Send a command to the centre. Answer with acked, refused or lost.
    Send(Outgoing),
    /// Read the centre's records anew, from the beginning.
    PullRecords,
    /// Tell a person.
    Note(Note),
}

/// An entry of the kernel's map; IPv4 only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Under which key.
    pub key: LineKey,
    /// Pool, which says the profile.
    pub pool: PoolId,
    /// The address.
    pub address: std::net::Ipv4Addr,
    /// From then on the entry is as good as absent; `None`: no end.
    pub valid_until: Option<BootTime>,
}

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A line changed hands.
    KeyTaken {
        /// The line.
        key: LineKey,
        /// Who had it.
        from: SubscriberId,
        /// Who has it now.
        to: SubscriberId,
    },
    /// A policy has kept what is bound, and refused a newcomer.
    NotLet {
        /// What was in its way.
        conflict: Conflict,
        /// The newcomer.
        subscriber: SubscriberId,
        /// Where it came up.
        key: LineKey,
        /// Whose binding is kept; its own, if it is bound otherwise.
        holder: SubscriberId,
        /// Where that one is.
        on: LineKey,
        /// How long the newcomer is refused there from now on, whatever changes meanwhile.
        quarantine: Option<Duration>,
    },
    /// A subscriber came up on its line with another MAC.
    MacChanged {
        /// Who.
        subscriber: SubscriberId,
        /// With the MAC that it had.
        from: LineKey,
        /// With the MAC that it has now.
        to: LineKey,
    },
    /// A subscriber came up on another line.
    Moved {
        /// Who.
        subscriber: SubscriberId,
        /// The line it left.
        from: LineKey,
        /// The line it is on now.
        to: LineKey,
    },
    /// The centre refused a command, and what that ended.
    Refused {
        /// Its number.
        seq: Seq,
        /// Whose.
        subscriber: SubscriberId,
        /// About what.
        resource: Resource,
        /// A binding was ended by it.
        ended: bool,
        /// What the centre said.
        why: String,
    },
    /// A binding ended because the centre's record does not have it.
    NotInRecord {
        /// Whose.
        subscriber: SubscriberId,
        /// What.
        resource: Resource,
    },
    /// The centre was not heard for longer than acknowledged bindings outlive the lease: they have ended.
    KeptEnded {
        /// How many.
        bindings: u64,
    },
    /// A pool of the configuration cannot be used.
    BadPool {
        /// Which.
        pool: PoolId,
        /// Why.
        why: String,
    },
}

/// What one or several events led to. Changes of one event stand together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be made durable first.
    pub changes: Vec<Change>,
    /// To be done afterwards, in this order.
    pub actions: Vec<Action>,
}

impl Effects {
    /// Nothing to do.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.actions.is_empty()
    }

    pub(super) fn put(&mut self, row: Row) {
        self.changes.push(Change::Put(Box::new(row)));
    }

    pub(super) fn forget(&mut self, key: RowKey) {
        self.changes.push(Change::Forget(key));
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }
}
