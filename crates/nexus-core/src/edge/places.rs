//! Where bindings are: one of a kind at a place, and its entry in the kernel's map.

use super::holding::until;
use super::{
    Action, Authorized, Edge, Effects, Held, Kind, LineKey, MapEntry, Note, Rest, Validity, Who,
};
use crate::resource::Resource;
use crate::time::BootTime;

impl Edge {
    /// Makes a place the subscriber's own; whoever had it loses it first. Its entry goes at once and not only
    /// with the new one: should its binding end meanwhile, the address rests from then on.
    pub(super) fn claim(
        &mut self,
        now: BootTime,
        key: &LineKey,
        kind: Kind,
        who: &Who,
        fx: &mut Effects,
    ) {
        let place = (kind, key.place());
        if let Some(other) = self.keys.insert(place, who.clone())
            && other != *who
        {
            self.displace(now, &other, fx);
            if other.subscriber != who.subscriber && kind == Kind::Ipv4 {
                fx.note(Note::KeyTaken {
                    key: key.clone(),
                    from: other.subscriber,
                    to: who.subscriber.clone(),
                });
            }
        }
    }

    /// Nobody else has anything at the place of a subscriber, of whichever kind.
    pub(super) fn take_place(&mut self, now: BootTime, request: &Authorized, fx: &mut Effects) {
        for kind in Kind::ALL {
            let at = (kind, request.key.place());
            if let Some(other) = self.keys.get(&at).cloned()
                && other.subscriber != request.subscriber
            {
                self.keys.remove(&at);
                self.displace(now, &other, fx);
            }
        }
    }

    /// A binding is at no place any more.
    fn displace(&mut self, now: BootTime, who: &Who, fx: &mut Effects) {
        if let Some(held) = self.bindings.get_mut(who)
            && let Some(key) = held.row.key.take()
        {
            remove_entry(held.resource, &key, fx);
        }
        self.save_binding(who, fx);
        self.keyless.insert(who.clone(), now);
    }

    /// Writes the binding into the kernel's map as it is now.
    pub(super) fn put_entry(&self, who: &Who, fx: &mut Effects) {
        if !self.unread
            && let Some(entry) = self.bindings.get(who).and_then(|held| entry(who, held))
        {
            fx.act(Action::PutBinding(entry));
        }
    }

    /// Ends bindings of the same kind in other pools: the subscriber has changed its pool.
    pub(super) fn end_elsewhere(&mut self, now: BootTime, who: &Who, kind: Kind, fx: &mut Effects) {
        let others: Vec<Who> = self
            .bindings_of(&who.subscriber)
            .filter(|(other, held)| *other != who && Kind::of(&held.resource) == kind)
            .map(|(other, _)| other.clone())
            .collect();
        for other in others {
            self.release(now, &other, "pool-changed", Rest::Unheard, fx);
        }
    }
}

/// The entry of a binding, if it has one now.
pub(super) fn entry(who: &Who, held: &Held) -> Option<MapEntry> {
    let Resource::Ipv4(address) = held.resource else {
        return None;
    };
    if held.validity == Validity::Suspended {
        return None;
    }
    Some(MapEntry {
        key: held.row.key.clone()?,
        pool: who.pool.clone(),
        address,
        valid_until: until(held.validity),
    })
}

pub(super) fn remove_entry(resource: Resource, key: &LineKey, fx: &mut Effects) {
    if Kind::of(&resource) == Kind::Ipv4 {
        fx.act(Action::RemoveBinding(key.place()));
    }
}
