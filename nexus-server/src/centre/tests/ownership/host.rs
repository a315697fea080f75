//! One OLT host of the simulation: the real machine of the edge, its disk, the kernel's map, its clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use nexus_core::edge::{
    Action, At, Authorized, Change, Edge, Effects, LineKey, MapEntry, Note, Outgoing, Place,
    Policies, Row, RowKey, Start, UnitState, Vlans,
};
use nexus_core::id::{OltId, PoolId, Seq, SessionId, SubscriberId};
use nexus_core::resource::Resource;
use nexus_core::time::BootTime;

use super::DHCP_LEASE;
use super::clock::Clock;

pub type Rows = BTreeMap<RowKey, Row>;

pub struct Host {
    pub number: usize,
    pub olt: OltId,
    pub edge: Edge,
    pub rows: Rows,
    pub image: Option<Rows>,
    /// Effects of events that are not durable yet, and what is answered with them.
    pub queue: VecDeque<(Effects, Option<Told>)>,
    pub map: BTreeMap<Place, Served>,
    /// Since it was looked at last: the map, or anything else.
    pub map_changed: bool,
    pub changed: bool,
    pub was_seen_as: SeenAs,
    pub accepted: BTreeMap<SubscriberId, Resource>,
    pub clock: Clock,
    pub boot: u32,
    pub process: u32,
    pub lives: u32,
    pub connection: u32,
    pub server: Option<usize>,
    pub registered: bool,
    pub watching: bool,
    pub up: bool,
    pub dead: bool,
    /// Stopped until then; what comes meanwhile waits.
    pub stopped_until: u64,
    /// True time up to which what it serves is known to be in doubt, and why; see `check`.
    pub doubtful: bool,
    /// Its clock runs further apart from the centre's than leases allow for, and this process has not found that yet: since
    /// then it has had so many answers one after another.
    pub astray: Option<u32>,
    /// True time up to which what it gives may have rested for less than it should, and by how many milliseconds.
    pub rested_short: (u64, u64),
    /// Another host of its id has registered since it was last heard: what it serves without an end is in doubt.
    pub superseded: bool,
    /// It has booted from an old image and nothing on record shows that; true time up to which what it gave since the
    /// image may still run, of which neither it nor anybody else knows.
    pub unaware_until: u64,
    /// What comes to it in order.
    pub last_mail: u64,
    pub stream: u32,
    pub flying: BTreeSet<Seq>,
    pub cut_off: bool,
    /// It reaches servers of this group, in lives that have sites.
    pub site: usize,
}

/// An entry of the kernel's map.
pub struct Served {
    pub address: Ipv4Addr,
    pub end: Option<BootTime>,
    pub who: SubscriberId,
    pub acked: bool,
}

/// What somebody is told once it is durable.
pub enum Told {
    Granted(SubscriberId, Resource),
    Ended(SubscriberId),
}

pub fn subscriber(number: usize) -> SubscriberId {
    SubscriberId::new(format!("sub-{number}")).unwrap()
}

pub fn line(number: usize) -> LineKey {
    let tag = u16::try_from(number).unwrap() + 1;
    LineKey {
        interface: "eth1".to_owned(),
        at: At::Line(Vlans {
            outer: 100,
            inner: tag,
        }),
        mac: [2, 0, 0, 0, 0, u8::try_from(tag).unwrap()],
    }
}

pub fn request(number: usize, timestamp: String) -> Authorized {
    Authorized {
        subscriber: subscriber(number),
        pool: None,
        named: Vec::new(),
        without: BTreeSet::new(),
        key: line(number),
        metadata: BTreeMap::new(),
        timestamp,
        policies: Policies::default(),
    }
}

impl Host {
    pub fn new(number: usize, olt: &str, drift: i64, now: u64) -> Self {
        let olt = OltId::new(olt).unwrap();
        let mut fx = Effects::new();
        let edge = Edge::restore(
            BootTime::ZERO,
            start(number, &olt, 0, 0, false),
            [],
            &mut fx,
        );
        let mut rows = Rows::new();
        write(&mut rows, fx.changes);
        Self {
            number,
            olt,
            edge,
            rows,
            image: None,
            queue: VecDeque::new(),
            map: BTreeMap::new(),
            map_changed: false,
            changed: false,
            was_seen_as: SeenAs::default(),
            accepted: BTreeMap::new(),
            clock: Clock::new(now, 0, drift),
            boot: 0,
            process: 0,
            lives: 0,
            connection: 0,
            server: None,
            registered: false,
            watching: false,
            up: true,
            dead: false,
            stopped_until: 0,
            doubtful: false,
            astray: None,
            rested_short: (0, 0),
            superseded: false,
            unaware_until: 0,
            last_mail: 0,
            stream: 0,
            flying: BTreeSet::new(),
            cut_off: false,
            site: 0,
        }
    }

    /// What its clock shows.
    pub fn local(&self, now: u64) -> BootTime {
        self.clock.boot(now)
    }

    pub fn new_session(&mut self) -> SessionId {
        self.lives += 1;
        session(self.number, self.lives)
    }

    /// Makes everything durable and does what is to be done; gives what is to be sent, and whether records
    /// are to be read. With `early`, nothing gets to the disk.
    pub fn flush(&mut self, early: bool) -> (Vec<Outgoing>, bool) {
        let (mut sent, mut pull) = (Vec::new(), false);
        self.changed = true;
        while let Some((fx, told)) = self.queue.pop_front() {
            if !early {
                write(&mut self.rows, fx.changes);
            }
            for action in fx.actions {
                match action {
                    Action::PutBinding(entry) => self.put(entry),
                    Action::RemoveBinding(place) => self.remove(&place),
                    Action::Send(outgoing) => sent.push(outgoing),
                    Action::PullRecords => pull = true,
                    Action::Note(
                        Note::Refused {
                            subscriber,
                            ended: true,
                            ..
                        }
                        | Note::NotInRecord { subscriber, .. },
                    ) => {
                        self.accepted.remove(&subscriber);
                    }
                    Action::Note(_) => {}
                }
            }
            match told {
                Some(Told::Granted(who, resource)) => {
                    self.accepted.insert(who, resource);
                }
                Some(Told::Ended(who)) => {
                    self.accepted.remove(&who);
                }
                None => {}
            }
        }
        (sent, pull)
    }

    fn put(&mut self, entry: MapEntry) {
        let held = self.edge.bindings(None).find(|view| {
            view.row.key.as_ref() == Some(&entry.key)
                && view.resource == Resource::Ipv4(entry.address)
        });
        // A later event of the same batch may have ended it.
        if let Some(view) = held {
            let served = Served {
                address: entry.address,
                end: entry.valid_until,
                who: view.row.subscriber.clone(),
                acked: view.row.acked,
            };
            self.map.insert(entry.key.place(), served);
            self.map_changed = true;
        }
    }

    pub fn remove(&mut self, place: &Place) {
        self.map_changed |= self.map.remove(place).is_some();
    }

    /// The process starts from what is on disk.
    pub fn restart(&mut self, now: u64, reboot: bool, rolled_back: bool) {
        self.queue.clear();
        self.changed = true;
        self.map_changed = true;
        self.process += 1;
        self.connection += 1;
        self.server = None;
        self.registered = false;
        self.watching = false;
        self.flying.clear();
        self.stopped_until = 0;
        self.up = true;
        // A process that starts takes its clock to be right.
        if self.clock.is_wrong() {
            self.astray = Some(0);
        }
        if reboot {
            self.boot += 1;
            self.clock.reboot(now);
            self.map.clear();
        }
        self.lives += 1;
        let start = start(self.number, &self.olt, self.boot, self.lives, rolled_back);
        let mut fx = Effects::new();
        let rows: Vec<Row> = self.rows.values().cloned().collect();
        self.edge = Edge::restore(self.local(now), start, rows, &mut fx);
        self.map.clear();
        for entry in self.edge.map_entries().collect::<Vec<_>>() {
            self.put(entry);
        }
        self.queue.push_back((fx, None));
    }

    /// It has found that clocks run apart, and gives nothing.
    pub fn stops(&self) -> bool {
        self.edge.clocks_apart().is_some_and(|apart| apart.stops)
    }

    /// Whether an address stands in the kernel's map, and its end has not come.
    pub fn serves(&self, resource: Resource, now: u64) -> bool {
        let local = self.local(now);
        let mut served = self.map.values();
        served.any(|served| {
            Resource::Ipv4(served.address) == resource && served.end.is_none_or(|end| end > local)
        })
    }

    /// Whether a subscriber's binding is on disk.
    pub fn has_on_disk(&self, pool: &PoolId, who: &SubscriberId, resource: Resource) -> bool {
        let row = self.rows.get(&RowKey::Unit(pool.clone(), resource));
        row.is_some_and(|row| {
            matches!(row, Row::Unit(unit)
                if matches!(&unit.state, UnitState::Bound(b) if b.subscriber == *who))
        })
    }

    /// Its clock is slow and it has not found that yet, so that its rights end too late.
    pub fn overstays(&self) -> bool {
        self.astray.is_some() && self.clock.rate() < 0
    }

    /// By how many milliseconds what it gives now may have rested too short: by what a clock that is fast has gained, as long as
    /// this process has not found that.
    pub fn rests_short_by(&self, now: u64) -> u64 {
        let (until, by) = self.rested_short;
        let kept = if now <= until { by } else { 0 };
        if self.astray.is_some() {
            kept.max(self.clock.gains(DHCP_LEASE + DHCP_LEASE / 50))
        } else {
            kept
        }
    }

    /// What decides besides the map how it is looked at.
    pub fn seen_as(&self) -> SeenAs {
        SeenAs {
            hidden: self.dead || self.doubtful || self.overstays(),
            superseded: self.superseded,
        }
    }
}

/// How a host is looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SeenAs {
    /// What it serves is known to be in doubt, or it serves nobody any more.
    pub hidden: bool,
    /// What outlives its lease is.
    pub superseded: bool,
}

fn write(rows: &mut Rows, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(row) => rows.insert(row.key(), *row),
            Change::Forget(key) => rows.remove(&key),
        };
    }
}

fn session(number: usize, lives: u32) -> SessionId {
    SessionId::new(format!("session-{number}-{lives}")).unwrap()
}

fn start(number: usize, olt: &OltId, boot: u32, lives: u32, rolled_back: bool) -> Start {
    Start {
        olt: olt.clone(),
        boot_id: format!("boot-{number}-{boot}"),
        new_session: session(number, lives),
        rolled_back,
    }
}
