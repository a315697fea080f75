//! What one run of the field shall be: sizes, lengths, and what the nemesis does, in which order. Pure.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

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
    /// Its wall clock is stepped ahead, and back.
    Clock,
}

impl OltTrouble {
    /// About how many seconds it takes, the recovery included.
    const fn seconds(self) -> u32 {
        match self {
            Self::LongCut | Self::Hang | Self::OldCopy => 45,
            Self::Drain => 20,
            Self::HalfCut => 15,
            Self::ShortCut | Self::FullDisk | Self::Twin | Self::Clock => 12,
            Self::Kill => 6,
        }
    }
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

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// To an OLT host.
    Olt(OltTrouble),
    /// To servers.
    Server(ServerTrouble),
}

impl Trouble {
    /// Everything that can happen.
    pub fn all() -> impl Iterator<Item = Self> {
        let olts = OLT_TROUBLES.into_iter().map(Self::Olt);
        olts.chain(SERVER_TROUBLES.into_iter().map(Self::Server))
    }
}

const OLT_TROUBLES: [OltTrouble; 10] = [
    OltTrouble::ShortCut,
    OltTrouble::LongCut,
    OltTrouble::HalfCut,
    OltTrouble::Hang,
    OltTrouble::Kill,
    OltTrouble::FullDisk,
    OltTrouble::OldCopy,
    OltTrouble::Twin,
    OltTrouble::Drain,
    OltTrouble::Clock,
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
            subscribers: 2000,
            per_second: 120.0,
            troubles: true,
            last_wait: PATIENCE,
        }
    }

    /// So many subscribers; more of them do more.
    #[must_use]
    pub fn subscribers(mut self, subscribers: Who) -> Self {
        self.subscribers = subscribers;
        self.per_second = f64::from(subscribers / 20).clamp(120.0, 400.0);
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

    /// Troubles of the OLTs of one half: `lane` of two. Each round goes once through all of them, both lanes together,
    /// and both take about as long.
    #[must_use]
    pub fn olt_troubles(&self, lane: usize, round: u64) -> Vec<OltTrouble> {
        let mut all = OLT_TROUBLES;
        let mut random = self.random(round);
        all.shuffle(&mut random);
        let mut longest_first = all;
        longest_first.sort_by_key(|trouble| std::cmp::Reverse(trouble.seconds()));
        let mut lanes = [(0, Vec::new()), (0, Vec::new())];
        for trouble in longest_first {
            let [(one, mine), (other, theirs)] = &mut lanes;
            let (sum, lane) = if one <= other {
                (one, mine)
            } else {
                (other, theirs)
            };
            *sum += trouble.seconds();
            lane.push(trouble);
        }
        // The first one has got two of the long ones.
        let which = (lane + usize::from(random.random_bool(0.5))) % 2;
        let mine = lanes.into_iter().nth(which).unwrap_or_default().1;
        let in_turn = all.into_iter().filter(|trouble| mine.contains(trouble));
        in_turn.collect()
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
        for lane in [0, 1] {
            let seconds = plan.olt_troubles(lane, 0);
            let seconds: u32 = seconds.into_iter().map(OltTrouble::seconds).sum();
            assert!((100..=125).contains(&seconds), "lane {lane}: {seconds} s");
        }
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
