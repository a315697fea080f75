//! The one gate to sled: durable ordered rows with checksums, atomic batches and group commit.
