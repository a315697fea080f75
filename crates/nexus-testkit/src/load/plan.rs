//! What the generator shall do, as it is written down (JSON) for a process of its own.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::packet::Mac;

/// Most clients of one run: their number is a part of the transaction id.
pub const MAX_CLIENTS: u32 = 1 << 17;
/// Most threads; a transaction belongs to the thread that the lowest bits of its id name.
pub const MAX_THREADS: u32 = 8;
/// Longest run in seconds.
const MAX_SECONDS: f64 = 600.0;

/// One run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Plan {
    /// Interface, in the namespace of the process.
    pub interface: String,
    /// A power of two, at most [`MAX_THREADS`]. Each has its own socket and its share of clients and rate.
    pub threads: u32,
    /// Clients, 1 to [`MAX_CLIENTS`].
    pub clients: u32,
    /// MAC address of client 0; client n has this plus n.
    pub first_mac: Mac,
    /// VLAN tags of each frame, 0 to 2; with two each client has a pair of its own.
    pub tags: u8,
    /// Whether the access node adds option 82 with a circuit-id of each client's own.
    pub option_82: bool,
    /// What is measured.
    pub exchange: Exchange,
    /// When exchanges begin.
    pub pace: Pace,
    /// Each client does one exchange, and the run ends when all have done it; else it ends after `seconds`.
    pub once: bool,
    /// Clients ask again as RFC 2131 section 4.1 says; else an unanswered message is a lost exchange.
    pub retry: bool,
    /// For how long exchanges begin; with `once` and `retry` the longest that the run takes.
    pub seconds: f64,
    /// Without `retry`: how long each answer is waited for, in milliseconds.
    pub patience_ms: u32,
    /// Never sleep: exact round-trip times for a processor's whole time.
    pub busy: bool,
    /// A request that comes back as it is counts as its reply: for a responder that does nothing.
    pub echo: bool,
}

/// Messages of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exchange {
    /// DISCOVER, OFFER, REQUEST, ACK.
    Full,
    /// REQUEST and ACK of a client that has its address. Each client gets it by a full exchange before
    /// the clock begins to run.
    Renew,
}

/// When exchanges begin.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// So many per second, whatever comes back.
    Open {
        /// Exchanges per second of all threads.
        per_second: f64,
    },
    /// The next one as soon as fewer than `window` are under way.
    Closed {
        /// Exchanges under way of all threads.
        window: u32,
    },
}

impl Plan {
    /// Full exchanges without tags on one thread, for two seconds.
    #[must_use]
    pub fn new(interface: &str, first_mac: Mac, clients: u32, pace: Pace) -> Self {
        Self {
            interface: interface.to_owned(),
            threads: 1,
            clients,
            first_mac,
            tags: 0,
            option_82: false,
            exchange: Exchange::Full,
            pace,
            once: false,
            retry: false,
            seconds: 2.0,
            patience_ms: 1000,
            busy: false,
            echo: false,
        }
    }

    /// # Errors
    /// Names the value that cannot be used.
    pub(super) fn check(&self) -> Result<()> {
        let Self {
            threads,
            clients,
            tags,
            seconds,
            ..
        } = self;
        ensure!(
            threads.is_power_of_two() && *threads <= MAX_THREADS,
            "threads: {threads} is not 1, 2, 4 or {MAX_THREADS}"
        );
        ensure!(
            (*threads..=MAX_CLIENTS).contains(clients),
            "clients: {clients} is outside {threads}..={MAX_CLIENTS}"
        );
        ensure!(*tags <= 2, "tags: {tags} are more than 2");
        ensure!(
            *seconds > 0.0 && *seconds <= MAX_SECONDS,
            "seconds: {seconds} is not above 0 and at most {MAX_SECONDS}"
        );
        let possible = match self.pace {
            Pace::Open { per_second } => per_second > 0.0 && per_second <= 1e8,
            Pace::Closed { window } => window >= *threads,
        };
        ensure!(
            possible,
            "pace: {:?} gives a thread nothing to do",
            self.pace
        );
        ensure!(
            self.patience_ms > 0,
            "patience_ms: 0 waits for no answer at all"
        );
        Ok(())
    }

    /// The clients of one thread: `thread`, `thread + threads`, and so on.
    pub(super) fn clients_of(&self, thread: u32) -> u32 {
        (self.clients + self.threads - 1 - thread) / self.threads
    }

    /// The MAC address of a client.
    #[must_use]
    pub fn mac(&self, client: u32) -> Mac {
        mac(self.first_mac, client)
    }
}

/// The MAC address `client` above `first`.
#[must_use]
pub fn mac(first: Mac, client: u32) -> Mac {
    let [a, b, c, d, e, f] = first;
    let number = u64::from_be_bytes([0, 0, a, b, c, d, e, f]).wrapping_add(u64::from(client));
    let [_, _, mac @ ..] = number.to_be_bytes();
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let pace = Pace::Closed { window: 8 };
        Plan::new("x0", [2, 0, 0, 0, 0, 0xfe], 10, pace)
    }

    #[test]
    fn mac_addresses_carry_over() {
        assert_eq!(plan().mac(3), [2, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn threads_share_the_clients_and_none_is_left_out() {
        for threads in [1, 2, 4, 8] {
            let plan = Plan { threads, ..plan() };
            let shares = (0..threads).map(|thread| plan.clients_of(thread));
            assert_eq!(shares.sum::<u32>(), 10, "{threads} threads");
        }
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        assert!(plan().check().is_ok());
        let broken = [
            (
                "threads",
                Plan {
                    threads: 3,
                    ..plan()
                },
            ),
            (
                "clients",
                Plan {
                    clients: 0,
                    ..plan()
                },
            ),
            ("tags", Plan { tags: 3, ..plan() }),
            (
                "seconds",
                Plan {
                    seconds: f64::NAN,
                    ..plan()
                },
            ),
            (
                "pace",
                Plan {
                    pace: Pace::Open { per_second: 0.0 },
                    ..plan()
                },
            ),
            (
                "patience_ms",
                Plan {
                    patience_ms: 0,
                    ..plan()
                },
            ),
        ];
        for (field, plan) in broken {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_plan_survives_being_written_down() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan());
    }
}
