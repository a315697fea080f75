//! REST from the clients' place on the switch: short connections, a limit of its own for each request.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use super::config::{HTTP_PORT, METRICS_PORT};

/// How long an answer may take unless a test says otherwise: a node that hangs is met often here.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A client of one node.
#[derive(Clone, Debug)]
pub struct Client {
    namespace: PathBuf,
    address: Ipv4Addr,
    patience: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, a string if that is not JSON.
    pub body: Value,
}

impl Answer {
    /// Stable name of the problem: `read-only-replica`; empty if there is none.
    #[must_use]
    pub fn problem(&self) -> &str {
        let kind = self.body.get("type").and_then(Value::as_str).unwrap_or("");
        kind.rsplit(':').next().unwrap_or("")
    }

    /// The body of a success.
    ///
    /// # Errors
    /// If it is none.
    pub fn ok(self) -> Result<Value> {
        anyhow::ensure!(
            (200..300).contains(&self.status),
            "HTTP {}: {}",
            self.status,
            self.body
        );
        Ok(self.body)
    }
}

/// Runs `work` on a thread of its own inside the namespace that this file stands for.
///
/// # Errors
/// If it cannot be entered, or `work` panics.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                enter(namespace)?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the work in {} panicked", namespace.display())))
    })
}

/// Moves this thread into the namespace that this file stands for.
///
/// # Errors
/// If the file is gone, or the caller is not root.
pub fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace)
        .with_context(|| format!("the namespace {} is gone", namespace.display()))?;
    setns(&file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the namespace {}", namespace.display()))
}

impl Client {
    /// A client of the node at `address`, in that namespace.
    #[must_use]
    pub fn new(namespace: PathBuf, address: Ipv4Addr) -> Self {
        Self {
            namespace,
            address,
            patience: PATIENCE,
        }
    }

    /// The same with another limit for each request.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// GET.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.call("GET", HTTP_PORT, path, None)
    }

    /// POST.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call("POST", HTTP_PORT, path, Some(body))
    }

    /// PUT.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call("PUT", HTTP_PORT, path, Some(body))
    }

    /// DELETE.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.call("DELETE", HTTP_PORT, path, None)
    }

    /// GET from a thread that stands in the namespace already.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get_here(&self, path: &str) -> Result<Answer> {
        self.here("GET", path, None)
    }

    /// POST from a thread that stands in the namespace already.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post_here(&self, path: &str, body: &Value) -> Result<Answer> {
        self.here("POST", path, Some(body))
    }

    /// DELETE from a thread that stands in the namespace already.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn delete_here(&self, path: &str) -> Result<Answer> {
        self.here("DELETE", path, None)
    }

    /// All allocations that the node lists, page by page.
    ///
    /// # Errors
    /// If there is no answer, or none that is a list.
    pub fn allocations(&self) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self
                .get(&format!("/api/v1/allocations?limit=1000{cursor}"))?
                .ok()?;
            let rows = page.get_mut("allocations").and_then(Value::as_array_mut);
            all.append(rows.context("a list of allocations without any list")?);
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    fn here(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let url = self.url(HTTP_PORT, path);
        self.send(method, &url, body)
            .with_context(|| format!("no answer to {method} {url}"))
    }

    fn url(&self, port: u16, path: &str) -> String {
        format!("http://{}:{port}{path}", self.address)
    }

    /// What Prometheus reads.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn metrics(&self) -> Result<String> {
        let answer = self.call("GET", METRICS_PORT, "/metrics", None)?;
        match answer.body {
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        }
    }

    fn call(&self, method: &str, port: u16, path: &str, body: Option<&Value>) -> Result<Answer> {
        let url = self.url(port, path);
        inside(&self.namespace, || self.send(method, &url, body))?
            .with_context(|| format!("no answer to {method} {url}"))
    }

    /// The request itself, from a thread that stands in the namespace.
    fn send(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Answer, ureq::Error> {
        // A connection is used once: the server may close it at any moment, and a request that is lost then would
        // be an outcome that nobody knows.
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .max_idle_connections(0)
            .http_status_as_error(false)
            .timeout_global(Some(self.patience))
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut response = agent.run(request.body(text)?)?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        Ok(Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_known_by_the_end_of_its_type() {
        let answer = |body: &str| Answer {
            status: 403,
            body: serde_json::from_str(body).unwrap(),
        };
        let named = answer(r#"{"type": "urn:nexus:problem:read-only-replica"}"#);
        assert_eq!(named.problem(), "read-only-replica");
        assert_eq!(answer("{}").problem(), "");
        assert!(named.ok().unwrap_err().to_string().contains("403"));
    }
}
