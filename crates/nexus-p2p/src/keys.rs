//! The two secrets: the node's own key, which makes its peer id, and the cluster's key, which makes it a member.

mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use libp2p::identity::{Keypair, ed25519};
use rand::RngCore as _;

use crate::P2pError;

const NODE: &str = "node key";
const CLUSTER: &str = "cluster key";

/// 32 bytes that all nodes of a cluster share, and nobody else.
///
/// It is the prologue of each Noise handshake, so that whoever lacks it cannot finish one, and a
/// fingerprint of it stands in the names of protocols and topics, so that two clusters never speak
/// to each other by mistake. The key itself is never sent.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// A new one out of the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// 64 hexadecimal digits, white space around them allowed.
    ///
    /// # Errors
    /// Anything else; the text is not repeated in the error, because it may be nearly the key.
    pub fn from_hex(text: &str) -> Result<Self, P2pError> {
        thirty_two_bytes(text)
            .map(Self)
            .map_err(P2pError::ClusterKey)
    }

    /// Reads it from a file (`p2p.cluster_key_file`).
    ///
    /// Refused if others may read or write it. The group may: a Secret that Kubernetes mounts for a
    /// pod with `fsGroup` is readable by this group.
    ///
    /// # Errors
    /// Not there, not readable, readable by others, not 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Self, P2pError> {
        let text = file::read(CLUSTER, path, 0o007)?.ok_or_else(|| P2pError::KeyFile {
            kind: CLUSTER,
            path: path.to_owned(),
            what: "there is no such file; copy it from another node, or make one with \
                   `openssl rand -hex 32` and give it to all nodes"
                .to_owned(),
        })?;
        thirty_two_bytes(&text)
            .map(Self)
            .map_err(|what| P2pError::KeyFile {
                kind: CLUSTER,
                path: path.to_owned(),
                what: format!("{what}; all nodes need the same 64 hexadecimal digits"),
            })
    }

    /// The 64 hexadecimal digits for a file that is given to all nodes.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// 32 hexadecimal digits that name the cluster and tell nothing of the key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let bytes = blake3::derive_key("nexus 2026-11-22 name of a cluster", &self.0);
        hex::encode(bytes.first_chunk::<16>().unwrap_or(&[0; 16]))
    }

    /// What both sides of a Noise handshake must know.
    pub(crate) fn prologue(&self) -> Vec<u8> {
        blake3::derive_key("nexus 2026-11-22 prologue of the noise handshake", &self.0).to_vec()
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ClusterKey(hidden)")
    }
}

/// The node's key from its file, which is made with mode 0600 if it is not there.
///
/// # Errors
/// Readable by the group or others, malformed, or the file system says no.
pub(crate) fn node_key(path: &Path) -> Result<Keypair, P2pError> {
    let wrong = |what: String| P2pError::KeyFile {
        kind: NODE,
        path: path.to_owned(),
        what,
    };
    let text = match file::read(NODE, path, 0o077)? {
        Some(text) => text,
        None => {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            file::create(NODE, path, &format!("{}\n", hex::encode(secret)))?
        }
    };
    let mut secret = thirty_two_bytes(&text).map_err(|what| {
        wrong(format!(
            "{what}; restore it from a backup, or delete it: the node then gets a new peer id, \
             which must be removed and added again with `nexusctl cluster`"
        ))
    })?;
    let secret = ed25519::SecretKey::try_from_bytes(&mut secret)
        .map_err(|error| wrong(format!("not an ed25519 key: {error}")))?;
    Ok(ed25519::Keypair::from(secret).into())
}

fn thirty_two_bytes(text: &str) -> Result<[u8; 32], String> {
    let digits = text.trim();
    let mut bytes = [0; 32];
    match hex::decode_to_slice(digits, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) if digits.len() != 64 => Err(format!(
            "{} characters instead of 64 hexadecimal digits",
            digits.chars().count()
        )),
        Err(_) => Err("a character that is not a hexadecimal digit".to_owned()),
    }
}
