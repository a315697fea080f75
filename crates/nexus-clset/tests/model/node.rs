//! One replica of the model: the real one on a disk in memory, and all it is in one hash.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use nexus_clset::{
    Change, Entry, Error, MemoryRows, NodeId, Received, Replica, RowKind, RowWrite, UnixMillis,
    VersionVector,
};

pub type Failure = Error<std::convert::Infallible>;

/// A replica, its disk, and the changes that are not on it yet.
pub struct Node {
    pub replica: Replica<MemoryRows>,
    pub unwritten: Vec<Change>,
    pub now: u64,
    disk: MemoryRows,
    hash: [u8; 32],
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.replica.digest();
        write!(f, "node {}: holds", self.replica.origin())?;
        for (key, entry) in self.entries() {
            let (of, length) = (entry.version.origin, entry.version.causal_length);
            write!(
                f,
                " {} (write {} of {of}, causal length {length})",
                key.escape_ascii(),
                entry.seq
            )?;
        }
        let runs = |vector: &VersionVector| -> Vec<_> {
            let runs = vector.runs();
            runs.map(|(origin, start, end)| format!("{origin} {start}..={end}"))
                .collect()
        };
        let (seen, collected) = (runs(&digest.seen), runs(&digest.collected));
        write!(
            f,
            ", has seen {seen:?}, collected {collected:?}, floor {}",
            digest.floor
        )?;
        write!(
            f,
            ", complete {}, {} changes unwritten",
            digest.complete,
            self.unwritten.len()
        )
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl Node {
    /// Boots what is on `disk`; the new incarnation is durable at once.
    pub fn boot(id: NodeId, disk: MemoryRows, now: u64) -> Self {
        let (replica, boot) = Replica::open(disk.clone(), id, UnixMillis(now)).unwrap();
        let mut node = Self {
            replica,
            unwritten: vec![boot],
            now,
            disk,
            hash: [0; 32],
        };
        node.write_out(1);
        node
    }

    /// This node, to be changed. What is made of it must be sealed.
    pub fn fork(&self) -> Self {
        let (replica, disk) = self.replica.fork();
        Self {
            replica,
            unwritten: self.unwritten.clone(),
            now: self.now,
            disk,
            hash: [0; 32],
        }
    }

    pub fn id(&self) -> NodeId {
        self.replica.origin().node
    }

    pub fn take(&mut self, received: Received) {
        self.unwritten.extend(received.changes);
    }

    /// Makes the first changes durable and says what they were.
    pub fn write_out(&mut self, changes: usize) -> Vec<Change> {
        let written: Vec<_> = self.unwritten.drain(..changes).collect();
        for change in &written {
            self.disk.apply(&change.rows);
            self.replica.settle(change.ticket);
        }
        written
    }

    /// Its disk after a loss of power, to be booted. With `reused`, the next boot takes the incarnation
    /// that it had before.
    pub fn disk_after_crash(&self, reused: bool) -> MemoryRows {
        let disk = self.disk.image();
        if reused {
            let origin = self.replica.origin();
            let mut value = vec![1];
            value.extend_from_slice(&origin.node.0.to_be_bytes());
            value.extend_from_slice(&(origin.incarnation.0 - 1).to_be_bytes());
            disk.apply(&[RowWrite {
                kind: RowKind::Meta,
                key: b"node".to_vec(),
                value: Some(value),
            }]);
        }
        disk
    }

    /// Entries as this replica sees them, durable or not.
    pub fn entries(&self) -> Vec<(Vec<u8>, Entry)> {
        let image = self.disk.image();
        for change in &self.unwritten {
            image.apply(&change.rows);
        }
        let rows = image.all(RowKind::Entry).into_iter();
        rows.map(|(key, bytes)| (key, Entry::decode(&bytes).unwrap()))
            .collect()
    }

    /// Computes the hash of all that decides what this node will ever do.
    pub fn seal(mut self) -> Self {
        let mut hasher = blake3::Hasher::new();
        for kind in [
            RowKind::Entry,
            RowKind::Dot,
            RowKind::Tombstone,
            RowKind::Meta,
        ] {
            for (key, value) in self.disk.all(kind) {
                hash_bytes(&mut hasher, &key);
                hash_bytes(&mut hasher, &value);
            }
            hasher.update(&[kind as u8]);
        }
        for change in &self.unwritten {
            for row in &change.rows {
                hasher.update(&[row.kind as u8]);
                hash_bytes(&mut hasher, &row.key);
                hash_bytes(&mut hasher, row.value.as_deref().unwrap_or(b"-"));
            }
            if let Some(delta) = &change.delta {
                hash_bytes(&mut hasher, &delta.encode());
            }
            hasher.update(b"/");
        }
        hasher.update(&self.now.to_be_bytes());
        hash_bytes(&mut hasher, memory(&self.replica).as_bytes());
        self.hash = *hasher.finalize().as_bytes();
        self
    }
}

fn hash_bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

/// Fields of a replica that only count what has happened, or say again what its rows say. Any other
/// field, those too that are added later, is part of the state.
const LEFT_OUT: [&str; 4] = ["rows", "summary", "log", "ticket"];

/// What a replica has in memory, as its derived `Debug` prints it field by field: maps in it are in order.
fn memory(replica: &Replica<MemoryRows>) -> String {
    let mut text = String::new();
    write!(text, "{replica:?}").unwrap();
    let body = text
        .strip_prefix("Replica { ")
        .and_then(|text| text.strip_suffix(" }"))
        .unwrap();
    let mut kept = String::new();
    let (mut depth, mut start) = (0, 0);
    let mut names = 0;
    for (at, byte) in body.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth -= 1,
            b',' if depth == 0 => {
                let field = body[start..at].trim_start();
                let name = field.split(':').next().unwrap();
                match LEFT_OUT.contains(&name) {
                    true => names += 1,
                    false => kept.push_str(field),
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    assert_eq!((depth, names), (0, LEFT_OUT.len()), "fields of {body}");
    kept
}
