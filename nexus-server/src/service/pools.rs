//! Pools: each change is looked at here, with the record, and decided by the quorum.

use nexus_core::id::PoolId;
use nexus_core::pool::PoolSpec;

use super::Service;
use crate::refused::Refused;

impl Service {
    /// Creates a pool.
    ///
    /// # Errors
    /// What is wrong with it, or which pool it meets.
    pub async fn create_pool(&self, spec: PoolSpec) -> Result<PoolSpec, Refused> {
        self.writable()?;
        let id = spec.id.clone();
        let command = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_create(spec))
            .await?;
        self.parts.grants.decide(command).await?;
        self.place(None).await;
        tracing::info!(pool = %id, "pool created");
        self.parts
            .centre
            .run(move |centre, _| centre.pool_spec(&id))
            .await
    }

    /// Changes a pool. Its space and shards stay as they are, and nothing that is held may be excluded.
    ///
    /// # Errors
    /// What is wrong with the change, or what stands in its way.
    pub async fn update_pool(
        &self,
        id: PoolId,
        spec: PoolSpec,
        if_match: Option<String>,
    ) -> Result<PoolSpec, Refused> {
        self.writable()?;
        let pool = id.clone();
        let command = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_update(&pool, spec, if_match.as_deref()))
            .await?;
        self.parts.grants.decide(command).await?;
        self.place(None).await;
        tracing::info!(pool = %id, "pool changed");
        self.parts
            .centre
            .run(move |centre, _| centre.pool_spec(&id))
            .await
    }

    /// Removes a pool that nobody holds anything of. Gives whether it is gone; if not, it goes as soon as
    /// the OLTs have given back its shards.
    ///
    /// # Errors
    /// What stands in its way.
    pub async fn delete_pool(&self, id: PoolId, if_match: Option<String>) -> Result<bool, Refused> {
        self.writable()?;
        let pool = id.clone();
        let command = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_delete(&pool, if_match.as_deref()))
            .await?;
        self.parts.grants.decide(command).await?;
        let pool = id.clone();
        let gone = self
            .parts
            .centre
            .run(move |centre, _| Ok(centre.is_gone(&pool)))
            .await?;
        tracing::info!(pool = %id, gone, "pool removed");
        Ok(gone)
    }
}
