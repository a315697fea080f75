//! The REST interface: routes, their OpenAPI description from the same place, and what all requests share.

mod allocations;
mod bootstrap;
mod cluster;
pub mod extract;
mod health;
mod nodes;
mod pools;
pub mod problem;
mod shards;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actor::Handle;
use crate::cluster::membership::Membership;
use crate::http::problem::Problem;
use crate::listen::{Connection, Listener};
use crate::metrics::Metrics;
use crate::service::Service;

/// How long a client may take to send a request and take its answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What every handler can reach.
#[derive(Clone)]
pub struct App {
    /// The operations that REST and gRPC share.
    pub service: Service,
    /// This server among others.
    pub membership: Membership,
    /// Whether requests should be sent here.
    pub ready: Readiness,
    /// Part this server plays, for the metrics.
    pub role: &'static str,
}

/// Whether the server wants to get requests. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether requests should be sent here from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether requests should be sent here.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl App {
    fn centre(&self) -> &Handle {
        self.service.centre()
    }

    fn metrics(&self) -> &Metrics {
        self.service.metrics()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nexus",
        description = "Address allocation for broadband access networks. Every error has a problem body (RFC 9457).",
        version = env!("CARGO_PKG_VERSION"),
        license(name = "Apache-2.0"),
    ),
    tags(
        (name = "bootstrap", description = "OLT hosts enrol and report"),
        (name = "pools", description = "What is handed out"),
        (name = "allocations", description = "Who has what"),
        (name = "nodes", description = "The OLT hosts"),
        (name = "shards", description = "Which OLT host owns which part of a pool"),
        (name = "cluster", description = "The servers among each other"),
    )
)]
struct Description;

/// All routes of the REST interface with their description.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(bootstrap::register))
        .routes(routes!(bootstrap::config))
        .routes(routes!(bootstrap::heartbeat))
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::read, pools::update, pools::delete))
        .routes(routes!(pools::stats))
        .routes(routes!(allocations::allocate))
        .routes(routes!(allocations::deallocate))
        .routes(routes!(allocations::list))
        .routes(routes!(allocations::of_subscriber))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::read, nodes::delete))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::activate))
        .routes(routes!(nodes::fence))
        .routes(routes!(shards::list))
        .routes(routes!(shards::plan))
        .routes(routes!(cluster::status))
        .routes(routes!(cluster::members, cluster::admit))
        .routes(routes!(cluster::remove))
        .routes(routes!(cluster::init))
        .routes(routes!(health::audit))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
}

/// The whole REST interface.
pub fn router(app: App) -> Router {
    let (routes, description) = described().split_for_parts();
    let description = Arc::new(description);
    routes
        .route("/healthz", get(health::health))
        .route(
            "/api/v1/openapi.json",
            get(move || {
                let description = Arc::clone(&description);
                async move { axum::Json(description.as_ref().clone()) }
            }),
        )
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

/// The listener for Prometheus.
pub fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
}

/// Serves a router until `stop` resolves, then lets the requests in flight finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(Listener::new(listener), router)
        .with_graceful_shutdown(stop)
        .await
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        Listener::accept(self).await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Listener::local_addr(self)
    }
}

async fn not_found(request: Request) -> Problem {
    let path = request.uri().path().escape_default().to_string();
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        format!("there is nothing at {path}: see /api/v1/openapi.json"),
    )
}

async fn method_not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path().escape_default());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{path} does not take {method}: see /api/v1/openapi.json"),
    )
}

/// Limits the time of every request, counts it by its route, and gives every refusal a problem body.
async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known_method(request.method());
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let answer = match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => with_problem_body(response),
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            format!(
                "the request was not complete after {} seconds",
                REQUEST_LIMIT.as_secs()
            ),
        )
        .into_response(),
    };
    let now = Instant::now();
    app.metrics().request(
        method,
        &path,
        answer.status().as_str(),
        now.saturating_duration_since(started),
        now,
    );
    answer
}

/// The framework answers a few errors by itself, in plain text.
fn with_problem_body(response: Response) -> Response {
    let status = response.status();
    let has_body = response.headers().contains_key(header::CONTENT_TYPE);
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if has_body && json {
        return response;
    }
    let reason = status.canonical_reason().unwrap_or("error");
    Problem::new(
        status,
        &reason.to_ascii_lowercase().replace(' ', "-"),
        reason,
    )
    .into_response()
}

/// Only known methods become label values.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_route_of_the_document() {
        let (_, description) = described().split_for_parts();
        let json = serde_json::to_value(&description).unwrap();
        for (path, methods) in [
            ("/api/v1/bootstrap", &["post"][..]),
            ("/api/v1/bootstrap/{olt_id}/config", &["get"]),
            ("/api/v1/bootstrap/{olt_id}/heartbeat", &["post"]),
            ("/api/v1/pools", &["get", "post"]),
            ("/api/v1/pools/{id}", &["get", "put", "delete"]),
            ("/api/v1/pools/{id}/stats", &["get"]),
            ("/api/v1/allocate", &["post"]),
            ("/api/v1/allocate/{subscriber_id}", &["delete"]),
            ("/api/v1/allocations", &["get"]),
            ("/api/v1/allocations/{subscriber}", &["get"]),
            ("/api/v1/nodes", &["get"]),
            ("/api/v1/nodes/{id}", &["get", "delete"]),
            ("/api/v1/nodes/{id}/drain", &["post"]),
            ("/api/v1/nodes/{id}/activate", &["post"]),
            ("/api/v1/nodes/{id}/fence", &["post"]),
            ("/api/v1/shards", &["get"]),
            ("/api/v1/shards/plan", &["post"]),
            ("/api/v1/cluster", &["get"]),
            ("/api/v1/cluster/members", &["get", "post"]),
            ("/api/v1/cluster/members/{name}", &["delete"]),
            ("/api/v1/cluster/init", &["post"]),
            ("/health", &["get"]),
            ("/ready", &["get"]),
        ] {
            for method in methods {
                let operation = &json["paths"][path][method];
                assert!(operation.is_object(), "{method} {path}");
                assert!(operation["responses"].is_object(), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_reference_of_the_description_has_its_schema() {
        let (_, description) = described().split_for_parts();
        let text = serde_json::to_string(&description).unwrap();
        let json = serde_json::to_value(&description).unwrap();
        let names: Vec<&str> = text
            .split("\"#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(names.contains(&"Pool") && names.contains(&"Problem"));
        for name in names {
            assert!(json["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
