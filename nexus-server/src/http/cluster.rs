//! `/api/v1/cluster`: the servers among each other.

mod views;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nexus_core::cluster::MemberCommand;
use nexus_core::id::NodeName;

use super::App;
use super::extract::{JsonBody, PathOf};
use super::problem::Problem;
use crate::cluster::status::ClusterStatus;
use crate::refused::Refused;

pub use views::{ClusterView, MemberAdmission, MemberList, MemberView};

/// How this server and its cluster are.
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "cluster",
    responses((status = 200, description = "The picture that this server has", body = ClusterView))
)]
pub async fn status(State(app): State<App>) -> Result<Json<ClusterView>, Problem> {
    let status = ClusterStatus::look(&app.membership).await?;
    Ok(Json(ClusterView::from(&status)))
}

/// The members of the cluster, and those that were.
#[utoipa::path(
    get, path = "/api/v1/cluster/members", tag = "cluster",
    responses((status = 200, description = "All members", body = MemberList))
)]
pub async fn members(State(app): State<App>) -> Result<Json<MemberList>, Problem> {
    let status = ClusterStatus::look(&app.membership).await?;
    Ok(Json(MemberList::from(&status)))
}

/// Admits a server that waits.
#[utoipa::path(
    post, path = "/api/v1/cluster/members", tag = "cluster",
    request_body = MemberAdmission,
    responses(
        (status = 200, description = "Admitted (or it was before)", body = MemberView),
        (status = 409, description = "No such server waits", body = Problem),
        (status = 503, description = "The cluster cannot decide now", body = Problem),
    )
)]
pub async fn admit(
    State(app): State<App>,
    JsonBody(request): JsonBody<MemberAdmission>,
) -> Result<Json<MemberView>, Problem> {
    let name = NodeName::new(request.name).map_err(|error| Refused::invalid("name", error))?;
    let command = MemberCommand::Admit { name: name.clone() };
    app.service.grants().decide(command).await?;
    let status = ClusterStatus::look(&app.membership).await?;
    let member = status
        .members
        .iter()
        .find(|member| member.node.name == name);
    let member = member.ok_or_else(|| Refused::Member(format!("{name} was removed meanwhile")))?;
    Ok(Json(MemberView::of(&status, member)))
}

/// Removes a server for good: it is cut off, and cannot come back with the data that it has.
#[utoipa::path(
    delete, path = "/api/v1/cluster/members/{name}", tag = "cluster",
    params(("name" = String, Path, description = "Server")),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "It is not there, or the last one that takes writes", body = Problem),
        (status = 503, description = "The cluster cannot decide now", body = Problem),
    )
)]
pub async fn remove(
    State(app): State<App>,
    PathOf(name): PathOf<NodeName>,
) -> Result<StatusCode, Problem> {
    app.service
        .grants()
        .decide(MemberCommand::Remove { name })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Founds a cluster of this server alone: once in the life of a cluster, on one server.
#[utoipa::path(
    post, path = "/api/v1/cluster/init", tag = "cluster",
    responses(
        (status = 200, description = "Founded (or it was before)", body = ClusterView),
        (status = 409, description = "This server was a member of a cluster", body = Problem),
    )
)]
pub async fn init(State(app): State<App>) -> Result<Json<ClusterView>, Problem> {
    app.membership.found().await?;
    app.membership.settled().await;
    let status = ClusterStatus::look(&app.membership).await?;
    Ok(Json(ClusterView::from(&status)))
}
