//! `/api/v1/shards`: who owns which part of which pool, and what a change would move.

mod views;

use axum::Json;
use axum::extract::State;
use nexus_core::id::{OltId, PoolId, ShardId};
use nexus_core::shard::ShardState;
use nexus_core::shard_table::PlannedChange;
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::extract::{JsonBody, QueryOf};
use super::problem::Problem;
use crate::centre::{MAX_SHARDS, ShardFilter};
use crate::refused::Refused;
pub use views::PlanView;
use views::{PlanRequest, ShardList};

/// Most joins and leaves of one plan.
const MAX_CHANGES: usize = 1000;

/// Filters and place of a list of shards.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ShardQuery {
    /// Of this pool.
    pool: Option<String>,
    /// Of this OLT; `nexus` for those that the cluster keeps.
    olt: Option<String>,
    /// free, owned, draining or frozen.
    state: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 1000; 1000 if not given.
    limit: Option<usize>,
}

/// Shards: their owners, states, epochs and fill.
#[utoipa::path(
    get, path = "/api/v1/shards", tag = "shards", params(ShardQuery),
    responses(
        (status = 200, description = "A page of shards in the order of pool and index", body = ShardList),
        (status = 404, description = "No such pool", body = Problem),
        (status = 422, description = "A filter makes no sense", body = Problem),
    )
)]
pub async fn list(
    State(app): State<App>,
    QueryOf(query): QueryOf<ShardQuery>,
) -> Result<Json<ShardList>, Problem> {
    let filter = filter(query)?;
    let page = app
        .centre()
        .run(move |centre, _| centre.shards(&filter))
        .await?;
    Ok(Json(page.into()))
}

/// What OLT hosts that come or go, and a new or changed pool, would move. Changes nothing.
#[utoipa::path(
    post, path = "/api/v1/shards/plan", tag = "shards",
    request_body = PlanRequest,
    responses(
        (status = 200, description = "What would move, pool by pool", body = PlanView),
        (status = 404, description = "No such OLT", body = Problem),
        (status = 409, description = "The change would be refused", body = Problem),
        (status = 422, description = "The change makes no sense", body = Problem),
    )
)]
pub async fn plan(
    State(app): State<App>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Json<PlanView>, Problem> {
    if request.join.len().saturating_add(request.leave.len()) > MAX_CHANGES {
        let problem = format!("at most {MAX_CHANGES} joins and leaves at once");
        return Err(Refused::invalid("join", problem).into());
    }
    let mut changes = Vec::new();
    for olt in request.leave {
        let olt = OltId::new(olt).map_err(|error| Refused::invalid("leave", error))?;
        changes.push(PlannedChange::Leave { olt });
    }
    for join in request.join {
        let olt = OltId::new(join.id).map_err(|error| Refused::invalid("join.id", error))?;
        changes.push(PlannedChange::Join {
            olt,
            region: join.region,
            capacity: join.capacity,
        });
    }
    if let Some(spec) = request.pool {
        let id = spec.id.clone();
        let known = app
            .centre()
            .run(move |centre, _| Ok(!centre.is_gone(&id)))
            .await?;
        let spec = Box::new(spec);
        changes.push(if known {
            PlannedChange::UpdatePool { spec }
        } else {
            PlannedChange::AddPool { spec }
        });
    }
    if changes.is_empty() {
        let problem = "name at least one OLT that joins or leaves, or a pool";
        return Err(Refused::invalid("join", problem).into());
    }
    Ok(Json(app.service.plan(changes).await?.into()))
}

fn filter(query: ShardQuery) -> Result<ShardFilter, Refused> {
    let limit = query.limit.unwrap_or(MAX_SHARDS);
    if !(1..=MAX_SHARDS).contains(&limit) {
        let problem = format!("must be 1 to {MAX_SHARDS}");
        return Err(Refused::invalid("limit", problem));
    }
    let states = [
        ShardState::Free,
        ShardState::Owned,
        ShardState::Draining,
        ShardState::Frozen,
    ];
    let state = |text: String| {
        let known = states.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| Refused::invalid("state", "must be free, owned, draining or frozen"))
    };
    Ok(ShardFilter {
        pool: query
            .pool
            .map(PoolId::new)
            .transpose()
            .map_err(|error| Refused::invalid("pool", error))?,
        olt: query
            .olt
            .map(OltId::new)
            .transpose()
            .map_err(|error| Refused::invalid("olt", error))?,
        state: query.state.map(state).transpose()?,
        after: query.cursor.as_deref().map(read_cursor).transpose()?,
        limit,
    })
}

/// `pool/7`; a pool's name has no slash.
fn cursor((pool, shard): (PoolId, ShardId)) -> String {
    format!("{pool}/{shard}")
}

fn read_cursor(text: &str) -> Result<(PoolId, ShardId), Refused> {
    let wrong = || Refused::invalid("cursor", "must be the next_cursor of the page before");
    let (pool, shard) = text.rsplit_once('/').ok_or_else(wrong)?;
    let pool = PoolId::new(pool).map_err(|_| wrong())?;
    let shard = shard.parse().map_err(|_| wrong())?;
    Ok((pool, ShardId(shard)))
}
