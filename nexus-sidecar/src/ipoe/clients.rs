//! Who waits for an answer and who has been rejected: one question per client at a time, all of it bounded.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::contact::Client;

/// Most rejected clients that are remembered; beyond it the oldest is forgotten, and asked about again.
const REJECTED_MAX: usize = 65_536;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Ask about its client.
    Ask,
    /// Nothing: a question is on its way, and the packet is the one that will be answered.
    Attached,
    /// Nothing: its client was rejected a moment ago.
    Rejected,
    /// Nothing: too many wait.
    Full,
}

/// The clients of one interface that have no binding. `T`: a packet.
#[derive(Debug)]
pub(super) struct Clients<T> {
    max_waiting: usize,
    reject_for: Duration,
    /// The newest packet of each client that was asked about.
    waiting: BTreeMap<Client, T>,
    rejected: BTreeMap<Client, Instant>,
    /// The same, in the order of their ends.
    ends: VecDeque<(Instant, Client)>,
}

impl<T> Clients<T> {
    pub(super) const fn new(max_waiting: usize, reject_for: Duration) -> Self {
        Self {
            max_waiting,
            reject_for,
            waiting: BTreeMap::new(),
            rejected: BTreeMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// Takes a packet of a client. After [`Arrival::Ask`], [`Clients::answered`] has to follow.
    pub(super) fn arrive(&mut self, now: Instant, client: &Client, packet: T) -> Arrival {
        self.forget_ended(now);
        if self.rejected.contains_key(client) {
            return Arrival::Rejected;
        }
        if let Some(waiting) = self.waiting.get_mut(client) {
            *waiting = packet;
            return Arrival::Attached;
        }
        if self.waiting.len() >= self.max_waiting {
            return Arrival::Full;
        }
        self.waiting.insert(client.clone(), packet);
        Arrival::Ask
    }

    /// The question has ended: the newest packet of its client.
    pub(super) fn answered(&mut self, client: &Client) -> Option<T> {
        self.waiting.remove(client)
    }

    /// Remembers a client as rejected.
    pub(super) fn reject(&mut self, now: Instant, client: &Client) {
        if self.reject_for.is_zero() || self.rejected.contains_key(client) {
            return;
        }
        if self.ends.len() >= REJECTED_MAX {
            self.forget_oldest();
        }
        let end = now + self.reject_for;
        self.rejected.insert(client.clone(), end);
        self.ends.push_back((end, client.clone()));
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, client)) = self.ends.pop_front() {
            self.rejected.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn client(n: u32) -> Client {
        let [a, b, c, d] = n.to_be_bytes();
        Client {
            mac: [2, 0, a, b, c, d],
            ..Client::default()
        }
    }

    #[test]
    fn a_client_is_asked_about_once_and_its_newest_packet_is_answered() {
        let mut clients = Clients::new(10, MINUTE);
        let now = Instant::now();
        assert_eq!(clients.arrive(now, &client(1), "first"), Arrival::Ask);
        assert_eq!(clients.arrive(now, &client(1), "second"), Arrival::Attached);
        assert_eq!(clients.arrive(now, &client(2), "other"), Arrival::Ask);
        assert_eq!(clients.answered(&client(1)), Some("second"));
        assert_eq!(clients.answered(&client(1)), None);
        assert_eq!(clients.arrive(now, &client(1), "third"), Arrival::Ask);
    }

    #[test]
    fn the_same_mac_on_another_line_is_another_client() {
        let mut clients = Clients::new(10, MINUTE);
        let now = Instant::now();
        let on = |vlans, circuit_id: Option<&[u8]>| Client {
            vlans,
            circuit_id: circuit_id.map(<[u8]>::to_vec),
            ..client(1)
        };
        for one in [
            on((0, 0), None),
            on((7, 0), None),
            on((7, 8), None),
            on((7, 8), Some(b"a")),
        ] {
            assert_eq!(clients.arrive(now, &one, ()), Arrival::Ask);
        }
    }

    #[test]
    fn beyond_the_bound_new_clients_are_dropped_and_waiting_ones_are_not() {
        let mut clients = Clients::new(2, MINUTE);
        let now = Instant::now();
        for n in [1, 2] {
            assert_eq!(clients.arrive(now, &client(n), ()), Arrival::Ask);
        }
        assert_eq!(clients.arrive(now, &client(3), ()), Arrival::Full);
        assert_eq!(clients.arrive(now, &client(2), ()), Arrival::Attached);
        clients.answered(&client(1));
        assert_eq!(clients.arrive(now, &client(3), ()), Arrival::Ask);
    }

    #[test]
    fn a_rejected_client_is_asked_about_again_only_after_its_time() {
        let mut clients = Clients::new(10, MINUTE);
        let now = Instant::now();
        clients.arrive(now, &client(1), ());
        clients.answered(&client(1));
        clients.reject(now, &client(1));
        clients.reject(now + MINUTE / 2, &client(1));
        let late = now + MINUTE - Duration::from_millis(1);
        assert_eq!(clients.arrive(late, &client(1), ()), Arrival::Rejected);
        assert_eq!(clients.arrive(late, &client(2), ()), Arrival::Ask);
        assert_eq!(clients.arrive(now + MINUTE, &client(1), ()), Arrival::Ask);
    }

    #[test]
    fn what_is_remembered_of_rejects_is_bounded() {
        let mut clients = Clients::new(10, MINUTE);
        let now = Instant::now();
        let most = u32::try_from(REJECTED_MAX).unwrap();
        for n in 0..=most {
            clients.reject(now, &client(n));
        }
        assert_eq!(clients.rejected.len(), REJECTED_MAX);
        assert_eq!(clients.ends.len(), REJECTED_MAX);
        assert_eq!(clients.arrive(now, &client(0), ()), Arrival::Ask);
        assert_eq!(clients.arrive(now, &client(1), ()), Arrival::Rejected);
        let mut none = Clients::new(10, Duration::ZERO);
        none.reject(now, &client(1));
        assert_eq!(none.arrive(now, &client(1), ()), Arrival::Ask);
    }
}
