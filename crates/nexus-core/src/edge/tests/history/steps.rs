//! What may happen, made at random, and how the world does it.

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Op {
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

pub(super) fn op() -> impl Strategy<Value = Op> {
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

impl World {
    pub(super) fn run(&mut self, op: Op) {
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

    pub(super) fn renew(&mut self, host: usize) {
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
    pub(super) fn sync(&mut self, host: usize) {
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
}

/// Half of them let everything be taken over; the others are all there are.
pub(super) fn any_policies(number: u8) -> Policies {
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
pub(super) fn authorize_or_nothing(
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
