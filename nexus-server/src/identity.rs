//! Who this server is: a number that it draws once, and a name. Kept beside the store, because the store can
//! be rebuilt from the other servers and this cannot.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use nexus_core::id::NodeName;
use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
const FILE: &str = "identity.json";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Number among the replicas and in the quorum; never used by another node.
    pub number: u32,
    /// Name for people, if the configuration gives none.
    pub name: NodeName,
    /// Whether the quorum has given its word in this server's own file, which must not be lost then.
    #[serde(default)]
    quorum: bool,
}

impl Identity {
    /// Reads the identity in `directory`, or makes one there at the first start.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood.
    pub fn load(directory: &Path, configured: Option<&NodeName>) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let known: Option<Self> = match std::fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).with_context(|| {
                format!(
                    "{} cannot be understood: restore it; or move the whole directory away and let this \
                     server join anew",
                    path.display()
                )
            })?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        if let Some(known) = known {
            return Ok(Self {
                name: configured.cloned().unwrap_or(known.name),
                ..known
            });
        }
        let others = std::fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?
            .filter_map(Result::ok)
            .find(|entry| {
                ["store", "quorum.redb"]
                    .iter()
                    .any(|name| entry.file_name() == *name)
            });
        if let Some(found) = others {
            bail!(
                "{} has {} but no {FILE}: restore it; or move the whole directory away and let this server \
                 join anew",
                directory.display(),
                found.file_name().display()
            );
        }
        let number = loop {
            let number = rand::random::<u32>();
            if number != 0 {
                break number;
            }
        };
        let identity = Self {
            number,
            name: match configured {
                Some(name) => name.clone(),
                None => NodeName::new(format!("nexus-{number:08x}"))?,
            },
            quorum: false,
        };
        identity
            .write(directory, &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(identity)
    }

    /// Reads the identity in `directory`, which must be there.
    ///
    /// # Errors
    /// A file that is not there or cannot be understood.
    pub fn known(directory: &Path, configured: Option<&NodeName>) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        if !path.is_file() {
            bail!(
                "{} is not there: is storage.path the data directory of this server?",
                path.display()
            );
        }
        Self::load(directory, configured)
    }

    /// Refuses to start if the file of the quorum was there and is not any more.
    ///
    /// # Errors
    /// What is missing and what to do.
    pub fn check_quorum(&self, directory: &Path, file: &str) -> anyhow::Result<()> {
        if self.quorum && !directory.join(file).exists() {
            bail!(
                "{} is missing, and with it what this server has promised the others: move the whole directory \
                 {} away, remove this server with `nexusctl cluster remove {}` and let it join anew",
                directory.join(file).display(),
                directory.display(),
                self.name
            );
        }
        Ok(())
    }

    /// Notes that the file of the quorum is there.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn has_quorum(&mut self, directory: &Path) -> anyhow::Result<()> {
        if self.quorum {
            return Ok(());
        }
        self.quorum = true;
        let path = directory.join(FILE);
        self.write(directory, &path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Complete and durable, or not there.
    fn write(&self, directory: &Path, path: &Path) -> anyhow::Result<()> {
        let unfinished = path.with_extension("unfinished");
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        std::fs::File::open(directory)?.sync_all()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stays_and_the_configured_name_counts() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::load(directory.path(), None).unwrap();
        assert_eq!(Identity::load(directory.path(), None).unwrap(), first);
        let name = NodeName::new("east-1").unwrap();
        let named = Identity::load(directory.path(), Some(&name)).unwrap();
        assert_eq!((named.number, named.name), (first.number, name));
    }

    #[test]
    fn a_lost_quorum_file_is_told_from_one_that_was_never_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut identity = Identity::load(directory.path(), None).unwrap();
        identity.check_quorum(directory.path(), "q").unwrap();
        identity.has_quorum(directory.path()).unwrap();
        let again = Identity::load(directory.path(), None).unwrap();
        let error = again.check_quorum(directory.path(), "q").unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
        std::fs::write(directory.path().join("q"), b"").unwrap();
        again.check_quorum(directory.path(), "q").unwrap();
    }

    #[test]
    fn a_damaged_or_missing_identity_beside_a_store_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), b"{").unwrap();
        let error = Identity::load(directory.path(), None).unwrap_err();
        assert!(error.to_string().contains("restore it"), "{error}");
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        std::fs::create_dir(directory.path().join("store")).unwrap();
        let error = Identity::load(directory.path(), None).unwrap_err();
        assert!(error.to_string().contains("has store but no"), "{error}");
    }
}
