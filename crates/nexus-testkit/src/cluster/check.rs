//! The checker: whether what nodes hold in the end agrees with what clients were told, and whether two subscribers
//! ever had a right to one resource at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use super::history::{Action, History, Op, Outcome};
use super::rest::Client;

/// Most findings that a message names.
const SHOWN: usize = 20;

/// What a node says is held: (pool, resource) -> subscriber.
pub type Listing = BTreeMap<(String, String), String>;

/// Reads all allocations that a node holds.
///
/// # Errors
/// If the node does not answer, or names a resource twice.
pub fn listing(client: &Client) -> Result<Listing> {
    let mut all = Listing::new();
    for row in client.allocations()? {
        let field = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(pool), Some(resource), Some(subscriber)) =
            (field("pool_id"), field("resource"), field("subscriber_id"))
        else {
            bail!("an allocation without pool, resource or subscriber: {row}");
        };
        let key = (pool, resource);
        if let Some(other) = all.insert(key.clone(), subscriber.clone()) {
            bail!("{key:?} is listed twice: for {other} and for {subscriber}");
        }
    }
    Ok(all)
}

/// The first thing that one listing has and the other has not.
pub(super) fn first_difference(left: &Listing, right: &Listing) -> Option<String> {
    let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    keys.into_iter().find_map(|key| {
        let (one, other) = (left.get(key), right.get(key));
        (one != other).then(|| format!("{key:?} is {one:?} on one and {other:?} on the other"))
    })
}

/// Checks a history against what each node holds once all is quiet: everything acknowledged is there, nothing
/// released came back, and no resource was two subscribers' at once.
///
/// # Errors
/// The first findings.
pub fn check(history: &History, listings: &[(String, Listing)]) -> Result<()> {
    let mut found = shared(history);
    let chains = chains(history);
    for (node, listing) in listings {
        let mut by_subscriber: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for ((pool, resource), subscriber) in listing {
            by_subscriber
                .entry((pool, subscriber))
                .or_default()
                .push(resource);
        }
        for ops in chains.values() {
            found.extend(
                wrong_end(ops, listing, &by_subscriber).map(|what| format!("{node}: {what}")),
            );
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let count = found.len();
    found.truncate(SHOWN);
    bail!("{count} findings, the first:\n{}", found.join("\n"))
}

fn chains(history: &History) -> BTreeMap<(&str, &str), Vec<&Op>> {
    let mut chains: BTreeMap<(&str, &str), Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        chains.entry((&op.pool, &op.chain)).or_default().push(op);
    }
    chains
}

/// What a chain may have come to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End<'a> {
    Nothing,
    /// The subscriber, and the resource if it is known.
    Held(&'a str, Option<&'a str>),
}

fn possible_ends<'a>(ops: &[&'a Op]) -> BTreeSet<End<'a>> {
    let mut ends = BTreeSet::from([End::Nothing]);
    for op in ops {
        let effect = match op.action {
            Action::Allocate => End::Held(&op.subscriber, op.resource.as_deref()),
            Action::Release => End::Nothing,
        };
        match op.outcome {
            Outcome::Ok => ends = BTreeSet::from([effect]),
            Outcome::Unknown(_) => {
                ends.insert(effect);
            }
            Outcome::Refused(_) => {}
        }
    }
    ends
}

/// What is wrong with the end of a chain on a node; `None` if nothing is.
fn wrong_end(
    ops: &[&Op],
    listing: &Listing,
    by_subscriber: &BTreeMap<(&str, &str), Vec<&str>>,
) -> Option<String> {
    let first = ops.first()?;
    let ends = possible_ends(ops);
    let good = if first.chain == first.subscriber {
        let held = by_subscriber
            .get(&(first.pool.as_str(), first.subscriber.as_str()))
            .map_or(&[][..], Vec::as_slice);
        ends.iter().any(|end| match (end, held) {
            (End::Nothing, []) | (End::Held(_, None), [_]) => true,
            (End::Held(_, Some(resource)), [one]) => resource == one,
            _ => false,
        })
    } else {
        let key = (first.pool.clone(), first.chain.clone());
        let holder = listing.get(&key).map(String::as_str);
        ends.iter().any(|end| match end {
            End::Nothing => holder.is_none(),
            End::Held(subscriber, _) => holder == Some(subscriber),
        })
    };
    if good {
        return None;
    }
    let there: Vec<String> = listing
        .iter()
        .filter(|((pool, resource), subscriber)| {
            *pool == first.pool && (*resource == first.chain || **subscriber == first.chain)
        })
        .map(|((_, resource), subscriber)| format!("{resource} for {subscriber}"))
        .collect();
    let last = ops.last().map(|op| format!("{op:?}")).unwrap_or_default();
    Some(format!(
        "{} may be {ends:?}, but there is {there:?}; its last operation was {last}",
        first.chain
    ))
}

/// From when to when a subscriber had a right to a resource, for certain.
struct Right<'a> {
    from: Duration,
    until: Duration,
    subscriber: &'a str,
}

/// Resources to which two subscribers had a right at the same time.
fn shared(history: &History) -> Vec<String> {
    let mut rights: BTreeMap<(&str, &str), Vec<Right<'_>>> = BTreeMap::new();
    for ops in chains(history).values() {
        for (place, op) in ops.iter().enumerate() {
            if op.action != Action::Allocate || op.outcome != Outcome::Ok {
                continue;
            }
            let Some(resource) = &op.resource else {
                continue;
            };
            // From the answer until a release is asked for: it may count from that moment on.
            let ends = ops
                .iter()
                .skip(place + 1)
                .find(|later| later.action == Action::Release)
                .map_or(Duration::MAX, |later| later.began);
            let right = Right {
                from: op.ended,
                until: ends,
                subscriber: &op.subscriber,
            };
            rights.entry((&op.pool, resource)).or_default().push(right);
        }
    }
    let mut found = Vec::new();
    for ((pool, resource), mut all) in rights {
        all.sort_by_key(|right| right.from);
        let mut longest: Option<Right<'_>> = None;
        for right in all {
            if let Some(one) = &longest
                && one.subscriber != right.subscriber
                && right.from < one.until
            {
                found.push(format!(
                    "{resource} of {pool} was {}'s from {:?} on, and {}'s from {:?} on",
                    one.subscriber, one.from, right.subscriber, right.from
                ));
            }
            if longest.as_ref().is_none_or(|one| one.until <= right.until) {
                longest = Some(right);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(chain: &str, action: Action, subscriber: &str, at: u64, outcome: Outcome) -> Op {
        Op {
            chain: chain.to_owned(),
            action,
            pool: "p".to_owned(),
            subscriber: subscriber.to_owned(),
            resource: Some(
                if chain == subscriber {
                    "10.0.0.9"
                } else {
                    chain
                }
                .to_owned(),
            ),
            began: Duration::from_secs(at),
            ended: Duration::from_secs(at + 1),
            node: 0,
            outcome,
        }
    }

    fn history(ops: &[(&str, Action, &str, u64, Outcome)]) -> History {
        let ops = ops.iter().cloned();
        History {
            ops: ops.map(|(a, b, c, d, e)| op(a, b, c, d, e)).collect(),
        }
    }

    fn holds(rows: &[(&str, &str)]) -> Vec<(String, Listing)> {
        let rows = rows.iter();
        let listing = rows
            .map(|(resource, who)| (("p".to_owned(), (*resource).to_owned()), (*who).to_owned()))
            .collect();
        vec![("n1".to_owned(), listing)]
    }

    use Action::{Allocate, Release};

    fn unknown() -> Outcome {
        Outcome::Unknown("no answer".to_owned())
    }

    #[test]
    fn an_acknowledged_allocation_must_be_there() {
        let history = history(&[("10.0.0.1", Allocate, "a", 0, Outcome::Ok)]);
        check(&history, &holds(&[("10.0.0.1", "a")])).unwrap();
        let lost = check(&history, &holds(&[])).unwrap_err().to_string();
        assert!(lost.contains("10.0.0.1") && lost.contains("n1"), "{lost}");
        check(&history, &holds(&[("10.0.0.1", "b")])).unwrap_err();
    }

    #[test]
    fn what_was_released_may_not_come_back() {
        let history = history(&[
            ("10.0.0.1", Allocate, "a", 0, Outcome::Ok),
            ("10.0.0.1", Release, "a", 2, Outcome::Ok),
        ]);
        check(&history, &holds(&[])).unwrap();
        check(&history, &holds(&[("10.0.0.1", "a")])).unwrap_err();
    }

    #[test]
    fn what_nobody_knows_may_be_either_way_but_not_a_third_one() {
        let history = history(&[
            ("10.0.0.1", Allocate, "a", 0, Outcome::Ok),
            ("10.0.0.1", Release, "a", 2, unknown()),
            ("10.0.0.2", Allocate, "b", 2, Outcome::Refused("no".into())),
        ]);
        check(&history, &holds(&[])).unwrap();
        check(&history, &holds(&[("10.0.0.1", "a")])).unwrap();
        check(&history, &holds(&[("10.0.0.1", "c")])).unwrap_err();
        check(&history, &holds(&[("10.0.0.2", "b")])).unwrap_err();
    }

    #[test]
    fn a_subscriber_of_the_centre_has_one_resource_and_the_one_it_was_told() {
        let history = history(&[("a", Allocate, "a", 0, Outcome::Ok)]);
        check(&history, &holds(&[("10.0.0.9", "a")])).unwrap();
        check(&history, &holds(&[("10.0.0.8", "a")])).unwrap_err();
        check(&history, &holds(&[("10.0.0.8", "a"), ("10.0.0.9", "a")])).unwrap_err();
    }

    #[test]
    fn two_with_a_right_to_one_resource_at_once_are_found() {
        let one_after_the_other = history(&[
            ("10.0.0.9", Allocate, "a", 0, Outcome::Ok),
            ("10.0.0.9", Release, "a", 2, Outcome::Ok),
            ("10.0.0.9", Allocate, "b", 4, Outcome::Ok),
        ]);
        check(&one_after_the_other, &holds(&[("10.0.0.9", "b")])).unwrap();
        // The centre gave it to c meanwhile, whatever the nodes say in the end.
        let mut both = one_after_the_other;
        both.append(history(&[
            ("c", Allocate, "c", 4, Outcome::Ok),
            ("c", Release, "c", 9, Outcome::Ok),
        ]));
        let found = check(&both, &holds(&[("10.0.0.9", "b")])).unwrap_err();
        assert!(found.to_string().contains("was b's"), "{found}");
    }

    #[test]
    fn listings_that_differ_are_told_apart() {
        let (one, other) = (holds(&[("10.0.0.1", "a")]), holds(&[("10.0.0.1", "b")]));
        assert!(first_difference(&one[0].1, &one[0].1).is_none());
        assert!(
            first_difference(&one[0].1, &other[0].1)
                .unwrap()
                .contains("10.0.0.1")
        );
    }

    #[test]
    fn the_longest_silence_is_between_acknowledgements() {
        let history = history(&[
            ("x", Allocate, "a", 0, Outcome::Ok),
            ("y", Allocate, "b", 5, unknown()),
            ("z", Allocate, "c", 9, Outcome::Ok),
        ]);
        let silence = history.longest_silence(Duration::ZERO, Duration::from_secs(12));
        assert_eq!(silence, Duration::from_secs(9));
    }
}
