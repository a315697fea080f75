//! The edge task's end: looks what has to be announced when something has changed, and hands the newest on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_core::edge::{Change, Edge, Effects, Row, RowKey};
use nexus_core::time::BootTime;
use tokio::sync::watch;

use super::RoutesReport;
use super::config::RoutesSection;
use super::wanted::{Wanted, wanted};

/// Shortest time between two looks at all bindings.
const PACE: Duration = Duration::from_millis(250);
/// A look may take one part in so many of the edge task's time.
const SHARE: u32 = 50;
/// A look is taken so often whatever has changed.
const ANYWAY: Duration = Duration::from_secs(10);

/// What the edge task keeps for the routes.
#[derive(Debug)]
pub struct Feed {
    section: RoutesSection,
    interfaces: BTreeSet<Arc<str>>,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    report: watch::Receiver<RoutesReport>,
    /// Something that decides about routes has changed since the last look.
    touched: bool,
    /// When the last look was taken, and how long it took.
    looked: Option<(BootTime, Duration)>,
    had_lease: bool,
}

/// Whether what is to be announced may be different after these.
#[must_use]
pub fn touches(effects: &[Effects]) -> bool {
    let mut changes = effects.iter().flat_map(|fx| &fx.changes);
    changes.any(|change| match change {
        Change::Put(row) => matches!(**row, Row::Pool(_) | Row::Shard(_) | Row::Unit(_)),
        Change::Forget(key) => {
            matches!(key, RowKey::Pool(_) | RowKey::Shard(..) | RowKey::Unit(..))
        }
    })
}

impl Feed {
    pub(super) fn new(
        section: RoutesSection,
        wanted: watch::Sender<Option<Arc<Wanted>>>,
        report: watch::Receiver<RoutesReport>,
    ) -> Self {
        Self {
            section,
            interfaces: BTreeSet::new(),
            wanted,
            report,
            touched: true,
            looked: None,
            had_lease: false,
        }
    }

    /// Only bindings on these interfaces have routes of their own.
    pub fn serve_interfaces<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.interfaces = names.into_iter().map(Arc::from).collect();
    }

    /// How the routes stand.
    #[must_use]
    pub fn report(&self) -> RoutesReport {
        self.report.borrow().clone()
    }

    /// To be called after every batch and at least once a second: `touched` says whether it may have changed what
    /// is to be announced. Looks at all bindings at most every 250 ms, and for at most a fiftieth of the time;
    /// what is held back for that is looked at later.
    pub fn observe(&mut self, edge: &Edge, now: BootTime, touched: bool) {
        self.touched |= touched;
        if let Some((at, took)) = self.looked {
            let since = now.since(at);
            if since < PACE.max(took.saturating_mul(SHARE)) {
                return;
            }
            let lease = edge.view(now).lease_until.is_some();
            if !self.touched && lease == self.had_lease && since < ANYWAY {
                return;
            }
        }
        let began = Instant::now();
        let new = if self.section.enabled {
            wanted(edge, now, &self.section, &self.interfaces)
        } else {
            Wanted::default()
        };
        self.wanted.send_if_modified(|old| {
            let is_new = old.as_deref() != Some(&new);
            if is_new {
                *old = Some(Arc::new(new));
            }
            is_new
        });
        self.touched = false;
        self.had_lease = edge.view(now).lease_until.is_some();
        self.looked = Some((now, began.elapsed()));
    }
}
