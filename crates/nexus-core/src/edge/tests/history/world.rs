//! Two hosts, each a process with a disk and a kernel's map, the network between them and the centre, and the clients.

use super::*;

/// One host: the process, its disk, the kernel's map.
pub(super) struct Host {
    pub(super) edge: Edge,
    pub(super) rows: BTreeMap<RowKey, Row>,
    /// Effects in the order of events; durable only once they are taken out.
    pub(super) queue: VecDeque<(Effects, Option<Event>)>,
    pub(super) map: BTreeMap<Place, (MapEntry, SubscriberId)>,
    pub(super) process: u32,
    pub(super) boot: u32,
    pub(super) booted: u64,
    pub(super) drift_per_mille: i64,
    /// What was answered with success and not ended since.
    pub(super) accepted: BTreeMap<SubscriberId, (Resource, LineKey)>,
    pub(super) wants_records: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Granted(SubscriberId, Resource, LineKey),
    Ended(SubscriberId),
}

pub(super) struct World {
    /// True time, milliseconds.
    pub(super) now: u64,
    pub(super) centre: Centre,
    pub(super) hosts: [Host; 2],
    pub(super) net: Vec<Message>,
    /// Who uses an address, and until when in true time if nothing more is heard.
    pub(super) clients: BTreeMap<std::net::Ipv4Addr, (SubscriberId, u64)>,
}

pub(super) fn host_start(host: usize, boot: u32) -> Start {
    Start {
        olt: OltId::new(format!("olt-{host}")).unwrap(),
        boot_id: format!("boot-{boot}"),
        new_session: SessionId::new(format!("session-{host}")).unwrap(),
        rolled_back: false,
    }
}

pub(super) fn clock(millis: u64, drift_per_mille: i64) -> BootTime {
    let scaled = i128::from(millis) * i128::from(1000 + drift_per_mille) / 1000;
    BootTime::ZERO + Duration::from_millis(u64::try_from(scaled).unwrap())
}

impl World {
    pub(super) fn new(drifts: [i64; 2]) -> Self {
        let host = |index: usize| {
            let mut fx = Effects::new();
            let edge = Edge::restore(BootTime::ZERO, host_start(index, 0), [], &mut fx);
            let mut rows = BTreeMap::new();
            apply(&mut rows, fx.changes);
            Host {
                edge,
                rows,
                queue: VecDeque::new(),
                map: BTreeMap::new(),
                process: 0,
                boot: 0,
                booted: 0,
                drift_per_mille: drifts[index],
                accepted: BTreeMap::new(),
                wants_records: false,
            }
        };
        let mut centre = Centre::default();
        for shard in 0..SHARDS {
            // One shard each to begin with.
            let owner = (shard < 2).then_some(shard as usize);
            centre
                .owner
                .insert(shard, (owner, u64::from(owner.is_some())));
        }
        centre.revision = [1, 1];
        Self {
            now: 1000,
            centre,
            hosts: [host(0), host(1)],
            net: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    pub(super) fn local(&self, host: usize) -> BootTime {
        let host = &self.hosts[host];
        clock(self.now - host.booted, host.drift_per_mille)
    }

    pub(super) fn centre_now(&self) -> BootTime {
        clock(self.now, 0)
    }

    /// Runs one event of a host; what it led to waits for the disk.
    pub(super) fn event<T>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Edge, BootTime, &mut Effects) -> T,
    ) -> T {
        let now = self.local(host);
        let mut fx = Effects::new();
        let host = &mut self.hosts[host];
        let result = act(&mut host.edge, now, &mut fx);
        for action in &fx.actions {
            if let Action::RemoveBinding(place) = action {
                host.map.remove(place);
            }
        }
        host.queue.push_back((fx, None));
        result
    }

    pub(super) fn mark(&mut self, host: usize, event: Event) {
        if let Some((_, mark)) = self.hosts[host].queue.back_mut() {
            *mark = Some(event);
        }
    }

    /// Makes the effects of `count` events durable, one after the other, and does what they ask for.
    pub(super) fn flush(&mut self, host: usize, count: usize) {
        for _ in 0..count {
            let Some((fx, event)) = self.hosts[host].queue.pop_front() else {
                return;
            };
            let process = self.hosts[host].process;
            apply(&mut self.hosts[host].rows, fx.changes);
            for action in fx.actions {
                self.act(host, process, action);
            }
            match event {
                Some(Event::Granted(who, resource, key)) => {
                    let accepted = &mut self.hosts[host].accepted;
                    // The place is the subscriber's alone from now on.
                    accepted.retain(|_, (_, other)| other.place() != key.place());
                    accepted.insert(who, (resource, key));
                }
                Some(Event::Ended(who)) => {
                    self.hosts[host].accepted.remove(&who);
                }
                None => {}
            }
        }
    }

    pub(super) fn act(&mut self, host: usize, process: u32, action: Action) {
        let place = &mut self.hosts[host];
        match action {
            Action::PutBinding(entry) => {
                let (who, acked) = place
                    .rows
                    .values()
                    .find_map(|row| match row {
                        Row::Unit(UnitRow {
                            state: UnitState::Bound(binding),
                            ..
                        }) if binding.key.as_ref() == Some(&entry.key) => {
                            Some((binding.subscriber.clone(), binding.acked))
                        }
                        _ => None,
                    })
                    .expect("an entry of the map has a durable row");
                let Some(Row::Edge(edge)) = place.rows.get(&RowKey::Edge) else {
                    panic!("the edge's own row is durable");
                };
                match entry.valid_until {
                    Some(end) => assert!(end <= edge.lease.expect("a lease").until),
                    None => assert!(acked, "unacknowledged without an end"),
                }
                // What is decided together is done together: an entry that ends is not seen in between.
                if !place.is_leaving(&entry.key.place()) {
                    place.map.insert(entry.key.place(), (entry, who));
                }
            }
            Action::RemoveBinding(at) => {
                place.map.remove(&at);
            }
            Action::Send(outgoing) => {
                let request = Request::Command(outgoing);
                self.net.push(Message::Request(host, process, request));
            }
            Action::PullRecords => place.wants_records = true,
            Action::Note(Note::Refused {
                subscriber,
                ended: true,
                ..
            })
            | Action::Note(Note::NotInRecord { subscriber, .. }) => {
                place.accepted.remove(&subscriber);
            }
            Action::Note(_) => {}
        }
    }

    pub(super) fn restart(&mut self, host: usize, reboot: bool) {
        let now = self.now;
        let place = &mut self.hosts[host];
        place.queue.clear();
        place.process += 1;
        place.wants_records = false;
        if reboot {
            place.boot += 1;
            place.booted = now;
            place.map.clear();
        }
        self.centre.streams[host] = None;
        let local = self.local(host);
        let place = &mut self.hosts[host];
        let mut fx = Effects::new();
        place.edge = Edge::restore(
            local,
            host_start(host, place.boot),
            place.rows.values().cloned(),
            &mut fx,
        );
        apply(&mut place.rows, fx.changes);
        let process = place.process;
        // The map is made equal to what the rows say.
        let entries: Vec<_> = place.edge.map_entries().collect();
        let places: BTreeSet<_> = entries.iter().map(|entry| entry.key.place()).collect();
        place.map.retain(|place, _| places.contains(place));
        for entry in entries {
            self.act(host, process, Action::PutBinding(entry));
        }
        for action in fx.actions {
            self.act(host, process, action);
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Request(host, process, request) => {
                let answer = self.serve(host, request);
                self.net.push(Message::Answer(host, process, answer));
            }
            Message::Answer(host, process, answer) => {
                // An answer to a process that is gone reaches nobody.
                if process != self.hosts[host].process {
                    return;
                }
                self.event(host, |edge, now, fx| match answer {
                    Answer::Registered(sent, config) => {
                        edge.registered(now, sent, LEASE, config, fx);
                    }
                    Answer::Renewed(sent, revision) => {
                        edge.renewed(now, sent, LEASE, revision, fx);
                    }
                    Answer::Config(config) => edge.configure(now, config, fx),
                    Answer::Command(seq, None) => edge.acked(now, seq, fx),
                    Answer::Command(seq, Some(refusal)) => {
                        edge.refused(now, seq, refusal, "refused", fx);
                    }
                });
            }
        }
    }

    pub(super) fn read_stream(&mut self, host: usize, count: usize) {
        for _ in 0..count {
            let Some(message) = self.centre.streams[host]
                .as_mut()
                .and_then(VecDeque::pop_front)
            else {
                return;
            };
            self.event(host, |edge, now, fx| match message {
                Stream::Record(kind, record) => edge.record(now, kind, &record, fx),
                Stream::End => edge.snapshot_end(now, fx),
            });
        }
    }

    /// The centre, an hour without a line, or silence ends a binding without an answer to anybody.
    pub(super) fn note_ended_by_the_centre(&mut self, host: usize) {
        let place = &mut self.hosts[host];
        let released: Vec<_> = place
            .rows
            .values()
            .filter_map(|row| match row {
                Row::Command(CommandRow {
                    command:
                        Command {
                            what: What::Deallocate { reason },
                            subscriber,
                            resource,
                            ..
                        },
                    ..
                }) if ["operator", "line-taken-over", "idle"].contains(&reason.as_str()) => {
                    Some((subscriber.clone(), *resource))
                }
                _ => None,
            })
            .collect();
        for (subscriber, resource) in released {
            let again = place.rows.values().any(|row| {
                matches!(row, Row::Unit(UnitRow { resource: held, state: UnitState::Bound(b), .. })
                    if *held == resource && b.subscriber == subscriber)
            });
            if !again && place.accepted.get(&subscriber).map(|a| a.0) == Some(resource) {
                place.accepted.remove(&subscriber);
            }
        }
    }

    /// Every client renews whenever it can and otherwise goes on as long as its DHCP lease lasts.
    pub(super) fn renew_clients(&mut self) {
        for index in 0..2 {
            let now = self.local(index);
            for (entry, who) in self.hosts[index].map.values() {
                let left = entry.valid_until.map_or(DHCP_LEASE, |end| end.since(now));
                // Whole seconds, as they stand in the packet.
                let lease = left.min(DHCP_LEASE).as_secs() * 1000;
                if lease == 0 {
                    continue;
                }
                let client = (who.clone(), self.now + lease);
                if let Some((other, until)) = self.clients.insert(entry.address, client) {
                    let over = until <= self.now || other == *who;
                    assert!(over, "{} is still used by {other}", entry.address);
                }
            }
        }
    }

    pub(super) fn drain(&mut self) {
        for _ in 0..10_000 {
            for host in 0..2 {
                let pending = self.hosts[host].queue.len();
                self.flush(host, pending);
            }
            if self.net.is_empty() {
                return;
            }
            self.run(Op::Deliver(0));
        }
        panic!("the network does not come to rest");
    }
}

pub(super) fn shard_of(resource: Resource) -> u32 {
    let Resource::Ipv4(address) = resource else {
        panic!("an address");
    };
    u32::from(address.octets()[3]) / 16
}
