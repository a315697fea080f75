//! What two nodes tell each other before anything else, and whether they may go on.
//!
//! A Hello is JSON: a later version may add fields, an older one ignores them. It and the verdict on
//! it are preceded by their length.

#[cfg(test)]
mod tests;

use std::io;
use std::ops::RangeInclusive;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use serde::{Deserialize, Serialize};

use crate::options::{Hello, MOST_EXTRA_BYTES, MOST_NAME_BYTES, MOST_ROLE_BYTES};

/// Longest Hello or verdict.
pub(crate) const MOST_GREETING_BYTES: usize = 16 * 1024;

/// Most addresses in a Hello.
pub(crate) const MOST_ADDRESSES: usize = 16;

/// Longest address in a Hello.
pub(crate) const MOST_ADDRESS_BYTES: usize = 256;

/// Longest program version in a Hello.
const MOST_BUILD_BYTES: usize = 64;

/// A Hello on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireHello {
    /// The fingerprint of the cluster's key.
    pub(crate) cluster: String,
    /// Random at each start: tells a restarted peer from one that dials twice.
    pub(crate) boot: u64,
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) role: String,
    /// First and last protocol version.
    pub(crate) versions: (u16, u16),
    pub(crate) addresses: Vec<String>,
    /// The program's version, for people.
    #[serde(default)]
    pub(crate) build: String,
    /// Hexadecimal.
    #[serde(default)]
    pub(crate) extra: String,
}

impl WireHello {
    pub(crate) fn new(hello: &Hello, cluster: &str, boot: u64, addresses: &[String]) -> Self {
        Self {
            cluster: cluster.to_owned(),
            boot,
            number: hello.number,
            name: hello.name.clone(),
            role: hello.role.clone(),
            versions: (*hello.versions.start(), *hello.versions.end()),
            addresses: addresses.iter().take(MOST_ADDRESSES).cloned().collect(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            extra: hex::encode(&hello.extra),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings and numbers only: serialisation has nothing to fail at.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads one from a peer.
    ///
    /// # Errors
    /// What is not allowed in it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let hello: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let short = |what: &str, text: &str, most: usize| {
            let odd = text.len() > most || text.chars().any(char::is_control);
            if odd {
                Err(format!("its {what} is too long or odd"))
            } else {
                Ok(())
            }
        };
        short("name", &hello.name, MOST_NAME_BYTES)?;
        short("role", &hello.role, MOST_ROLE_BYTES)?;
        short("build", &hello.build, MOST_BUILD_BYTES)?;
        short("cluster", &hello.cluster, 64)?;
        if hello.name.is_empty() || hello.number == 0 {
            return Err("it has no name or no number".to_owned());
        }
        if hello.versions.0 > hello.versions.1 {
            return Err("its range of versions is empty".to_owned());
        }
        if hello.addresses.len() > MOST_ADDRESSES {
            return Err("it has too many addresses".to_owned());
        }
        for address in &hello.addresses {
            short("address", address, MOST_ADDRESS_BYTES)?;
        }
        if hello.extra.len() > 2 * MOST_EXTRA_BYTES || hex::decode(&hello.extra).is_err() {
            return Err("its extra bytes are too many or not hexadecimal".to_owned());
        }
        Ok(hello)
    }

    pub(crate) fn versions(&self) -> RangeInclusive<u16> {
        self.versions.0..=self.versions.1
    }

    pub(crate) fn extra(&self) -> Vec<u8> {
        hex::decode(&self.extra).unwrap_or_default()
    }
}

/// What a node makes of the other's Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) accepted: bool,
    /// Empty if accepted.
    #[serde(default)]
    pub(crate) why: String,
}

impl Verdict {
    pub(crate) fn accepted() -> Self {
        Self {
            accepted: true,
            why: String::new(),
        }
    }

    pub(crate) fn refused(why: &str) -> Self {
        Self {
            accepted: false,
            why: why.to_owned(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut verdict: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        // It is logged: short, and nothing that moves a terminal's cursor.
        verdict.why = verdict
            .why
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        Ok(verdict)
    }
}

/// The highest version in both ranges.
pub(crate) fn common_version(
    ours: &RangeInclusive<u16>,
    theirs: &RangeInclusive<u16>,
) -> Option<u16> {
    let highest = *ours.end().min(theirs.end());
    (highest >= *ours.start() && highest >= *theirs.start()).then_some(highest)
}

/// Reads a length and as many bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if it is longer than [`MOST_GREETING_BYTES`]; those of the stream.
pub(crate) async fn read_greeting(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST_GREETING_BYTES {
        let what = format!("a Hello of {length} bytes; {MOST_GREETING_BYTES} is the most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes a length and the bytes, and flushes.
///
/// # Errors
/// Those of the stream.
pub(crate) async fn write_greeting(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(bytes).await?;
    to.flush().await
}
