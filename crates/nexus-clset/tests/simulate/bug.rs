//! Faults that are planted between the real machines and their world, to see that the checks find them.

use nexus_clset::{Delta, Digest, PullAnswer, Retired, VersionVector};

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Messages do not carry what was collected.
    FactsDropped,
    /// Pulls are never asked: only what is pushed arrives.
    PullForgotten,
    /// A write is answered before it is on disk.
    AcknowledgedEarly,
    /// What waits for the disk is said to be on it.
    DurableEarly,
    /// The wall clock follows every stamp that comes.
    ClockDragged,
    /// Peers count as in sync when they have seen the same, whatever their roots.
    InSyncByCounters,
    /// A boot takes the incarnation of the one before.
    IncarnationReused,
    /// A node is not told that it was removed and admitted again.
    AdmissionHidden,
    /// A change that was received is not written to disk, though what follows it is.
    ChangeNotWritten,
    /// A watcher loses its place when something comes while it is told.
    EventSkipped,
}

impl Bug {
    pub const ALL: [Self; 10] = [
        Self::FactsDropped,
        Self::PullForgotten,
        Self::AcknowledgedEarly,
        Self::DurableEarly,
        Self::ClockDragged,
        Self::InSyncByCounters,
        Self::IncarnationReused,
        Self::AdmissionHidden,
        Self::ChangeNotWritten,
        Self::EventSkipped,
    ];
}

/// Whether this question is a pull.
pub fn is_pull(question: &[u8]) -> bool {
    question.get(1) == Some(&b'p')
}

/// The message without any word on what is collected.
pub fn without_facts(bytes: &[u8]) -> Vec<u8> {
    let (head, body) = bytes.split_at(2);
    let none = || (VersionVector::default(), Retired::default());
    let body = match head[1] {
        b'g' => {
            let mut delta = Delta::decode(body).unwrap();
            (delta.collected, delta.retired) = none();
            delta.floor = 0;
            delta.encode()
        }
        // Of an answer; a request of that kind has no facts.
        b'p' => match PullAnswer::decode(body) {
            Ok(mut answer) => {
                (answer.delta.collected, answer.delta.retired) = none();
                answer.delta.floor = 0;
                answer.encode()
            }
            Err(_) => body.to_vec(),
        },
        // A digest, and some numbers. There it stands without the byte for its format.
        b'd' => {
            let format = Delta::default().encode()[0];
            let read = |numbers: usize| {
                let (digest, rest) = body.split_at(body.len() - numbers * 8);
                let digest = Digest::decode(&[&[format], digest].concat()).ok()?;
                Some((digest, rest))
            };
            let (mut digest, rest) = (1..8).find_map(read).unwrap();
            (digest.collected, digest.retired) = none();
            digest.floor = 0;
            [&digest.encode()[1..], rest].concat()
        }
        _ => body.to_vec(),
    };
    [head, &body].concat()
}
