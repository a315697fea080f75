//! One OLT host of the model: the real machine, its disk, and the kernel's map.

use std::collections::{BTreeMap, BTreeSet};

use nexus_core::edge::{
    Action, At, Authorized, Change, Edge, Effects, LineKey, MapEntry, Note, Outgoing, Place,
    Policies, Row, RowKey, Start, Vlans,
};
use nexus_core::id::{OltId, SessionId, SubscriberId};
use nexus_core::resource::Resource;
use nexus_core::time::BootTime;

use crate::bug::Bug;

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    pub number: usize,
    pub olt: OltId,
    pub edge: Edge,
    /// What is on disk.
    pub rows: BTreeMap<RowKey, Row>,
    /// An old copy of the disk.
    pub image: Option<BTreeMap<RowKey, Row>>,
    /// The kernel's map, which outlives the process.
    pub map: BTreeMap<Place, (MapEntry, SubscriberId)>,
    /// What was answered with success and not ended since.
    pub accepted: BTreeMap<SubscriberId, Resource>,
    /// True time of the boot, in milliseconds.
    pub booted: u64,
    pub boot: u32,
    pub process: u32,
    pub lives: u32,
    /// It has to register before anything else.
    pub must_register: bool,
    pub wants_records: bool,
    /// The process does nothing, or is stopped; the kernel goes on.
    pub hung: bool,
    /// It is dead, and an operator has said so.
    pub dead: bool,
    /// Its disk is an old copy, and it has not heard so yet.
    pub stale: bool,
}

pub fn subscriber(number: usize) -> SubscriberId {
    SubscriberId::new(format!("sub-{number}")).unwrap()
}

/// The line of a subscriber on a host.
fn line(subscriber: usize) -> LineKey {
    let number = u16::try_from(subscriber).unwrap() + 1;
    LineKey {
        interface: "eth1".to_owned(),
        at: At::Line(Vlans {
            outer: 100,
            inner: number,
        }),
        mac: [2, 0, 0, 0, 0, u8::try_from(number).unwrap()],
    }
}

/// A subscriber that has proved who it is.
pub fn request(number: usize) -> Authorized {
    Authorized {
        subscriber: subscriber(number),
        pool: None,
        named: Vec::new(),
        without: BTreeSet::new(),
        key: line(number),
        metadata: BTreeMap::new(),
        timestamp: String::new(),
        policies: Policies::default(),
    }
}

impl Host {
    /// A host with an empty disk, and what it sends at its start.
    pub fn new(number: usize, olt: OltId, now: u64) -> Self {
        let mut fx = Effects::new();
        let edge = Edge::restore(BootTime::ZERO, start(&olt, 0, 0), [], &mut fx);
        let mut host = Self {
            number,
            olt,
            edge,
            rows: BTreeMap::new(),
            image: None,
            map: BTreeMap::new(),
            accepted: BTreeMap::new(),
            booted: now,
            boot: 0,
            process: 0,
            lives: 0,
            must_register: true,
            wants_records: false,
            hung: false,
            dead: false,
            stale: false,
        };
        let sent = host.carry_out(fx, None);
        assert!(sent.is_empty());
        host
    }

    /// Its clock, as slow as it may be: then its lease lasts longest.
    pub fn local(&self, now: u64) -> BootTime {
        BootTime::from_nanos((now - self.booted) * 990_000)
    }

    pub fn is_up(&self) -> bool {
        !self.dead && !self.hung
    }

    /// Makes the changes durable and does what is to be done; gives what is to be sent.
    pub fn carry_out(&mut self, fx: Effects, bug: Option<Bug>) -> Vec<Outgoing> {
        let durable = bug != Some(Bug::AnswersBeforeDurable);
        for change in fx.changes.into_iter().filter(|_| durable) {
            match change {
                Change::Put(row) => self.rows.insert(row.key(), *row),
                Change::Forget(key) => self.rows.remove(&key),
            };
        }
        let mut sent = Vec::new();
        for action in fx.actions {
            match action {
                Action::PutBinding(entry) => self.put(entry, bug),
                Action::RemoveBinding(place) => {
                    self.map.remove(&place);
                }
                Action::Send(outgoing) => sent.push(outgoing),
                Action::PullRecords => self.wants_records = true,
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
        sent
    }

    fn put(&mut self, mut entry: MapEntry, bug: Option<Bug>) {
        if bug == Some(Bug::UnackedHasNoEnd) {
            entry.valid_until = None;
        }
        let held = self.edge.bindings(None).find(|view| {
            view.row.key.as_ref() == Some(&entry.key)
                && view.resource == Resource::Ipv4(entry.address)
        });
        // A later event of the same step has ended it.
        if let Some(who) = held.map(|view| view.row.subscriber.clone()) {
            self.map.insert(entry.key.place(), (entry, who));
        }
    }

    /// The process starts from what is on disk; after a reboot the kernel's map is empty and the clock
    /// begins anew.
    pub fn restart(&mut self, now: u64, reboot: bool, bug: Option<Bug>) {
        self.process += 1;
        self.hung = false;
        self.must_register = true;
        self.wants_records = false;
        if reboot {
            self.boot += 1;
            self.booted = now;
            self.map.clear();
        }
        let mut fx = Effects::new();
        let local = self.local(now);
        let start = start(&self.olt, self.boot, self.lives);
        self.edge = Edge::restore(local, start, self.rows.values().cloned(), &mut fx);
        // The map is made equal to what the rows say.
        let entries: Vec<_> = self.edge.map_entries().collect();
        self.map.clear();
        for entry in entries {
            self.put(entry, bug);
        }
        let sent = self.carry_out(fx, None);
        assert!(sent.is_empty(), "nothing is sent before registration");
    }

    /// A session that was never used.
    pub fn new_session(&mut self) -> SessionId {
        self.lives += 1;
        session(&self.olt, self.lives)
    }
}

fn session(olt: &OltId, lives: u32) -> SessionId {
    SessionId::new(format!("{olt}-{lives}")).unwrap()
}

fn start(olt: &OltId, boot: u32, lives: u32) -> Start {
    Start {
        olt: olt.clone(),
        boot_id: format!("boot-{boot}"),
        new_session: session(olt, lives),
        rolled_back: false,
    }
}
