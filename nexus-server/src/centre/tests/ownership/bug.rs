//! Faults that are planted between the real machines and their world, to see that the checks find them.

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Cluster time runs twice as fast as the leader's clock.
    MovesEarly,
    /// The kernel does not look at the end of an entry.
    KernelForgetsTheEnd,
    /// An allocation is answered before it is on disk.
    AnswersBeforeDurable,
    /// Shards are allocated from before their records have been read.
    NoWaitForRecords,
    /// A claim is acknowledged although no majority has it.
    AcksWithoutMajority,
    /// A host does not compare its clock with the centre's.
    DriftIsNotLookedAt,
}

impl Bug {
    /// Each with the seed from which on it is looked for: seldom ones would take long from the first on.
    pub const ALL: [(Self, u64); 6] = [
        (Self::MovesEarly, 1),
        (Self::KernelForgetsTheEnd, 50),
        (Self::AnswersBeforeDurable, 1),
        (Self::NoWaitForRecords, 10),
        (Self::AcksWithoutMajority, super::SITES_FROM + 100),
        (Self::DriftIsNotLookedAt, super::WIDE_FROM),
    ];

    /// The fault of that name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().map(|(bug, _)| bug);
        all.find(|bug| format!("{bug:?}") == name)
    }
}
