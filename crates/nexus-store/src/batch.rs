//! A batch: the rows that are written together or not at all.

use crate::error::StoreError;
use crate::row::{Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, frame};

/// Most operations in a batch; sled takes gigabytes with much larger ones.
pub const MAX_BATCH_OPERATIONS: usize = 64;

/// Most bytes of keys and values in a batch, so that a full queue has a bound in bytes too.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Puts and deletes that become visible and durable together. Of two operations on one row the later counts.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    bytes: usize,
    refused: Option<StoreError>,
}

/// One raw key, and its framed value or nothing.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) raw_key: Vec<u8>,
    pub(crate) framed: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch. Committed as it is, it is a barrier: it returns when everything before it is durable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a row. What is too long is refused when the batch is committed.
    pub fn put(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> &mut Self {
        if value.len() > MAX_VALUE_BYTES {
            self.refuse(StoreError::ValueTooLong { bytes: value.len() });
            return self;
        }
        let raw_key = kind.raw_key(key);
        let framed = Some(frame(&raw_key, value));
        self.push(kind, key.len(), value.len(), Operation { raw_key, framed })
    }

    /// Removes a row; no error if it is not there.
    pub fn delete(&mut self, kind: Kind, key: &[u8]) -> &mut Self {
        let raw_key = kind.raw_key(key);
        self.push(
            kind,
            key.len(),
            0,
            Operation {
                raw_key,
                framed: None,
            },
        )
    }

    /// Number of operations.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing would be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations, if all bounds are kept.
    pub(crate) fn into_operations(self) -> Result<Vec<Operation>, StoreError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if self.operations.len() > MAX_BATCH_OPERATIONS {
            return Err(StoreError::TooManyOperations {
                operations: self.operations.len(),
            });
        }
        if self.bytes > MAX_BATCH_BYTES {
            return Err(StoreError::TooManyBytes { bytes: self.bytes });
        }
        Ok(self.operations)
    }

    fn push(&mut self, kind: Kind, key: usize, value: usize, operation: Operation) -> &mut Self {
        if kind == Kind::OWN {
            self.refuse(StoreError::ReservedKind(kind));
        } else if key > MAX_KEY_BYTES {
            self.refuse(StoreError::KeyTooLong { bytes: key });
        } else {
            self.bytes = self.bytes.saturating_add(key).saturating_add(value);
            self.operations.push(operation);
        }
        self
    }

    fn refuse(&mut self, error: StoreError) {
        self.refused.get_or_insert(error);
    }
}
