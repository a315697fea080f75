//! The one gate to sled: durable ordered rows with checksums, atomic batches and group commit.
//!
//! A [`Store`] is one directory, opened by one process. Rows are bytes to bytes under a one-byte
//! [`Kind`]; what they mean is the caller's business. [`Store::commit`] returns after its whole
//! batch is on disk, or fails for good: once a flush has failed nothing succeeds any more until the
//! process opens the store anew.

mod batch;
mod commit;
#[cfg(test)]
mod damage_tests;
mod engine;
mod error;
mod home;
#[cfg(feature = "replica")]
mod replica;
mod row;
mod store;
mod writer;

pub use batch::{Batch, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS};
pub use commit::{Commit, MAX_COMMIT_BATCHES, Slot};
pub use error::StoreError;
pub use home::MovedAside;
#[cfg(feature = "replica")]
pub use replica::{ReadRows, ReplicaRows};
pub use row::{Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, Row};
pub use store::{OnDamage, Opened, Options, Rows, Store};
