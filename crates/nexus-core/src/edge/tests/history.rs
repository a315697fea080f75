//! Whole histories: two hosts and a model centre under loss, duplication, reordering, drifting clocks, process
//! restarts that lose what was not durable yet, reboots, ended leases and moving shards.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::lease::{grantor_end, holder_end};
use crate::time::ClusterTime;

const LEASE: Duration = Duration::from_secs(60);
const SHARDS: u32 = 4;
/// Shards that the pool has or has not.
const MORE: u32 = 2;
/// Length of DHCP leases: a client that hears nothing goes on for so long.
const DHCP_LEASE: Duration = Duration::from_secs(100);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    subscriber: SubscriberId,
    olt: usize,
    epoch: Epoch,
    seq: Seq,
}

/// The centre: who owns which shard, who has what.
#[derive(Default)]
struct Centre {
    owner: BTreeMap<u32, (Option<usize>, u64)>,
    accepted: BTreeMap<usize, BootTime>,
    revision: [u64; 2],
    records: BTreeMap<Resource, Stored>,
    /// Released, and until when the centre remembers it.
    released: BTreeMap<Resource, (Stored, BootTime)>,
    answered: BTreeMap<(usize, Seq), Option<Refusal>>,
    acked_below: [Seq; 2],
    streams: [Option<VecDeque<Stream>>; 2],
    /// The pool has its last shards.
    grown: bool,
    /// One bit for each address of the first shard that is not to be given.
    excluded: u8,
}

#[derive(Clone, Debug)]
enum Stream {
    Record(RecordKind, Record),
    End,
}

#[derive(Clone, Debug)]
enum Request {
    Register(BootTime),
    Heartbeat(BootTime, Heartbeat),
    GetConfig,
    Command(Outgoing),
}

#[derive(Clone, Debug)]
enum Answer {
    Registered(BootTime, EdgeConfig),
    Renewed(BootTime, u64),
    Config(EdgeConfig),
    Command(Seq, Option<Refusal>),
}

#[derive(Clone, Debug)]
enum Message {
    Request(usize, u32, Request),
    Answer(usize, u32, Answer),
}

impl Centre {
    /// The last shards come at once; they go only while nobody has anything of them, not even resting.
    fn change_pool(&mut self, grown: bool) {
        let last = SHARDS..SHARDS + MORE;
        if grown && !self.grown {
            for shard in last {
                self.owner.entry(shard).or_insert((None, 0));
            }
            self.grown = true;
        } else if !grown && self.grown {
            let used = |resource: &Resource| last.contains(&shard_of(*resource));
            let owned = last.clone().any(|shard| self.owner[&shard].0.is_some());
            if owned || self.records.keys().any(used) || self.released.keys().any(used) {
                return;
            }
            self.grown = false;
        }
    }

    fn shards(&self) -> u32 {
        SHARDS + if self.grown { MORE } else { 0 }
    }
}

/// One host: the process, its disk, the kernel's map.
struct Host {
    edge: Edge,
    rows: BTreeMap<RowKey, Row>,
    /// Effects in the order of events; durable only once they are taken out.
    queue: VecDeque<(Effects, Option<Event>)>,
    map: BTreeMap<Place, (MapEntry, SubscriberId)>,
    process: u32,
    boot: u32,
    booted: u64,
    drift_per_mille: i64,
    /// What was answered with success and not ended since.
    accepted: BTreeMap<SubscriberId, (Resource, LineKey)>,
    wants_records: bool,
}

impl Host {
    /// An event that is not durable yet removes the entry of this place.
    fn is_leaving(&self, place: &Place) -> bool {
        let removes = |action: &Action| matches!(action, Action::RemoveBinding(p) if p == place);
        self.queue
            .iter()
            .any(|(fx, _)| fx.actions.iter().any(removes))
    }
}

impl Host {
    /// On disk as in the machine: one binding on a place, and one address of a pool for a subscriber.
    fn check_places(&self) {
        let on_disk = self.rows.values().filter_map(|row| match row {
            Row::Unit(UnitRow {
                pool,
                state: UnitState::Bound(binding),
                ..
            }) => Some((pool, binding)),
            _ => None,
        });
        let held = self.edge.bindings(None).map(|view| (view.pool, view.row));
        check_apart(on_disk);
        check_apart(held);
    }
}

impl Host {
    /// Nothing ends before the machine looks for it.
    fn check_ends(&self) {
        let open = |view: &BindingView<'_>| !view.row.acked && !view.suspended;
        let ends = self.edge.bindings(None).filter(open);
        let first = ends.filter_map(|view| view.valid_until).min();
        assert!(first.is_none_or(|end| self.edge.next_end <= end));
    }
}

fn check_apart<'a>(bindings: impl Iterator<Item = (&'a PoolId, &'a BindingRow)>) {
    let (mut places, mut holders) = (BTreeSet::new(), BTreeSet::new());
    for (pool, row) in bindings {
        let holder = (pool, &row.subscriber);
        assert!(holders.insert(holder), "two bindings of {holder:?}");
        if let Some(key) = &row.key {
            assert!(places.insert(key.place()), "two bindings on {key}");
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Granted(SubscriberId, Resource, LineKey),
    Ended(SubscriberId),
}

#[derive(Clone, Debug)]
enum Op {
    Authorize(usize, u32, u16, u8),
    End(usize, u32),
    Decline(usize, u32),
    Flush(usize, usize),
    Tick(usize),
    /// The clients of some subscribers (one bit each) are there, those of the others are silent.
    Seen(usize, u8),
    Register(usize),
    Heartbeat(usize),
    GetConfig(usize),
    OpenStream(usize),
    ReadStream(usize, usize),
    Deliver(usize),
    Drop(usize),
    Duplicate(usize),
    Restart(usize),
    Reboot(usize),
    Move(u32, usize),
    OperatorRelease(usize),
    Wait(u64),
    /// Everything between this host and the centre gets through once.
    Sync(usize),
    /// Heartbeat and configuration get through, and nothing else.
    Renew(usize),
    /// The pool grows by two shards or shrinks back, and addresses are excluded or not.
    ChangePool(bool, u8),
    /// This host is cut off until its lease has ended; the other one gets its shards.
    Lapse(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let host = 0..2_usize;
    prop_oneof![
        12 => (host.clone(), 0..6_u32, 0..10_u16, 0..18_u8).prop_map(|(h, s, l, p)| Op::Authorize(h, s, l, p)),
        3 => (host.clone(), 0..6_u32).prop_map(|(h, s)| Op::End(h, s)),
        1 => (host.clone(), 0..6_u32).prop_map(|(h, s)| Op::Decline(h, s)),
        14 => (host.clone(), 1..6_usize).prop_map(|(h, n)| Op::Flush(h, n)),
        4 => host.clone().prop_map(Op::Tick),
        4 => (host.clone(), any::<u8>()).prop_map(|(h, there)| Op::Seen(h, there)),
        3 => host.clone().prop_map(Op::Register),
        8 => host.clone().prop_map(Op::Heartbeat),
        4 => host.clone().prop_map(Op::GetConfig),
        3 => host.clone().prop_map(Op::OpenStream),
        8 => (host.clone(), 1..20_usize).prop_map(|(h, n)| Op::ReadStream(h, n)),
        30 => (0..64_usize).prop_map(Op::Deliver),
        3 => (0..64_usize).prop_map(Op::Drop),
        3 => (0..64_usize).prop_map(Op::Duplicate),
        2 => host.clone().prop_map(Op::Restart),
        1 => host.clone().prop_map(Op::Reboot),
        6 => (0..SHARDS + MORE, host.clone()).prop_map(|(s, h)| Op::Move(s, h)),
        5 => host.clone().prop_map(Op::Sync),
        4 => host.clone().prop_map(Op::Renew),
        2 => host.prop_map(Op::Lapse),
        1 => (any::<bool>(), 0..64_u8).prop_map(|(grown, excluded)| Op::ChangePool(grown, excluded)),
        1 => (0..16_usize).prop_map(Op::OperatorRelease),
        6 => (1..15_u64).prop_map(Op::Wait),
        3 => (15..75_u64).prop_map(Op::Wait),
    ]
}

struct World {
    /// True time, milliseconds.
    now: u64,
    centre: Centre,
    hosts: [Host; 2],
    net: Vec<Message>,
    /// Who uses an address, and until when in true time if nothing more is heard.
    clients: BTreeMap<std::net::Ipv4Addr, (SubscriberId, u64)>,
}

fn host_start(host: usize, boot: u32) -> Start {
    Start {
        olt: OltId::new(format!("olt-{host}")).unwrap(),
        boot_id: format!("boot-{boot}"),
        new_session: SessionId::new(format!("session-{host}")).unwrap(),
        rolled_back: false,
    }
}

fn clock(millis: u64, drift_per_mille: i64) -> BootTime {
    let scaled = i128::from(millis) * i128::from(1000 + drift_per_mille) / 1000;
    BootTime::ZERO + Duration::from_millis(u64::try_from(scaled).unwrap())
}

impl World {
    fn new(drifts: [i64; 2]) -> Self {
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

    fn local(&self, host: usize) -> BootTime {
        let host = &self.hosts[host];
        clock(self.now - host.booted, host.drift_per_mille)
    }

    fn centre_now(&self) -> BootTime {
        clock(self.now, 0)
    }

    fn config_of(&self, host: usize) -> EdgeConfig {
        let shards: Vec<_> = self
            .centre
            .owner
            .iter()
            .filter(|(shard, (owner, _))| *owner == Some(host) && **shard < self.centre.shards())
            .map(|(shard, (_, epoch))| (*shard, *epoch))
            .collect();
        let mut spec = spec();
        if self.centre.grown {
            spec.cidr = Some("10.0.0.0/25".to_owned());
        }
        let excluded = (0..6).filter(|n| self.centre.excluded >> n & 1 == 1);
        spec.exclusions = excluded.map(|n| format!("10.0.0.{}", n + 2)).collect();
        spec.cool_down = crate::duration::HumanDuration::from_secs(20);
        spec.dhcp.lease_time = crate::duration::HumanDuration::from_secs(DHCP_LEASE.as_secs());
        spec.dhcp.idle_release = Some(spec.dhcp.lease_time);
        let mut config = config(self.centre.revision[host], &shards);
        config.pools[0].spec = spec;
        config
    }

    /// Runs one event of a host; what it led to waits for the disk.
    fn event<T>(
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

    fn mark(&mut self, host: usize, event: Event) {
        if let Some((_, mark)) = self.hosts[host].queue.back_mut() {
            *mark = Some(event);
        }
    }

    /// Makes the effects of `count` events durable, one after the other, and does what they ask for.
    fn flush(&mut self, host: usize, count: usize) {
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

    fn act(&mut self, host: usize, process: u32, action: Action) {
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

    fn restart(&mut self, host: usize, reboot: bool) {
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

    fn deliver(&mut self, message: Message) {
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

    fn serve(&mut self, host: usize, request: Request) -> Answer {
        let now = self.centre_now();
        match request {
            Request::Register(sent) => {
                self.centre.accepted.insert(host, now);
                Answer::Registered(sent, self.config_of(host))
            }
            Request::Heartbeat(sent, heartbeat) => {
                for released in heartbeat.released {
                    if let Some(owned) = self.centre.owner.get_mut(&released.shard.0)
                        && *owned == (Some(host), released.epoch.0)
                    {
                        owned.0 = None;
                        self.centre.revision[host] += 1;
                    }
                }
                self.centre.accepted.insert(host, now);
                Answer::Renewed(sent, self.centre.revision[host])
            }
            Request::GetConfig => Answer::Config(self.config_of(host)),
            Request::Command(outgoing) => {
                let seq = outgoing.seq;
                Answer::Command(seq, self.command(host, outgoing))
            }
        }
    }

    fn command(&mut self, host: usize, outgoing: Outgoing) -> Option<Refusal> {
        let Outgoing {
            seq,
            acked_below,
            command,
        } = outgoing;
        if let Some(answer) = self.centre.answered.get(&(host, seq)) {
            // The answer to a command is the same however often it comes, but not what it does.
            if seq >= self.centre.acked_below[host] {
                return *answer;
            }
        }
        if seq < self.centre.acked_below[host] {
            // Only a stray copy can come so late, and nobody waits for its answer.
            assert!(
                self.centre.answered.contains_key(&(host, seq)),
                "{seq} counts as acknowledged and never was"
            );
            return Some(Refusal::Stale);
        }
        let below = &mut self.centre.acked_below[host];
        *below = (*below).max(acked_below);
        let answer = match command.what {
            What::Allocate { .. } => {
                let owned = self.centre.owner[&command.shard.0] == (Some(host), command.epoch.0);
                match self.centre.records.get(&command.resource) {
                    _ if !owned => Some(Refusal::Stale),
                    Some(record)
                        if record.subscriber != command.subscriber
                            || record.olt != host
                            || record.seq > seq =>
                    {
                        panic!("{seq} of host {host} allocates what is taken: {record:?}");
                    }
                    _ => {
                        let stored = Stored {
                            subscriber: command.subscriber,
                            olt: host,
                            epoch: command.epoch,
                            seq,
                        };
                        self.centre.released.remove(&command.resource);
                        self.tell(RecordKind::Put, command.resource, &stored);
                        self.centre.records.insert(command.resource, stored);
                        None
                    }
                }
            }
            What::Deallocate { .. } => {
                if let Some(record) = self.centre.records.get(&command.resource).cloned()
                    && record.subscriber == command.subscriber
                    && record.olt == host
                    && record.seq < seq
                {
                    self.centre.records.remove(&command.resource);
                    self.tell(RecordKind::Released, command.resource, &record);
                    let until = self.centre_now() + DHCP_LEASE + DHCP_LEASE / 50;
                    self.centre
                        .released
                        .insert(command.resource, (record, until));
                }
                None
            }
        };
        self.centre.answered.insert((host, seq), answer);
        answer
    }

    fn tell(&mut self, kind: RecordKind, resource: Resource, stored: &Stored) {
        for host in 0..2 {
            if self.concerns(host, resource, stored)
                && let Some(stream) = &mut self.centre.streams[host]
            {
                stream.push_back(Stream::Record(kind, as_record(resource, stored)));
            }
        }
    }

    fn concerns(&self, host: usize, resource: Resource, stored: &Stored) -> bool {
        let shard = shard_of(resource);
        stored.olt == host || self.centre.owner[&shard].0 == Some(host)
    }

    fn open_stream(&mut self, host: usize) {
        self.hosts[host].wants_records = false;
        self.hosts[host].edge.snapshot_begin();
        let mut stream: VecDeque<_> = self
            .centre
            .records
            .iter()
            .filter(|(resource, stored)| self.concerns(host, **resource, stored))
            .map(|(resource, stored)| Stream::Record(RecordKind::Put, as_record(*resource, stored)))
            .collect();
        let now = self.centre_now();
        self.centre.released.retain(|_, (_, until)| now < *until);
        for (resource, (stored, _)) in &self.centre.released {
            if self.concerns(host, *resource, stored) {
                let record = as_record(*resource, stored);
                stream.push_back(Stream::Record(RecordKind::Released, record));
            }
        }
        stream.push_back(Stream::End);
        self.centre.streams[host] = Some(stream);
    }

    fn read_stream(&mut self, host: usize, count: usize) {
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

    fn run(&mut self, op: Op) {
        match op {
            Op::Authorize(host, sub, on, policies) => {
                let request = Authorized {
                    policies: any_policies(policies),
                    ..request(sub, on)
                };
                let granted = self.event(host, |edge, now, fx| {
                    authorize_or_nothing(edge, now, &request, fx)
                });
                if let Ok(granted) = granted {
                    let event = Event::Granted(subscriber(sub), granted.resource, line(on));
                    self.mark(host, event);
                }
            }
            Op::End(host, sub) => {
                let ended = self.event(host, |edge, now, fx| {
                    edge.end_session(now, &subscriber(sub), "session-stop", fx)
                });
                if ended {
                    self.mark(host, Event::Ended(subscriber(sub)));
                }
            }
            Op::Decline(host, sub) => {
                let who = subscriber(sub);
                let Some((resource, key)) = self.hosts[host].accepted.get(&who).cloned() else {
                    return;
                };
                let declined = self.event(host, |edge, now, fx| {
                    edge.dhcp_decline(now, &key.place(), resource, String::new(), fx)
                });
                match declined {
                    Some(Ok(granted)) => {
                        // The line may have another subscriber on it since.
                        let on = self.hosts[host]
                            .edge
                            .bindings(None)
                            .find(|b| b.resource == granted.resource)
                            .map(|b| (b.row.subscriber.clone(), b.row.key.clone()));
                        if let Some((on, Some(key))) = on {
                            self.mark(host, Event::Granted(on, granted.resource, key));
                        }
                    }
                    Some(Err(_)) => {
                        self.mark(host, Event::Ended(who));
                    }
                    None => {}
                }
            }
            Op::Flush(host, count) => self.flush(host, count),
            Op::Tick(host) => self.event(host, |edge, now, fx| edge.tick(now, fx)),
            Op::Seen(host, there) => {
                let is_there = |who: &SubscriberId| {
                    (0..6_u32).any(|n| there >> n & 1 == 1 && *who == subscriber(n))
                };
                let seen = self.hosts[host].map.iter();
                let seen = seen.filter(|(_, (_, who))| is_there(who));
                let places: Vec<_> = seen.map(|(place, _)| place.clone()).collect();
                self.event(host, |edge, now, _| {
                    places.iter().for_each(|place| edge.seen(place, now));
                    edge.seen_all(now);
                });
            }
            Op::Register(host) => {
                // One registration at a time: an earlier answer is not waited for any more.
                let keep = |message: &Message| {
                    !matches!(message, Message::Request(h, _, Request::Register(_))
                        | Message::Answer(h, _, Answer::Registered(..)) if *h == host)
                };
                self.net.retain(keep);
                let request = Request::Register(self.local(host));
                let process = self.hosts[host].process;
                self.net.push(Message::Request(host, process, request));
            }
            Op::Heartbeat(host) => {
                // What a heartbeat says must be durable: it goes the way of all effects.
                let pending = self.hosts[host].queue.len();
                self.flush(host, pending);
                let report = self.hosts[host].edge.heartbeat(self.local(host));
                let request = Request::Heartbeat(self.local(host), report);
                let process = self.hosts[host].process;
                self.net.push(Message::Request(host, process, request));
            }
            Op::GetConfig(host) => {
                let process = self.hosts[host].process;
                self.net
                    .push(Message::Request(host, process, Request::GetConfig));
            }
            Op::OpenStream(host) => self.open_stream(host),
            Op::ReadStream(host, count) => self.read_stream(host, count),
            Op::Deliver(index) if !self.net.is_empty() => {
                let message = self.net.remove(index % self.net.len());
                self.deliver(message);
            }
            Op::Drop(index) if !self.net.is_empty() => {
                let message = self.net.remove(index % self.net.len());
                let (Message::Request(host, process, Request::Command(Outgoing { seq, .. }))
                | Message::Answer(host, process, Answer::Command(seq, _))) = message
                else {
                    return;
                };
                if process == self.hosts[host].process {
                    self.event(host, |edge, now, _| edge.lost(now, seq));
                }
            }
            Op::Duplicate(index) if !self.net.is_empty() => {
                let message = self.net[index % self.net.len()].clone();
                if !matches!(
                    message,
                    Message::Request(_, _, Request::Register(_))
                        | Message::Answer(_, _, Answer::Registered(..))
                ) {
                    self.net.push(message);
                }
            }
            Op::Deliver(_) | Op::Drop(_) | Op::Duplicate(_) => {}
            Op::Restart(host) => self.restart(host, false),
            Op::Reboot(host) => self.restart(host, true),
            Op::Move(shard, to) => self.move_shard(shard, to),
            Op::OperatorRelease(index) => {
                let found = self
                    .centre
                    .records
                    .iter()
                    .nth(index)
                    .map(|(resource, stored)| (*resource, stored.clone()));
                if let Some((resource, stored)) = found {
                    self.tell(RecordKind::ReleaseRequested, resource, &stored);
                }
            }
            Op::Wait(secs) => self.now += secs * 1000,
            Op::Sync(host) => self.sync(host),
            Op::Renew(host) => self.renew(host),
            Op::ChangePool(grown, excluded) => {
                self.centre.change_pool(grown);
                self.centre.excluded = excluded;
                for revision in &mut self.centre.revision {
                    *revision += 1;
                }
            }
            Op::Lapse(host) => {
                let other = 1 - host;
                self.now += 50_000;
                self.renew(other);
                self.now += 16_000;
                for shard in 0..self.centre.shards() {
                    if self.centre.owner[&shard].0 == Some(host) {
                        self.move_shard(shard, other);
                    }
                }
                self.sync(other);
            }
        }
        for host in 0..2 {
            self.note_ended_by_the_centre(host);
        }
        self.check();
        self.renew_clients();
    }

    /// The centre, an hour without a line, or silence ends a binding without an answer to anybody.
    fn note_ended_by_the_centre(&mut self, host: usize) {
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

    /// A shard without an owner, or whose owner's lease has surely ended, gets another.
    fn move_shard(&mut self, shard: u32, to: usize) {
        let now = self.centre_now();
        if shard >= self.centre.shards() {
            return;
        }
        let (owner, epoch) = self.centre.owner[&shard];
        if owner == Some(to) {
            return;
        }
        if let Some(owner) = owner {
            let ended = self
                .centre
                .accepted
                .get(&owner)
                .is_none_or(|accepted| given_away_from(*accepted) <= now);
            if !ended {
                return;
            }
            self.centre.revision[owner] += 1;
        }
        self.centre.owner.insert(shard, (Some(to), epoch + 1));
        self.centre.revision[to] += 1;
    }

    /// Every client renews whenever it can and otherwise goes on as long as its DHCP lease lasts.
    fn renew_clients(&mut self) {
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

    fn check(&self) {
        let mut holders: BTreeMap<std::net::Ipv4Addr, &SubscriberId> = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let now = self.local(index);
            for (entry, who) in host.map.values() {
                if entry.valid_until.is_some_and(|end| end <= now) {
                    continue;
                }
                if let Some(other) = holders.insert(entry.address, who) {
                    assert_eq!(other, who, "two subscribers on {}", entry.address);
                }
            }
            host.check_places();
            host.check_ends();
            self.check_accepted(index, now);
        }
    }

    /// Whatever was answered with success is on disk, and in the map as long as it may be.
    fn check_accepted(&self, index: usize, now: BootTime) {
        let host = &self.hosts[index];
        for (who, (resource, key)) in &host.accepted {
            let row = host.rows.get(&RowKey::Unit(pool_id(), *resource));
            let Some(Row::Unit(UnitRow {
                state: UnitState::Bound(binding),
                ..
            })) = row
            else {
                panic!("the accepted binding of {who} to {resource} is not on disk: {row:?}");
            };
            assert_eq!(binding.subscriber, *who);
            if binding.key.as_ref() != Some(key) || host.is_leaving(&key.place()) {
                continue;
            }
            let entry = host.map.get(&key.place());
            if binding.acked {
                let entry = entry.unwrap_or_else(|| panic!("{who} has lost {resource}"));
                assert_eq!((entry.0.valid_until, &entry.1), (None, who));
                assert_eq!(entry.0.key, *key, "the MAC that is allowed");
            } else if let Some((entry, _)) = entry {
                assert!(
                    entry
                        .valid_until
                        .is_some_and(|end| end <= now + UNACKED_STEP)
                );
            }
        }
    }

    /// Everything gets through: what was accepted is on record, and the edge can go on.
    fn heal(&mut self) {
        for _ in 0..12 {
            for host in 0..2 {
                let pending = self.hosts[host].queue.len();
                self.flush(host, pending);
                self.run(Op::Heartbeat(host));
                self.run(Op::GetConfig(host));
            }
            self.drain();
            for host in 0..2 {
                if self.hosts[host].wants_records || self.centre.streams[host].is_none() {
                    self.run(Op::OpenStream(host));
                }
                self.run(Op::ReadStream(host, usize::MAX));
                self.run(Op::Tick(host));
            }
            self.drain();
            self.run(Op::Wait(3));
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let view = host.edge.view(self.local(index));
            assert_eq!(view.pending, 0, "host {index} still waits for the centre");
            assert_eq!((view.unacked, view.suspended), (0, 0), "host {index}");
            for (who, (resource, _)) in &host.accepted {
                let record = self.centre.records.get(resource);
                assert_eq!(
                    record.map(|r| &r.subscriber),
                    Some(who),
                    "{resource} on record"
                );
            }
            for (resource, record) in &self.centre.records {
                let held = |b: BindingView<'_>| {
                    b.resource == *resource && b.row.subscriber == record.subscriber
                };
                assert!(
                    record.olt != index || host.edge.bindings(None).any(held),
                    "{resource} is on record for a binding that is gone"
                );
            }
            assert!(view.lease_until.is_some());
            assert!(view.shards.iter().all(|shard| shard.synced));
        }
    }

    fn renew(&mut self, host: usize) {
        let before = std::mem::take(&mut self.net);
        let stays = |message: &Message| {
            matches!(
                message,
                Message::Request(_, _, Request::Command(_))
                    | Message::Answer(_, _, Answer::Command(..))
            )
        };
        for op in [Op::Heartbeat(host), Op::GetConfig(host)] {
            self.run(op);
        }
        let mut kept = Vec::new();
        while let Some(message) = self.net.pop() {
            if stays(&message) {
                kept.push(message);
            } else {
                self.deliver(message);
            }
        }
        self.net = before;
        self.net.extend(kept);
    }

    /// One undisturbed exchange; what was in the network before stays there.
    fn sync(&mut self, host: usize) {
        let before = std::mem::take(&mut self.net);
        for op in [Op::Heartbeat(host), Op::GetConfig(host)] {
            self.run(op);
        }
        self.drain();
        if self.hosts[host].wants_records || self.centre.streams[host].is_none() {
            self.run(Op::OpenStream(host));
        }
        self.run(Op::ReadStream(host, usize::MAX));
        self.drain();
        self.net = before;
    }

    fn drain(&mut self) {
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

/// Half of them let everything be taken over; the others are all there are.
fn any_policies(number: u8) -> Policies {
    let policy = |number: u8| match number % 3 {
        0 => Policy::TakeOver,
        1 => Policy::Refuse,
        _ => Policy::Quarantine,
    };
    let number = number.saturating_sub(9);
    Policies {
        subscriber_moves: policy(number),
        mac_changes: policy(number / 3),
        quarantine: Duration::from_secs(30),
    }
}

/// Who is refused by a policy changes nothing for anybody.
fn authorize_or_nothing(
    edge: &mut Edge,
    now: BootTime,
    request: &Authorized,
    fx: &mut Effects,
) -> Result<Granted, Denied> {
    let bindings = |edge: &Edge| -> Vec<_> {
        let row = |view: BindingView<'_>| (view.pool.clone(), view.resource, view.row.clone());
        edge.bindings(None).map(row).collect()
    };
    let before = bindings(edge);
    let granted = edge.authorize(now, request, fx);
    if matches!(granted, Err(Denied::Conflict(_) | Denied::KeptAway(_))) {
        assert_eq!(bindings(edge), before);
    }
    granted.map(|grants| grants.ipv4)
}

fn shard_of(resource: Resource) -> u32 {
    let Resource::Ipv4(address) = resource else {
        panic!("an address");
    };
    u32::from(address.octets()[3]) / 16
}

fn as_record(resource: Resource, stored: &Stored) -> Record {
    Record {
        pool: pool_id(),
        resource,
        subscriber: stored.subscriber.clone(),
        olt: OltId::new(format!("olt-{}", stored.olt)).unwrap(),
        epoch: stored.epoch,
        seq: stored.seq,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn no_history_gives_one_address_to_two_subscribers_or_loses_an_accepted_binding(
        drifts in [-9_i64..10, -9_i64..10],
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut world = World::new(drifts);
        for host in 0..2 {
            world.run(Op::Register(host));
        }
        for op in ops {
            world.run(op);
        }
        world.heal();
    }
}

#[test]
fn the_model_centre_counts_leases_as_the_rules_say() {
    let sent = BootTime::ZERO;
    assert!(holder_end(sent, LEASE) < given_away_from(sent));
}

/// The model centre counts cluster time on a clock of its own from the start.
fn given_away_from(accepted: BootTime) -> BootTime {
    BootTime(grantor_end(ClusterTime(accepted.0), LEASE).0)
}
