//! `/api/v1/pools`: what is handed out.

mod document;
mod views;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nexus_core::id::PoolId;
use nexus_core::pool::PoolSpec;

use super::App;
use super::extract::{JsonBody, PathOf, QueryOf, json_problem};
use super::problem::Problem;
use crate::centre::etag;
use crate::refused::Refused;
pub use document::PoolDocument;
use document::PoolList;
use views::{ChangeView, DeleteQuery, PoolRemoval, PoolView, StatsView, UpdateQuery};

/// All pools.
#[utoipa::path(
    get, path = "/api/v1/pools", tag = "pools",
    responses((status = 200, description = "All pools", body = PoolList))
)]
pub async fn list(State(app): State<App>) -> Result<Json<PoolList>, Problem> {
    let pools = app
        .centre()
        .run(|centre, _| Ok(centre.pool_specs()))
        .await?;
    Ok(Json(PoolList { pools }))
}

/// Creates a pool.
#[utoipa::path(
    post, path = "/api/v1/pools", tag = "pools",
    request_body = PoolDocument,
    responses(
        (status = 201, description = "Created", body = PoolDocument, headers(("Location" = String), ("ETag" = String))),
        (status = 409, description = "The id is taken, or the pool overlaps another", body = Problem),
        (status = 422, description = "The pool makes no sense", body = Problem),
    )
)]
pub async fn create(
    State(app): State<App>,
    JsonBody(spec): JsonBody<PoolSpec>,
) -> Result<Response, Problem> {
    let spec = app.service.create_pool(spec).await?;
    let location = format!("/api/v1/pools/{}", spec.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location), (header::ETAG, etag(&spec))],
        Json(spec),
    )
        .into_response())
}

/// A pool. While subscribers still hold what a change has taken away, `draining` says how much.
#[utoipa::path(
    get, path = "/api/v1/pools/{id}", tag = "pools",
    params(("id" = String, Path, description = "Pool")),
    responses(
        (status = 200, description = "The pool", body = PoolDocument, headers(("ETag" = String))),
        (status = 404, description = "No such pool", body = Problem),
    )
)]
pub async fn read(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
) -> Result<([(HeaderName, String); 1], Json<PoolView>), Problem> {
    let (spec, draining) = app
        .centre()
        .run(move |centre, _| Ok((centre.pool_spec(&id)?, centre.draining(&id)?)))
        .await?;
    let tag = etag(&spec);
    Ok(([(header::ETAG, tag)], Json(PoolView { spec, draining })))
}

/// Changes a pool: exclusions, labels, DHCP data and the like; it may grow and shrink at its end. Type, vrf, start and
/// shards stay as they are. If subscribers hold what the change takes away, it is refused, or they are asked for it
/// with `drain=true`. `If-Match` with the pool's ETag refuses the change if somebody else was faster.
#[utoipa::path(
    put, path = "/api/v1/pools/{id}", tag = "pools",
    params(
        ("id" = String, Path, description = "Pool"),
        UpdateQuery,
        ("If-Match" = Option<String>, Header, description = "ETag of the pool that the change is made to"),
    ),
    request_body = PoolDocument,
    responses(
        (status = 200, description = "Changed; with dry_run: a ChangeView", body = PoolDocument, headers(("ETag" = String))),
        (status = 202, description = "Changed, and waits until what goes has come back", body = PoolDocument, headers(("ETag" = String))),
        (status = 404, description = "No such pool", body = Problem),
        (status = 409, description = "Subscribers hold what the change takes away (`in-use`, with `count` and `allocations`), or it would move shards", body = Problem),
        (status = 412, description = "The pool has another ETag", body = Problem),
        (status = 422, description = "The pool makes no sense", body = Problem),
    )
)]
pub async fn update(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
    QueryOf(query): QueryOf<UpdateQuery>,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody<serde_json::Value>,
) -> Result<Response, Problem> {
    // What was read may be written back.
    if let Some(fields) = body.as_object_mut() {
        fields.remove("draining");
    }
    let spec: PoolSpec = serde_json::from_value(body).map_err(|error| json_problem(&error))?;
    let if_match = if_match(&headers)?;
    if query.dry_run {
        let planned = app.service.try_pool(id.clone(), Some(spec), if_match);
        let (change, plan) = planned.await?;
        return Ok(Json(ChangeView::new(id.to_string(), &change, plan)).into_response());
    }
    let changed = app.service.update_pool(id, spec, if_match, query.drain);
    let (spec, draining) = changed.await?;
    let status = match draining {
        0 => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let tag = etag(&spec);
    let view = Json(PoolView { spec, draining });
    Ok((status, [(header::ETAG, tag)], view).into_response())
}

/// Removes a pool that nobody holds anything of, or has everything asked back first with `force=true`.
#[utoipa::path(
    delete, path = "/api/v1/pools/{id}", tag = "pools",
    params(
        ("id" = String, Path, description = "Pool"),
        DeleteQuery,
        ("If-Match" = Option<String>, Header, description = "ETag of the pool"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 200, description = "With dry_run: what would happen", body = ChangeView),
        (status = 202, description = "Goes as soon as the OLTs have given back its shards", body = PoolRemoval),
        (status = 404, description = "No such pool", body = Problem),
        (status = 409, description = "It has allocations (`in-use`, with `count` and `allocations`)", body = Problem),
        (status = 412, description = "The pool has another ETag", body = Problem),
    )
)]
pub async fn delete(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
    QueryOf(query): QueryOf<DeleteQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    if query.dry_run {
        let (change, plan) = app.service.try_pool(id.clone(), None, if_match).await?;
        return Ok(Json(ChangeView::new(id.to_string(), &change, plan)).into_response());
    }
    let removed = app.service.delete_pool(id.clone(), if_match, query.force);
    if removed.await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let removal = PoolRemoval {
        pool_id: id.to_string(),
        removing: true,
    };
    Ok((StatusCode::ACCEPTED, Json(removal)).into_response())
}

/// How full a pool is.
#[utoipa::path(
    get, path = "/api/v1/pools/{id}/stats", tag = "pools",
    params(("id" = String, Path, description = "Pool")),
    responses(
        (status = 200, description = "How full it is", body = StatsView),
        (status = 404, description = "No such pool", body = Problem),
    )
)]
pub async fn stats(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
) -> Result<Json<StatsView>, Problem> {
    let stats = app
        .centre()
        .run(move |centre, _| centre.pool_stats(&id))
        .await?;
    Ok(Json(stats.into()))
}

fn if_match(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    headers
        .get(header::IF_MATCH)
        .map(|value| {
            value
                .to_str()
                .map(ToOwned::to_owned)
                .map_err(|_| Refused::invalid("If-Match", "must be the ETag of the pool"))
        })
        .transpose()
}
