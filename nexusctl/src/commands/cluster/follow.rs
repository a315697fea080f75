//! The health of the cluster again and again, for those who wait for it.

use std::io::IsTerminal as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::document::Document;
use super::{NOT_CONVERGED, PATH, code, health, status, understood};
use crate::api::{Api, ApiError};
use crate::commands::Shown;
use crate::print::{Reader, print};

/// How often a cluster that is waited for is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// Takes a terminal's cursor home and clears all below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows it until nobody reads any more, or the command is stopped. A server that cannot be reached later on is
/// said and tried again, because that is what a restart looks like.
///
/// # Errors
/// If the server cannot be asked the first time, or nothing can be written.
pub fn watch(api: &Api, json: bool, pause: Duration) -> anyhow::Result<Shown> {
    let is_screen = std::io::stdout().is_terminal() && !json;
    let mut looked = Some(look(api)?);
    loop {
        let (text, code) = match &looked {
            Some((body, cluster)) if json => (format!("{body}\n"), code(cluster)),
            Some((_, cluster)) => (health::text(cluster), code(cluster)),
            None => (String::new(), NOT_CONVERGED),
        };
        let text = match (is_screen, json) {
            (true, _) => format!("{CLEAR}{text}"),
            (false, true) => text,
            (false, false) => format!("{text}\n"),
        };
        if print(&text)? == Reader::Gone {
            let text = String::new();
            return Ok(Shown { text, code });
        }
        sleep(pause);
        looked = match look(api) {
            Ok(looked) => Some(looked),
            Err(error) => {
                eprintln!("nexusctl: {error:#}");
                None
            }
        };
    }
}

/// Shows it as soon as it is converged, or after a limit as it is then.
///
/// # Errors
/// If the server cannot be asked at the end of the limit; what it refuses at once.
pub fn wait(api: &Api, json: bool, limit: Duration) -> anyhow::Result<Shown> {
    let begin = Instant::now();
    loop {
        let shown = status(api, json);
        let is_over = begin.elapsed() >= limit;
        match &shown {
            Ok(shown) if shown.code == 0 => {}
            Ok(_) if !is_over => {
                sleep(LOOK_AFTER);
                continue;
            }
            Err(error) if !is_over && is_passing(error) => {
                sleep(LOOK_AFTER);
                continue;
            }
            _ => {}
        }
        return shown;
    }
}

/// Whether it may be over by itself, as the restart of a server is.
fn is_passing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ApiError>(),
        Some(ApiError::Unreachable { .. })
    )
}

fn look(api: &Api) -> anyhow::Result<(Value, Document)> {
    let body = api.get(PATH)?.body;
    let cluster = understood(&body)?;
    Ok((body, cluster))
}
