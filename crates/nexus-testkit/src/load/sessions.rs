//! The clients of one thread: what each waits for, and what it says next (RFC 2131 sections 3.1, 4.1, 4.4). Pure.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::plan::{Exchange, MAX_CLIENTS, Plan};
use super::reply::{Kind, Reply};
use super::report::Tally;

/// Bits of a transaction id that are the client's number; the others count its transactions.
const CLIENT_BITS: u32 = MAX_CLIENTS.trailing_zeros();
/// Waits before the first and the later repetitions, in seconds, each plus or minus one (RFC 2131 section 4.1).
const BACKOFF: [f64; 5] = [4.0, 8.0, 16.0, 32.0, 64.0];
/// Repetitions of a REQUEST before the client begins again with DISCOVER (RFC 2131 section 3.1, number 5).
const REQUEST_REPEATS: u32 = 4;

const SECOND: f64 = 1e9;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number among all clients.
    pub client: u32,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Which message.
    pub says: Says,
}

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// DISCOVER.
    Discover,
    /// REQUEST that accepts an offer.
    Select {
        /// The address offered.
        address: Ipv4Addr,
        /// By this server.
        server: Ipv4Addr,
    },
    /// REQUEST that prolongs.
    Renew {
        /// The client's address.
        address: Ipv4Addr,
        /// Its server.
        server: Ipv4Addr,
    },
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// An OFFER.
    Selecting,
    /// The ACK of an offer.
    Requesting,
    /// The ACK of a renewal.
    Renewing,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    state: State,
    transaction: u32,
    repeats: u32,
    address: Ipv4Addr,
    server: Ipv4Addr,
    /// First message of the exchange.
    began: u64,
    /// Last message of the client.
    sent: u64,
    /// When it stops waiting.
    due: u64,
}

/// All clients of one thread. Times are nanoseconds from the start of the run.
pub struct Sessions {
    clients: Vec<Client>,
    idle: VecDeque<u32>,
    under_way: u64,
    threads: u32,
    thread: u32,
    exchange: Exchange,
    once: bool,
    retry: bool,
    echo: bool,
    patience: u64,
    random: SmallRng,
    tally: Tally,
}

impl Sessions {
    /// The clients of `thread`, all idle. `salt` makes the transaction ids of runs differ, and is the seed of the
    /// waits' random part.
    ///
    /// # Errors
    /// If the histograms cannot be made.
    pub fn new(plan: &Plan, thread: u32, salt: u32) -> Result<Self> {
        let client = Client {
            state: State::Idle,
            transaction: salt,
            repeats: 0,
            address: Ipv4Addr::UNSPECIFIED,
            server: Ipv4Addr::UNSPECIFIED,
            began: 0,
            sent: 0,
            due: 0,
        };
        let count = plan.clients_of(thread);
        Ok(Self {
            clients: vec![client; count as usize],
            idle: (0..count).collect(),
            under_way: 0,
            threads: plan.threads,
            thread,
            exchange: plan.exchange,
            once: plan.once,
            retry: plan.retry,
            echo: plan.echo,
            patience: u64::from(plan.patience_ms) * 1_000_000,
            random: SmallRng::seed_from_u64(u64::from(salt)),
            tally: Tally::new()?,
        })
    }

    /// Every client that is not under way can begin once more, with `exchange`; what was counted so far is forgotten.
    ///
    /// # Errors
    /// If the histograms cannot be made.
    pub fn begin_again(&mut self, exchange: Exchange, once: bool) -> Result<()> {
        self.exchange = exchange;
        self.once = once;
        self.tally = Tally::new()?;
        self.idle = (0..)
            .zip(&self.clients)
            .filter(|(_, client)| client.state == State::Idle)
            .map(|(number, _)| number)
            .collect();
        Ok(())
    }

    /// Exchanges that have begun and are not over.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.under_way
    }

    /// Whether nobody has anything to do any more, which only happens to clients that do one exchange each.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.once && self.under_way == 0 && self.idle.is_empty()
    }

    /// Whether a client can begin.
    #[must_use]
    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// What has been counted.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What has been counted, at the end.
    #[must_use]
    pub fn into_tally(self) -> Tally {
        self.tally
    }

    /// The client that has been idle longest begins. `None` if all are under way (counted as withheld), or if a
    /// client that shall renew has no address (counted as lost).
    pub fn begin(&mut self, now: u64) -> Option<Message> {
        let Some(number) = self.idle.pop_front() else {
            self.tally.counts.withheld += u64::from(!self.once);
            return None;
        };
        let exchange = self.exchange;
        let client = self.clients.get_mut(number as usize)?;
        self.tally.counts.begun += 1;
        client.began = now;
        client.state = match exchange {
            Exchange::Full => State::Selecting,
            Exchange::Renew if client.address.is_unspecified() && !self.echo => {
                self.tally.counts.lost += 1;
                if !self.once {
                    self.idle.push_back(number);
                }
                return None;
            }
            Exchange::Renew => State::Renewing,
        };
        self.under_way += 1;
        Some(self.say(number, now, true))
    }

    /// What a reply leads to.
    pub fn receive(&mut self, now: u64, reply: &Reply, mac_is_right: bool) -> Option<Message> {
        let Some((number, client)) = self.find(reply.xid) else {
            self.tally.counts.strange += 1;
            return None;
        };
        let Client { state, address, .. } = *client;
        if client.transaction_id(number, self.threads, self.thread) != reply.xid
            || state == State::Idle
        {
            // Of an exchange that is over.
            self.tally.counts.late += 1;
            return None;
        }
        match (state, reply.kind) {
            _ if !mac_is_right => {
                self.tally.counts.wrong += 1;
                None
            }
            (State::Selecting, Kind::Offer) => {
                self.record_round_trip(number, now);
                let client = self.clients.get_mut(number as usize)?;
                client.state = State::Requesting;
                client.address = reply.address;
                client.server = reply.server;
                Some(self.say(number, now, true))
            }
            (State::Requesting | State::Renewing, Kind::Ack) if reply.address == address => {
                self.record_round_trip(number, now);
                self.complete(number, now);
                None
            }
            (State::Requesting | State::Renewing, Kind::Ack) => {
                self.tally.counts.wrong += 1;
                None
            }
            (State::Requesting | State::Renewing, Kind::Nak) => {
                self.tally.counts.refused += 1;
                if self.retry {
                    return self.restart(number, now);
                }
                self.end(number);
                self.tally.counts.lost += 1;
                None
            }
            // A second OFFER after the first was accepted, for instance.
            _ => {
                self.tally.counts.duplicates += 1;
                None
            }
        }
    }

    /// Ends or repeats what has waited too long; call it every few milliseconds. `send` takes what is said again.
    pub fn expire(&mut self, now: u64, mut send: impl FnMut(Message)) {
        for number in 0..self.clients.len() as u32 {
            let Some(client) = self.clients.get_mut(number as usize) else {
                return;
            };
            if client.state == State::Idle || now < client.due {
                continue;
            }
            if !self.retry {
                self.end(number);
                self.tally.counts.lost += 1;
                continue;
            }
            client.repeats += 1;
            self.tally.counts.repeated += 1;
            if client.state != State::Selecting && client.repeats > REQUEST_REPEATS {
                if let Some(message) = self.restart(number, now) {
                    send(message);
                }
            } else {
                send(self.say(number, now, false));
            }
        }
    }

    /// The client whose transaction may have that id.
    fn find(&self, xid: u32) -> Option<(u32, &Client)> {
        let global = xid & (MAX_CLIENTS - 1);
        if global % self.threads != self.thread {
            return None;
        }
        let number = global / self.threads;
        Some((number, self.clients.get(number as usize)?))
    }

    /// The message that belongs to the client's state; `fresh` if it is not a repetition.
    fn say(&mut self, number: u32, now: u64, fresh: bool) -> Message {
        let wait = if self.retry {
            let repeats = self
                .clients
                .get(number as usize)
                .map_or(0, |client| client.repeats);
            let repeats = if fresh { 0 } else { repeats };
            let base = BACKOFF.get(repeats as usize).or(BACKOFF.last()).copied();
            let spread = self.random.random_range(-1.0..=1.0);
            ((base.unwrap_or(64.0) + spread) * SECOND) as u64
        } else {
            self.patience
        };
        let (threads, thread) = (self.threads, self.thread);
        let mut message = Message {
            client: number * threads + thread,
            xid: 0,
            secs: 0,
            says: Says::Discover,
        };
        let Some(client) = self.clients.get_mut(number as usize) else {
            return message;
        };
        if fresh {
            client.repeats = 0;
            // OFFER and ACK of one exchange share the id (RFC 2131 section 3.1).
            if client.state != State::Requesting {
                client.transaction = client.transaction.wrapping_add(1);
            }
        }
        client.sent = now;
        client.due = now.saturating_add(wait);
        let (address, server) = (client.address, client.server);
        message.xid = client.transaction_id(number, threads, thread);
        message.secs =
            u16::try_from(now.saturating_sub(client.began) / 1_000_000_000).unwrap_or(u16::MAX);
        message.says = match client.state {
            State::Idle | State::Selecting => Says::Discover,
            State::Requesting => Says::Select { address, server },
            State::Renewing => Says::Renew { address, server },
        };
        message
    }

    /// Back to DISCOVER within the same exchange.
    fn restart(&mut self, number: u32, now: u64) -> Option<Message> {
        let client = self.clients.get_mut(number as usize)?;
        client.state = State::Selecting;
        Some(self.say(number, now, true))
    }

    /// A repeated message leaves open which of the two was answered, so its time is nobody's.
    fn record_round_trip(&mut self, number: u32, now: u64) {
        if let Some(client) = self.clients.get(number as usize)
            && client.repeats == 0
        {
            self.tally
                .record_round_trip(now.saturating_sub(client.sent));
        }
    }

    fn complete(&mut self, number: u32, now: u64) {
        if let Some(client) = self.clients.get(number as usize) {
            self.tally
                .record_exchange(now.saturating_sub(client.began), now);
        }
        self.tally.counts.completed += 1;
        self.end(number);
    }

    fn end(&mut self, number: u32) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(client) = self.clients.get_mut(number as usize) {
            client.state = State::Idle;
        }
        if !self.once {
            self.idle.push_back(number);
        }
    }
}

impl Client {
    fn transaction_id(&self, number: u32, threads: u32, thread: u32) -> u32 {
        (self.transaction << CLIENT_BITS) | (number * threads + thread)
    }
}

#[cfg(test)]
mod tests;
