//! What one run of the field shall be: sizes, lengths, and what the nemesis does, in which order. Pure.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::history::Who;

/// Servers of the cluster.
pub const SERVERS: usize = 3;
/// OLT hosts; two more stand by with the ids of others.
pub const OLTS: usize = 4;
/// Lives of leases in the random run. A machine that stands still for seconds, as CI's does, ends nothing by itself.
pub const LEASES: Leases = Leases {
    heartbeat: Duration::from_secs(3),
    offline_after: 9,
    lease: Duration::from_secs(30),
};
/// What an outage lasts after which shards have moved: the lease, what the grantor waits on top of it (1% and 5 s), and
/// some time.
pub const LONG: Duration = Duration::from_secs(40);
/// Longest time that anything may take that is waited for, on a machine that has much else to do; only a failing run
/// takes it.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// The pool.
pub const POOL: &str = "field-ipv4";
/// Its first address, which is its router.
pub const ROUTER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(100, 64, 0, 1);

/// `olt:` of the servers' configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// `heartbeat_interval`.
    pub heartbeat: Duration,
    /// Heartbeats that an OLT may miss before it counts as offline.
    pub offline_after: u32,
    /// `lease`.
    pub lease: Duration,
}

/// One run.
#[derive(Clone, Debug)]
pub struct FieldPlan {
    /// Of everything that is random.
    pub seed: u64,
    /// How long the nemesis goes on, at least once through all that it can do.
    pub length: Duration,
    /// Subscribers.
    pub subscribers: Who,
    /// Operations in a second.
    pub per_second: f64,
    /// Whether the nemesis comes at all.
    pub troubles: bool,
    /// How long what is wrong at the end has time to come right.
    pub last_wait: Duration,
}

/// What can happen to an OLT host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OltTrouble {
    /// It reaches no server for less than a lease.
    ShortCut,
    /// It reaches no server until its shards have moved.
    LongCut,
    /// It reaches one server only.
    HalfCut,
    /// The sidecar hangs until its shards have moved (SIGSTOP), as a machine that is suspended.
    Hang,
    /// `kill -9`, and a start.
    Kill,
    /// Its disk is full for a time.
    FullDisk,
    /// Its store is replaced by an older copy.
    OldCopy,
    /// Another host comes up with its id.
    Twin,
    /// It is drained for a time; its subscribers go elsewhere.
    Drain,
}

/// What can happen to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerTrouble {
    /// One does not hear the others; OLTs reach all.
    Isolate,
    /// Nobody hears anybody: no majority.
    Scatter,
    /// One is killed and started.
    Kill,
    /// One hangs.
    Hang,
    /// One's wall clock is stepped.
    Clock,
    /// One's disk is full for a time.
    FullDisk,
    /// One's record (not its votes) is replaced by an older copy.
    OldRecord,
}

const OLT_TROUBLES: [OltTrouble; 9] = [
    OltTrouble::ShortCut,
    OltTrouble::LongCut,
    OltTrouble::HalfCut,
    OltTrouble::Hang,
    OltTrouble::Kill,
    OltTrouble::FullDisk,
    OltTrouble::OldCopy,
    OltTrouble::Twin,
    OltTrouble::Drain,
];

const SERVER_TROUBLES: [ServerTrouble; 7] = [
    ServerTrouble::Isolate,
    ServerTrouble::Scatter,
    ServerTrouble::Kill,
    ServerTrouble::Hang,
    ServerTrouble::Clock,
    ServerTrouble::FullDisk,
    ServerTrouble::OldRecord,
];

impl FieldPlan {
    /// Once through all troubles in about three minutes, for CI.
    #[must_use]
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            length: Duration::from_secs(60),
            subscribers: 1000,
            per_second: 120.0,
            troubles: true,
            last_wait: PATIENCE,
        }
    }

    /// So many subscribers; more of them do more.
    #[must_use]
    pub fn subscribers(mut self, subscribers: Who) -> Self {
        self.subscribers = subscribers;
        self.per_second = f64::from(subscribers / 10).clamp(120.0, 400.0);
        self
    }

    /// Few subscribers and no nemesis: for a test that does something wrong itself, and is not put right.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            subscribers: 200,
            per_second: 60.0,
            troubles: false,
            last_wait: Duration::from_secs(2),
            ..Self::short(seed)
        }
    }

    /// Troubles of the OLTs of one half: `lane` of two. Each round goes once through all of them, both lanes together.
    #[must_use]
    pub fn olt_troubles(&self, lane: usize, round: u64) -> Vec<OltTrouble> {
        let mut all = OLT_TROUBLES;
        all.shuffle(&mut self.random(round));
        let mine = all.iter().enumerate().filter(|(at, _)| at % 2 == lane % 2);
        mine.map(|(_, trouble)| *trouble).collect()
    }

    /// Troubles of the servers, once through all of them.
    #[must_use]
    pub fn server_troubles(&self, round: u64) -> Vec<ServerTrouble> {
        let mut all = SERVER_TROUBLES;
        all.shuffle(&mut self.random(round + (1 << 32)));
        all.to_vec()
    }

    /// Randomness of a part of the run.
    #[must_use]
    pub fn random(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_every_trouble_once_in_another_order() {
        let plan = FieldPlan::short(7);
        let round = |round| {
            let mut all = plan.olt_troubles(0, round);
            all.extend(plan.olt_troubles(1, round));
            all
        };
        let (mut first, second) = (round(0), round(1));
        assert_ne!(first, second);
        first.sort_unstable();
        let mut all = OLT_TROUBLES;
        all.sort_unstable();
        assert_eq!(first, all);
        assert_eq!(
            plan.olt_troubles(0, 0),
            FieldPlan::short(7).olt_troubles(0, 0)
        );
        assert_eq!(plan.server_troubles(0).len(), SERVER_TROUBLES.len());
    }
}
