//! Bytes on the wire and in the file: postcard (compact, a written specification, no reflection, well kept), with a
//! version in front. Lengths are checked before anything is decoded; nothing here panics on what it is given.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::MAX_MESSAGE;

/// The version of messages between nodes that this program speaks.
pub const VERSION: u8 = 1;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{0} bytes are more than a message may have")]
    TooLong(usize),
    #[error(
        "message version {found}, this program speaks {VERSION}: bring both nodes to the same release line"
    )]
    Version { found: u8 },
    #[error("malformed: {0}")]
    Malformed(String),
    #[error("cannot be encoded: {0}")]
    Encode(String),
}

/// `value` as a row or part of a row, without a version.
pub fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_allocvec(value).map_err(|error| CodecError::Encode(error.to_string()))
}

/// What [`pack`] made; all bytes must be used.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = postcard::take_from_bytes(bytes)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(CodecError::Malformed(format!(
            "{} bytes too many",
            rest.len()
        )));
    }
    Ok(value)
}

/// `value` as a message.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, vec![VERSION])
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// What [`encode`] made on another node.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(CodecError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(CodecError::Malformed("empty".to_owned())),
        Some((&VERSION, rest)) => unpack(rest),
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}

#[cfg(test)]
mod tests;
