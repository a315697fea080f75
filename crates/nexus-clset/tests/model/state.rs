//! What the model checker looks at: some replicas, a network that forgets nothing, and what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use nexus_clset::{Delta, Entry, EntryKind, MemoryRows, NodeId, Origin, PullAnswer, VersionVector};

use crate::node::Node;

/// 2027-01-15, in milliseconds.
pub const START: u64 = 1_800_000_000_000;

/// A fault that is planted on purpose, to see that the properties find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Tombstones are collected as soon as every member has them, whatever else is on its way.
    CollectsWithoutBarrier,
    /// Tombstones are collected when they are old enough, whoever has them.
    CollectsByAge,
    /// An evicted member comes back with what it had, and does not mind being left behind.
    ReturnsWithoutWiping,
    /// An evicted member wipes only if it finds by itself that it was left behind.
    ReturnsUnlessLeftBehind,
    /// Messages do not say how high new keys must start.
    FloorNotCarried,
    /// A replica boots under the incarnation it had, though a tail of its writes is lost.
    IncarnationReused,
    /// A member's word on what it has seen is given before that is durable.
    SpeaksBeforeDurable,
    /// A member whose disk was lost takes its old place, with what it had said before.
    LostDiskKeepsItsPlace,
    /// The collector counts words of members that know of other members than it does.
    MembershipIgnored,
}

/// How much of each kind may happen in one life of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub keys: u8,
    pub writes: u8,
    /// With crashes, writing to the disk is a step of its own.
    pub crashes: u8,
    pub wipes: u8,
    pub evictions: u8,
    pub joins: u8,
    /// Pulls whose answer is cut off after one entry.
    pub partial_pulls: u8,
    /// Answers that are delivered later, and again.
    pub late_answers: u8,
}

/// Who holds up tombstones, as the quorum has decided it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    pub members: BTreeSet<usize>,
    /// What these have made is not taken from their own pushes any more.
    pub gone: BTreeSet<Origin>,
}

/// What a member has said that it has seen for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub origin: Origin,
    pub seen: VersionVector,
    /// Which membership it knew.
    pub epoch: usize,
}

/// What travels. Whatever was sent may be delivered at any time, any number of times, or never.
#[derive(Clone, Debug)]
pub enum Message {
    Delta {
        from: usize,
        delta: Delta,
    },
    Answer {
        from: usize,
        to: usize,
        answer: PullAnswer,
    },
}

/// Bytes of a message, which name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire(pub Vec<u8>);

impl Message {
    pub fn wire(&self) -> Wire {
        let mut out = Vec::new();
        match self {
            Self::Delta { from, delta } => {
                out.extend([0, *from as u8]);
                out.extend(delta.encode());
            }
            Self::Answer { from, to, answer } => {
                out.extend([1, *from as u8, *to as u8]);
                out.extend(answer.encode());
            }
        }
        Wire(out)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(delta) = self.0.strip_prefix(&[0]) {
            let delta = Delta::decode(&delta[1..]).map_err(|_| fmt::Error)?;
            let dots = delta.entries.iter().map(|(_, entry)| entry.dot());
            let dots: Vec<_> = dots
                .map(|dot| format!("{} of {}", dot.seq, dot.origin))
                .collect();
            write!(f, "writes {}", dots.join(", "))
        } else {
            write!(f, "an answer of {}", self.0[1])
        }
    }
}

#[derive(Clone)]
pub struct State {
    pub nodes: Vec<Arc<Node>>,
    /// All memberships there were, the last one in force, and which of them each node knows.
    pub memberships: Vec<Membership>,
    pub knows: Vec<usize>,
    /// Which of them admitted each node last.
    pub admitted: Vec<usize>,
    /// Nodes that were cut off or have lost their disk, and did not come back yet.
    pub away: BTreeSet<usize>,
    /// What each member has told the first one, who collects.
    pub words: BTreeMap<usize, Word>,
    pub network: BTreeMap<Wire, Arc<Message>>,
    /// All entries that were ever made, by key and write.
    pub made: BTreeMap<Vec<u8>, Vec<Entry>>,
    /// Those that were accepted for good: written out, on a disk that was not lost.
    pub durable: Vec<(Vec<u8>, Entry)>,
    pub left: Budget,
    /// What a replica must never say or do.
    pub fault: Option<String>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "  {node:?}")?;
        }
        writeln!(
            f,
            "  known memberships {:?}, away {:?}",
            self.knows, self.away
        )?;
        writeln!(f, "  fault {:?}", self.fault)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
            && self.memberships == other.memberships
            && self.knows == other.knows
            && self.admitted == other.admitted
            && self.away == other.away
            && self.words == other.words
            && self.network.keys().eq(other.network.keys())
            && self.made == other.made
            && self.durable == other.durable
            && self.left == other.left
            && self.fault == other.fault
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nodes.hash(state);
        self.memberships.hash(state);
        self.knows.hash(state);
        self.admitted.hash(state);
        self.away.hash(state);
        for (member, word) in &self.words {
            (member, word.epoch, word.origin).hash(state);
            for run in word.seen.runs() {
                run.hash(state);
            }
        }
        for key in self.network.keys() {
            key.hash(state);
        }
        self.made.hash(state);
        self.durable.hash(state);
        self.left.hash(state);
        self.fault.hash(state);
    }
}

impl State {
    /// `members` complete and empty replicas, and one outside if somebody may join.
    pub fn new(members: usize, left: Budget) -> Self {
        let outside = usize::from(left.joins);
        let mut nodes: Vec<Node> = (1..=members + outside)
            .map(|id| Node::boot(NodeId(id as u32), MemoryRows::default(), START))
            .collect();
        let founded = nodes[0].replica.found();
        nodes[0].unwritten.push(founded);
        let first = nodes[0].replica.digest();
        let from = nodes[0].id();
        for node in &mut nodes[1..members] {
            let (received, request) = node.replica.receive_digest(from, &first).unwrap();
            assert!(request.is_none());
            node.take(received);
            assert!(node.replica.is_complete());
        }
        for node in &mut nodes {
            node.write_out(node.unwritten.len());
        }
        let membership = Membership {
            members: (0..members).collect(),
            gone: BTreeSet::new(),
        };
        Self {
            knows: vec![0; nodes.len()],
            admitted: vec![0; nodes.len()],
            nodes: nodes
                .into_iter()
                .map(|node| Arc::new(node.seal()))
                .collect(),
            memberships: vec![membership],
            away: BTreeSet::new(),
            words: BTreeMap::new(),
            network: BTreeMap::new(),
            made: BTreeMap::new(),
            durable: Vec::new(),
            left,
            fault: None,
        }
    }

    /// The membership in force.
    pub fn membership(&self) -> &Membership {
        self.memberships.last().unwrap()
    }

    /// The membership as `node` knows it.
    pub fn known_to(&self, node: usize) -> &Membership {
        &self.memberships[self.knows[node]]
    }

    /// Members that are there.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Node)> {
        let members = self.membership().members.iter();
        members
            .filter(|at| !self.away.contains(at))
            .map(|at| (*at, self.nodes[*at].as_ref()))
    }

    /// Tombstones that were ever made.
    pub fn tombstones(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.made
            .iter()
            .flat_map(|(key, made)| made.iter().map(move |entry| (key.as_slice(), entry)))
            .filter(|(_, entry)| entry.kind() == EntryKind::Tombstone)
    }

    /// Notes entries that `at` accepted for good, if it is a member: who is evicted and writes on loses
    /// it by starting over.
    pub fn accepted(&mut self, at: usize, delta: &Delta) {
        if !self.membership().members.contains(&at) {
            return;
        }
        self.durable.extend(delta.entries.iter().cloned());
        self.durable
            .sort_by(|a, b| (&a.0, a.1.dot()).cmp(&(&b.0, b.1.dot())));
    }

    pub fn fail(&mut self, what: impl Into<String>) {
        self.fault.get_or_insert(what.into());
    }
}
