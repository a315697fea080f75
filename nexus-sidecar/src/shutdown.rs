//! The signal that every task of the sidecar listens to for its graceful end.

use tokio::sync::watch;

/// The side that says stop; dropping it says stop too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The side that listens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// A stopper and its listener.
#[must_use]
pub fn channel() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Shutdown(receiver))
}

impl Stopper {
    /// Tells every listener to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once it is time to stop; at once if it already is. Cancel-safe.
    pub async fn wait(&mut self) {
        // An error means that the stopper is gone, which is a stop as well.
        let _stopped = self.0.wait_for(|stop| *stop).await;
    }

    /// It is time to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_returns_on_stop_and_on_a_dropped_stopper() {
        let (stopper, shutdown) = channel();
        assert!(!shutdown.is_stopped());
        stopper.stop();
        assert!(shutdown.is_stopped());
        shutdown.clone().wait().await;
        let (stopper, mut shutdown) = channel();
        drop(stopper);
        shutdown.wait().await;
        assert!(shutdown.is_stopped());
    }
}
