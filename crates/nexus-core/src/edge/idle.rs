//! Bindings whose clients have been silent for longer than their pool allows (`dhcp.idle_release`).
//!
//! The kernel writes down when it last answered a client. The shell tells the machine ([`Edge::seen`]), and then up
//! to when it has told everything ([`Edge::seen_all`]): only that much silence counts, so a map that cannot
//! be read ends nothing.

use std::ops::Bound;

use super::{Edge, Effects, Kind, Place, Validity, Who};
use crate::pool::Dhcp;
use crate::time::BootTime;

/// Most bindings that one tick looks at; the next one goes on behind them.
const SLICE: usize = 4096;

impl Edge {
    /// The client at this place was seen; an earlier time than the one that is known changes nothing.
    pub fn seen(&mut self, place: &Place, at: BootTime) {
        if let Some(who) = self.keys.get(&(Kind::Ipv4, place.clone()))
            && let Some(held) = self.bindings.get_mut(who)
        {
            held.active = held.active.max(at);
        }
    }

    /// Whatever was seen up to `at` has been told.
    pub fn seen_all(&mut self, at: BootTime) {
        self.seen_until = self.seen_until.max(at);
    }

    /// Whether any pool ends silent bindings, so that it matters when clients were seen.
    #[must_use]
    pub fn wants_seen(&self) -> bool {
        self.pools
            .values()
            .filter_map(|state| state.allocator.pool().dhcp())
            .any(|dhcp| dhcp.idle_release.is_some())
    }

    /// Ends silent bindings of the next slice, and whatever else their subscribers have. Their clients do not hear of it, so the addresses rest as after
    /// any such end.
    pub(super) fn end_idle(&mut self, now: BootTime, fx: &mut Effects) {
        if !self.wants_seen() {
            self.idle_cursor = None;
            return;
        }
        let from = self
            .idle_cursor
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let (mut looked_at, mut last, mut idle) = (0_usize, None, Vec::new());
        for (who, held) in self
            .bindings
            .range_mut((from, Bound::Unbounded))
            .take(SLICE)
        {
            looked_at += 1;
            last = Some(who);
            if held.validity == Validity::Suspended {
                // It is not served, so it cannot be seen.
                held.active = held.active.max(self.seen_until);
            }
            let limit = self
                .pools
                .get(&who.pool)
                .and_then(|state| state.allocator.pool().dhcp())
                .and_then(|dhcp: &Dhcp| dhcp.idle_release);
            if limit.is_some_and(|limit| self.seen_until.since(held.active) >= limit) {
                idle.push(who.clone());
            }
        }
        self.idle_cursor = last.filter(|_| looked_at == SLICE).cloned();
        for who in idle {
            self.end_with_session(now, &who, "idle", fx);
        }
    }

    /// The pool's rule for DHCPRELEASE keeps the binding.
    pub(super) fn keeps_released(&self, who: &Who) -> bool {
        self.pools
            .get(&who.pool)
            .and_then(|state| state.allocator.pool().dhcp())
            .is_some_and(|dhcp| dhcp.release == crate::pool::Release::Keep)
    }
}
