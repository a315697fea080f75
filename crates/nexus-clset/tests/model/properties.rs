//! What must hold in every state.

use std::collections::BTreeMap;

use nexus_clset::{Digest, Dot, Entry, EntryKind, VersionVector};

use crate::node::Node;
use crate::state::State;

/// Replicas do what they are asked to, make no write twice, and put new entries above what they have seen.
pub fn no_fault(state: &State) -> bool {
    state.fault.is_none()
}

/// No member holds a value that a collected tombstone had superseded.
pub fn no_resurrection(state: &State) -> bool {
    let collected = collected(state);
    state.tombstones().all(|(key, tombstone)| {
        !collected.contains(tombstone.dot())
            || state.members().all(|(_, node)| {
                let stands = node.replica.get_entry(key).unwrap();
                stands.is_none_or(|stands| stands.precedence(tombstone).is_ge())
            })
    })
}

/// What is collected anywhere was seen by every full member.
pub fn collected_is_seen(state: &State) -> bool {
    let collected = collected(state);
    state.tombstones().all(|(_, tombstone)| {
        !collected.contains(tombstone.dot())
            || state
                .members()
                .filter(|(_, node)| node.replica.is_complete())
                .all(|(_, node)| has_seen(&node.replica.digest(), tombstone.dot()))
    })
}

/// What a replica has seen is in what it holds: equal or greater, or under a collected tombstone.
pub fn seen_is_held(state: &State) -> bool {
    state.members().all(|(_, node)| {
        let digest = node.replica.digest();
        state.made.iter().all(|(key, made)| {
            made.iter()
                .filter(|entry| {
                    // Of a forgotten writer it may be what was lost when that was evicted.
                    let accepted = |(_, other): &(_, Entry)| other == *entry;
                    digest.seen.contains(entry.dot())
                        || has_seen(&digest, entry.dot()) && state.durable.iter().any(accepted)
                })
                .all(|entry| held(node, key, entry, made, &digest))
        })
    })
}

/// What was accepted for good is in what some member holds.
pub fn nothing_accepted_is_lost(state: &State) -> bool {
    state.durable.iter().all(|(key, entry)| {
        state.members().any(|(_, node)| {
            let digest = node.replica.digest();
            held(node, key, entry, &state.made[key], &digest)
        })
    })
}

/// Full members that have seen and collected the same hold the same.
pub fn equal_knowledge_is_equal_state(state: &State) -> bool {
    let mut known: Vec<(VersionVector, VersionVector, BTreeMap<Vec<u8>, Entry>)> = Vec::new();
    for (_, node) in state.members() {
        let digest = node.replica.digest();
        if !digest.complete {
            continue;
        }
        let entries = standing(node, &digest);
        for (seen, collected, other) in &known {
            if *seen == digest.seen && *collected == digest.collected && *other != entries {
                return false;
            }
        }
        known.push((digest.seen, digest.collected, entries));
    }
    true
}

/// New keys start above every tombstone that is collected, wherever that is known.
pub fn floor_is_above_collected(state: &State) -> bool {
    state.members().all(|(_, node)| {
        let digest = node.replica.digest();
        state.tombstones().all(|(_, tombstone)| {
            !digest.collected.contains(tombstone.dot())
                || digest.floor >= tombstone.version.causal_length
        })
    })
}

/// Whether some tombstone is collected and removed by all members: the model goes that far.
pub fn collected_and_removed(state: &State) -> bool {
    let collected = collected(state);
    state.tombstones().any(|(key, tombstone)| {
        collected.contains(tombstone.dot())
            && state
                .members()
                .all(|(_, node)| node.replica.get_entry(key).unwrap().is_none())
    })
}

/// Whether a key is there again above its collected tombstone.
pub fn put_again(state: &State) -> bool {
    state.members().any(|(_, node)| {
        let collected = node.replica.digest().collected;
        state.tombstones().any(|(key, tombstone)| {
            collected.contains(tombstone.dot()) && node.replica.get(key).unwrap().is_some()
        })
    })
}

/// Whether somebody came back, or joined, and is a full member after something was collected.
pub fn newcomer_completes(state: &State) -> bool {
    state.members().any(|(at, node)| {
        state.admitted[at] > 0
            && node.replica.is_complete()
            && !node.replica.digest().collected.is_empty()
    })
}

fn collected(state: &State) -> VersionVector {
    let mut collected = VersionVector::default();
    for node in &state.nodes {
        collected.join(&node.replica.digest().collected);
    }
    collected
}

fn held(node: &Node, key: &[u8], entry: &Entry, made: &[Entry], digest: &Digest) -> bool {
    let stands = node.replica.get_entry(key).unwrap();
    stands.is_some_and(|stands| stands.precedence(entry).is_ge())
        || made.iter().any(|tombstone| {
            tombstone.kind() == EntryKind::Tombstone
                && tombstone.precedence(entry).is_ge()
                && is_collected(digest, tombstone.dot())
        })
}

/// Entries without tombstones that are collected and only not removed yet.
fn standing(node: &Node, digest: &Digest) -> BTreeMap<Vec<u8>, Entry> {
    let entries = node.entries().into_iter();
    entries
        .filter(|(_, entry)| entry.kind() == EntryKind::Put || !is_collected(digest, entry.dot()))
        .collect()
}

/// Writes of a forgotten writer count as seen.
fn has_seen(digest: &Digest, dot: Dot) -> bool {
    digest.seen.contains(dot) || digest.retired.contains(dot.origin)
}

/// And its tombstones as collected.
fn is_collected(digest: &Digest, dot: Dot) -> bool {
    digest.collected.contains(dot) || digest.retired.contains(dot.origin)
}

/// Whether some writer is forgotten: the model goes that far.
pub fn forgotten(state: &State) -> bool {
    let members = state.members();
    members
        .into_iter()
        .any(|(_, node)| !node.replica.retired().is_empty())
}
