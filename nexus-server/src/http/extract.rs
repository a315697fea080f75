//! Reading requests: bodies, paths and queries, with a problem body for everything that does not fit.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// Largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes of a body that is too large that are still read.
const MAX_THROWN_AWAY: usize = 8 * 1024 * 1024;

/// A JSON body, read strictly.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// The parameters of the path.
#[derive(Debug)]
pub struct PathOf<T>(pub T);

/// The parameters of the query; unknown ones are refused if `T` refuses unknown fields.
#[derive(Debug)]
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        // Read first: a connection with an unread body is closed after the answer, and a client
        // that uses it again loses that race.
        let bytes = read(&parts.headers, body).await?;
        if let Some(problem) = wrong_media_type(&parts.headers) {
            return Err(problem);
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| json_problem(&error))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| {
                Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid-path",
                    format!("the path is not valid: {}", error.body_text()),
                )
            })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| {
                let text = error.body_text();
                let problem = Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid-query",
                    format!("the query is not valid: {text}"),
                );
                name_field(problem, &text)
            })?;
        Ok(Self(value))
    }
}

/// What is wrong with the kind of a body, if anything is.
fn wrong_media_type(headers: &HeaderMap) -> Option<Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    match media_type.as_deref() {
        Some("application/json") => None,
        Some(kind) if kind.starts_with("application/") && kind.ends_with("+json") => None,
        other => Some(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!(
                "the body must be JSON with Content-Type: application/json, not {}",
                other.unwrap_or("without a Content-Type")
            ),
        )),
    }
}

/// Reads a body up to the limit. Of one that is too large a bit more is read and thrown away, because most
/// clients look for the answer only when they have sent everything.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body must not be larger than {MAX_BODY_BYTES} bytes"),
        )
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok())
        .unwrap_or(0);
    let asks_first = headers.contains_key(header::EXPECT);
    if declared > MAX_BODY_BYTES.saturating_add(MAX_THROWN_AWAY)
        || (declared > MAX_BODY_BYTES && asks_first)
    {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(declared.min(MAX_BODY_BYTES));
    let mut thrown_away = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            let detail = format!("the body could not be read: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "unreadable-body", detail)
        })?;
        if thrown_away == 0 && bytes.len().saturating_add(chunk.len()) <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&chunk);
            continue;
        }
        thrown_away = thrown_away.saturating_add(chunk.len());
        if thrown_away > MAX_THROWN_AWAY {
            break;
        }
    }
    if thrown_away > 0 {
        return Err(too_large());
    }
    Ok(bytes)
}

/// What a reader said, as a problem: 400 for text that is no JSON, 422 for JSON of another shape.
pub fn json_problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.is_data() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", &text);
        name_field(problem, &text)
    } else {
        let detail = format!("the body is not JSON: {text}");
        Problem::new(StatusCode::BAD_REQUEST, "malformed-json", detail)
    }
}

/// Takes the field out of "unknown field `x`" or "missing field `x`".
fn name_field(problem: Problem, text: &str) -> Problem {
    match text
        .split_once("field `")
        .and_then(|(_, rest)| rest.split_once('`'))
    {
        Some((field, _)) => problem.with_field(field),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(rename = "a")]
        _a: u8,
    }

    #[test]
    fn an_unknown_or_missing_field_is_named() {
        for (text, field) in [("{\"a\":1,\"b\":2}", "b"), ("{}", "a")] {
            let error = serde_json::from_str::<Example>(text).unwrap_err();
            let problem = json_problem(&error);
            assert_eq!(problem.status, 422);
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn text_that_is_no_json_is_a_bad_request() {
        let error = serde_json::from_str::<Example>("{\"a\":").unwrap_err();
        assert_eq!(json_problem(&error).status, 400);
    }

    #[test]
    fn only_json_media_types_are_read() {
        let check = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            }
            wrong_media_type(&headers).map_or(Ok(()), |problem| Err(problem.status))
        };
        assert_eq!(check(Some("application/json; charset=utf-8")), Ok(()));
        assert_eq!(check(Some("application/merge-patch+json")), Ok(()));
        assert_eq!(check(Some("text/plain")), Err(415));
        assert_eq!(check(None), Err(415));
    }
}
