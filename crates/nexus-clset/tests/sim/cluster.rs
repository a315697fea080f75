//! A cluster in one thread: replicas on rows that survive crashes, and a network that loses, repeats and reorders.

use std::collections::{BTreeMap, VecDeque};

use nexus_clset::{
    Change, Delta, Entry, EntryKind, Error, MemoryRows, NodeId, Origin, PullAnswer, Received,
    Replica, RowKind, UnixMillis, VersionVector, Write,
};

/// 2027-01-15, in milliseconds.
pub const START: u64 = 1_800_000_000_000;

pub type Failure = Error<std::convert::Infallible>;

/// One replica with what it has written for good, and what it has yet to write.
pub struct Node {
    pub id: NodeId,
    pub replica: Replica<MemoryRows>,
    pub now: u64,
    durable: MemoryRows,
    unwritten: VecDeque<Change>,
    origins: Vec<Origin>,
}

/// What travels.
#[derive(Clone)]
pub enum Message {
    Delta(Delta),
    Answer(NodeId, PullAnswer),
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Receiver and message.
    pub network: Vec<(usize, Message)>,
    /// Every entry that was ever made.
    pub made: BTreeMap<Vec<u8>, Vec<Entry>>,
    /// Those whose rows were written.
    pub durable: Vec<(Vec<u8>, Entry)>,
}

impl Node {
    fn boot(id: NodeId, durable: MemoryRows, now: u64) -> Self {
        let (replica, boot) = Replica::open(durable.clone(), id, UnixMillis(now)).unwrap();
        let mut node = Self {
            id,
            replica,
            now,
            durable,
            unwritten: VecDeque::from([boot]),
            origins: Vec::new(),
        };
        node.write_out(usize::MAX);
        node.origins.push(node.replica.origin());
        node
    }

    fn write_out(&mut self, changes: usize) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for _ in 0..changes.min(self.unwritten.len()) {
            let change = self.unwritten.pop_front().unwrap();
            assert!(change.rows.len() <= nexus_clset::MAX_CHANGE_ROWS);
            self.durable.apply(&change.rows);
            self.replica.settle(change.ticket);
            deltas.extend(change.delta);
        }
        deltas
    }

    fn take(&mut self, received: Received) {
        self.unwritten.extend(received.changes);
    }
}

impl Cluster {
    /// `nodes` members, all complete and empty.
    pub fn new(nodes: u32) -> Self {
        let mut cluster = Self {
            nodes: (1..=nodes)
                .map(|id| Node::boot(NodeId(id), MemoryRows::default(), START))
                .collect(),
            network: Vec::new(),
            made: BTreeMap::new(),
            durable: Vec::new(),
        };
        let founded = cluster.nodes[0].replica.found();
        cluster.nodes[0].unwritten.push_back(founded);
        cluster.exchange_all();
        assert!(cluster.nodes.iter().all(|n| n.replica.is_complete()));
        cluster
    }

    pub fn write(&mut self, at: usize, writes: &[Write<'_>]) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        if !node.replica.is_complete() {
            return Ok(());
        }
        let change = node.replica.write(writes, UnixMillis(node.now))?;
        for (key, entry) in change.delta.iter().flat_map(|delta| &delta.entries) {
            let made = self.made.entry(key.clone()).or_default();
            assert!(
                made.iter().all(|other| other.dot() != entry.dot()),
                "dot {:?} is used twice",
                entry.dot()
            );
            made.push(entry.clone());
        }
        node.unwritten.push_back(change);
        Ok(())
    }

    /// Makes the first changes of a node durable, and pushes them to all others.
    pub fn flush(&mut self, at: usize, changes: usize) {
        for delta in self.nodes[at].write_out(changes) {
            let delta = Delta::decode(&delta.encode()).unwrap();
            self.durable.extend(delta.entries.iter().cloned());
            for to in (0..self.nodes.len()).filter(|to| *to != at) {
                self.network.push((to, Message::Delta(delta.clone())));
            }
        }
    }

    /// Delivers one message; it stays in the network if `keep`.
    pub fn deliver(&mut self, index: usize, keep: bool) {
        if self.network.is_empty() {
            return;
        }
        let index = index % self.network.len();
        let (to, message) = match keep {
            true => self.network[index].clone(),
            false => self.network.swap_remove(index),
        };
        let node = &mut self.nodes[to];
        let now = UnixMillis(node.now);
        let received = match &message {
            Message::Delta(delta) => node.replica.receive(delta, now),
            Message::Answer(from, answer) => node.replica.receive_answer(*from, answer, now),
        };
        node.take(received.unwrap());
    }

    /// Lets `to` pull from `from`, at most `answers` answers of `max_bytes`; copies of them stay in the network.
    pub fn pull(&mut self, from: usize, to: usize, max_bytes: usize, answers: usize) -> bool {
        let peer = self.nodes[from].id;
        let digest = self.nodes[from].replica.digest();
        let digest = nexus_clset::Digest::decode(&digest.encode()).unwrap();
        let (received, request) = self.nodes[to]
            .replica
            .receive_digest(peer, &digest)
            .unwrap();
        self.nodes[to].take(received);
        let Some(mut request) = request else {
            return false;
        };
        for _ in 0..answers {
            let asked = nexus_clset::PullRequest::decode(&request.encode()).unwrap();
            let answer = self.nodes[from].replica.answer(&asked, max_bytes).unwrap();
            let answer = PullAnswer::decode(&answer.encode()).unwrap();
            let node = &mut self.nodes[to];
            let now = UnixMillis(node.now);
            let received = node.replica.receive_answer(peer, &answer, now).unwrap();
            node.take(received);
            request.after = answer.next;
            self.network.push((to, Message::Answer(peer, answer)));
            if request.after.is_none() {
                break;
            }
        }
        true
    }

    /// Kills a node: what was not written is lost. It boots again.
    pub fn crash(&mut self, at: usize) {
        let node = &self.nodes[at];
        let (id, now, origins) = (node.id, node.now, node.origins.clone());
        let mut booted = Node::boot(id, node.durable.clone(), now);
        assert!(
            !origins.contains(&booted.replica.origin()),
            "an incarnation came back"
        );
        booted.origins.extend(origins);
        self.nodes[at] = booted;
    }

    /// Takes a node's disk away after some complete member has all it had. It boots again, later.
    pub fn wipe(&mut self, at: usize) {
        let heir = (0..self.nodes.len()).find(|n| *n != at && self.nodes[*n].replica.is_complete());
        let Some(heir) = heir else {
            return;
        };
        self.flush(at, usize::MAX);
        // What others have sent it in part waits for more from them, and is asked for again.
        let gone: Vec<NodeId> = self.nodes[heir].replica.claimants().collect();
        for peer in gone {
            let dropped = self.nodes[heir].replica.drop_claims(peer);
            self.nodes[heir].unwritten.extend(dropped);
        }
        let mut rounds = 0;
        while self.pull(at, heir, usize::MAX, 1000) {
            self.flush(heir, usize::MAX);
            rounds += 1;
            assert!(rounds < 100, "{heir} never has all that {at} has");
        }
        self.flush(heir, usize::MAX);
        let node = &mut self.nodes[at];
        node.durable = MemoryRows::default();
        // A lost disk and a clock set back at once are found out (`OriginInUse`), not survived.
        let last = node.origins.iter().map(|o| o.incarnation.0).max().unwrap();
        node.now = node.now.max((u64::from(last) + 1) * 1000);
        self.crash(at);
    }

    /// One member proposes to collect, by what all others have for good; and removes what is collected.
    pub fn collect(&mut self, at: usize, steps: usize) {
        for n in 0..self.nodes.len() {
            self.flush(n, usize::MAX);
        }
        let seen: Vec<_> = (0..self.nodes.len())
            .filter(|n| *n != at)
            .map(|n| self.nodes[n].replica.digest().seen)
            .collect();
        let node = &mut self.nodes[at];
        let members: Vec<_> = seen.iter().collect();
        let changes = node
            .replica
            .propose_collection(&members, UnixMillis(node.now))
            .unwrap();
        node.unwritten.extend(changes);
        for _ in 0..steps {
            let change = node.replica.collect().unwrap();
            node.unwritten.extend(change);
        }
    }

    /// Pulls in all directions until nobody lacks anything, with collection finished everywhere.
    pub fn exchange_all(&mut self) {
        for _ in 0..50 {
            let mut busy = false;
            for to in 0..self.nodes.len() {
                for from in 0..self.nodes.len() {
                    if from != to {
                        busy |= self.pull(from, to, 300, usize::MAX);
                    }
                }
                while let Some(change) = self.nodes[to].replica.collect().unwrap() {
                    self.nodes[to].unwritten.push_back(change);
                    busy = true;
                }
                self.flush(to, usize::MAX);
            }
            if !busy {
                // Facts of the last digests.
                return;
            }
        }
        panic!("replicas never come to rest");
    }

    /// Whether what a node has seen is in what it holds: equal or greater, or collected.
    pub fn check_seen(&self) {
        for node in &self.nodes {
            let digest = node.replica.digest();
            for (key, made) in &self.made {
                let stands = node.replica.get_entry(key).unwrap();
                for entry in made.iter().filter(|e| digest.seen.contains(e.dot())) {
                    let held = holds(stands.as_ref(), entry, made, &digest.collected);
                    assert!(
                        held,
                        "node {:?} has seen {entry:?}, holds {stands:?}",
                        node.id
                    );
                }
            }
        }
    }

    /// Whether incremental sums are those of the rows.
    pub fn check_summaries(&self) {
        for node in &self.nodes {
            let image = node.durable.image();
            for change in &node.unwritten {
                image.apply(&change.rows);
            }
            let (fresh, _) = Replica::open(image.clone(), node.id, UnixMillis(node.now)).unwrap();
            assert_eq!(node.replica.fingerprint(), fresh.fingerprint());
            let all = image.all(RowKind::Entry);
            assert_eq!(fresh.fingerprint().count, all.len() as u64);
            assert_eq!(image.all(RowKind::Dot).len(), all.len());
            let tombstones = all
                .iter()
                .filter(|(_, bytes)| Entry::decode(bytes).unwrap().kind() == EntryKind::Tombstone);
            assert_eq!(image.all(RowKind::Tombstone).len(), tombstones.count());
        }
    }

    /// Whether all replicas are alike byte for byte, and hold what the greatest durable entries say.
    pub fn check_converged(&self) {
        let rows = |node: &Node| {
            [RowKind::Entry, RowKind::Dot, RowKind::Tombstone].map(|kind| node.durable.all(kind))
        };
        let first = &self.nodes[0];
        for node in &self.nodes[1..] {
            assert_eq!(rows(first), rows(node), "{:?} and {:?}", first.id, node.id);
            let (ours, theirs) = (first.replica.digest(), node.replica.digest());
            assert_eq!(ours.fingerprint, theirs.fingerprint);
            assert_eq!(ours.seen, theirs.seen);
            assert_eq!(ours.collected, theirs.collected);
        }
        let mut greatest = BTreeMap::<&[u8], Entry>::new();
        for (key, entry) in &self.durable {
            let entry = match greatest.remove(key.as_slice()) {
                Some(other) => other.merge(entry.clone()),
                None => entry.clone(),
            };
            greatest.insert(key, entry);
        }
        for (key, made) in &self.made {
            let stands = first.replica.get_entry(key).unwrap();
            assert!(stands.iter().all(|stands| made.contains(stands)));
            if let Some(durable) = greatest.get(key.as_slice()) {
                let collected = first.replica.digest().collected;
                assert!(
                    holds(stands.as_ref(), durable, made, &collected),
                    "{durable:?} is lost, {stands:?} stands"
                );
            }
        }
    }
}

/// Whether `entry` is in what stands: equal or greater, or under a tombstone that is collected. (A
/// fence is forgotten with its tombstone, so that below it a key may begin anew under a lower one.)
fn holds(stands: Option<&Entry>, entry: &Entry, made: &[Entry], collected: &VersionVector) -> bool {
    stands.is_some_and(|stands| stands.precedence(entry).is_ge())
        || made.iter().any(|tombstone| {
            tombstone.kind() == EntryKind::Tombstone
                && tombstone.precedence(entry).is_ge()
                && collected.contains(tombstone.dot())
                && stands.is_none_or(|stands| stands.version.fence < tombstone.version.fence)
        })
}
