//! What this host has released, for as long as a record of it may still come that says nothing new: one that was on
//! its way, or read from a server that has not heard of the release yet.
//!
//! A release that the centre has answered is on a majority of the servers, and a reading tells at least what a majority had
//! when it was asked for. So it is forgotten once it is answered, and either the stream of records has told of it, or a
//! reading that began after the answer has come to its end.

use std::collections::BTreeMap;

use super::{Command, Edge, Effects, OUTBOX_LIMIT, Record};
use crate::id::{PoolId, Seq, SubscriberId};
use crate::resource::Resource;

/// Most that are remembered. At the limit those that are answered go: from there on only the rest of a unit keeps an
/// older record of it from being believed.
const LIMIT: usize = OUTBOX_LIMIT;

/// Whose what was.
pub(super) type Former = (PoolId, Resource, SubscriberId);

#[derive(Clone, Copy, Debug)]
struct Departure {
    /// Number of the release.
    seq: Seq,
    /// Number of the record that it was held by; not known after a restart.
    held_by: Option<Seq>,
    /// The centre has answered.
    recorded: bool,
    /// The stream that is open has told of it.
    told: bool,
    /// The centre has asked for it while the release was on its way.
    asked: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Departures {
    all: BTreeMap<Former, Departure>,
}

impl Departures {
    pub(super) fn add(&mut self, former: Former, seq: Seq) {
        if self.all.len() >= LIMIT {
            self.all.retain(|_, departure| !departure.recorded);
        }
        let departure = Departure {
            seq,
            held_by: None,
            recorded: false,
            told: false,
            asked: false,
        };
        self.all.insert(former, departure);
    }

    /// By which record it was held.
    pub(super) fn held_by(&mut self, former: &Former, record: Seq) {
        if let Some(departure) = self.all.get_mut(former) {
            departure.held_by = Some(record);
        }
    }

    /// The subscriber has it again.
    pub(super) fn remove(&mut self, former: &Former) {
        self.all.remove(former);
    }

    /// The centre has answered a release. Gives whether it had been asked for meanwhile.
    fn recorded(&mut self, former: &Former, seq: Seq) -> bool {
        let mut asked = false;
        self.change(former, |departure| {
            if departure.seq == seq {
                departure.recorded = true;
                asked = std::mem::take(&mut departure.asked);
            }
        });
        asked
    }

    /// The centre asks for what is being released.
    pub(super) fn asked(&mut self, record: &Record) {
        self.change(&former(record), |departure| {
            departure.asked |= !departure.recorded;
        });
    }

    /// The stream says of a record of this host that it is nobody's any more.
    pub(super) fn told(&mut self, record: &Record) {
        self.change(&former(record), |departure| {
            let after = match &record.session {
                Some(_) => Some(departure.seq),
                None => departure.held_by,
            };
            departure.told |= after.is_none_or(|after| record.seq >= after);
        });
    }

    fn change(&mut self, former: &Former, change: impl FnOnce(&mut Departure)) {
        let Some(departure) = self.all.get_mut(former) else {
            return;
        };
        change(departure);
        if departure.recorded && departure.told {
            self.all.remove(former);
        }
    }

    /// Another stream begins. Gives what is answered already.
    pub(super) fn stream_begins(&mut self) -> Vec<(Former, Seq)> {
        let mut answered = Vec::new();
        for (former, departure) in &mut self.all {
            departure.told = false;
            if departure.recorded {
                answered.push((former.clone(), departure.seq));
            }
        }
        answered
    }

    /// What was answered when a reading began that has come to its end.
    pub(super) fn read(&mut self, answered: Vec<(Former, Seq)>) {
        for (former, seq) in answered {
            if self.all.get(&former).is_some_and(|d| d.seq == seq) {
                self.all.remove(&former);
            }
        }
    }

    /// Whether a record is one of before a release. What the centre gives itself it gives under growing numbers of its own.
    fn is_older(&self, record: &Record) -> bool {
        let departure = self.all.get(&former(record));
        departure.is_some_and(|departure| match &record.session {
            Some(_) => true,
            None => departure.held_by.is_none_or(|held| record.seq <= held),
        })
    }
}

impl Edge {
    /// Tells the centre that what was held by the record of that number has ended.
    pub(super) fn enqueue_release(&mut self, command: Command, held_by: Seq, fx: &mut Effects) {
        let former = command.former();
        self.enqueue(command, fx);
        self.departed.held_by(&former, held_by);
    }

    /// The centre has answered a command, in whichever way. Where the release of something and the question for it met, a
    /// server that had not heard of the one has asked, and may have outlived it with its question: the records say so.
    pub(super) fn answered(&mut self, command: &Command, seq: Seq, fx: &mut Effects) {
        if self.departed.recorded(&command.former(), seq) {
            self.read_anew(fx);
        }
    }

    /// Whether a record says only what this host has ended since.
    pub(super) fn has_departed(&self, record: &Record) -> bool {
        record.olt == self.olt && self.departed.is_older(record)
    }

    /// The stream says that a record is nobody's any more.
    pub(super) fn departure_told(&mut self, record: &Record) {
        if record.olt == self.olt {
            self.departed.told(record);
        }
    }
}

fn former(record: &Record) -> Former {
    (
        record.pool.clone(),
        record.resource,
        record.subscriber.clone(),
    )
}
