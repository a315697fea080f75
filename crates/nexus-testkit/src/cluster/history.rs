//! What clients did and what they were told, as the checker reads it.

use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A resource for a subscriber.
    Allocate,
    /// The end of that.
    Release,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Ok,
    /// It is not done and will not be.
    Refused(String),
    /// Nobody knows: no answer, or one that leaves it open.
    Unknown(String),
}

/// One thing that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What is asked about one after the other, never at once, by one client: a resource of an OLT's own, or a
    /// subscriber of the centre's.
    pub chain: String,
    /// What it asked for.
    pub action: Action,
    /// Pool.
    pub pool: String,
    /// Subscriber.
    pub subscriber: String,
    /// The resource; `None` where the centre was to choose and its choice is not known.
    pub resource: Option<String>,
    /// When it was asked, since the history began.
    pub began: Duration,
    /// When the answer was there.
    pub ended: Duration,
    /// Place of the node that answered last.
    pub node: usize,
    /// What it was told.
    pub outcome: Outcome,
}

/// All of it. Operations of one chain stand in the order in which they were asked.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In no order but that of each chain.
    pub ops: Vec<Op>,
}

impl History {
    /// Adds what another client did.
    pub fn append(&mut self, other: Self) {
        self.ops.extend(other.ops);
    }

    /// Number of operations with such an outcome.
    pub fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.ops.iter().filter(|op| wanted(&op.outcome)).count()
    }

    /// Number of acknowledged operations.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Ok)
    }

    /// The longest time without any acknowledgement between two points in time.
    #[must_use]
    pub fn longest_silence(&self, from: Duration, until: Duration) -> Duration {
        let mut ends: Vec<Duration> = self
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok && (from..=until).contains(&op.ended))
            .map(|op| op.ended)
            .collect();
        ends.extend([from, until]);
        ends.sort_unstable();
        let gaps = ends.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.saturating_sub(*one)),
            _ => None,
        });
        gaps.max().unwrap_or_default()
    }

    /// In one line, for messages.
    #[must_use]
    pub fn brief(&self) -> String {
        let refused = self.count(|outcome| matches!(outcome, Outcome::Refused(_)));
        let unknown = self.count(|outcome| matches!(outcome, Outcome::Unknown(_)));
        let why = self.ops.iter().find_map(|op| match &op.outcome {
            Outcome::Refused(why) | Outcome::Unknown(why) => Some(why.as_str()),
            Outcome::Ok => None,
        });
        let why = why.map_or_else(String::new, |why| format!(" (the first: {why})"));
        let mut took: Vec<Duration> = self
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok)
            .map(|op| op.ended.saturating_sub(op.began))
            .collect();
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let longest = took.last().copied().unwrap_or_default();
        format!(
            "{} acknowledged (median {median:?}, longest {longest:?}), {refused} refused, {unknown} unknown{why}",
            took.len()
        )
    }
}
