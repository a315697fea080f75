//! `/api/v1/bootstrap`: OLT hosts enrol, read their configuration, and report.

mod views;

use axum::Json;
use axum::extract::State;
use nexus_core::id::{OltId, Seq, SessionId};

use super::App;
use super::extract::{JsonBody, PathOf};
use super::problem::Problem;
use crate::centre::{Heartbeat, Registration};
use crate::refused::Refused;
use views::{BootstrapRequest, BootstrapResponse, ConfigView, HeartbeatRequest, HeartbeatResponse};

/// Enrols an OLT, or the same OLT again after a restart.
#[utoipa::path(
    post, path = "/api/v1/bootstrap", tag = "bootstrap",
    request_body = BootstrapRequest,
    responses(
        (status = 200, description = "Enrolled", body = BootstrapResponse),
        (status = 409, description = "Another session of this id is alive, or the session is over", body = Problem),
        (status = 422, description = "A field makes no sense", body = Problem),
    )
)]
pub async fn register(
    State(app): State<App>,
    JsonBody(request): JsonBody<BootstrapRequest>,
) -> Result<Json<BootstrapResponse>, Problem> {
    let session = match request.session {
        Some(session) => {
            SessionId::new(session).map_err(|error| Refused::invalid("session", error))?
        }
        None => new_session()?,
    };
    let registration = Registration {
        olt: OltId::new(request.id).map_err(|error| Refused::invalid("id", error))?,
        name: request.name,
        region: request.region,
        address: request.address,
        capacity: request.capacity,
        session,
        last_seq: Seq(request.last_seq),
        config_revision: request.config_revision,
        lease_alive: request.lease_alive,
        keeping: None,
        instance: String::new(),
    };
    let registered = app.service.register(registration).await?;
    Ok(Json(registered.into()))
}

/// The current configuration of an OLT.
#[utoipa::path(
    get, path = "/api/v1/bootstrap/{olt_id}/config", tag = "bootstrap",
    params(("olt_id" = String, Path, description = "OLT")),
    responses(
        (status = 200, description = "Its configuration", body = ConfigView),
        (status = 404, description = "Not registered", body = Problem),
    )
)]
pub async fn config(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
) -> Result<Json<ConfigView>, Problem> {
    let config = app.service.config(olt, None).await?;
    Ok(Json(ConfigView::from(config.as_ref())))
}

/// Takes a sign of life of an OLT and renews the lease of the session that sent it.
#[utoipa::path(
    post, path = "/api/v1/bootstrap/{olt_id}/heartbeat", tag = "bootstrap",
    params(("olt_id" = String, Path, description = "OLT")),
    request_body = HeartbeatRequest,
    responses(
        (status = 200, description = "Taken", body = HeartbeatResponse),
        (status = 404, description = "Not registered", body = Problem),
        (status = 409, description = "The session is not the current one: register again", body = Problem),
    )
)]
pub async fn heartbeat(
    State(app): State<App>,
    PathOf(olt): PathOf<OltId>,
    JsonBody(request): JsonBody<HeartbeatRequest>,
) -> Result<Json<HeartbeatResponse>, Problem> {
    let session = request
        .session
        .map(SessionId::new)
        .transpose()
        .map_err(|error| Refused::invalid("session", error))?;
    let heartbeat = Heartbeat {
        olt,
        session,
        active_subscribers: request.active_subscribers,
        metrics: request.metrics,
        config_revision: request.config_revision,
        shard_use: Vec::new(),
        instance: String::new(),
        released: Vec::new(),
        keeping: None,
        last_seq: Seq(request.last_seq),
        clocks_apart: String::new(),
    };
    let answer = app.service.heartbeat(heartbeat).await?;
    Ok(Json(answer.into()))
}

fn new_session() -> Result<SessionId, Refused> {
    SessionId::new(format!("{:032x}", rand::random::<u128>()))
        .map_err(|error| Refused::invalid("session", error))
}
