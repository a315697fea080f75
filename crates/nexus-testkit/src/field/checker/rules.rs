//! The rules about what happened while the run went on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Finding;
use super::rights::{Right, disturbed, may_end, of_each, restored};
use crate::field::history::{Action, Held, History, Kind, Op, Outcome, Who};
use crate::field::moment::Moment;
use crate::field::tracker::at_once;
use crate::packet::{Mac, mac_text};

/// So many who asked later and were answered show that the OLT was not simply slow.
const OVERTAKERS: usize = 3;

/// No address for two subscribers in kernels' maps at the same time.
pub(super) fn one_holder(history: &History, who: &BTreeMap<Mac, Who>) -> Vec<Finding> {
    let mut by_address: BTreeMap<Ipv4Addr, Vec<&Held>> = BTreeMap::new();
    for held in &history.held {
        by_address.entry(held.address).or_default().push(held);
    }
    let mut found = Vec::new();
    for (address, held) in by_address {
        for (place, one) in held.iter().enumerate() {
            for other in held.get(place + 1..).unwrap_or_default() {
                if one.mac != other.mac && at_once(one, other) {
                    let name = |held: &Held| match who.get(&held.mac) {
                        Some(who) => format!("subscriber {who} at OLT {}", held.olt),
                        None => format!("a stranger, {}, at OLT {}", mac_text(held.mac), held.olt),
                    };
                    let span = |held: &Held| format!("{}..{}", held.first.0, held.last.1);
                    found.push(Finding {
                        at: one.first.1.max(other.first.1),
                        rule: "one holder",
                        whose: [one, other]
                            .iter()
                            .filter_map(|held| who.get(&held.mac).copied())
                            .collect(),
                        what: format!(
                            "{address} is in two maps' entries at once: for {} ({}) and for {} ({})",
                            name(one),
                            span(one),
                            name(other),
                            span(other)
                        ),
                    });
                }
            }
        }
    }
    found
}

/// What is acknowledged stays in its map and is nobody else's until its end is asked for.
pub(super) fn kept(history: &History, rights: &[Right], who: &BTreeMap<Mac, Who>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut held: BTreeMap<(usize, Who, Ipv4Addr), Vec<&Held>> = BTreeMap::new();
    for one in &history.held {
        if let Some(whose) = who.get(&one.mac) {
            held.entry((one.olt, *whose, one.address))
                .or_default()
                .push(one);
        }
    }
    let mut accepted: BTreeMap<Ipv4Addr, Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        if let Outcome::Accepted(address) = op.outcome {
            accepted.entry(address).or_default().push(op);
        }
    }
    for right in rights {
        let Some((from, until)) = right.firm() else {
            continue;
        };
        for one in held
            .get(&(right.olt, right.who, right.address))
            .into_iter()
            .flatten()
        {
            if let Some(gone) = one.gone_by
                && from <= one.last.0
                && gone < until
                && !restored(history, right.olt, right.from, gone)
            {
                found.push(Finding {
                    at: gone,
                    rule: "kept",
                    whose: vec![right.who],
                    what: format!(
                        "{} of subscriber {}, accepted at OLT {} at {} and acknowledged, left the map between {} and {gone}, and its end was not asked for before {until}",
                        right.address, right.who, right.olt, right.from, one.last.0
                    ),
                });
            }
        }
        for other in accepted.get(&right.address).into_iter().flatten() {
            if other.who != right.who && from <= other.began && other.ended < until {
                found.push(Finding {
                    at: other.ended,
                    rule: "kept",
                    whose: vec![right.who, other.who],
                    what: format!(
                        "{} is subscriber {}'s at OLT {} from {from} to {until}, acknowledged, and was given to subscriber {} at OLT {} at {}",
                        right.address, right.who, right.olt, other.who, other.olt, other.ended
                    ),
                });
            }
        }
    }
    found
}

/// Who asks again where it is gets what it has.
pub(super) fn same_address(history: &History, rights: &[Right]) -> Vec<Finding> {
    let mut found = Vec::new();
    for pair in rights.windows(2) {
        let [one, next] = pair else { continue };
        if one.who != next.who || one.olt != next.olt || one.address == next.address {
            continue;
        }
        // Its end was asked for in between.
        if one.until < next.from {
            continue;
        }
        let lost = match one.acknowledged {
            Some(at) if at < next.from => restored(history, one.olt, one.from, next.from),
            _ => disturbed(history, one.olt, one.from, next.from),
        };
        if !lost && !one.doubtful {
            found.push(Finding {
                at: next.from,
                rule: "same address",
                whose: vec![one.who],
                what: format!(
                    "subscriber {} had {} at OLT {} since {} and was given {} there at {}, without having asked for an end",
                    one.who, one.address, one.olt, one.from, next.address, next.from
                ),
            });
        }
    }
    found
}

/// Known subscribers get their DHCP exchanges answered always; at an OLT that is cut off everybody gets an address while
/// its lease lives.
pub(super) fn served(history: &History, rights: &[Right]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut by_who: BTreeMap<Who, Vec<&Right>> = BTreeMap::new();
    for right in rights {
        by_who.entry(right.who).or_default().push(right);
    }
    for (who, ops) in of_each(&history.ops) {
        let rights = by_who.get(&who).map_or(&[][..], Vec::as_slice);
        for (place, op) in ops.iter().enumerate() {
            let before = place.checked_sub(1).and_then(|before| ops.get(before));
            let what = match op.action.leased() {
                Some(address) => renewed(history, rights, op, address),
                None => accepted(history, before.copied(), op),
            };
            if let Some(what) = what {
                found.push(Finding {
                    at: op.ended,
                    rule: "served",
                    whose: vec![who],
                    what: format!("subscriber {who} asked at {}: {what}", op.began),
                });
            }
        }
    }
    found
}

/// What is wrong with the answer of a DHCP exchange.
fn renewed(history: &History, rights: &[&Right], op: &Op, address: Ipv4Addr) -> Option<String> {
    let firm = rights.iter().any(|right| {
        right.olt == op.olt
            && right.address == address
            // Behind an older store it is served once its subscriber has asked again.
            && !restored(history, op.olt, right.from, op.ended)
            && right
                .firm()
                .is_some_and(|(from, until)| from <= op.began && op.ended < until)
    });
    (firm && op.outcome != Outcome::Acked).then(|| {
        format!(
            "{:?}, acknowledged, at OLT {} was answered by {:?}",
            op.action, op.olt, op.outcome
        )
    })
}

/// What is wrong with the answer to an Access-Request at an OLT that is cut off. `before`: what the subscriber did last.
fn accepted(history: &History, before: Option<&Op>, op: &Op) -> Option<String> {
    if op.action != Action::Authenticate {
        return None;
    }
    let cut = history.disturbances.iter().find(|one| {
        matches!(one.kind, Kind::CutOff { served_until }
            if one.olt == Some(op.olt) && one.from <= op.began && op.ended < served_until)
    })?;
    // What an earlier question about its end has come to is not known yet.
    let leaving = before.is_some_and(|before| {
        may_end(before, op.olt) && op.began.since(before.ended).as_secs() < 1
    });
    let wrong = match op.outcome {
        Outcome::Accepted(_) => false,
        // The whole machine may stand still; but nobody who asked later is answered before.
        Outcome::Silent => overtaken(history, op),
        _ => true,
    };
    (wrong && !leaving).then(|| {
        format!(
            "OLT {} was cut off at {} with a lease and free addresses, and answered {:?}",
            op.olt, cut.from, op.outcome
        )
    })
}

/// Whether several others who asked the same OLT later were answered before this one was given up.
fn overtaken(history: &History, op: &Op) -> bool {
    let others = history.ops.iter().filter(|other| {
        other.olt == op.olt
            && other.action == Action::Authenticate
            && other.outcome != Outcome::Silent
            && op.began < other.began
            && other.ended < op.ended
    });
    others.take(OVERTAKERS).count() == OVERTAKERS
}

/// Operations and maps' entries of these subscribers around a moment, for the message.
#[must_use]
pub fn around(
    history: &History,
    whose: &[Who],
    who: &BTreeMap<Mac, Who>,
    at: Moment,
    span: std::time::Duration,
) -> Vec<String> {
    let (from, until) = (at.minus(span), at.plus(span));
    let mut lines: Vec<(Moment, String)> = Vec::new();
    for op in &history.ops {
        if whose.contains(&op.who) && op.began <= until && from <= op.ended {
            let Op {
                who,
                olt,
                action,
                began,
                ended,
                outcome,
            } = op;
            lines.push((
                *began,
                format!(
                    "{began}..{ended} subscriber {who} at OLT {olt}: {action:?} -> {outcome:?}"
                ),
            ));
        }
    }
    for held in &history.held {
        let theirs = who.get(&held.mac).is_some_and(|who| whose.contains(who));
        if theirs && held.first.0 <= until && from <= held.gone_by.unwrap_or(Moment::NEVER) {
            let whose = who.get(&held.mac).copied().unwrap_or_default();
            let acked = held
                .acked_from
                .map_or_else(String::new, |at| format!(", acknowledged from {at}"));
            let gone = held
                .gone_by
                .map_or_else(String::new, |at| format!(", gone by {at}"));
            lines.push((
                held.first.0,
                format!(
                    "{} map of OLT {}: {} for subscriber {whose}, seen until {}{acked}{gone}",
                    held.first.0, held.olt, held.address, held.last.1
                ),
            ));
        }
    }
    for one in &history.disturbances {
        if one.touches(from, until) {
            lines.push((
                one.from,
                format!("{}..{} {}", one.from, one.until, one.what),
            ));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}
