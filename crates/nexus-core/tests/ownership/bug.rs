//! Faults that are planted between the real machines and their world, to see that the properties find them.

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The lease is counted from the receipt of the answer.
    CountsFromReceipt,
    /// The holder counts the whole lease, as if no clock were wrong.
    NoDriftMargin,
    /// The kernel's entry of a binding that is not acknowledged has no end.
    UnackedHasNoEnd,
    /// The record takes a release whatever its number.
    ReleaseWithoutSequence,
    /// The record takes a claim whoever owns the shard by now, under whatever epoch.
    NoEpochCheck,
    /// Shards are allocated from before their records have been read.
    NoWaitForRecords,
    /// Shards move by a clock that is ahead.
    MovedBeforeLeaseEnd,
    /// A draining shard is given back although its units rest and commands about it are on their way.
    GivesBackWhileResting,
    /// A store that was rolled back is taken for what it was.
    RollbackUnnoticed,
    /// What was answered is not on disk yet.
    AnswersBeforeDurable,
}
