//! Ctrl-C as a question that every wait asks, so that what was made is removed on the way out.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// Turns the first SIGINT, SIGTERM or SIGHUP into [`requested`]; the second one ends the process.
///
/// # Errors
/// If the kernel refuses a handler.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&REQUESTED))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&REQUESTED)))
            .context("cannot install a signal handler")?;
    }
    Ok(())
}

/// Whether somebody wants this process to end.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error if somebody wants this process to end.
///
/// # Errors
/// "interrupted".
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Asks `ready` every few milliseconds until it yields a value.
///
/// # Errors
/// What `ready` fails with, an interruption, or that `what` did not happen within `timeout`.
pub fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        check()?;
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", timeout.as_secs_f32());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
