//! Pools: each change is looked at here, with the record, and decided by the quorum.

use nexus_core::id::PoolId;
use nexus_core::pool::PoolSpec;

use nexus_core::shard_table::PlannedChange;

use super::Service;
use super::registry::AT_ONCE;
use crate::allocation::Place;
use crate::centre::{Affected, PoolChange, ShardPlan};
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

    /// Changes a pool. If subscribers hold what the change takes away, it is refused, or asked back with
    /// `drain`. Gives the pool as it is then, and how much is still held of what goes.
    ///
    /// # Errors
    /// What is wrong with the change, or what stands in its way.
    pub async fn update_pool(
        &self,
        id: PoolId,
        spec: PoolSpec,
        if_match: Option<String>,
        drain: bool,
    ) -> Result<(PoolSpec, u64), Refused> {
        self.writable()?;
        let pool = id.clone();
        let change = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_update(&pool, spec, if_match.as_deref()))
            .await?;
        if !drain {
            nothing_held(&id, &change.affected)?;
        }
        self.parts.grants.decide(change.command).await?;
        self.ask_back(change.affected.places).await?;
        self.place(None).await;
        tracing::info!(pool = %id, "pool changed");
        self.parts
            .centre
            .run(move |centre, _| Ok((centre.pool_spec(&id)?, centre.draining(&id)?)))
            .await
    }

    /// What a change of a pool, or its removal if no specification is given, would do. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with the change.
    pub async fn try_pool(
        &self,
        id: PoolId,
        spec: Option<PoolSpec>,
        if_match: Option<String>,
    ) -> Result<(PoolChange, ShardPlan), Refused> {
        let planned = match &spec {
            Some(spec) => PlannedChange::UpdatePool {
                spec: Box::new(spec.clone()),
            },
            None => PlannedChange::RemovePool { pool: id.clone() },
        };
        let change = self
            .parts
            .centre
            .run(move |centre, _| match spec {
                Some(spec) => centre.prepare_update(&id, spec, if_match.as_deref()),
                None => centre.prepare_delete(&id, if_match.as_deref()),
            })
            .await?;
        Ok((change, self.plan(vec![planned]).await?))
    }

    /// Removes a pool. If subscribers hold something of it, it is refused, or all of it asked back with
    /// `force`. Gives whether the pool is gone; if not, it goes as soon as the OLTs have given back its shards.
    ///
    /// # Errors
    /// What stands in its way.
    pub async fn delete_pool(
        &self,
        id: PoolId,
        if_match: Option<String>,
        force: bool,
    ) -> Result<bool, Refused> {
        self.writable()?;
        let pool = id.clone();
        let change = self
            .parts
            .centre
            .run(move |centre, _| centre.prepare_delete(&pool, if_match.as_deref()))
            .await?;
        if !force {
            nothing_held(&id, &change.affected)?;
        }
        self.parts.grants.decide(change.command).await?;
        self.ask_back(change.affected.places).await?;
        let pool = id.clone();
        let gone = self
            .parts
            .centre
            .run(move |centre, _| Ok(centre.is_gone(&pool)))
            .await?;
        tracing::info!(pool = %id, gone, "pool removed");
        Ok(gone)
    }

    /// Asks back what is held of these resources, part by part, so that others are served in between.
    async fn ask_back(&self, places: Vec<Place>) -> Result<(), Refused> {
        for part in places.chunks(AT_ONCE) {
            let part = part.to_vec();
            self.parts
                .centre
                .run(move |centre, now| centre.ask_back_all(&now, &part))
                .await?;
        }
        Ok(())
    }
}

fn nothing_held(pool: &PoolId, affected: &Affected) -> Result<(), Refused> {
    if affected.places.is_empty() {
        return Ok(());
    }
    Err(Refused::InUse {
        pool: pool.clone(),
        count: affected.count(),
        first: affected.first.clone(),
    })
}
