//! Health, readiness, what the audit has found, and what Prometheus reads.

mod views;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;
use crate::cluster::status::ClusterStatus;
use views::AuditView;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    status: &'static str,
    /// Version of the program.
    version: &'static str,
}

/// Whether the process works at all; if not, it should be restarted.
#[utoipa::path(
    get, path = "/health",
    responses(
        (status = 200, description = "It works", body = Health),
        (status = 503, description = "It does not", body = Problem),
    )
)]
pub async fn health(State(app): State<App>) -> Result<Json<Health>, Problem> {
    // Goes through the owner's task and waits for the store, so that it says more than that HTTP works.
    app.centre().run(|_, _| Ok(())).await?;
    Ok(Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Whether requests should be sent here.
#[utoipa::path(
    get, path = "/ready",
    responses(
        (status = 200, description = "Yes", body = Health),
        (status = 503, description = "Not now: starting or stopping", body = Problem),
    )
)]
pub async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    if app.ready.get() {
        return health(State(app)).await;
    }
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "the server is starting or stopping",
    ))
}

/// Resources that more than one subscriber holds, as the running audit has found them up to now.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "allocations",
    responses((status = 200, description = "What was found", body = AuditView))
)]
pub async fn audit(State(app): State<App>) -> Result<Json<AuditView>, Problem> {
    let audit = app.centre().run(|centre, _| Ok(centre.audit())).await?;
    Ok(Json(audit.into()))
}

/// What Prometheus reads.
pub async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let role = app.role;
    let mut snapshot = app
        .centre()
        .run(move |centre, _| Ok(centre.gauges(role)))
        .await?;
    snapshot.watchers = app.centre().watchers().await?;
    let status = ClusterStatus::look(&app.membership).await?;
    let counters = app.membership.link.as_ref().map(nexus_p2p::Link::counters);
    let requests = app.centre().depth();
    app.metrics()
        .cluster()
        .show(&status, counters.as_ref(), requests);
    let text = app.metrics().render(&snapshot).map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics-failed",
            error.to_string(),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, app.metrics().content_type())], text).into_response())
}
