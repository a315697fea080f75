//! `/api/v1/nodes`: the OLT hosts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nexus_core::id::OltId;

use super::App;
use super::extract::PathOf;
use super::problem::Problem;
use super::views::{NodeList, NodeView};

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

/// Forgets an OLT host that is drained and holds nothing.
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
