//! Standard output, with no complaint about a pipe that was closed, such as that of `head`.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Whether somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Yes.
    There,
    /// Not any more: there is no use in going on.
    Gone,
}

/// Prints a text at once.
///
/// # Errors
/// Why it cannot be written, but for a closed pipe.
pub fn print(text: &str) -> anyhow::Result<Reader> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write the answer"),
    }
}
