//! Requests to a nexus-server, and its problem bodies (RFC 9457) as errors.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The URL is none.
    #[error("--server {0}: expected a URL such as http://127.0.0.1:9000")]
    BadUrl(String),
    /// Nobody answered.
    #[error(
        "no answer from {url}: {problem}; is nexus-server running there? (--server, NEXUS_SERVER)"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        problem: String,
    },
    /// The server said no.
    #[error("{}", show(.0))]
    Refused(Problem),
    /// The answer is not that of a nexus-server.
    #[error("{url} answered {status} with something that is not from nexus-server: {text}")]
    Unexpected {
        /// Where.
        url: String,
        /// Its status.
        status: u16,
        /// Beginning of the body.
        text: String,
    },
}

/// A problem body.
#[derive(Debug, Deserialize)]
pub struct Problem {
    title: String,
    status: u16,
    detail: String,
    #[serde(default)]
    field: Option<String>,
}

fn show(problem: &Problem) -> String {
    let field = match &problem.field {
        Some(field) if !problem.detail.contains(field.as_str()) => format!(" (field {field})"),
        _ => String::new(),
    };
    format!(
        "{} ({}): {}{field}",
        problem.title, problem.status, problem.detail
    )
}

/// A success.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Its `ETag`.
    pub etag: Option<String>,
    /// The JSON, `Null` if there is none.
    pub body: Value,
}

/// One server.
#[derive(Debug)]
pub struct Api {
    agent: ureq::Agent,
    server: String,
}

impl Api {
    /// The server at a URL.
    ///
    /// # Errors
    /// If it is no URL.
    pub fn new(server: &str) -> Result<Self, ApiError> {
        let server = server.trim_end_matches('/');
        if !server.starts_with("http://") {
            return Err(ApiError::BadUrl(server.to_owned()));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .user_agent(concat!("nexusctl/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            server: server.to_owned(),
        })
    }

    /// Where the server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Reads something.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn get(&self, path: &str) -> Result<Answer, ApiError> {
        self.send("GET", path, None, &[])
    }

    /// Sends a request; `path` begins with `/`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ApiError> {
        let url = format!("{}{path}", self.server);
        let unreachable = |problem: String| ApiError::Unreachable {
            url: self.server.clone(),
            problem,
        };
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let result = match body {
            Some(body) => {
                let request = request
                    .header("content-type", "application/json")
                    .body(body.to_string())
                    .map_err(|error| unreachable(error.to_string()))?;
                self.agent.run(request)
            }
            None => {
                let request = request
                    .body(())
                    .map_err(|error| unreachable(error.to_string()))?;
                self.agent.run(request)
            }
        };
        let mut response = result.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        let etag = response
            .headers()
            .get("etag")
            .and_then(|value| value.to_str().ok())
            .map(ToOwned::to_owned);
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string()
            .map_err(|error| unreachable(error.to_string()))?;
        let unexpected = || ApiError::Unexpected {
            url: url.clone(),
            status,
            text: text.chars().take(200).collect(),
        };
        if !(200..300).contains(&status) {
            let problem = serde_json::from_str(&text).map_err(|_| unexpected())?;
            return Err(ApiError::Refused(problem));
        }
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).map_err(|_| unexpected())?
        };
        Ok(Answer { status, etag, body })
    }
}

/// Writes a value as one part of a path or query (RFC 3986 section 2.3).
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_for_paths() {
        assert_eq!(escape("olt-1_a.b~c"), "olt-1_a.b~c");
        assert_eq!(escape("aa:bb/c d%"), "aa%3Abb%2Fc%20d%25");
    }

    #[test]
    fn a_server_must_be_a_url() {
        assert!(Api::new("localhost:9000").is_err());
        assert_eq!(
            Api::new("http://x:9000/").unwrap().server(),
            "http://x:9000"
        );
    }

    #[test]
    fn a_problem_names_its_field_once() {
        let problem = |detail: &str| Problem {
            title: "Invalid field".into(),
            status: 422,
            detail: detail.into(),
            field: Some("limit".into()),
        };
        assert_eq!(
            show(&problem("limit: must be 1")),
            "Invalid field (422): limit: must be 1"
        );
        assert_eq!(
            show(&problem("wrong")),
            "Invalid field (422): wrong (field limit)"
        );
    }
}
