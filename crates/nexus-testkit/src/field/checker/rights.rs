//! What subscribers were given, and until when nobody may take it from them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::field::history::{Action, Held, History, Kind, OltAt, Op, Outcome, Who};
use crate::field::moment::Moment;
use crate::packet::Mac;

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
    /// When its end was asked for: a release, a stop, an Access-Request at another OLT. It may count from then on.
    pub until: Moment,
    /// Since when the centre's acknowledgement is known: the map had it without end.
    pub acknowledged: Option<Moment>,
    /// When this stay at the OLT began, if what was before may not have been settled then: a claim of another OLT was
    /// not known at the centre, or this OLT had not heard that the stay before had ended.
    pub unsettled: Option<Moment>,
}

impl Right {
    /// From when to when it must be kept, whatever happens: acknowledged, and its end not asked for.
    #[must_use]
    pub fn firm(&self) -> Option<(Moment, Moment)> {
        let from = self.acknowledged?.max(self.from);
        (from < self.until).then_some((from, self.until))
    }
}

/// All rights in the order of subscribers and time.
#[must_use]
pub fn rights(history: &History, who: &BTreeMap<Mac, Who>) -> Vec<Right> {
    let mut endless: BTreeMap<(OltAt, Who, Ipv4Addr), Vec<&Held>> = BTreeMap::new();
    for held in &history.held {
        if let Some(whose) = who.get(&held.mac)
            && held.endless_from.is_some()
        {
            endless
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
                .find(|later| may_end(later, op.olt))
                .map_or(Moment::NEVER, |later| later.began);
            let seen = endless.get(&(op.olt, op.who, address));
            // What was there before is there now, if it has not gone before the Accept.
            let acknowledged = seen.into_iter().flatten().find_map(|held| {
                let alive = held.gone_by.is_none_or(|gone| gone > op.ended);
                held.endless_from.filter(|from| alive && *from < until)
            });
            rights.push(Right {
                who: op.who,
                olt: op.olt,
                address,
                from: op.ended,
                until,
                acknowledged,
                unsettled: None,
            });
        }
    }
    settle(&mut rights, history, who);
    rights
}

/// Looks at each stay of a subscriber at an OLT, whether what was before was settled when it began. A stay ends when its
/// subscriber asks elsewhere, or its end is asked for.
fn settle(rights: &mut [Right], history: &History, who: &BTreeMap<Mac, Who>) {
    let mut entries: BTreeMap<(OltAt, Who), Vec<&Held>> = BTreeMap::new();
    for held in &history.held {
        if let Some(whose) = who.get(&held.mac) {
            entries.entry((held.olt, *whose)).or_default().push(held);
        }
    }
    let one_stay = |one: &Right, next: &Right| one.olt == next.olt && one.until > next.from;
    for of_one in rights.chunk_by_mut(|one, next| one.who == next.who) {
        let mut visits: Vec<(OltAt, Option<Moment>)> = Vec::new();
        for stay in of_one.chunk_by_mut(one_stay) {
            let Some((olt, began, whose)) = stay.first().map(|one| (one.olt, one.from, one.who))
            else {
                continue;
            };
            // The claim of a visit may come to the centre behind that of this stay.
            let on_its_way = visits.iter().any(|(at, acknowledged)| {
                *at != olt && acknowledged.is_none_or(|acknowledged| acknowledged >= began)
            });
            // This OLT has not heard yet that the stay before has ended.
            let there_still = !visits.is_empty()
                && entries
                    .get(&(olt, whose))
                    .into_iter()
                    .flatten()
                    .any(|held| {
                        held.first.1 < began && held.gone_by.is_none_or(|gone| gone > began)
                    });
            for right in &mut *stay {
                right.unsettled = (on_its_way || there_still).then_some(began);
            }
            visits.push((olt, stay.last().and_then(|right| right.acknowledged)));
        }
    }
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
        Action::Renew(_) => false,
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

/// Whether this OLT's store was replaced by an older one in that time.
pub(super) fn restored(history: &History, olt: OltAt, from: Moment, until: Moment) -> bool {
    history
        .disturbances
        .iter()
        .any(|one| one.kind == Kind::Restored && one.olt == Some(olt) && one.touches(from, until))
}
