//! Commands and their outcomes as bytes: a format byte, then MessagePack with the names of the fields.
//!
//! Names cost some bytes and let a later version add a field with a default. What a version adds must also
//! raise [`FORMAT`]: a node that does not know a field would carry the command out differently from one that
//! does, so it must stop instead.

use std::io::Cursor;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Answer, ClusterCommand, Refusal};

/// Format of commands and outcomes that this program reads and writes.
const FORMAT: u8 = 1;
/// Largest command or outcome, in bytes.
pub const MAX_COMMAND_BYTES: usize = 1 << 20;
/// Deepest nesting of what is read; nothing of ours is half as deep.
const MAX_DEPTH: usize = 32;

/// What a command has come to, for whoever proposed it.
pub type Outcome = Result<Answer, Refusal>;

/// Why bytes are no command or outcome, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// There is nothing.
    #[error("no bytes where {what} should be")]
    Empty {
        /// What was read.
        what: &'static str,
    },
    /// Made by another version of the program.
    #[error(
        "{what} has format {given}, this program reads {FORMAT}: let all nodes run the same version"
    )]
    Format {
        /// What was read.
        what: &'static str,
        /// Its format.
        given: u8,
    },
    /// Too large.
    #[error("{what} of {len} bytes is too large: at most {max}")]
    TooLarge {
        /// What was read or written.
        what: &'static str,
        /// How large.
        len: usize,
        /// Most bytes.
        max: usize,
    },
    /// Not understood.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl CodecError {
    /// Whether another version of the program made it, so that a node that goes on without it would go
    /// another way than the others: it must stop.
    #[must_use]
    pub fn is_other_format(&self) -> bool {
        matches!(self, Self::Format { .. })
    }
}

impl ClusterCommand {
    /// As bytes for the log.
    ///
    /// # Errors
    /// If it takes more than [`MAX_COMMAND_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        write("a command", FORMAT, MAX_COMMAND_BYTES, self)
    }

    /// Out of bytes of the log. Every node of this version comes to the same result.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        read("a command", FORMAT, MAX_COMMAND_BYTES, bytes)
    }
}

/// An outcome as bytes.
///
/// # Errors
/// If it takes more than [`MAX_COMMAND_BYTES`], which no refusal of a command within its bounds does.
pub fn encode_outcome(outcome: &Outcome) -> Result<Vec<u8>, CodecError> {
    write("an outcome", FORMAT, MAX_COMMAND_BYTES, outcome)
}

/// An outcome out of bytes.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, CodecError> {
    read("an outcome", FORMAT, MAX_COMMAND_BYTES, bytes)
}

pub(super) fn write<T: Serialize>(
    what: &'static str,
    format: u8,
    max: usize,
    value: &T,
) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![format];
    let mut writer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value
        .serialize(&mut writer)
        .map_err(|error| malformed(what, &error))?;
    check_len(what, bytes.len(), max)?;
    Ok(bytes)
}

pub(super) fn read<T: DeserializeOwned>(
    what: &'static str,
    format: u8,
    max: usize,
    bytes: &[u8],
) -> Result<T, CodecError> {
    check_len(what, bytes.len(), max)?;
    let (&given, rest) = bytes.split_first().ok_or(CodecError::Empty { what })?;
    if given != format {
        return Err(CodecError::Format { what, given });
    }
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(rest));
    reader.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut reader).map_err(|error| malformed(what, &error))?;
    let read = usize::try_from(reader.position()).unwrap_or(usize::MAX);
    match rest.len().checked_sub(read) {
        Some(0) => Ok(value),
        left => Err(CodecError::Malformed {
            what,
            why: format!("{} bytes too many", left.unwrap_or(0)),
        }),
    }
}

fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), CodecError> {
    if len > max {
        return Err(CodecError::TooLarge { what, len, max });
    }
    Ok(())
}

fn malformed(what: &'static str, error: &dyn std::error::Error) -> CodecError {
    let why = error.to_string();
    CodecError::Malformed { what, why }
}
