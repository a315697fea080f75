//! `/api/v1/nodes`: the OLT hosts.

mod views;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nexus_core::id::OltId;
use serde::Deserialize;
use utoipa::ToSchema;

use super::App;
use super::extract::{JsonBody, PathOf};
use super::problem::Problem;
use crate::refused::Refused;
use views::NodeList;
pub use views::NodeView;

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// All OLT hosts.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "nodes",
    responses((status = 200, description = "All OLT hosts", body = NodeList))
)]
pub async fn list(State(app): State<App>) -> Result<Json<NodeList>, Problem> {
    let nodes = app.centre().run(|centre, _| Ok(centre.nodes())).await?;
    Ok(Json(NodeList {
        nodes: nodes.into_iter().map(NodeView::from).collect(),
    }))
}

/// One OLT host.
#[utoipa::path(
    get, path = "/api/v1/nodes/{id}", tag = "nodes",
    params(("id" = String, Path, description = "OLT")),
    responses(
        (status = 200, description = "The OLT host", body = NodeView),
        (status = 404, description = "Not registered", body = Problem),
    )
)]
pub async fn read(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
) -> Result<Json<NodeView>, Problem> {
    let node = app.centre().run(move |centre, _| centre.node(&olt)).await?;
    Ok(Json(node.into()))
}

/// Forgets an OLT host that is drained and holds nothing, or that is fenced.
#[utoipa::path(
    delete, path = "/api/v1/nodes/{id}", tag = "nodes",
    params(("id" = String, Path, description = "OLT")),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, description = "Not registered", body = Problem),
        (status = 409, description = "Drain it first, and wait until it is empty", body = Problem),
    )
)]
pub async fn delete(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
) -> Result<StatusCode, Problem> {
    app.service.deregister(olt).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts to drain an OLT host: it gets no new shards and gives back those that it has once they are empty.
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/drain", tag = "nodes",
    params(("id" = String, Path, description = "OLT")),
    responses(
        (status = 202, description = "Draining", body = NodeView),
        (status = 404, description = "Not registered", body = Problem),
    )
)]
pub async fn drain(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
) -> Result<(StatusCode, Json<NodeView>), Problem> {
    let node = app.service.drain(olt).await?;
    Ok((StatusCode::ACCEPTED, Json(node.into())))
}

/// Lets an OLT host that is drained go on after all: it keeps what it has not given back, and gets shards again.
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/activate", tag = "nodes",
    params(("id" = String, Path, description = "OLT")),
    responses(
        (status = 200, description = "Not drained (any more)", body = NodeView),
        (status = 404, description = "Not registered", body = Problem),
    )
)]
pub async fn activate(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
) -> Result<Json<NodeView>, Problem> {
    let node = app.service.activate(olt).await?;
    Ok(Json(node.into()))
}

/// Why a host is declared fenced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceRequest {
    /// How it is known that the host hands out nothing and serves nobody any more; kept in the log.
    #[schema(example = "power supply dead, host is out of the rack")]
    pub reason: String,
}

/// States that the host of an OLT is dead or cut off from its subscribers. Its shards are free at once, and what was
/// held on it is released. **If the statement is wrong, addresses are handed out twice.**
#[utoipa::path(
    post, path = "/api/v1/nodes/{id}/fence", tag = "nodes",
    params(("id" = String, Path, description = "OLT")),
    request_body = FenceRequest,
    responses(
        (status = 200, description = "Fenced; it counts again once it registers", body = NodeView),
        (status = 404, description = "Not registered", body = Problem),
        (status = 422, description = "The reason is missing", body = Problem),
    )
)]
pub async fn fence(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
    JsonBody(request): JsonBody<FenceRequest>,
) -> Result<Json<NodeView>, Problem> {
    if request.reason.len() > MAX_REASON {
        let problem = format!("has {} bytes: at most {MAX_REASON}", request.reason.len());
        return Err(Refused::invalid("reason", problem).into());
    }
    let node = app.service.fence(olt, request.reason).await?;
    Ok(Json(node.into()))
}
