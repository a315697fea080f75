//! The pools of the configuration: created once, by the server that founds the cluster.

use std::path::Path;

use anyhow::Context as _;

use crate::config::Config;
use crate::service::Service;

/// File in the data directory that says that the pools were created.
const SEEDED: &str = "seeded";

/// Creates the pools of the configuration at the first start. Later the API is the place to change them.
///
/// # Errors
/// A pool that cannot be created.
pub async fn pools(config: &Config, service: &Service) -> anyhow::Result<()> {
    let specs = config.seed_pools();
    let seeded = config.storage.path.join(SEEDED);
    let known = service
        .centre()
        .run(|centre, _| Ok(centre.pool_specs()))
        .await?;
    if seeded.exists() {
        for spec in specs.iter().filter(|spec| !known.contains(spec)) {
            tracing::warn!(pool = %spec.id,
                "this pool of the configuration is not as it is in the store; pools are read from the configuration at the first start only, change them through the API");
        }
        return Ok(());
    }
    for spec in specs {
        let id = spec.id.clone();
        // A crash in the middle of the first start leaves some of them.
        if known.iter().any(|known| known.id == id) {
            continue;
        }
        service
            .create_pool(spec)
            .await
            .with_context(|| format!("pool {id} of the configuration cannot be created"))?;
    }
    mark(&seeded).with_context(|| format!("cannot write {}", seeded.display()))
}

fn mark(path: &Path) -> std::io::Result<()> {
    std::fs::File::create(path)?.sync_all()
}
