//! Tables of the file, rows with a checksum, and which error means what.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::codec::{self, CodecError};

pub const META: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("meta");
pub const LOG: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("log");
pub const SNAPSHOT: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("snapshot");

/// Bytes of a row: CRC-32 over table, key and value, then the value.
pub fn seal_row<T: Serialize>(table: &str, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    let value = codec::pack(value).map_err(decoded)?;
    let mut bytes = Vec::with_capacity(value.len() + 4);
    bytes.extend_from_slice(&checksum(table, key, &value).to_le_bytes());
    bytes.extend_from_slice(&value);
    Ok(bytes)
}

/// What [`seal_row`] made.
pub fn open_row<T: DeserializeOwned>(
    table: &str,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, StoreError> {
    let damaged = |why: &str| {
        StoreError::Corrupt(format!(
            "row {} of table {table}: {why}",
            String::from_utf8_lossy(key).escape_debug()
        ))
    };
    let Some((crc, value)) = bytes.split_first_chunk::<4>() else {
        return Err(damaged("it is too short"));
    };
    if u32::from_le_bytes(*crc) != checksum(table, key, value) {
        return Err(damaged("its checksum does not fit"));
    }
    codec::unpack(value).map_err(|error| damaged(&error.to_string()))
}

fn checksum(table: &str, key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key, value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

/// Write one of the rows that there is one of.
pub fn put_meta<T: Serialize>(
    tx: &WriteTransaction,
    key: &str,
    value: &T,
) -> Result<(), StoreError> {
    let bytes = seal_row("meta", key.as_bytes(), value)?;
    let mut meta = tx.open_table(META).map_err(fits)?;
    meta.insert(key, bytes.as_slice()).map_err(fits)?;
    Ok(())
}

/// Read one of them.
pub fn get_meta<T: DeserializeOwned>(
    tx: &WriteTransaction,
    key: &str,
) -> Result<Option<T>, StoreError> {
    let meta = tx.open_table(META).map_err(fits)?;
    let Some(value) = meta.get(key).map_err(fits)? else {
        return Ok(None);
    };
    open_row("meta", key.as_bytes(), value.value()).map(Some)
}

/// What an error of redb means for the file.
pub fn fits(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Corrupt(what),
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_)) => StoreError::Corrupt(error.to_string()),
        redb::Error::DatabaseClosed => StoreError::Closed,
        error => StoreError::Io(error.to_string()),
    }
}

/// What bytes that make no sense mean for the file.
pub fn decoded(error: CodecError) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
