//! When a subscriber comes up on another line, with another MAC, or on a line that another one has: what is done
//! is the operator's choice, and never a second binding.
//!
//! | what changes | conflict | decided by |
//! |---|---|---|
//! | the subscriber's line | [`Conflict::Moved`] | `subscriber_moves` |
//! | the holder of a place | [`Conflict::LineTaken`] | `subscriber_moves` |
//! | the MAC on the subscriber's own line, or the MAC allowed at a place | [`Conflict::MacChanged`] | `mac_changes` |
//!
//! If there are several conflicts, the strictest policy counts. Another subscriber's MAC on VLANs that may
//! be shared is no conflict.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Authorized, Denied, Edge, Effects, Kind, LineKey, Note, Who};
use crate::id::SubscriberId;
use crate::time::BootTime;

/// Most newcomers that are kept away at a time; beyond it the oldest may ask again.
pub const KEPT_AWAY_LIMIT: usize = 4096;

/// How long a newcomer is kept away unless the policies say otherwise.
pub const KEEP_AWAY: Duration = Duration::from_secs(600);

/// What is done about a conflict, from the mildest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The newcomer gets it.
    #[default]
    TakeOver,
    /// Everything stays as it is, and the newcomer gets nothing.
    Refuse,
    /// As `Refuse`, and the newcomer gets nothing on that line with that MAC for a time, whatever changes
    /// meanwhile.
    Quarantine,
}

/// The policies of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// A subscriber on another line, or on a line that another subscriber has.
    pub subscriber_moves: Policy,
    /// Another MAC on a line.
    pub mac_changes: Policy,
    /// How long a quarantine lasts.
    pub quarantine: Duration,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            subscriber_moves: Policy::TakeOver,
            mac_changes: Policy::TakeOver,
            quarantine: KEEP_AWAY,
        }
    }
}

/// What is against giving a subscriber what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// It is bound on another line.
    Moved,
    /// Another MAC is bound on the line.
    MacChanged,
    /// Another subscriber is bound on the line.
    LineTaken,
}

impl Conflict {
    /// Label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::MacChanged => "mac-changed",
            Self::LineTaken => "line-taken",
        }
    }

    const fn policy(self, policies: &Policies) -> Policy {
        match self {
            Self::Moved | Self::LineTaken => policies.subscriber_moves,
            Self::MacChanged => policies.mac_changes,
        }
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Moved => {
                "the subscriber is bound on another line, and policies.subscriber_moves does not let it move: end its session first"
            }
            Self::MacChanged => {
                "another MAC address is bound on this line, and policies.mac_changes does not let it change: end that session first"
            }
            Self::LineTaken => {
                "another subscriber is bound on this line, and policies.subscriber_moves does not let it be taken over: end that session first"
            }
        })
    }
}

/// A conflict with the binding that is there.
struct Clash {
    conflict: Conflict,
    holder: SubscriberId,
    on: LineKey,
}

/// Newcomers that are kept away, and until when.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptAway {
    until: BTreeMap<(SubscriberId, LineKey), (BootTime, u64)>,
    /// In the order of their coming.
    order: BTreeMap<u64, (SubscriberId, LineKey)>,
    last: u64,
}

impl KeptAway {
    /// How long this newcomer has to stay away from now on.
    fn left(&self, now: BootTime, subscriber: &SubscriberId, key: &LineKey) -> Option<Duration> {
        let (until, _) = self.until.get(&(subscriber.clone(), key.clone()))?;
        (now < *until).then(|| until.since(now))
    }

    fn insert(&mut self, newcomer: (SubscriberId, LineKey), until: BootTime) {
        if let Some((_, before)) = self.until.remove(&newcomer) {
            self.order.remove(&before);
        }
        if self.order.len() >= KEPT_AWAY_LIMIT
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.until.remove(&oldest);
        }
        self.last = self.last.saturating_add(1);
        self.order.insert(self.last, newcomer.clone());
        self.until.insert(newcomer, (until, self.last));
    }

    /// Forgets those whose time is over, from the oldest on.
    pub(super) fn settle(&mut self, now: BootTime) {
        while let Some(entry) = self.order.first_entry()
            && self
                .until
                .get(entry.get())
                .is_none_or(|(until, _)| *until <= now)
        {
            self.until.remove(&entry.remove());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

impl Edge {
    /// Whether the policies let a subscriber have what it asks for.
    ///
    /// # Errors
    /// The conflict that does not, or the quarantine that it is in.
    pub(super) fn judge(
        &mut self,
        now: BootTime,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Result<(), Denied> {
        let Authorized {
            subscriber,
            key,
            policies,
            ..
        } = request;
        if let Some(left) = self.kept_away.left(now, subscriber, key) {
            return Err(Denied::KeptAway(left));
        }
        let clash = self
            .clashes(request)
            .into_iter()
            .max_by_key(|clash| (clash.conflict.policy(policies), clash.conflict));
        let Some(clash) = clash else { return Ok(()) };
        let policy = clash.conflict.policy(policies);
        if policy == Policy::TakeOver {
            return Ok(());
        }
        let quarantine = (policy == Policy::Quarantine).then_some(policies.quarantine);
        if let Some(time) = quarantine {
            self.kept_away
                .insert((subscriber.clone(), key.clone()), now + time);
        }
        fx.note(Note::NotLet {
            conflict: clash.conflict,
            subscriber: subscriber.clone(),
            key: key.clone(),
            holder: clash.holder,
            on: clash.on,
            quarantine,
        });
        Err(Denied::Conflict(clash.conflict))
    }

    fn clashes(&self, request: &Authorized) -> Vec<Clash> {
        let mut clashes = Vec::new();
        for (who, held) in self.bindings_of(&request.subscriber) {
            let Some(on) = &held.row.key else { continue };
            if self.is_served(on)
                && let Some(conflict) = change(on, &request.key)
            {
                clashes.push(Clash {
                    conflict,
                    holder: who.subscriber.clone(),
                    on: on.clone(),
                });
            }
        }
        let on_place = |kind: Kind| self.keys.get(&(kind, request.key.place()));
        let there = Kind::ALL
            .into_iter()
            .filter_map(on_place)
            .filter(|who| who.subscriber != request.subscriber)
            .find_map(|who: &Who| Some((who, self.bindings.get(who)?.row.key.as_ref()?)));
        if let Some((who, on)) = there {
            let mut push = |conflict| {
                clashes.push(Clash {
                    conflict,
                    holder: who.subscriber.clone(),
                    on: on.clone(),
                });
            };
            push(Conflict::LineTaken);
            if on.mac != request.key.mac {
                push(Conflict::MacChanged);
            }
        }
        clashes
    }

    /// Where this host does not serve any more, nobody can be.
    fn is_served(&self, key: &LineKey) -> bool {
        self.served
            .as_ref()
            .is_none_or(|served| served.contains(&key.interface))
    }
}

/// What changes for a subscriber that was on `old` and is on `new` now; nothing, if only more or other things
/// are known of the line than before.
pub(super) fn change(old: &LineKey, new: &LineKey) -> Option<Conflict> {
    if old.interface != new.interface {
        return Some(Conflict::Moved);
    }
    let other_mac = (old.mac != new.mac).then_some(Conflict::MacChanged);
    if old.at == new.at {
        return other_mac;
    }
    let same_kind = std::mem::discriminant(&old.at) == std::mem::discriminant(&new.at);
    match (old.at.vlans(), new.at.vlans()) {
        (Some(old), Some(new)) if old == new => other_mac,
        (Some(_), Some(_)) => Some(Conflict::Moved),
        // Nothing but the MAC can be compared.
        _ if same_kind => Some(Conflict::Moved),
        _ => other_mac.map(|_| Conflict::Moved),
    }
}
