//! Groups of events that become durable together, and what is done once they are.
//!
//! The machine may be one group ahead of what is being done, so two things are looked at before something is done:
//! an entry that has left the map meanwhile is not put back, and whoever it was for is not told that he has it.

use std::collections::VecDeque;

use nexus_core::edge::{Action, Effects, Place};
use nexus_store::Commit;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::{BATCH, EdgeTask, EdgeTaskError};
use crate::binding_map::BindingMap;
use crate::clock::boot_now;
use crate::routes;
use crate::rows::{RowsError, Writer};
use nexus_abi::Profile;

/// What several events led to.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// How many they were.
    pub(super) events: usize,
    /// Nothing else is taken until it is done.
    pub(super) alone: bool,
    /// Their changes, in order.
    rows: Writer,
    /// To be done once they are durable, in order.
    actions: Vec<Action>,
    /// To be given then.
    pub(super) answers: Vec<Answer>,
    /// Profiles to be written into the kernel before.
    profiles: Vec<(u16, Profile)>,
    /// Carries the number of a flush.
    numbered: bool,
    /// What is announced may be different.
    touched: bool,
}

impl Group {
    const fn is_empty(&self) -> bool {
        self.events == 0 && self.actions.is_empty() && self.answers.is_empty() && !self.numbered
    }

    /// Whether it will write at this place, or remove what is there.
    fn concerns(&self, place: &Place) -> bool {
        self.actions.iter().any(|action| match action {
            Action::PutBinding(entry) => entry.key.place() == *place,
            Action::RemoveBinding(of) => of == place,
            _ => false,
        })
    }
}

/// A group on its way to the disk.
#[derive(Debug)]
pub(super) struct Flight {
    group: Group,
    commits: VecDeque<Commit>,
}

impl Flight {
    pub(super) const fn alone(&self) -> bool {
        self.group.alone
    }

    /// Returns when the group is on the disk; without one, at once. Cancel-safe.
    pub(super) async fn landed(flight: &mut Option<Self>) -> Result<(), RowsError> {
        let Some(flight) = flight else {
            return Ok(());
        };
        while let Some(commit) = flight.commits.front_mut() {
            commit.await?;
            flight.commits.pop_front();
        }
        Ok(())
    }
}

impl<M: BindingMap> EdgeTask<M> {
    /// Adds what the machine wants done to the open group. What leaves the map leaves it now, before it is
    /// durable: its rest has begun, and the disk may be slow. A restart puts back what was not written.
    pub(super) fn gather(&mut self, fx: Effects) -> Result<(), EdgeTaskError> {
        for action in &fx.actions {
            match action {
                Action::RemoveBinding(place) => {
                    let times = self.leaving.entry(place.clone()).or_default();
                    *times = times.saturating_add(1);
                    self.remove(place);
                }
                Action::PutBinding(entry) => {
                    self.profiles.want(&entry.pool, &entry.key.interface);
                }
                _ => {}
            }
        }
        self.open.rows.event(&fx.changes)?;
        self.open.numbered |= !fx.changes.is_empty();
        self.open.touched |= routes::touches(std::slice::from_ref(&fx));
        self.open.actions.extend(fx.actions);
        Ok(())
    }

    /// Sends the open group to the disk.
    pub(super) async fn submit(&mut self) -> Result<(), EdgeTaskError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let mut group = std::mem::take(&mut self.open);
        let (changes, writes, problems) = self.profiles.follow(self.edge.pools());
        for problem in problems {
            tracing::error!(%problem, "subscribers of this pool are not served");
        }
        group.rows.profiles(&changes)?;
        group.profiles = writes;
        if group.numbered {
            group.rows.origin(self.mark.number())?;
        }
        let rows = std::mem::take(&mut group.rows);
        let commits = rows.submit(&self.store).await?;
        self.flight = Some(Flight { group, commits });
        Ok(())
    }

    /// A group is on the disk: sends the next one there, then does and answers what is durable.
    pub(super) async fn go_on(&mut self) -> Result<(), EdgeTaskError> {
        let Some(Flight { group, .. }) = self.flight.take() else {
            return Ok(());
        };
        if group.numbered {
            self.mark.done();
        }
        match self.held.take() {
            None => {
                self.submit().await?;
                self.finish(group)?;
                // What could not be served and had to be undone.
                if self.flight.is_none() {
                    self.submit().await?;
                }
                Ok(())
            }
            // It may look at what is done here.
            Some(input) => {
                self.finish(group)?;
                self.take(input)?;
                self.take_waiting(BATCH)?;
                self.submit().await
            }
        }
    }

    /// Makes durable, does and answers everything that was taken.
    pub(super) async fn settle(&mut self) -> Result<(), EdgeTaskError> {
        while self.flight.is_some() || !self.open.is_empty() {
            if self.flight.is_none() {
                self.submit().await?;
            }
            Flight::landed(&mut self.flight).await?;
            self.go_on().await?;
        }
        Ok(())
    }

    /// Does and answers what is durable now.
    fn finish(&mut self, group: Group) -> Result<(), EdgeTaskError> {
        for (id, profile) in group.profiles {
            self.map.put_profile(id, &profile)?;
            self.served.put_profile(id, &profile);
        }
        for action in group.actions {
            self.act(action);
        }
        let now = boot_now()?;
        for mut answer in group.answers {
            let withdrawn = self.withdraw_unserved(now, &mut answer);
            if withdrawn.is_empty() {
                self.answer(now, answer);
            } else {
                // Nobody is told before it is undone for good.
                self.gather(withdrawn)?;
                self.open.answers.push(answer);
            }
        }
        self.map_errors.clear();
        self.mend();
        if let Some(feed) = &mut self.routes {
            // It may see what is not durable yet: the address of a route is this host's either way.
            feed.observe(&self.edge, now, group.touched);
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::PutBinding(entry) => {
                // It would be back after it has left.
                if !self.is_leaving(&entry.key.place()) {
                    self.put(&entry);
                }
            }
            Action::RemoveBinding(place) => {
                if let Some(times) = self.leaving.get_mut(&place) {
                    *times = times.saturating_sub(1);
                    if *times == 0 {
                        self.leaving.remove(&place);
                    }
                }
                self.remove(&place);
            }
            Action::Send(outgoing) => {
                // As many places as may be on their way, so there is always one.
                if let Err(error) = self.commands.try_send(outgoing) {
                    let (mpsc::error::TrySendError::Full(outgoing)
                    | mpsc::error::TrySendError::Closed(outgoing)) = error;
                    if let Ok(now) = boot_now() {
                        self.edge.lost(now, outgoing.seq);
                    }
                }
            }
            Action::PullRecords => self
                .pull
                .send_modify(|number| *number = number.wrapping_add(1)),
            Action::Note(note) => self.note(&note),
        }
    }

    /// The entry of this place has left the map in a group that is not done yet.
    pub(super) fn is_leaving(&self, place: &Place) -> bool {
        self.leaving.contains_key(place)
    }

    /// Something that is not done yet will write at this place.
    pub(super) fn is_due(&self, place: &Place) -> bool {
        let flying = self.flight.as_ref().map(|flight| &flight.group);
        flying
            .into_iter()
            .chain([&self.open])
            .any(|group| group.concerns(place))
    }
}
