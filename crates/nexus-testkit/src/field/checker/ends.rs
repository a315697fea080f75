//! The rules about how everything stands once all is healed and quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::rights::{Right, disturbed, restored};
use super::{AT_THE_END, Finding};
use crate::field::history::{Finals, History, OltAt, Recorded, Who};
use crate::field::moment::Moment;
use crate::packet::Mac;

type Line = (OltAt, Who, Ipv4Addr);

/// Most lines of a difference that a message shows.
const SHOWN: usize = 5;

pub(super) fn at_the_end(
    history: &History,
    finals: &Finals,
    rights: &[Right],
    who: &BTreeMap<Mac, Who>,
) -> Vec<Finding> {
    let bindings: BTreeSet<Line> = lines(finals);
    let mut found = Vec::new();
    let mut call = |rule: &'static str, whose: Vec<Who>, what: String| {
        found.push(Finding {
            at: Moment::NEVER,
            rule,
            whose,
            what,
        });
    };
    for right in open(rights) {
        let line = (right.olt, right.who, right.address);
        let rule = AT_THE_END;
        if right.firm().is_some() {
            for (server, _) in finals.records.iter().filter(|(_, all)| !has(all, line)) {
                call(
                    rule,
                    vec![right.who],
                    format!("{server} has lost what was acknowledged: {right:?}"),
                );
            }
        }
        let kept = bindings.contains(&line);
        let lost = right.acknowledged.is_none()
            && disturbed(history, right.olt, right.from, Moment::NEVER);
        let excused = lost || right.doubtful;
        if !kept && !excused {
            call(
                rule,
                vec![right.who],
                format!("an accepted address is not its subscriber's any more: {right:?}"),
            );
        }
    }
    let mut say = |whose, what| call(AT_THE_END, whose, what);
    for (server, count) in &finals.duplicates {
        if *count != 0 {
            say(
                Vec::new(),
                format!("{server} counts {count} duplicate allocations"),
            );
        }
    }
    for (server, records) in &finals.records {
        let mut holders: BTreeMap<Ipv4Addr, &Recorded> = BTreeMap::new();
        for record in records {
            if let Some(other) = holders.insert(record.address, record) {
                let whose = vec![record.who, other.who];
                say(
                    whose,
                    format!(
                        "{server} lists {} twice: {record:?} and {other:?}",
                        record.address
                    ),
                );
            }
        }
        let recorded = lines_of(records);
        let expected = &bindings | &waiting(history, &recorded, &bindings);
        let (lost, extra) = (diff(&bindings, &recorded), diff(&recorded, &expected));
        if let Some((whose, text)) = lost {
            say(
                whose,
                format!(
                    "{server} has no record of what sidecars have bound (OLT, subscriber, address): {text}"
                ),
            );
        }
        if let Some((whose, text)) = extra {
            say(
                whose,
                format!(
                    "{server} has on record what no sidecar has bound (OLT, subscriber, address): {text}"
                ),
            );
        }
    }
    for ((server, count), (_, records)) in finals.counted.iter().zip(&finals.records) {
        let recorded = lines_of(records);
        let sum = bindings.len() + waiting(history, &recorded, &bindings).len();
        if u64::try_from(sum).ok() != Some(*count) {
            say(
                Vec::new(),
                format!("{server} counts {count} allocated addresses, and the OLTs have {sum}"),
            );
        }
    }
    for (olt, list) in finals.bindings.iter().enumerate() {
        let open: Vec<_> = list
            .iter()
            .filter(|(.., acknowledged)| !acknowledged)
            .collect();
        if let Some(first) = open.first() {
            say(
                vec![first.0],
                format!(
                    "OLT {olt} has {} bindings that the centre has not acknowledged, the first: {first:?}",
                    open.len()
                ),
            );
        }
    }
    let in_maps: BTreeSet<Line> = history
        .held
        .iter()
        .filter(|held| held.gone_by.is_none())
        .filter_map(|held| Some((held.olt, *who.get(&held.mac)?, held.address)))
        .collect();
    if let Some((whose, text)) = diff(&bindings, &in_maps) {
        say(
            whose,
            format!("no kernel has what sidecars have bound (OLT, subscriber, address): {text}"),
        );
    }
    if let Some((whose, text)) = diff(&in_maps, &bindings) {
        say(
            whose,
            format!("kernels have what no sidecar has bound (OLT, subscriber, address): {text}"),
        );
    }
    found
}

fn has(records: &[Recorded], (olt, who, address): Line) -> bool {
    records
        .iter()
        .any(|one| one.address == address && one.who == who && one.olt == Some(olt))
}

/// The last right of each subscriber, if its end was not asked for.
fn open(rights: &[Right]) -> impl Iterator<Item = &Right> {
    let last: BTreeMap<Who, &Right> = rights.iter().map(|right| (right.who, right)).collect();
    last.into_values()
        .filter(|right| right.until == Moment::NEVER)
}

fn lines_of(records: &[Recorded]) -> BTreeSet<Line> {
    let ours = records.iter();
    ours.filter_map(|one| Some((one.olt?, one.who, one.address)))
        .collect()
}

/// What is on record and bound nowhere, because its OLT's store was replaced by an older one: it waits for its
/// subscriber. Whoever is missing it has asked for it once more before the end.
fn waiting(
    history: &History,
    recorded: &BTreeSet<Line>,
    bindings: &BTreeSet<Line>,
) -> BTreeSet<Line> {
    let older = |olt| restored(history, olt, Moment::default(), Moment::NEVER);
    let missing = recorded.difference(bindings);
    missing.filter(|(olt, ..)| older(*olt)).copied().collect()
}

fn lines(finals: &Finals) -> BTreeSet<Line> {
    let each = finals.bindings.iter().enumerate();
    each.flat_map(|(olt, list)| {
        list.iter()
            .map(move |(who, address, _)| (olt, *who, *address))
    })
    .collect()
}

/// How many the first has and the second has not, and the first of them; and whose they are.
fn diff(one: &BTreeSet<Line>, other: &BTreeSet<Line>) -> Option<(Vec<Who>, String)> {
    let missing: Vec<&Line> = one.difference(other).collect();
    let first = missing.get(..missing.len().min(SHOWN)).unwrap_or_default();
    let whose = first.iter().map(|(_, who, _)| *who).collect();
    (!missing.is_empty()).then(|| (whose, format!("{} of them, as {first:?}", missing.len())))
}
