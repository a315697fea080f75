//! What may happen next, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexus_clset::{
    Delta, Error, Fence, MemoryRows, Replica, TOMBSTONE_AGE, UnixMillis, VersionVector, Write,
};

use crate::node::{Failure, Node};
use crate::state::{Bug, Message, State, Wire, Word};

const KEYS: [&[u8]; 2] = [b"a", b"b"];

/// How the answer to a pull goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Whole,
    /// One entry only, and nobody asks for more.
    CutOff,
    /// It arrives later, perhaps again and again.
    Late,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Put {
        node: usize,
        key: &'static [u8],
    },
    Delete {
        node: usize,
        key: &'static [u8],
    },
    Flush(usize),
    Deliver {
        to: usize,
        message: Wire,
    },
    Pull {
        from: usize,
        to: usize,
        answer: Answer,
    },
    /// A member tells the first one what it has seen for good.
    Tell(usize),
    /// The first member goes on with its round of collection.
    Propose,
    /// Removes what is collected.
    Sweep(usize),
    /// Power fails when the first `kept` changes that wait for the disk are on it.
    Crash {
        node: usize,
        kept: usize,
    },
    /// The disk is lost.
    Wipe(usize),
    Evict(usize),
    /// Somebody who is away comes back as a member.
    Return(usize),
    Join(usize),
    /// A node hears of the next membership.
    Learn(usize),
}

/// All that may happen in `state`.
pub fn steps(state: &State, bug: Option<Bug>, steps: &mut Vec<Step>) {
    if state.fault.is_some() {
        return;
    }
    let left = &state.left;
    let there = || (0..state.nodes.len()).filter(|node| !state.away.contains(node));
    for node in there() {
        let replica = &state.nodes[node].replica;
        // Who is evicted and does not know goes on writing.
        let writes = left.writes > 0 && replica.is_complete();
        for key in KEYS.into_iter().take(usize::from(left.keys)) {
            if writes {
                steps.push(Step::Put { node, key });
                if replica.get(key).unwrap().is_some() {
                    steps.push(Step::Delete { node, key });
                }
            }
        }
        let unwritten = state.nodes[node].unwritten.len();
        if unwritten > 0 {
            steps.push(Step::Flush(node));
        }
        if left.crashes > 0 {
            steps.extend((0..=unwritten).map(|kept| Step::Crash { node, kept }));
        }
        for (wire, message) in &state.network {
            if is_news(replica, message) {
                let message = wire.clone();
                steps.push(Step::Deliver { to: node, message });
            }
        }
        let knows_less = |from: &usize| {
            let digest = state.nodes[*from].replica.digest();
            !knows(replica, &digest.seen, &digest.collected, digest.floor)
                || digest.retired != *replica.retired()
                || !replica.is_complete()
        };
        for from in there().filter(|from| *from != node).filter(knows_less) {
            let pull = |answer| Step::Pull {
                from,
                to: node,
                answer,
            };
            steps.push(pull(Answer::Whole));
            if left.partial_pulls > 0 {
                steps.push(pull(Answer::CutOff));
            }
            if left.late_answers > 0 {
                steps.push(pull(Answer::Late));
            }
        }
        if state.knows[node] + 1 < state.memberships.len() {
            steps.push(Step::Learn(node));
        }
        if node > 0 && (unwritten == 0 || bug == Some(Bug::SpeaksBeforeDurable)) {
            steps.push(Step::Tell(node));
        }
        steps.push(Step::Sweep(node));
    }
    if state.nodes[0].unwritten.is_empty() || bug == Some(Bug::SpeaksBeforeDurable) {
        steps.push(Step::Propose);
    }
    let last = state.nodes.len() - 1 - usize::from(left.joins);
    if left.evictions > 0 {
        steps.push(Step::Evict(last));
    }
    if left.wipes > 0 {
        steps.push(Step::Wipe(last));
    }
    if left.joins > 0 {
        steps.push(Step::Join(state.nodes.len() - 1));
    }
    let outside =
        |node: &&usize| !state.membership().members.contains(node) || state.away.contains(node);
    if state.memberships.len() > 1 || !state.away.is_empty() {
        let old = (1..=last).collect::<Vec<_>>();
        steps.extend(old.iter().filter(outside).map(|node| Step::Return(*node)));
    }
}

/// Whether a message can change anything. (What it could change by its lateness alone is nothing.)
fn is_news(replica: &Replica<MemoryRows>, message: &Message) -> bool {
    let Message::Delta { delta, .. } = message else {
        return true;
    };
    let mut seen = VersionVector::default();
    for (_, entry) in &delta.entries {
        seen.insert(entry.dot());
    }
    delta.retired != *replica.retired() || !knows(replica, &seen, &delta.collected, delta.floor)
}

fn knows(
    replica: &Replica<MemoryRows>,
    seen: &VersionVector,
    collected: &VersionVector,
    floor: u64,
) -> bool {
    let digest = replica.digest();
    replica.seen().covers(seen) && digest.collected.covers(collected) && digest.floor >= floor
}

/// The state behind one step; nothing if it changes nothing.
pub fn next(state: &State, step: &Step, bug: Option<Bug>) -> Option<State> {
    let mut next = state.clone();
    match step {
        Step::Put { node, key } => {
            write(&mut next, *node, &Write::put(key, b"v", Fence::NONE), bug)
        }
        Step::Delete { node, key } => {
            write(&mut next, *node, &Write::delete(key, Fence::NONE), bug);
        }
        Step::Flush(node) => change(&mut next, *node, bug, |node, state| {
            flush(state, node, bug);
            Ok(())
        }),
        Step::Deliver { to, message } => deliver(&mut next, *to, message, bug)?,
        Step::Pull { from, to, answer } => pull(&mut next, *from, *to, *answer, bug)?,
        Step::Tell(node) => {
            let word = Word {
                origin: state.nodes[*node].replica.origin(),
                seen: state.nodes[*node].replica.seen().clone(),
                epoch: state.knows[*node],
            };
            next.words.insert(*node, word);
        }
        Step::Propose => propose(&mut next, bug),
        Step::Sweep(node) => change(&mut next, *node, bug, |node, _| {
            node.unwritten.extend(node.replica.collect()?);
            Ok(())
        }),
        Step::Crash { node, kept } => {
            next.left.crashes -= 1;
            let mut crashed = next.nodes[*node].fork();
            for change in crashed.write_out(*kept) {
                if let Some(delta) = &change.delta {
                    next.accepted(*node, delta);
                }
            }
            let disk = crashed.disk_after_crash(bug == Some(Bug::IncarnationReused));
            let booted = Node::boot(crashed.id(), disk, crashed.now);
            next.nodes[*node] = Arc::new(booted.seal());
            if *node == 0 {
                next.words.clear();
            }
        }
        Step::Wipe(node) => {
            next.left.wipes -= 1;
            lose(&mut next, *node);
            next.away.insert(*node);
        }
        Step::Evict(node) => {
            next.left.evictions -= 1;
            let mut membership = next.membership().clone();
            membership.members.remove(node);
            membership.gone.insert(next.nodes[*node].replica.origin());
            next.memberships.push(membership);
            lose(&mut next, *node);
        }
        Step::Return(node) => comes_back(&mut next, *node, bug),
        Step::Join(node) => {
            next.left.joins -= 1;
            admit(&mut next, *node);
        }
        Step::Learn(node) => next.knows[*node] += 1,
    }
    (next != *state).then_some(next)
}

/// Runs `what` on a copy of a node, which takes its place. Without crashes to come, what it wants
/// written is written at once.
fn change(
    state: &mut State,
    at: usize,
    bug: Option<Bug>,
    what: impl FnOnce(&mut Node, &mut State) -> Result<(), Failure>,
) {
    let mut node = state.nodes[at].fork();
    match what(&mut node, state) {
        Ok(()) => {}
        // Nothing says it to the node but this; it stays as it is until it is told to come back.
        Err(Error::LeftBehind { .. } | Error::Forgotten { .. })
            if !state.membership().members.contains(&at) =>
        {
            return;
        }
        Err(error) => return state.fail(format!("node {}: {error}", at + 1)),
    }
    if state.left.crashes == 0 {
        flush(state, &mut node, bug);
    }
    state.nodes[at] = Arc::new(node.seal());
}

fn flush(state: &mut State, node: &mut Node, bug: Option<Bug>) {
    for change in node.write_out(node.unwritten.len()) {
        let Some(delta) = change.delta else {
            continue;
        };
        let from = node.id().0 as usize - 1;
        state.accepted(from, &delta);
        let delta = carried(delta, bug);
        let message = Message::Delta { from, delta };
        state.network.insert(message.wire(), Arc::new(message));
    }
}

fn carried(mut delta: Delta, bug: Option<Bug>) -> Delta {
    if bug == Some(Bug::FloorNotCarried) {
        delta.floor = 0;
    }
    delta
}

fn write(state: &mut State, at: usize, write: &Write<'_>, bug: Option<Bug>) {
    state.left.writes -= 1;
    change(state, at, bug, |node, state| {
        let change = node.replica.write(&[*write], UnixMillis(node.now))?;
        for (key, entry) in change.delta.iter().flat_map(|delta| &delta.entries) {
            let made = state.made.entry(key.clone()).or_default();
            let twice = made.iter().any(|other| other.dot() == entry.dot());
            let below = made.iter().any(|other| {
                node.replica.seen().contains(other.dot()) && other.precedence(entry).is_ge()
            });
            made.push(entry.clone());
            made.sort_by_key(|entry| entry.dot());
            if twice {
                state.fail(format!("write {:?} was made twice", entry.dot()));
            } else if below {
                state.fail("a new entry stands below one that its writer had seen");
            }
        }
        node.unwritten.push(change);
        Ok(())
    });
}

fn deliver(state: &mut State, to: usize, message: &Wire, bug: Option<Bug>) -> Option<()> {
    let message = state.network.get(message)?.clone();
    let known = state.known_to(to);
    match message.as_ref() {
        Message::Delta { from, delta } => {
            let gone =
                |(_, entry): &(_, nexus_clset::Entry)| known.gone.contains(&entry.version.origin);
            let refused = bug != Some(Bug::ReturnsWithoutWiping) && delta.entries.iter().any(gone);
            if *from == to || refused {
                return None;
            }
            change(state, to, bug, |node, _| {
                let received = match node.replica.receive(delta, UnixMillis(node.now)) {
                    Err(Error::LeftBehind { .. }) if bug == Some(Bug::ReturnsWithoutWiping) => {
                        let bare = Delta {
                            entries: delta.entries.clone(),
                            ..Delta::default()
                        };
                        node.replica.receive(&bare, UnixMillis(node.now))
                    }
                    received => received,
                };
                node.take(received?);
                Ok(())
            });
        }
        Message::Answer {
            from,
            to: asked,
            answer,
        } => {
            if *asked != to || !known.members.contains(from) {
                return None;
            }
            let peer = state.nodes[*from].id();
            change(state, to, bug, |node, _| {
                let received = node
                    .replica
                    .receive_answer(peer, answer, UnixMillis(node.now))?;
                node.take(received);
                Ok(())
            });
        }
    }
    Some(())
}

fn pull(state: &mut State, from: usize, to: usize, how: Answer, bug: Option<Bug>) -> Option<()> {
    // Each must take the other for a member, and who answers must know of the admission of who asks.
    let members =
        state.known_to(from).members.contains(&to) && state.known_to(to).members.contains(&from);
    if !members || state.knows[from] < state.admitted[to] {
        return None;
    }
    let asked = state.nodes[from].clone();
    match how {
        Answer::Whole => {}
        Answer::CutOff => state.left.partial_pulls -= 1,
        Answer::Late => state.left.late_answers -= 1,
    }
    change(state, to, bug, |node, state| {
        let mut digest = asked.replica.digest();
        if bug == Some(Bug::FloorNotCarried) {
            digest.floor = 0;
        }
        let (received, request) = match node.replica.receive_digest(asked.id(), &digest) {
            Err(Error::LeftBehind { .. }) if bug == Some(Bug::ReturnsWithoutWiping) => {
                digest.collected = Default::default();
                node.replica.receive_digest(asked.id(), &digest)?
            }
            received => received?,
        };
        node.take(received);
        let Some(request) = request else {
            return Ok(());
        };
        let max_bytes = if how == Answer::CutOff { 1 } else { usize::MAX };
        let mut answer = asked.replica.answer(&request, max_bytes)?;
        answer.delta = carried(answer.delta, bug);
        if how == Answer::Late {
            let message = Message::Answer { from, to, answer };
            state.network.insert(message.wire(), Arc::new(message));
            return Ok(());
        }
        let now = UnixMillis(node.now);
        let received = match node.replica.receive_answer(asked.id(), &answer, now) {
            Err(Error::LeftBehind { .. }) if bug == Some(Bug::ReturnsWithoutWiping) => {
                answer.delta.collected = Default::default();
                node.replica.receive_answer(asked.id(), &answer, now)?
            }
            received => received?,
        };
        node.take(received);
        Ok(())
    });
    Some(())
}

fn propose(state: &mut State, bug: Option<Bug>) {
    let epoch = state.knows[0];
    let nothing = VersionVector::default();
    let others = state
        .known_to(0)
        .members
        .iter()
        .filter(|member| **member != 0);
    let words: Vec<_> = others
        .map(|member| match state.words.get(member) {
            Some(word) if word.epoch == epoch || bug == Some(Bug::MembershipIgnored) => {
                word.seen.clone()
            }
            _ => nothing.clone(),
        })
        .collect();
    // Writers that have ended are forgotten only by what all members said under this membership.
    let mut current = BTreeMap::new();
    let own = state.nodes[0].replica.origin();
    current.insert(own.node, own.incarnation);
    for word in state
        .known_to(0)
        .members
        .iter()
        .filter_map(|m| state.words.get(m))
    {
        current.insert(word.origin.node, word.origin.incarnation);
    }
    let mine = state.nodes[0].replica.seen();
    let all_have_them = state
        .tombstones()
        .map(|(_, entry)| entry.dot())
        .filter(|dot| mine.contains(*dot))
        .all(|dot| words.iter().all(|word| word.contains(dot)));
    let words = match bug {
        Some(Bug::CollectsByAge) => Vec::new(),
        Some(Bug::CollectsWithoutBarrier) if all_have_them => Vec::new(),
        _ => words,
    };
    change(state, 0, bug, |node, _| {
        let later = node.now + 2 * TOMBSTONE_AGE.as_millis() as u64;
        let members: Vec<_> = words.iter().collect();
        let changes = node.replica.propose_collection_and_retirement(
            &members,
            &current,
            UnixMillis(later),
        )?;
        node.unwritten.extend(changes);
        Ok(())
    });
}

/// What only this node had need not be there any more.
fn lose(state: &mut State, at: usize) {
    let kept: Vec<_> = state
        .members()
        .filter(|(member, node)| *member != at && node.unwritten.is_empty())
        .map(|(_, node)| node.replica.seen().clone())
        .collect();
    state
        .durable
        .retain(|(_, entry)| kept.iter().any(|seen| seen.contains(entry.dot())));
}

fn admit(state: &mut State, at: usize) {
    let mut membership = state.membership().clone();
    membership.members.insert(at);
    state.memberships.push(membership);
    state.knows[at] = state.memberships.len() - 1;
    state.admitted[at] = state.knows[at];
}

fn comes_back(state: &mut State, at: usize, bug: Option<Bug>) {
    let lost_disk = state.away.remove(&at);
    lose(state, at);
    let left_behind = || {
        let digest = state.nodes[0].replica.digest();
        let mut node = state.nodes[at].fork();
        let told = node.replica.receive_digest(state.nodes[0].id(), &digest);
        matches!(told, Err(Error::LeftBehind { .. }))
    };
    let stays = match bug {
        Some(Bug::ReturnsWithoutWiping) => !lost_disk,
        Some(Bug::ReturnsUnlessLeftBehind) => !lost_disk && !left_behind(),
        _ => false,
    };
    if !stays {
        let old = state.nodes[at].replica.origin();
        let mut membership = state.membership().clone();
        membership.gone.insert(old);
        // As long after its last boot as it takes to see that its incarnation is a new one.
        let now = (u64::from(old.incarnation.0) + 1) * 1000;
        let booted = Node::boot(old.node, MemoryRows::default(), now);
        state.nodes[at] = Arc::new(booted.seal());
        if lost_disk && bug == Some(Bug::LostDiskKeepsItsPlace) {
            return;
        }
        membership.members.remove(&at);
        state.memberships.push(membership);
    }
    admit(state, at);
}
