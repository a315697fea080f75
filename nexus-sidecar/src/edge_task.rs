//! The one task that owns the machine, the store and the kernel's map.
//!
//! ```text
//! RADIUS, slow path, control socket --requests (1024; full: Busy)--+
//! centre client --events (256; full: the client waits)-------------+--> edge task
//! tick, once a second ---------------------------------------------+      |
//!                                      durable rows, then the map, then:  |
//! centre client <--commands (256, as many as may be on their way)---------+
//! centre client <--questions about pinned pools (64; full: the subscriber is not answered)
//! centre client <--pull (a number that grows: read all records again)-----+
//! routes task <--what is to be announced (the newest only)----------------+
//! ```
//! What waits in the queues is taken together as one group, at most [`BATCH`] events, made durable with one flush,
//! and only then done and answered. While one group is on its way to the disk the next one gathers; an event that
//! comes while nothing is on its way is written at once. Only what [`Input::may_overlap`] names is taken while a
//! group is on its way; everything else waits until all before it is done. If the store fails, the process ends:
//! it goes on from the rows.

mod answer;
mod centre;
mod group;
mod input;
mod map;
mod note;
mod pinned;
mod report;
mod seen;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nexus_core::edge::{Edge, Outgoing, Place};
use nexus_core::id::{IdError, OltId, PoolId, SubscriberId};
use nexus_core::time::BootTime;
use nexus_store::Store;
use tokio::sync::{mpsc, watch};

use crate::binding_map::{Access, BindingMap};
use crate::clock::{self, ClockError, boot_now};
use crate::edge_handle::EdgeRequest;
use crate::fastpath::FastPathError;
use crate::metrics::Metrics;
use crate::origin::Mark;
use crate::profiles::Profiles;
use crate::routes;
use crate::rows::RowsError;
use crate::served::Served;
use crate::shutdown::Shutdown;
pub use centre::{CentreEvent, CentreSide};
use group::{Flight, Group};
use input::Input;
pub use pinned::PinnedQuestion;
pub use start::new_session;

/// Most events that one flush covers, and most that gather meanwhile.
pub const BATCH: usize = 512;
/// Most events that are taken at once while a group is on its way, so that its answers do not wait for them.
const AT_ONCE: usize = 32;
/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// Why the edge task cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeTaskError {
    /// The store.
    #[error("the store of this host failed: {0}")]
    Rows(#[from] RowsError),
    /// The kernel's map.
    #[error(transparent)]
    Map(#[from] FastPathError),
    /// A clock.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A session name.
    #[error(transparent)]
    Session(#[from] IdError),
    /// The store was written under another name.
    #[error(
        "the store belongs to OLT {stored}, but olt.id is {configured}: under another name this host would go on with a lease and bindings that are not its own; set olt.id back, or drain {stored} and give this host a new storage.path"
    )]
    OtherOlt {
        /// Whose the store is.
        stored: OltId,
        /// Who this host is said to be.
        configured: OltId,
    },
}

/// The task, ready to run.
#[derive(Debug)]
pub struct EdgeTask<M> {
    edge: Edge,
    store: Store,
    map: M,
    /// The same as the map, for the slow path.
    served: Served,
    access: Access,
    profiles: Profiles,
    metrics: Metrics,
    requests: mpsc::Receiver<EdgeRequest>,
    events: mpsc::Receiver<CentreEvent>,
    commands: mpsc::Sender<Outgoing>,
    pull: watch::Sender<u64>,
    questions: mpsc::Sender<PinnedQuestion>,
    /// Whom the centre was asked about lately, and when.
    asked: BTreeMap<(PoolId, SubscriberId), BootTime>,
    /// Where what is to be announced goes, if it is.
    routes: Option<routes::Feed>,
    endpoint: Option<String>,
    /// Numbers the flushes.
    mark: Mark,
    clock: clock::Watch,
    /// What the centre says of another host that tries to be this one.
    other_host: Option<String>,
    /// When it was last read who was seen.
    seen_read: BootTime,
    /// What gathers for the next flush.
    open: Group,
    /// What is on its way to the disk.
    flight: Option<Flight>,
    /// What waits until nothing is on its way.
    held: Option<Input>,
    /// Places whose entry has left the map in a group that is not durable yet, and how often.
    leaving: BTreeMap<Place, usize>,
    /// Entries of this group that the kernel did not take.
    map_errors: BTreeMap<Place, String>,
    /// Places at which the kernel may not have what the machine says.
    unwritten: BTreeSet<Place>,
}

impl<M: BindingMap> EdgeTask<M> {
    /// The interfaces, with their numbers.
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// The kernel's map, to attach the program once the map is right.
    pub const fn map_mut(&mut self) -> &mut M {
        &mut self.map
    }

    /// From now on `feed` hears what is to be announced.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub fn announce(&mut self, mut feed: routes::Feed) -> Result<(), EdgeTaskError> {
        feed.serve_interfaces(self.access.interfaces().map(|one| one.name.as_str()));
        feed.observe(&self.edge, boot_now()?, true);
        self.routes = Some(feed);
        Ok(())
    }

    /// Works until `shutdown`. The map and what is attached stay as they are.
    ///
    /// # Errors
    /// If the store or a clock fails; nothing was answered that is not durable.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), EdgeTaskError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let open = self.takes_more();
            let input = tokio::select! {
                biased;
                () = shutdown.wait() => break,
                landed = Flight::landed(&mut self.flight), if self.flight.is_some() => {
                    landed?;
                    self.go_on().await?;
                    continue;
                }
                _ = tick.tick(), if open => Input::Tick,
                // The centre's word first: an acknowledgement is work that is done, a request is work to come.
                Some(event) = self.events.recv(), if open => Input::Event(event),
                request = self.requests.recv(), if open => match request {
                    Some(request) => Input::Request(request),
                    None => break,
                },
            };
            self.take_or_hold(input)?;
            if self.flight.is_some() {
                self.take_waiting(AT_ONCE)?;
            } else {
                self.take_waiting(BATCH)?;
                self.submit().await?;
            }
        }
        self.settle().await?;
        tracing::info!("edge task stopped; the kernel goes on answering");
        let store = self.store;
        // Everything that was answered is durable already.
        tokio::task::spawn_blocking(move || store.flush_and_close())
            .await
            .unwrap_or(Ok(()))
            .map_err(RowsError::from)?;
        Ok(())
    }

    /// Said once for each change of what is said.
    fn hear_of_another(&mut self, what: String) {
        let what = (!what.is_empty()).then_some(what);
        if what != self.other_host
            && let Some(what) = &what
        {
            tracing::error!(%what, "another host tries to be this OLT");
        }
        self.other_host = what;
    }
}

#[cfg(test)]
mod tests;
