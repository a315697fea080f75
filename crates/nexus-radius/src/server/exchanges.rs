//! Requests in work and replies given, for the few seconds in which a NAS repeats itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{ExchangeKey, Limits};
use crate::attributes::Attributes;

/// What is known of a request.
pub(super) enum Found<'a> {
    /// Nothing.
    New,
    /// It is being worked on.
    Working,
    /// It was answered with this datagram.
    Answered(&'a [u8]),
}

#[derive(Debug)]
enum State {
    Working {
        client: usize,
        proxy_state: Attributes,
    },
    Answered {
        reply: Vec<u8>,
    },
}

#[derive(Debug)]
struct Exchange {
    until: Instant,
    state: State,
}

/// All exchanges, bounded by [`Limits`].
#[derive(Debug)]
pub(super) struct Exchanges {
    limits: Limits,
    exchanges: BTreeMap<ExchangeKey, Exchange>,
    /// Keys in work, by when they are forgotten.
    working: BTreeSet<(Instant, ExchangeKey)>,
    /// Keys answered, by when they are forgotten.
    answered: BTreeSet<(Instant, ExchangeKey)>,
}

impl Exchanges {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            exchanges: BTreeMap::new(),
            working: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.working.len()
    }

    pub(super) fn find(&mut self, now: Instant, key: &ExchangeKey) -> Found<'_> {
        self.expire(now);
        match self.exchanges.get(key).map(|exchange| &exchange.state) {
            None => Found::New,
            Some(State::Working { .. }) => Found::Working,
            Some(State::Answered { reply }) => Found::Answered(reply),
        }
    }

    /// Nothing, and nothing changed, if too many are in work.
    pub(super) fn start(
        &mut self,
        now: Instant,
        key: ExchangeKey,
        client: usize,
        proxy_state: Attributes,
    ) -> Option<()> {
        if self.working.len() >= self.limits.in_flight {
            return None;
        }
        let until = now + self.limits.work_lifetime;
        self.replace(
            key,
            Exchange {
                until,
                state: State::Working {
                    client,
                    proxy_state,
                },
            },
        );
        Some(())
    }

    /// Client and Proxy-State of a request in work.
    pub(super) fn working(&self, key: &ExchangeKey) -> Option<(usize, &Attributes)> {
        match &self.exchanges.get(key)?.state {
            State::Working {
                client,
                proxy_state,
            } => Some((*client, proxy_state)),
            State::Answered { .. } => None,
        }
    }

    pub(super) fn answered(&mut self, now: Instant, key: ExchangeKey, reply: Vec<u8>) {
        let until = now + self.limits.reply_lifetime;
        self.replace(
            key,
            Exchange {
                until,
                state: State::Answered { reply },
            },
        );
        while self.answered.len() > self.limits.cached_replies
            && let Some((_, oldest)) = self.answered.first().copied()
        {
            self.forget(&oldest);
        }
    }

    pub(super) fn abandon(&mut self, key: &ExchangeKey) {
        if self.working(key).is_some() {
            self.forget(key);
        }
    }

    fn expire(&mut self, now: Instant) {
        for queue in [&mut self.working, &mut self.answered] {
            while let Some((until, key)) = queue.first().copied()
                && until <= now
            {
                queue.pop_first();
                self.exchanges.remove(&key);
            }
        }
    }

    fn replace(&mut self, key: ExchangeKey, exchange: Exchange) {
        self.forget(&key);
        let queue = match exchange.state {
            State::Working { .. } => &mut self.working,
            State::Answered { .. } => &mut self.answered,
        };
        queue.insert((exchange.until, key));
        self.exchanges.insert(key, exchange);
    }

    fn forget(&mut self, key: &ExchangeKey) {
        if let Some(Exchange { until, .. }) = self.exchanges.remove(key) {
            self.working.remove(&(until, *key));
            self.answered.remove(&(until, *key));
        }
    }
}
