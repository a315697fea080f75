//! What the centre says: lease, acknowledgements, refusals; and what is done when it says nothing.

use super::places::remove_entry;
use super::{
    Action, Earlier, Edge, EdgeConfig, Effects, LeaseRow, Note, RESEND_AFTER, Rest, RowKey, What,
    Who,
};
use crate::id::{Seq, SessionId};
use crate::lease::{Terms, holder_end};
use crate::time::BootTime;

/// Why the centre refused a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Epoch, sequence or shard are not (any more) this host's.
    Stale,
    /// The resource is another subscriber's.
    Taken,
    /// The command makes no sense to the centre: unknown pool, malformed.
    Invalid,
}

impl Edge {
    /// The centre took this host in. `sent_at`: when the request was sent. An answer to a request sent
    /// after the newest configuration came is believed even if its revision is lower: the centre
    /// was restored from a backup.
    pub fn registered(
        &mut self,
        now: BootTime,
        sent_at: BootTime,
        terms: impl Into<Terms>,
        config: EdgeConfig,
        fx: &mut Effects,
    ) {
        let revision = config.revision;
        if self.refused.take().is_some() {
            fx.act(Action::PullRecords);
        }
        if sent_at > self.configured_at {
            self.apply(now, config, fx);
        } else {
            self.configure(now, config, fx);
        }
        let terms: Terms = terms.into();
        self.count_earlier(now, terms.lease, fx);
        self.renewed(now, sent_at, terms, revision, fx);
    }

    /// The centre renewed the lease. `revision`: its newest configuration. After the lease had ended
    /// shards may have moved meanwhile, so the renewal counts only once that revision has been read.
    pub fn renewed(
        &mut self,
        now: BootTime,
        sent_at: BootTime,
        terms: impl Into<Terms>,
        revision: u64,
        fx: &mut Effects,
    ) {
        self.connected = true;
        self.sending = true;
        self.resend_at = None;
        let terms: Terms = terms.into();
        let renewed = LeaseRow {
            sent_at,
            until: holder_end(sent_at, terms.lease),
        };
        let newer = self.lease.is_none_or(|held| held.sent_at < sent_at);
        // The request sent last counts even if it gave less: the centre counts from it too.
        if self.drift.stops() {
            // Nothing can be counted on this clock.
            self.waiting = None;
        } else if newer && revision > self.revision && !self.lease_alive(now) {
            self.waiting = Some((renewed, terms.keeping, revision));
        } else if newer {
            self.count_from(now, renewed, terms.keeping, fx);
        }
        self.settle(now, fx);
        self.push_on(now, fx);
        self.pump(fx);
    }

    /// The centre does not take this host in because another one with this OLT id is alive: this is the second.
    /// It has no right to anything; what it would serve may be somebody else's at the other one.
    pub fn refused_as_second(&mut self, why: &str, fx: &mut Effects) {
        self.end_lease(fx);
        self.refused = Some(why.to_owned());
        // One that is under way tells what was before.
        self.snapshot = None;
        if std::mem::replace(&mut self.unread, true) {
            return;
        }
        // Also if the process ends meanwhile.
        self.save(fx);
        for held in self.bindings.values() {
            if let Some(key) = &held.row.key {
                remove_entry(held.resource, key, fx);
            }
        }
    }

    /// The lease counts as ended until it is renewed: the clock that it is counted on cannot be trusted.
    pub fn end_lease(&mut self, fx: &mut Effects) {
        self.waiting = None;
        let Some(lease) = self.lease.take() else {
            return;
        };
        for who in self.unacked.clone() {
            self.suspend(&who, fx);
        }
        self.doubt_kept(lease.sent_at, fx);
        self.save(fx);
    }

    /// A heartbeat was not answered.
    pub fn cut_off(&mut self) {
        self.connected = false;
    }

    /// The centre has recorded a command. An answer that the lease does not carry is not believed at once: its
    /// record may have come too late for whoever owns the shard now. It is asked for again, and the answer to
    /// that counts if the lease is alive.
    pub fn acked(&mut self, now: BootTime, seq: Seq, fx: &mut Effects) {
        if !self.is_carried(now, seq) {
            self.lost(now, seq);
            return;
        }
        self.doubted.remove(&seq);
        let Some(command) = self.outbox.remove(seq) else {
            return;
        };
        fx.forget(RowKey::Command(seq));
        self.answered(&command, seq, fx);
        let who = Who {
            pool: command.pool,
            subscriber: command.subscriber,
        };
        let acked = self.acked_validity();
        if let Some(held) = self.bindings.get_mut(&who)
            && matches!(command.what, What::Allocate { .. })
            && held.resource == command.resource
            && held.row.since <= seq
            && !held.row.acked
        {
            held.row.acked = true;
            held.validity = acked;
            self.unacked.remove(&who);
            self.save_binding(&who, fx);
            self.put_entry(&who, fx);
        }
        self.pump(fx);
    }

    fn is_carried(&mut self, now: BootTime, seq: Seq) -> bool {
        let alive = self.lease_alive(now);
        if !alive {
            self.doubted.clear();
        }
        let Some(command) = self.outbox.get(seq) else {
            return true;
        };
        let who = Who {
            pool: command.pool.clone(),
            subscriber: command.subscriber.clone(),
        };
        let waits = matches!(command.what, What::Allocate { .. })
            && self
                .bindings
                .get(&who)
                .is_some_and(|held| held.resource == command.resource && !held.row.acked);
        let carried = !waits
            || self
                .bindings
                .get(&who)
                .is_some_and(|held| self.is_renewable(now, &who.pool, &held.row));
        // The first answer after the lease may be one from before it ended; the next one is not.
        carried || (alive && !self.doubted.insert(seq))
    }

    /// The centre has refused a command for good. An unacknowledged binding ends with it; one that was
    /// acknowledged before ends only if the resource is another subscriber's.
    pub fn refused(
        &mut self,
        now: BootTime,
        seq: Seq,
        refusal: Refusal,
        why: &str,
        fx: &mut Effects,
    ) {
        let Some(command) = self.outbox.remove(seq) else {
            return;
        };
        fx.forget(RowKey::Command(seq));
        self.doubted.remove(&seq);
        self.answered(&command, seq, fx);
        let who = Who {
            pool: command.pool,
            subscriber: command.subscriber,
        };
        let ended = matches!(command.what, What::Allocate { .. })
            && self.bindings.get(&who).is_some_and(|held| {
                held.resource == command.resource
                    && held.row.seq == seq
                    && (!held.row.acked || refusal == Refusal::Taken)
            });
        if ended {
            // Whoever has a taken resource is in the centre's record: read it before giving it again.
            let taken = refusal == Refusal::Taken;
            let rest = if taken {
                Rest::Quarantine
            } else {
                Rest::Unheard
            };
            // An earlier word about it may be on record although its answer never came, and may have been asked back since.
            self.release(now, &who, "refused", rest, fx);
            if taken {
                self.read_anew(fx);
            }
        } else if let Some(held) = self.bindings.get_mut(&who)
            && held.row.seq == seq
        {
            // On record it stands as before: what the centre asks for under that number is about this binding.
            held.row.seq = held.row.since;
            self.save_binding(&who, fx);
            // What it asked for under that number while this word was on its way was taken for older.
            if std::mem::take(&mut self.asks_passed_over) {
                self.read_anew(fx);
            }
        }
        fx.note(Note::Refused {
            seq,
            subscriber: who.subscriber,
            resource: command.resource,
            ended,
            why: why.to_owned(),
        });
        self.pump(fx);
    }

    /// Nobody knows what became of a command: it is sent again once the centre is heard of.
    pub fn lost(&mut self, now: BootTime, seq: Seq) {
        self.outbox.landed(seq);
        self.sending = false;
        self.resend_at = Some(now + RESEND_AFTER);
    }

    /// The connection was made anew: what was on its way is sent again.
    pub fn reconnected(&mut self, fx: &mut Effects) {
        self.outbox.all_landed();
        self.sending = true;
        self.resend_at = None;
        self.pump(fx);
    }

    /// The centre does not take the store for what it last knew of this host: it was lost or rolled
    /// back. Goes on under a new session, without lease and shards; acknowledged bindings go on until
    /// the centre's record has been read and says otherwise.
    pub fn new_session(&mut self, session: SessionId, fx: &mut Effects) {
        self.session = session;
        self.lease = None;
        self.waiting = None;
        self.unconfirmed = true;
        self.earlier = Earlier::Uncounted;
        self.revision = 0;
        self.configured_at = BootTime::ZERO;
        self.sending = false;
        self.snapshot = None;
        self.outbox.all_landed();
        for place in self.shards.keys().cloned().collect::<Vec<_>>() {
            self.lose(&place, fx);
        }
        for who in self.unacked.clone() {
            self.suspend(&who, fx);
        }
        self.save(fx);
    }
}
