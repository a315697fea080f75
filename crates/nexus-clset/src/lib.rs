//! The replicated map: versions, merge, summaries and the tombstone rule, without any I/O.
