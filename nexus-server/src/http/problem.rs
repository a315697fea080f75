//! Problem bodies (RFC 9457): every error of the REST interface has one.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allocation::Allocation;
use crate::refused::{Class, Refused};

/// Prefix of every problem type.
const TYPE_PREFIX: &str = "urn:nexus:problem:";

/// The body of every answer that is not a success (RFC 9457 section 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem: `urn:nexus:problem:pool-overlaps`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for people.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What was wrong this time, and what to do.
    pub detail: String,
    /// Field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How many things stand in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The first 100 of them, if they are allocations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<HeldView>,
    /// Servers that take writes, if this one does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<String>,
}

/// An allocation that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// What is held.
    pub resource: String,
    /// Who holds it.
    pub subscriber_id: String,
    /// OLT that the subscriber is on.
    pub olt_id: String,
}

impl From<&Allocation> for HeldView {
    fn from(allocation: &Allocation) -> Self {
        Self {
            resource: allocation.place.resource.to_string(),
            subscriber_id: allocation.subscriber.to_string(),
            olt_id: allocation.olt.to_string(),
        }
    }
}

impl Problem {
    /// A problem of this status; `slug` is its stable name.
    #[must_use]
    pub fn new(status: StatusCode, slug: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{slug}"),
            title: title(slug),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            count: None,
            allocations: Vec::new(),
            writers: Vec::new(),
        }
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// `pool-overlaps` as `Pool overlaps`.
fn title(slug: &str) -> String {
    let words = slug.replace('-', " ");
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => words,
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused.class() {
            Class::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Class::NotFound => StatusCode::NOT_FOUND,
            Class::Exists | Class::Conflict | Class::Moving | Class::Exhausted => {
                StatusCode::CONFLICT
            }
            Class::Condition => StatusCode::PRECONDITION_FAILED,
            Class::Elsewhere => StatusCode::FORBIDDEN,
            Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let writers = match &refused {
            Refused::ReadOnly { writers } => writers.clone(),
            _ => Vec::new(),
        };
        let allocations = match &refused {
            Refused::InUse { first, .. } => first.iter().map(HeldView::from).collect(),
            _ => Vec::new(),
        };
        Self {
            writers,
            allocations,
            field: refused.field().map(ToOwned::to_owned),
            count: refused.count(),
            ..Self::new(status, refused.slug(), refused.to_string())
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use nexus_core::id::PoolId;

    use super::*;

    #[test]
    fn a_refusal_becomes_a_problem_with_type_title_status_and_count() {
        let problem = Problem::from(Refused::PoolHasAllocations {
            pool: PoolId::new("p").unwrap(),
            count: 3,
        });
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:nexus:problem:pool-has-allocations");
        assert_eq!(json["title"], "Pool has allocations");
        assert_eq!(json["status"], 409);
        assert_eq!(json["count"], 3);
        assert_eq!(json.get("field"), None);
    }
}
