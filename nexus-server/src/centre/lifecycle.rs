//! The life of OLT hosts as operators see and steer it: draining, fencing, and two hosts with one id.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nexus_core::id::{OltId, SessionId};
use nexus_core::time::BootTime;

use super::Centre;
use crate::allocation::{AllocationState, Place, to_millisecond};
use crate::clock::Now;
use crate::refused::Refused;

/// How long an OLT is told of another host that has tried to be it.
const TELL_FOR: SignedDuration = SignedDuration::from_mins(10);
/// How many earlier processes of a host are remembered.
const MAX_EARLIER: usize = 8;
/// OLTs for which the like is remembered; beyond, nothing new is.
const MAX_HOSTS: usize = 16_384;

/// What is left until an OLT that is drained is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainProgress {
    /// Shards that it has yet to give back.
    pub shards: u64,
    /// Allocations that are held on it.
    pub allocations: u64,
}

impl DrainProgress {
    /// Whether it can be taken away.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.shards == 0 && self.allocations == 0
    }
}

/// Another host that has tried to be an OLT that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OtherHost {
    at: Timestamp,
    address: String,
}

/// The processes that have spoken for one session of an OLT, as far as this server was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Instances {
    session: Option<SessionId>,
    current: String,
    /// When the current one spoke last.
    heard: BootTime,
    /// The newest last.
    earlier: Vec<String>,
}

/// What is known of hosts that share an id; not kept over a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    others: BTreeMap<OltId, OtherHost>,
    instances: BTreeMap<OltId, Instances>,
    /// The time of the newest tick.
    now: Timestamp,
}

impl Hosts {
    /// Another host was refused.
    pub(super) fn refused(&mut self, now: &Now, olt: &OltId, address: &str) {
        if self.others.len() >= MAX_HOSTS && !self.others.contains_key(olt) {
            return;
        }
        tracing::error!(%olt, address = %address.escape_default(),
            "another host has tried to be an OLT that is alive, and was refused");
        let other = OtherHost {
            at: now.wall,
            address: address.to_owned(),
        };
        self.others.insert(olt.clone(), other);
    }

    /// For a person: that another host has tried to be this OLT lately.
    pub(super) fn warning(&self, olt: &OltId) -> Option<String> {
        let other = self.others.get(olt)?;
        let ago = self.now.duration_since(other.at);
        (ago < TELL_FOR).then(|| {
            let from = if other.address.is_empty() {
                String::new()
            } else {
                format!(" (address {})", other.address)
            };
            format!(
                "another host{from} tried to be this OLT at {} and was refused: two hosts have one id; give one of them another",
                to_millisecond(other.at)
            )
        })
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: &Now) {
        self.now = now.wall;
    }

    fn forget(&mut self, olt: &OltId) {
        self.others.remove(olt);
        self.instances.remove(olt);
    }

    /// Whether a process may speak for a session: not if another one has spoken after it that is alive. What a
    /// process had sent before its end may come after the first word of the next one; nothing follows it then,
    /// and after `silence` the next one is heard again.
    fn speaks(
        &mut self,
        now: BootTime,
        silence: Duration,
        (olt, session, instance): (&OltId, &SessionId, &str),
    ) -> bool {
        if instance.is_empty()
            || (self.instances.len() >= MAX_HOSTS && !self.instances.contains_key(olt))
        {
            return true;
        }
        let known = self.instances.entry(olt.clone()).or_default();
        if known.session.as_ref() != Some(session) {
            *known = Instances {
                session: Some(session.clone()),
                current: instance.to_owned(),
                heard: now,
                earlier: Vec::new(),
            };
            return true;
        }
        if known.current == instance {
            known.heard = now;
            return true;
        }
        let is_earlier = known.earlier.iter().any(|earlier| earlier == instance);
        if is_earlier && now.since(known.heard) < silence {
            return false;
        }
        known.earlier.retain(|earlier| earlier != instance);
        known.heard = now;
        let before = std::mem::replace(&mut known.current, instance.to_owned());
        known.earlier.push(before);
        let excess = known.earlier.len().saturating_sub(MAX_EARLIER);
        known.earlier.drain(..excess);
        true
    }
}

impl Centre {
    /// Looks whether a process of a host may speak for an OLT's session. Two live processes with one session
    /// are two hosts with one disk's copy: as soon as the first of them is heard again after the second, it
    /// is refused, and the second is told.
    ///
    /// # Errors
    /// [`Refused::AliveElsewhere`].
    pub fn check_instance(
        &mut self,
        now: &Now,
        olt: &OltId,
        session: &SessionId,
        instance: &str,
    ) -> Result<(), Refused> {
        let silence = self.table().rule().offline_after();
        if self
            .hosts
            .speaks(now.boot, silence, (olt, session, instance))
        {
            return Ok(());
        }
        self.hosts.refused(now, olt, "");
        Err(Refused::AliveElsewhere(format!(
            "OLT {olt} is alive on another host with the same session: the disk of one is a copy of the other's; give this host another id and an empty store"
        )))
    }

    /// The OLT was deregistered, or a person has looked after it.
    pub(super) fn hosts_known(&mut self, olt: &OltId) {
        self.hosts.forget(olt);
    }

    /// What is left until an OLT that is drained is empty; `None` if it is not drained.
    pub(super) fn drain_progress(&self, olt: &OltId) -> Option<DrainProgress> {
        let view = self.table().olt(olt).filter(|view| view.row.draining)?;
        let shards = self.table().shards_of(&view.row.id);
        let count: usize = shards.values().map(Vec::len).sum();
        Some(DrainProgress {
            shards: u64::try_from(count).unwrap_or(u64::MAX),
            allocations: self.record.olt_counts(olt).held(),
        })
    }

    /// What is held on an OLT.
    #[must_use]
    pub fn places_on(&self, olt: &OltId) -> Vec<Place> {
        let held = self.record.of_olt(olt, None).filter(|a| a.state.is_held());
        held.map(|allocation| allocation.place.clone()).collect()
    }

    /// Ends what is held on an OLT that is fenced: its host hands out nothing and serves nobody any more. Units
    /// of pinned pools go by rules of their own.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn release_fenced(
        &mut self,
        now: &Now,
        olt: &OltId,
        places: &[Place],
    ) -> Result<(), Refused> {
        let fenced = |centre: &Self| centre.table().olt(olt).is_none_or(|view| view.row.fenced);
        for place in places {
            let Some(known) = self.record.get(place).cloned() else {
                continue;
            };
            let pinned = self
                .table()
                .pool(&known.pool)
                .is_some_and(|p| p.is_pinned());
            if known.olt != *olt || !known.state.is_held() || pinned || !fenced(self) {
                continue;
            }
            self.end_on_dead(now, known)?;
        }
        Ok(())
    }

    /// Asks back what is held of these resources.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn ask_back_all(&mut self, now: &Now, places: &[Place]) -> Result<(), Refused> {
        for place in places {
            let known = self.record.get(place);
            let known = known.filter(|known| known.state == AllocationState::Active);
            if let Some(known) = known.cloned() {
                self.ask_back(now, known)?;
            }
        }
        Ok(())
    }
}
