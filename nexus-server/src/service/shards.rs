//! What changes would move, found out beside the owner of the state, which goes on meanwhile.

use nexus_core::shard_table::PlannedChange;

use super::Service;
use crate::centre::ShardPlan;
use crate::refused::Refused;

impl Service {
    /// What changes, made one after another, would move. Changes nothing.
    ///
    /// # Errors
    /// Why one of them would be refused.
    pub async fn plan(&self, changes: Vec<PlannedChange>) -> Result<ShardPlan, Refused> {
        let table = self
            .parts
            .centre
            .run(|centre, _| Ok(centre.table_copy()))
            .await?;
        let planned = tokio::task::spawn_blocking(move || table.plan(changes)).await;
        let plan = planned.map_err(|error| Refused::NotPossible(error.to_string()))??;
        self.parts
            .centre
            .run(move |centre, _| Ok(centre.weigh(plan)))
            .await
    }
}
