//! `nexus-server recover`: going on when a majority's disks are gone, or when all there is is an old copy. The server is stopped.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use nexus_core::cluster::ClusterCommand;

use crate::config::Config;
use crate::identity::Identity;
use crate::run::QUORUM;

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// Looks at what this server has; with a reason it goes on alone from that. Says what it found or did.
///
/// # Errors
/// What is wrong, and that nothing has changed.
pub fn run(config: &Config, reason: Option<&str>) -> anyhow::Result<String> {
    let directory = &config.storage.path;
    let path = directory.join(QUORUM);
    let identity = Identity::known(directory, config.node.id.as_ref())?;
    let last = nexus_quorum::last_entry(&path, identity.number)
        .context("nothing has changed; is the server stopped?")?;
    let Some((term, index)) = last else {
        bail!(
            "{} has decided nothing yet: there is nothing to go on with",
            identity.name
        );
    };
    let Some(reason) = reason else {
        let mut text = format!(
            "{}: the last decision that it has is number {index} of term {term}\n",
            identity.name
        );
        let _ = writeln!(
            text,
            "Nothing has changed. Of the servers that are left, the one with the greatest term, and among these the greatest number, has \
             most: there, and only there, `nexus-server recover --go-on-alone --reason TEXT`."
        );
        return Ok(text);
    };
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        bail!("say why, in 1 to {MAX_REASON} bytes: it is kept in the log of decisions");
    }
    let command = ClusterCommand::Recover {
        server: identity.number,
        reason: reason.to_owned(),
    };
    let recovered = nexus_quorum::go_on_alone(&path, identity.number, command.encode()?)
        .context("nothing has changed")?;
    Ok(format!(
        "{} is the only server of a new cluster now, from decision {} on. Start it, and let the others join with empty data directories.\n\
         No shard changes hands and no new OLT host gets any until every lease that may have been granted has ended: `nexusctl cluster \
         status` says how long. Hosts whose configuration and lease are as this server knows them go on allocating.\n",
        identity.name, recovered.last_index
    ))
}
