//! The REST API, called from inside a namespace.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::netns::Namespace;

/// A client of one server.
#[derive(Debug)]
pub struct Rest {
    base: String,
}

/// A response: its status and its body, a string if that is not JSON.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Rest {
    /// Talks to `base`, "http://10.99.0.1:9000".
    #[must_use]
    pub fn new(base: String) -> Self {
        Self { base }
    }

    /// GET from inside `namespace`.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, namespace: &Namespace, path: &str) -> Result<Response> {
        self.call(namespace, path, None)
    }

    /// POST from inside `namespace`.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post(&self, namespace: &Namespace, path: &str, body: &Value) -> Result<Response> {
        self.call(namespace, path, Some(body))
    }

    fn call(&self, namespace: &Namespace, path: &str, body: Option<&Value>) -> Result<Response> {
        let url = format!("{}{path}", self.base);
        let call = || -> Result<Response, ureq::Error> {
            let agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(10)))
                .build()
                .new_agent();
            let mut response = match body {
                Some(body) => agent.post(&url).send_json(body)?,
                None => agent.get(&url).call()?,
            };
            let status = response.status().as_u16();
            let text = response.body_mut().read_to_string()?;
            Ok(Response {
                status,
                body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            })
        };
        namespace
            .enter(call)?
            .with_context(|| format!("no answer from {url}"))
    }
}
