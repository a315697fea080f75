//! When clients were last seen: read from the kernel's map and the slow path once a minute, where a pool asks for it.

use nexus_core::time::BootTime;

use super::EdgeTask;
use crate::binding_map::{BindingMap, last_seen};

/// Time between two readings, in seconds: each walks the whole map, and what it is for is counted in hours.
const READ_EVERY: u64 = 60;

impl<M: BindingMap> EdgeTask<M> {
    /// Tells the machine who was seen, if it is time to.
    pub(super) fn read_seen(&mut self, now: BootTime) {
        if now.since(self.seen_read).as_secs() < READ_EVERY {
            return;
        }
        self.seen_read = now;
        // Taken even if nobody asks for it, so that it does not grow.
        let slow = self.served.take_seen();
        if !self.edge.wants_seen() {
            return;
        }
        for (key, at) in slow {
            if let Some(place) = self.access.from_kernel(&key) {
                self.edge.seen(&place, at);
            }
        }
        let read = self
            .map
            .jiffies()
            .and_then(|jiffies| Ok((jiffies, self.map.all()?)));
        match read {
            Ok((jiffies, entries)) => {
                for (key, binding) in entries {
                    if let Some(at) = last_seen(&binding, jiffies, now)
                        && let Some(place) = self.access.from_kernel(&key)
                    {
                        self.edge.seen(&place, at);
                    }
                }
                self.edge.seen_all(now);
            }
            Err(error) => {
                tracing::warn!(%error, "it cannot be read when clients were last seen: no silent binding ends");
            }
        }
    }
}
