//! What the edge task works on, and how it lets the machine work on it.

use nexus_core::edge::{Clocks, Effects};
use nexus_core::time::BootTime;

use super::answer::Answer;
use super::{BATCH, CentreEvent, EdgeTask, EdgeTaskError};
use crate::binding_map::BindingMap;
use crate::clock::{boot_now, hardware_secs, wall_millis};
use crate::edge_handle::EdgeRequest;

/// Something to work on.
#[derive(Debug)]
pub(super) enum Input {
    Request(EdgeRequest),
    Event(CentreEvent),
    Tick,
}

impl Input {
    /// Whether the machine may work on it while what it did before is not on the disk yet: what comes by the
    /// thousands, concerns one subscriber, and whose answer says nothing about anything else. What is not
    /// named here may look at everything, and sees nothing that a crash could undo.
    const fn may_overlap(&self) -> bool {
        match self {
            Self::Request(request) => matches!(
                request,
                EdgeRequest::Authorize(..)
                    | EdgeRequest::EndSession(..)
                    | EdgeRequest::DhcpRelease(..)
                    | EdgeRequest::DhcpDecline(..)
            ),
            Self::Event(event) => matches!(
                event,
                CentreEvent::Acked(_) | CentreEvent::Refused(..) | CentreEvent::Lost(_)
            ),
            Self::Tick => false,
        }
    }
}

impl<M: BindingMap> EdgeTask<M> {
    /// Whether anything may be taken out of the queues now.
    pub(super) fn takes_more(&self) -> bool {
        self.held.is_none()
            && self.open.events < BATCH
            && self.flight.as_ref().is_none_or(|flight| !flight.alone())
    }

    /// Takes at most so many of what waits in the queues.
    pub(super) fn take_waiting(&mut self, most: usize) -> Result<(), EdgeTaskError> {
        for _ in 0..most {
            if !self.takes_more() {
                return Ok(());
            }
            let input = match self.events.try_recv() {
                Ok(event) => Input::Event(event),
                Err(_) => match self.requests.try_recv() {
                    Ok(request) => Input::Request(request),
                    Err(_) => return Ok(()),
                },
            };
            self.take_or_hold(input)?;
        }
        Ok(())
    }

    /// Takes what may be taken now; the rest is held until nothing is on its way.
    pub(super) fn take_or_hold(&mut self, input: Input) -> Result<(), EdgeTaskError> {
        if self.flight.is_some() && !input.may_overlap() {
            self.held = Some(input);
            return Ok(());
        }
        self.take(input)
    }

    /// Lets the machine work on it; the outcome joins the open group.
    pub(super) fn take(&mut self, input: Input) -> Result<(), EdgeTaskError> {
        let now = boot_now()?;
        let mut fx = Effects::new();
        if let Some(ahead) = self.clock.ran_ahead(now, wall_millis()) {
            tracing::warn!(
                ahead_secs = ahead.as_secs(),
                "the wall clock has run ahead of the boot clock: this machine may have stood still, so the lease counts as ended until it is renewed"
            );
            let clocks = Clocks {
                boot: now,
                hardware: hardware_secs(),
            };
            self.edge.ran_ahead(clocks, ahead, &mut fx);
        }
        self.open.events = self.open.events.saturating_add(1);
        self.open.alone |= !input.may_overlap();
        let answer = match input {
            Input::Request(request) => Some(self.request(now, request, &mut fx)),
            Input::Event(event) => self.event(now, event, &mut fx),
            Input::Tick => {
                self.read_seen(now);
                self.edge.tick(now, &mut fx);
                self.metrics.observe(&self.status(now));
                None
            }
        };
        self.open.answers.extend(answer);
        self.gather(fx)
    }

    /// The lease is renewed: what other clocks show with it.
    fn read_clocks(&mut self, now: BootTime) {
        self.clock.renewed(now, wall_millis());
        // What is left of the bindings then is counted from a moment after it was read.
        if self.edge.wants_hardware_clock(now)
            && let Some(secs) = hardware_secs()
            && let Ok(after) = boot_now()
        {
            self.edge.hardware_clock(after, secs);
        }
    }

    fn event(&mut self, now: BootTime, event: CentreEvent, fx: &mut Effects) -> Option<Answer> {
        match event {
            CentreEvent::Registered {
                sent_at,
                terms,
                config,
                endpoint,
            } => {
                self.endpoint = Some(endpoint);
                self.read_clocks(now);
                self.edge.registered(now, sent_at, terms, config, fx);
            }
            CentreEvent::Renewed {
                sent_at,
                terms,
                revision,
            } => {
                self.read_clocks(now);
                self.edge.renewed(now, sent_at, terms, revision, fx);
            }
            CentreEvent::Clocks(clocks, lease) => self.compare_clocks(&clocks, lease, fx),
            CentreEvent::Config(config) => self.edge.configure(now, config, fx),
            CentreEvent::CutOff => self.edge.cut_off(),
            CentreEvent::Acked(seq) => self.edge.acked(now, seq, fx),
            CentreEvent::Refused(seq, refusal, why) => {
                self.edge.refused(now, seq, refusal, &why, fx);
            }
            CentreEvent::Lost(seq) => self.edge.lost(now, seq),
            CentreEvent::SecondHost(why) => self.edge.refused_as_second(&why, fx),
            CentreEvent::OtherHost(what) => self.hear_of_another(what),
            CentreEvent::SnapshotBegin => self.edge.snapshot_begin(),
            CentreEvent::Record(kind, record) => self.edge.record(now, kind, &record, fx),
            CentreEvent::SnapshotEnd => self.edge.snapshot_end(now, fx),
            CentreEvent::NewSession(session) => {
                tracing::warn!(
                    %session,
                    "the centre does not know this store as it is: going on with a new session"
                );
                self.edge.new_session(session, fx);
            }
            CentreEvent::Report(reply) => return Some(Answer::Report(reply)),
        }
        None
    }
}
