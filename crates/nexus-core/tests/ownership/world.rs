//! What the model checker looks at: hosts, the centre, a network that delivers whenever it likes or never.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_core::edge::{Edge, Effects, Heartbeat, Outgoing, Refusal};
use nexus_core::id::{OltId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::shard_table;
use nexus_core::time::{BootTime, ClusterTime};

use crate::bug::Bug;
use crate::centre::Centre;
use crate::check;
use crate::host::Host;
use crate::step;

/// Length of a lease: 2% of it are more than the guard, so that a missing margin shows.
pub const LEASE: Duration = Duration::from_secs(2000);
pub const HEARTBEAT: Duration = Duration::from_secs(500);
/// A client that hears nothing goes on for so long.
pub const DHCP_LEASE: Duration = Duration::from_secs(3000);
/// Time passes in steps of so many milliseconds of true time; half of what an unacknowledged binding gets.
const STEP: u64 = 250_000;

/// How much of each kind may happen in one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub authorizes: u8,
    pub ends: u8,
    pub beats: u8,
    /// Steps of time.
    pub waits: u8,
    /// Hosts that are cut off until their lease has ended.
    pub lapses: u8,
    /// Messages that are delivered and stay on their way.
    pub copies: u8,
    /// Commands of which the host hears nothing, so that it sends again.
    pub losses: u8,
    pub restarts: u8,
    pub reboots: u8,
    /// Disks that are lost.
    pub lost_disks: u8,
    /// Disks that are replaced by an old copy.
    pub old_disks: u8,
    pub drains: u8,
    pub fences: u8,
    pub hangs: u8,
    /// Trouble may befall either host, and not only the first one, whose shard the other one inherits.
    pub either: bool,
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Message {
    Beat {
        host: usize,
        process: u32,
        sent: BootTime,
        report: Heartbeat,
    },
    Renewed {
        host: usize,
        process: u32,
        sent: BootTime,
        lease: Duration,
        revision: u64,
    },
    Refused {
        host: usize,
        process: u32,
    },
    Command {
        host: usize,
        process: u32,
        session: SessionId,
        outgoing: Outgoing,
    },
    Answer {
        host: usize,
        process: u32,
        seq: Seq,
        answer: Option<Refusal>,
    },
}

impl Message {
    /// Whose it is.
    pub fn host(&self) -> usize {
        match self {
            Self::Beat { host, .. }
            | Self::Renewed { host, .. }
            | Self::Refused { host, .. }
            | Self::Command { host, .. }
            | Self::Answer { host, .. } => *host,
        }
    }
}

/// A state of the world.
#[derive(Clone, Debug)]
pub struct World {
    /// True time in milliseconds.
    pub now: u64,
    pub centre: Centre,
    pub hosts: Vec<Host>,
    /// On their way, in the order of their text.
    pub net: Vec<(String, Message)>,
    /// Who uses an address, and until when in true time if nothing more is heard.
    pub clients: BTreeMap<Ipv4Addr, (SubscriberId, u64)>,
    pub left: Budget,
    pub bug: Option<Bug>,
    /// What went wrong.
    pub fault: Option<String>,
    /// Shards that have changed hands because a lease had ended.
    pub moved: u8,
    /// Hosts with an old disk that have heard of it.
    pub healed: u8,
    hash: [u8; 32],
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for World {}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl World {
    /// Two hosts, all registered. The first one owns the lower shard: what it loses is what the other one
    /// gives next.
    pub fn new() -> Self {
        for name in 0..64 {
            let mut world = Self::of([format!("olt-{name}"), "olt-x".to_owned()]);
            step::come_to_rest(&mut world);
            let owned = world
                .hosts
                .iter()
                .map(|host| world.centre.shards_of(&host.olt));
            let owned: Vec<Vec<ShardId>> = owned.collect();
            if owned == [vec![ShardId(1)], vec![ShardId(2)]] {
                return world;
            }
        }
        panic!("no name of the first host puts it first on the ring");
    }

    fn of(names: [String; 2]) -> Self {
        let now = 1_000_000;
        let host =
            |(number, name): (usize, String)| Host::new(number, OltId::new(name).unwrap(), now);
        let mut world = Self {
            now,
            centre: Centre::new(),
            hosts: names.into_iter().enumerate().map(host).collect(),
            net: Vec::new(),
            clients: BTreeMap::new(),
            left: Budget::default(),
            bug: None,
            fault: None,
            moved: 0,
            healed: 0,
            hash: [0; 32],
        };
        world.seal();
        world
    }

    /// Cluster time, as fast as it may run: then leases end soonest for the grantor.
    pub fn cluster_time(&self) -> ClusterTime {
        let ahead = if self.bug == Some(Bug::MovedBeforeLeaseEnd) {
            100_000
        } else {
            0
        };
        ClusterTime::from_nanos((self.now + ahead) * 1_010_000)
    }

    pub fn local(&self, host: usize) -> BootTime {
        self.hosts[host].local(self.now)
    }

    /// Runs one event of a host, makes it durable and sends what it says.
    pub fn event<T>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Edge, BootTime, &mut Effects) -> T,
    ) -> T {
        let now = self.local(host);
        let mut fx = Effects::new();
        let result = act(&mut self.hosts[host].edge, now, &mut fx);
        let bug = self.bug;
        for outgoing in self.hosts[host].carry_out(fx, bug) {
            let place = &self.hosts[host];
            self.send(Message::Command {
                host,
                process: place.process,
                session: place.edge.session().clone(),
                outgoing,
            });
        }
        result
    }

    pub fn send(&mut self, message: Message) {
        let text = format!("{message:?}");
        if let Err(at) = self.net.binary_search_by(|(known, _)| known.cmp(&text)) {
            self.net.insert(at, (text, message));
        }
    }

    pub fn table(
        &mut self,
        command: shard_table::Command,
    ) -> Result<shard_table::Applied, shard_table::Refusal> {
        let now = self.cluster_time();
        let applied = self.centre.apply(now, command)?;
        let ended = |m: &&shard_table::OwnerChange| m.reason == shard_table::MoveReason::LeaseEnded;
        let moved = applied.moves.iter().filter(ended).count();
        self.moved = self.moved.saturating_add(u8::try_from(moved).unwrap());
        Ok(applied)
    }

    /// Lets time pass, at most so many steps, and no further than `until`.
    pub fn pass(&mut self, until: u64) {
        while self.now < until && self.fault.is_none() {
            self.now = until.min(self.now + STEP);
            for host in 0..self.hosts.len() {
                if self.hosts[host].is_up() {
                    self.event(host, Edge::tick);
                }
            }
            let _ = self.table(shard_table::Command::Tick);
            let now = self.cluster_time();
            self.centre.forget_rested(now);
            self.look();
        }
    }

    pub fn wait(&mut self) {
        self.pass(self.now + STEP);
    }

    /// When the table has something to do next, a moment later, or after a step if that comes first.
    pub fn next_moment(&self) -> u64 {
        let step = self.now + STEP;
        self.centre.table.next_deadline().map_or(step, |deadline| {
            let left = deadline.since(self.cluster_time()).as_nanos() / 1_010_000 + 2;
            step.min(self.now + u64::try_from(left).unwrap())
        })
    }

    /// Lets the clients renew, and looks for what must never be.
    pub fn look(&mut self) {
        if self.fault.is_none() {
            self.fault = check::renew_clients(self).or_else(|| check::look(self));
        }
    }

    /// To be called once a step is done: names this state.
    pub fn seal(&mut self) {
        self.look();
        let mut text = blake3::Hasher::new();
        let mut add = |part: &dyn std::fmt::Debug| {
            text.update(format!("{part:?}").as_bytes());
        };
        add(&self.now);
        add(&self.centre);
        add(&self.hosts);
        for (message, _) in &self.net {
            add(message);
        }
        add(&self.clients);
        add(&self.left);
        add(&self.fault);
        add(&(self.moved, self.healed));
        self.hash = *text.finalize().as_bytes();
    }
}
