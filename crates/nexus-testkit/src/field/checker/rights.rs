//! What subscribers were given, and until when nobody may take it from them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::field::history::{Action, Held, History, Kind, OltAt, Op, Outcome, Who};
use crate::field::moment::Moment;
use crate::field::plan::LEASES;
use crate::packet::Mac;

/// How long a machine may stand still.
const SLOW: Duration = Duration::from_secs(60);

/// An Access-Accept, and what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// Who.
    pub who: Who,
    /// Where.
    pub olt: OltAt,
    /// What.
    pub address: Ipv4Addr,
    /// When the Accept was there.
    pub from: Moment,
    /// When its end was asked for: a release, a stop, an Access-Request at another OLT, or one that was answered with
    /// something else behind an older store. It may count from then on.
    pub until: Moment,
    /// Since when the centre's acknowledgement is known: the map had it without an end in sight.
    pub acknowledged: Option<Moment>,
    /// The centre may take another stay for the later one. Its subscriber had left, or was stopped, and came back to a
    /// binding that was there still, in a shard that the OLT may not own any more, so that it cannot tell of the return;
    /// or a question that it had given up may still wait at another OLT, which hangs; or what it was given elsewhere is
    /// dated by a clock that was ahead.
    pub doubtful: bool,
}

impl Right {
    /// From when to when it must be kept, whatever happens: acknowledged, and its end not asked for.
    #[must_use]
    pub fn firm(&self) -> Option<(Moment, Moment)> {
        let from = self.acknowledged?.max(self.from);
        (from < self.until && !self.doubtful).then_some((from, self.until))
    }
}

/// All rights in the order of subscribers and time.
#[must_use]
pub fn rights(history: &History, who: &BTreeMap<Mac, Who>) -> Vec<Right> {
    let mut entries: BTreeMap<(OltAt, Who, Ipv4Addr), Vec<&Held>> = BTreeMap::new();
    for held in &history.held {
        if let Some(whose) = who.get(&held.mac) {
            entries
                .entry((held.olt, *whose, held.address))
                .or_default()
                .push(held);
        }
    }
    let mut rights = Vec::new();
    for ops in of_each(&history.ops).values() {
        for (place, op) in ops.iter().enumerate() {
            let Outcome::Accepted(address) = op.outcome else {
                continue;
            };
            let later = ops.get(place + 1..).unwrap_or_default();
            let until = later
                .iter()
                .find(|later| may_end(later, op.olt) || instead(history, later, (op, address)))
                .map_or(Moment::NEVER, |later| later.began);
            let seen = entries.get(&(op.olt, op.who, address));
            // What was there before is there now if it was seen since, for certain.
            let acknowledged = seen.into_iter().flatten().find_map(|held| {
                let alive = held.last.0 >= op.ended;
                held.acked_from.filter(|from| alive && *from < until)
            });
            let before = ops.get(..place).unwrap_or_default();
            let left = before.iter().rev().find(|before| may_end(before, op.olt));
            let untold = left.is_some_and(|left| {
                let there_still = |held: &&Held| {
                    held.first.1 < left.ended && held.gone_by.is_none_or(|gone| gone > op.began)
                };
                // What its client has released here itself, the OLT knows of.
                let heard = matches!(left.action, Action::Release(_)) && left.olt == op.olt;
                let known = || seen.into_iter().flatten().any(there_still);
                // Behind an older store it comes back from the record, which may be as old as the stay before.
                let older = restored(history, op.olt, Moment::default(), op.began);
                !heard && (older || known()) && moved(history, op.olt, op.began)
            });
            let unheard = before.iter().any(|silent| may_wait(history, silent, op));
            let ahead = before.iter().any(|other| dated_ahead(history, other, op));
            rights.push(Right {
                who: op.who,
                olt: op.olt,
                address,
                from: op.ended,
                until,
                acknowledged,
                doubtful: untold || unheard || ahead,
            });
        }
    }
    rights
}

/// The operations of each subscriber in their order.
pub(super) fn of_each(ops: &[Op]) -> BTreeMap<Who, Vec<&Op>> {
    let mut each: BTreeMap<Who, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        each.entry(op.who).or_default().push(op);
    }
    for ops in each.values_mut() {
        ops.sort_by_key(|op| op.began);
    }
    each
}

/// Whether an operation may end what its subscriber has at that OLT.
pub(super) fn may_end(op: &Op, olt: OltAt) -> bool {
    match op.action {
        Action::Authenticate => op.olt != olt,
        Action::Release(_) => true,
        Action::Stop => !matches!(op.outcome, Outcome::Refused(_)),
        Action::Renew(_) | Action::Discover(_) | Action::Reboot(_) => false,
    }
}

/// Whether something that happened to this OLT, or to the servers, in that time may have ended what the centre had not
/// acknowledged.
pub(super) fn disturbed(history: &History, olt: OltAt, from: Moment, until: Moment) -> bool {
    history
        .disturbances
        .iter()
        .any(|one| one.touches(from, until) && one.olt.is_none_or(|at| at == olt))
}

/// Whether a question that was given up may not have been read before `op`: in the socket of a host that hangs it waits,
/// and counts from when it is read.
fn may_wait(history: &History, silent: &Op, op: &Op) -> bool {
    let waits = || {
        op.began <= silent.ended.plus(SLOW)
            || history.disturbances.iter().any(|one| {
                one.olt == Some(silent.olt)
                    && one.touches(silent.began, silent.ended)
                    && op.began <= one.until
            })
    };
    silent.action == Action::Authenticate
        && silent.outcome == Outcome::Silent
        && silent.olt != op.olt
        && waits()
}

/// Whether its subscriber was given something else behind an older store at the same OLT: what it had is asked back then.
fn instead(history: &History, later: &Op, (op, address): (&Op, Ipv4Addr)) -> bool {
    later.olt == op.olt
        && matches!(later.outcome, Outcome::Accepted(other) if other != address)
        && restored(history, op.olt, op.began, later.ended)
}

/// Whether what this Access-Request brought, at another OLT than `op`, is dated later than it was given.
fn dated_ahead(history: &History, other: &Op, op: &Op) -> bool {
    matches!(other.outcome, Outcome::Accepted(_))
        && other.olt != op.olt
        && history.disturbances.iter().any(|one| {
            one.kind == Kind::Ahead
                && one.olt == Some(other.olt)
                && one.touches(other.began, other.ended)
        })
}

/// Whether shards of this OLT may have moved before: it had no lease for a time, or goes on under a new session.
fn moved(history: &History, olt: OltAt, before: Moment) -> bool {
    history.disturbances.iter().any(|one| {
        let long = one.until.since(one.from) >= LEASES.lease;
        one.olt == Some(olt) && one.from < before && (one.kind == Kind::Restored || long)
    })
}

/// Whether this OLT's store was replaced by an older one in that time.
pub(super) fn restored(history: &History, olt: OltAt, from: Moment, until: Moment) -> bool {
    history
        .disturbances
        .iter()
        .any(|one| one.kind == Kind::Restored && one.olt == Some(olt) && one.touches(from, until))
}
