//! `/api/v1/pools`: what is handed out.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nexus_core::id::PoolId;
use nexus_core::pool::PoolSpec;

use super::App;
use super::extract::{JsonBody, PathOf};
use super::problem::Problem;
use super::views::{PoolDocument, PoolList, PoolRemoval, StatsView};
use crate::centre::etag;
use crate::refused::Refused;

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

/// A pool.
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
) -> Result<([(HeaderName, String); 1], Json<PoolSpec>), Problem> {
    let spec = app
        .centre()
        .run(move |centre, _| centre.pool_spec(&id))
        .await?;
    Ok(([(header::ETAG, etag(&spec))], Json(spec)))
}

/// Changes a pool; its type, vrf, space and shards stay as they are. `If-Match` with the pool's ETag refuses
/// the change if somebody else was faster.
#[utoipa::path(
    put, path = "/api/v1/pools/{id}", tag = "pools",
    params(
        ("id" = String, Path, description = "Pool"),
        ("If-Match" = Option<String>, Header, description = "ETag of the pool that the change is made to"),
    ),
    request_body = PoolDocument,
    responses(
        (status = 200, description = "Changed", body = PoolDocument, headers(("ETag" = String))),
        (status = 404, description = "No such pool", body = Problem),
        (status = 409, description = "The change would cut off what subscribers hold, or move shards", body = Problem),
        (status = 412, description = "The pool has another ETag", body = Problem),
        (status = 422, description = "The pool makes no sense", body = Problem),
    )
)]
pub async fn update(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
    headers: HeaderMap,
    JsonBody(spec): JsonBody<PoolSpec>,
) -> Result<([(HeaderName, String); 1], Json<PoolSpec>), Problem> {
    let if_match = if_match(&headers)?;
    let spec = app.service.update_pool(id, spec, if_match).await?;
    Ok(([(header::ETAG, etag(&spec))], Json(spec)))
}

/// Removes a pool that nobody holds anything of.
#[utoipa::path(
    delete, path = "/api/v1/pools/{id}", tag = "pools",
    params(
        ("id" = String, Path, description = "Pool"),
        ("If-Match" = Option<String>, Header, description = "ETag of the pool"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 202, description = "Goes as soon as the OLTs have given back its shards", body = PoolRemoval),
        (status = 404, description = "No such pool", body = Problem),
        (status = 409, description = "It has allocations; `count` says how many", body = Problem),
        (status = 412, description = "The pool has another ETag", body = Problem),
    )
)]
pub async fn delete(
    State(app): State<App>,
    PathOf(id): PathOf<PoolId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let if_match = if_match(&headers)?;
    if app.service.delete_pool(id.clone(), if_match).await? {
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
