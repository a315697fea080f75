//! The model centre: who owns which shard, who has what, and what it says to hosts.

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) subscriber: SubscriberId,
    pub(super) olt: usize,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
}

/// The centre: who owns which shard, who has what.
#[derive(Default)]
pub(super) struct Centre {
    pub(super) owner: BTreeMap<u32, (Option<usize>, u64)>,
    pub(super) accepted: BTreeMap<usize, BootTime>,
    pub(super) revision: [u64; 2],
    pub(super) records: BTreeMap<Resource, Stored>,
    /// Released, and until when the centre remembers it.
    pub(super) released: BTreeMap<Resource, (Stored, BootTime)>,
    pub(super) answered: BTreeMap<(usize, Seq), Option<Refusal>>,
    pub(super) acked_below: [Seq; 2],
    pub(super) streams: [Option<VecDeque<Stream>>; 2],
    /// The pool has its last shards.
    pub(super) grown: bool,
    /// One bit for each address of the first shard that is not to be given.
    pub(super) excluded: u8,
}

#[derive(Clone, Debug)]
pub(super) enum Stream {
    Record(RecordKind, Record),
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    Register(BootTime),
    Heartbeat(BootTime, Heartbeat),
    GetConfig,
    Command(Outgoing),
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Registered(BootTime, EdgeConfig),
    Renewed(BootTime, u64),
    Config(EdgeConfig),
    Command(Seq, Option<Refusal>),
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Request(usize, u32, Request),
    Answer(usize, u32, Answer),
}

impl Centre {
    /// The last shards come at once; they go only while nobody has anything of them, not even resting.
    pub(super) fn change_pool(&mut self, grown: bool) {
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

    pub(super) fn shards(&self) -> u32 {
        SHARDS + if self.grown { MORE } else { 0 }
    }
}

impl World {
    pub(super) fn config_of(&self, host: usize) -> EdgeConfig {
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

    pub(super) fn serve(&mut self, host: usize, request: Request) -> Answer {
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

    pub(super) fn command(&mut self, host: usize, outgoing: Outgoing) -> Option<Refusal> {
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

    pub(super) fn tell(&mut self, kind: RecordKind, resource: Resource, stored: &Stored) {
        for host in 0..2 {
            if self.concerns(host, resource, stored)
                && let Some(stream) = &mut self.centre.streams[host]
            {
                stream.push_back(Stream::Record(kind, as_record(resource, stored)));
            }
        }
    }

    pub(super) fn concerns(&self, host: usize, resource: Resource, stored: &Stored) -> bool {
        let shard = shard_of(resource);
        stored.olt == host || self.centre.owner[&shard].0 == Some(host)
    }

    pub(super) fn open_stream(&mut self, host: usize) {
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

    /// A shard without an owner, or whose owner's lease has surely ended, gets another.
    pub(super) fn move_shard(&mut self, shard: u32, to: usize) {
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
}

pub(super) fn as_record(resource: Resource, stored: &Stored) -> Record {
    Record {
        pool: pool_id(),
        resource,
        shard: ShardId(0),
        subscriber: stored.subscriber.clone(),
        olt: OltId::new(format!("olt-{}", stored.olt)).unwrap(),
        session: None,
        epoch: stored.epoch,
        seq: stored.seq,
    }
}

/// The model centre counts cluster time on a clock of its own from the start.
pub(super) fn given_away_from(accepted: BootTime) -> BootTime {
    BootTime(grantor_end(ClusterTime(accepted.0), LEASE).0)
}
