//! The way to the owner: bounded, in order, and nothing waits on it but what must not be lost.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::event::Event;
use crate::limits::{EVENT_RESERVE, MOST_OWED};
use crate::link::Shared;

/// See the module.
pub(super) struct Outbox {
    to: mpsc::Sender<Event>,
    /// Comings, goings and changes of peers that found no room. As long as there are any, everything
    /// else counts as full, so that order holds.
    owed: VecDeque<Event>,
    shared: Arc<Shared>,
}

impl Outbox {
    pub(super) fn new(to: mpsc::Sender<Event>, shared: Arc<Shared>) -> Self {
        Self {
            to,
            owed: VecDeque::new(),
            shared,
        }
    }

    /// No further peer may come up until the owner has caught up.
    pub(super) fn is_behind(&self) -> bool {
        self.owed.len() >= MOST_OWED
    }

    /// Gives the owner an event that must not be lost. Its number is bounded by the connections and
    /// [`Outbox::is_behind`].
    pub(super) fn owe(&mut self, event: Event) {
        if let Some(event) = self.try_now(event) {
            if matches!(event, Event::Changed(_)) && self.is_behind() {
                // The table of peers has it all the same.
                self.shared.counters.events_dropped.add();
                return;
            }
            self.owed.push_back(event);
        }
    }

    /// Gives the owner an event if there is room; returns it if not.
    pub(super) fn try_now(&mut self, event: Event) -> Option<Event> {
        if !self.owed.is_empty() {
            return Some(event);
        }
        match self.to.try_send(event) {
            Ok(()) => None,
            Err(TrySendError::Full(event) | TrySendError::Closed(event)) => Some(event),
        }
    }

    /// Gives the owner news of a refusal if there is plenty of room.
    pub(super) fn refused(&mut self, event: Event) {
        if self.to.capacity() < EVENT_RESERVE || self.try_now(event).is_some() {
            self.shared.counters.events_dropped.add();
        }
    }

    /// Waits for room and gives the owner the first event that is owed; waits for ever if none is.
    pub(super) async fn deliver(&mut self) {
        if self.owed.is_empty() {
            return std::future::pending().await;
        }
        match self.to.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.owed.pop_front() {
                    permit.send(event);
                }
            }
            // Nobody listens any more.
            Err(_) => self.owed.clear(),
        }
    }
}
