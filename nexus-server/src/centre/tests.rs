//! Tests of the state as a whole, on rows in memory and with a clock of their own.

mod ownership;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use nexus_clset::KeyValue;
use nexus_core::cluster::{Answer, ClusterCommand, decode_outcome};
use nexus_core::id::{Epoch, SessionId, SubscriberId};
use nexus_core::lease::LeaseRule;
use nexus_core::pool::PoolSpec;
use nexus_core::shard_table::Command;
use nexus_core::time::{BootTime, ClusterTime};
use nexus_store::{Kind, ReadRows, StoreError};
use proptest::prelude::*;

mod claims;
mod displaced;
mod leftovers;
mod pinned;
mod racing;
mod reclaim;
mod rights;
mod unused;

use super::effects::{ChangeKind, Event};
use super::*;

/// Rest of a released address: a DHCP lease of 20 minutes and 2%.
const REST: Duration = Duration::from_secs(1224);

type AllRows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<AllRows>>);

impl ReadRows for Memory {
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().unwrap().get(&(kind.0, key.to_vec())).cloned())
    }

    fn page(
        &self,
        kind: Kind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let rows = self.0.lock().unwrap();
        let of_kind = rows
            .iter()
            .filter(|((k, key), _)| *k == kind.0 && key.starts_with(prefix));
        Ok(of_kind
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// A centre whose rows are written at once, and whose time stands still until told.
struct Bench {
    memory: Memory,
    centre: Centre,
    now: Now,
    events: Vec<Event>,
    /// For other servers.
    outputs: Vec<nexus_clset::Output>,
}

impl Bench {
    fn new() -> Self {
        let now = Now {
            boot: BootTime(1_000_000_000),
            wall: Timestamp::from_millisecond(1_700_000_000_000).unwrap(),
        };
        let memory = Memory::default();
        let centre = open(&memory, &now);
        let mut bench = Self {
            memory,
            centre,
            now,
            events: Vec::new(),
            outputs: Vec::new(),
        };
        let mut spec = PoolSpec::minimal(
            pool(),
            nexus_core::resource::ResourceType::Ipv4,
            "10.0.0.0/16",
        );
        spec.shard_size = Some(24);
        spec.dhcp.lease_time = nexus_core::duration::HumanDuration::from_secs(1200);
        let rule = LeaseRule::new(Duration::from_secs(3600), Duration::from_secs(30)).unwrap();
        bench.decide(Command::SetRule { rule }).unwrap();
        bench.centre.look(true);
        let create = bench.centre.prepare_create(spec).unwrap();
        bench.decide(create).unwrap();
        bench
    }

    /// Has a command decided by a quorum of one, and what placement then says.
    fn decide(&mut self, command: Command) -> Result<Answer, Refused> {
        let answer = self.decide_only(command)?;
        for command in self.centre.placement() {
            self.decide_only(command)?;
        }
        Ok(answer)
    }

    fn decide_only(&mut self, command: Command) -> Result<Answer, Refused> {
        let command = ClusterCommand::from(command).encode().unwrap();
        let at = ClusterTime(self.now.boot.0);
        let outcome = self.centre.decided(&self.now, at, &command).unwrap();
        self.settle();
        decode_outcome(&outcome).unwrap().map_err(Refused::from)
    }

    fn central(&mut self, request: CentralRequest) -> Result<(Arc<Allocation>, Outcome), Refused> {
        let now = self.now;
        let unit = match self.centre.prepare_central(&now, &request)? {
            Prepared::Done(allocation, outcome) => return Ok((allocation, outcome)),
            Prepared::Take(unit) => unit,
        };
        let grant = self.decide(unit.command(&request.subscriber, 1))?;
        let grant = granted(grant, now.boot);
        let answer = self
            .centre
            .finish_central(&now, &request, &unit, &grant, true);
        self.settle();
        answer.map(|answer| answer.expect("nobody else takes it"))
    }

    fn settle(&mut self) {
        let mut effects = self.centre.take_effects();
        let proposals = std::mem::take(&mut effects.proposals);
        let mut rows = self.memory.0.lock().unwrap();
        for write in effects.writes.into_iter().flatten() {
            match write.value {
                Some(value) => rows.insert((write.kind.0, write.key), value),
                None => rows.remove(&(write.kind.0, write.key)),
            };
        }
        drop(rows);
        if let Some(ticket) = effects.ticket {
            self.centre.settle(&self.now, ticket);
        }
        self.events.extend(effects.events);
        self.outputs.extend(effects.outputs);
        for command in proposals {
            self.decide(command).unwrap();
        }
    }

    fn restart(&mut self) {
        let decided = self.centre.decided_so_far().unwrap();
        self.centre = open(&self.memory, &self.now);
        self.centre.take_snapshot(&self.now, &decided).unwrap();
        self.centre.look(true);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot = self.now.boot.saturating_add(time);
        self.decide(Command::Tick).unwrap();
        let now = self.now;
        self.centre.tick(&now).unwrap();
        self.settle();
    }

    fn register(&mut self, id: &str, session: &str) -> Registered {
        let now = self.now;
        let registration = registration(id, session, 0);
        let command = self.centre.prepare_register(&now, registration).unwrap();
        let granted = self.decide(command).unwrap();
        self.centre.registered(&now, &olt(id), granted).unwrap()
    }

    fn claim(&mut self, claim: Claim) -> Result<(Arc<Allocation>, Outcome), Refused> {
        let now = self.now;
        let outcome = self.centre.record_claim(&now, claim);
        self.settle();
        outcome
    }

    fn release(&mut self, release: Release) -> Result<(), Refused> {
        let now = self.now;
        let outcome = self.centre.record_release(&now, release);
        self.settle();
        outcome.map(drop)
    }

    fn all(&self) -> Vec<Allocation> {
        self.centre.record.all(None).cloned().collect()
    }
}

/// `keeping`: number of the rule that the host says it counts under.
fn registration(id: &str, session: &str, keeping: u64) -> Registration {
    Registration {
        olt: olt(id),
        name: String::new(),
        region: String::new(),
        address: String::new(),
        capacity: 100,
        session: SessionId::new(session).unwrap(),
        last_seq: Seq(1000),
        config_revision: 0,
        lease_alive: false,
        keeping: Some(keeping),
        instance: String::new(),
    }
}

fn open(memory: &Memory, now: &Now) -> Centre {
    let settings = Settings {
        heartbeat_interval: Duration::from_secs(30),
        endpoints: Vec::new(),
        policies: BTreeMap::new(),
    };
    let (mut replica, (ticket, rows)) = Replica::open(
        Arc::new(memory.clone()),
        7,
        nexus_clset::Options::default(),
        now,
    )
    .unwrap();
    for write in rows {
        memory
            .0
            .lock()
            .unwrap()
            .insert((write.kind.0, write.key), write.value.unwrap());
    }
    replica.settle(ticket);
    Centre::restore(settings, memory, replica, 7, now).unwrap()
}

fn pool() -> PoolId {
    PoolId::new("p").unwrap()
}

fn olt(id: &str) -> OltId {
    OltId::new(id).unwrap()
}

fn subscriber(n: u8) -> SubscriberId {
    SubscriberId::new(format!("sub-{n}")).unwrap()
}

/// The `unit`th address of the first shard of an OLT.
fn claim_of(registered: &Registered, who: u8, unit: u8, seq: u64) -> Claim {
    let owned = &registered.config.pools[0].shards[0];
    let range = owned.range.to_string();
    let resource = range.replace(".0/24", &format!(".{unit}"));
    Claim {
        olt: registered.node.id.clone(),
        session: registered.node.session.clone(),
        seq: Seq(seq),
        acked_below: Seq(0),
        pool: pool(),
        subscriber: subscriber(who),
        resource,
        shard: owned.shard,
        epoch: owned.epoch,
        metadata: BTreeMap::new(),
        made_at: None,
    }
}

fn release_of(claim: &Claim, seq: u64) -> Release {
    Release {
        olt: claim.olt.clone(),
        session: claim.session.clone(),
        seq: Seq(seq),
        acked_below: Seq(0),
        pool: claim.pool.clone(),
        subscriber: claim.subscriber.clone(),
        resource: claim.resource.clone(),
        shard: claim.shard,
        epoch: claim.epoch,
        reason: "test".into(),
    }
}

fn granted(answer: Answer, since: BootTime) -> Granted {
    Granted {
        unit: answer.unit.unwrap(),
        is_new: answer.unit_is_new,
        since,
    }
}

fn central(olt: Option<&str>, who: u8) -> CentralRequest {
    CentralRequest {
        asker: None,
        pool: pool(),
        subscriber: subscriber(who),
        olt: olt.map(self::olt),
        metadata: BTreeMap::new(),
        key: None,
    }
}

#[test]
fn a_release_stays_on_record_until_no_copy_of_its_allocation_can_come() {
    let mut bench = Bench::new();
    let registered = bench.register("olt-1", "s-1");
    let claim = claim_of(&registered, 1, 9, 1);
    bench.claim(claim.clone()).unwrap();
    bench.release(release_of(&claim, 2)).unwrap();
    bench.pass(REST);
    assert_eq!(
        bench.all()[0].state,
        AllocationState::Released,
        "the rest alone is not enough"
    );
    assert!(matches!(
        bench.claim(claim.clone()),
        Err(Refused::StaleSeq { .. })
    ));
    let mut later = claim_of(&registered, 2, 10, 3);
    later.acked_below = Seq(3);
    bench.claim(later).unwrap();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.all().len(), 1, "now it is gone");
    assert!(matches!(
        bench.claim(claim),
        Err(Refused::StrayCopy { floor: 3, given: 1 })
    ));
}

#[test]
fn a_subscriber_that_moves_gets_a_second_address_before_the_first_is_asked_back() {
    let mut bench = Bench::new();
    bench.register("olt-1", "s-1");
    bench.register("olt-2", "s-2");
    let (first, _) = bench.central(central(Some("olt-1"), 1)).unwrap();
    let (second, _) = bench.central(central(Some("olt-2"), 1)).unwrap();
    assert_ne!(first.place, second.place);
    assert_eq!(
        bench.centre.record.get(&first.place).unwrap().state,
        AllocationState::Releasing
    );
    bench.settle();
    let asked = bench.events.iter().any(|event| {
        matches!(event, Event::Allocation(of, change)
            if *of == olt("olt-1") && change.kind == ChangeKind::ReleaseRequested)
    });
    assert!(asked);
    let (nobody, _) = bench.central(central(None, 2)).unwrap();
    let (bound, _) = bench.central(central(Some("olt-1"), 2)).unwrap();
    assert_eq!(nobody.place, bound.place, "nobody had bound it");
    assert_eq!(bound.olt, olt("olt-1"));
}

#[test]
fn a_central_shard_hands_out_every_address_once_and_reuses_the_oldest_first() {
    let mut bench = Bench::new();
    let now = bench.now;
    let mut places = Vec::new();
    while let Ok((allocation, _)) = bench.central({
        CentralRequest {
            asker: None,
            subscriber: SubscriberId::new(format!("s{}", places.len())).unwrap(),
            ..central(None, 0)
        }
    }) {
        places.push(allocation.place.clone());
    }
    assert_eq!(
        places.len(),
        255,
        "a /24 without the broadcast address of the pool"
    );
    for n in [40_usize, 7, 99] {
        let who = SubscriberId::new(format!("s{n}")).unwrap();
        bench.centre.deallocate(&now, &who, None).unwrap();
        bench.settle();
    }
    let full = bench.central(central(None, 1));
    assert_eq!(
        full.unwrap_err(),
        Refused::Exhausted { pool: pool() },
        "they still rest"
    );
    bench.pass(REST - Duration::from_secs(1));
    assert!(
        bench.central(central(None, 1)).is_err(),
        "a client that heard nothing may still use them"
    );
    bench.pass(Duration::from_secs(1));
    for n in 1..=3 {
        bench.central(central(None, n)).unwrap();
    }
    assert!(bench.central(central(None, 4)).is_err());
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut bench = Bench::new();
    let registered = bench.register("olt-1", "s-1");
    let claim = claim_of(&registered, 1, 9, 1);
    bench.claim(claim.clone()).unwrap();
    let rows = bench.memory.0.lock().unwrap().clone();
    let mut wrong = claim_of(&registered, 2, 9, 2);
    assert!(bench.claim(wrong.clone()).is_err(), "taken");
    wrong.epoch = Epoch(99);
    assert!(bench.claim(wrong).is_err());
    let mut outside = claim_of(&registered, 2, 10, 2);
    outside.shard = ShardId(77);
    assert!(bench.claim(outside).is_err());
    let now = bench.now;
    assert!(bench.centre.deallocate(&now, &subscriber(9), None).is_err());
    bench.settle();
    assert_eq!(*bench.memory.0.lock().unwrap(), rows);
}

#[test]
fn a_new_session_of_an_olt_finds_its_old_records_in_the_snapshot() {
    let mut bench = Bench::new();
    let first = bench.register("olt-1", "s-1");
    bench.claim(claim_of(&first, 1, 9, 1)).unwrap();
    bench.pass(Duration::from_secs(91));
    let second = bench.register("olt-1", "s-2");
    assert_ne!(
        first.config.pools[0].shards[0].shard, second.config.pools[0].shards[0].shard,
        "the old lease may still run"
    );
    let changes = bench
        .centre
        .watch_allocations(&olt("olt-1"), Some(&second.node.session), 0)
        .unwrap();
    let kinds: Vec<ChangeKind> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Put, ChangeKind::SnapshotEnd]);
    let stale = bench
        .centre
        .watch_allocations(&olt("olt-1"), Some(&first.node.session), 0);
    assert!(matches!(stale, Err(Refused::SessionOver(_))));
    // The subscriber comes back on the new session: the old resource is asked back from the same host.
    bench.claim(claim_of(&second, 1, 20, 1)).unwrap();
    let states: Vec<AllocationState> = bench.all().iter().map(|a| a.state).collect();
    assert!(
        states.contains(&AllocationState::Active) && states.contains(&AllocationState::Releasing)
    );
    let mut release = release_of(&claim_of(&first, 1, 9, 1), 2);
    release.session = second.node.session;
    bench.release(release).unwrap();
    assert_eq!(bench.centre.record.counts(&pool()).held(), 1);
}

#[test]
fn a_shard_that_moves_brings_its_records_to_the_new_owner() {
    let mut bench = Bench::new();
    let first = bench.register("olt-1", "s-1");
    bench.claim(claim_of(&first, 1, 9, 1)).unwrap();
    bench.pass(Duration::from_secs(2 * 3600));
    bench.events.clear();
    // Enough hosts that one of them must take what the first one had.
    for n in 2..300 {
        bench.register(&format!("olt-{n}"), "s");
    }
    let told = bench.events.iter().find_map(|event| match event {
        Event::Allocation(of, change) if change.kind == ChangeKind::Put => Some(of.clone()),
        _ => None,
    });
    let new_owner = told.expect("somebody got the shard");
    assert_ne!(new_owner, olt("olt-1"));
    let late = bench.claim(claim_of(&first, 3, 11, 2));
    assert!(matches!(late, Err(Refused::NotYourShard { .. })));
}

#[test]
fn a_snapshot_that_breaks_off_cannot_be_resumed_in_the_middle() {
    let mut bench = Bench::new();
    let registered = bench.register("olt-1", "s-1");
    for n in 1..4 {
        bench
            .claim(claim_of(&registered, n, n + 9, u64::from(n)))
            .unwrap();
    }
    let snapshot = bench
        .centre
        .watch_allocations(&olt("olt-1"), None, 0)
        .unwrap();
    let revisions: Vec<u64> = snapshot.iter().map(|change| change.revision).collect();
    let newest = bench.centre.log.revision();
    assert_eq!(revisions, [0, 0, 0, newest]);
    let resumed = bench
        .centre
        .watch_allocations(&olt("olt-1"), None, newest)
        .unwrap();
    assert_eq!(resumed, []);
}

#[test]
fn revisions_never_come_twice_even_if_nobody_was_told() {
    let mut bench = Bench::new();
    bench.central(central(None, 1)).unwrap();
    bench.settle();
    let revision = bench.centre.log.revision();
    assert!(revision > 0);
    bench.restart();
    assert_eq!(bench.centre.log.revision(), revision);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { who: u8, unit: u8 },
    Release { index: usize },
    Copy { index: usize },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..6, 10_u8..16).prop_map(|(who, unit)| Step::Allocate { who, unit }),
        3 => any::<usize>().prop_map(|index| Step::Release { index }),
        4 => any::<usize>().prop_map(|index| Step::Copy { index }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Clone)]
enum Sent {
    Claim(Claim),
    Release(Release),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever copies arrive whenever, and however often the centre restarts: the record is what the
    /// commands would have made of it, each arriving once and in order.
    #[test]
    fn copies_and_restarts_change_nothing(steps in steps()) {
        let mut bench = Bench::new();
        let registered = bench.register("olt-1", "s-1");
        let mut seq = 0;
        let mut sent: Vec<Sent> = Vec::new();
        let mut held: BTreeMap<u8, Claim> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Allocate { who, unit } => {
                    let taken = held.values().any(|claim| {
                        claim.resource == claim_of(&registered, who, unit, 0).resource
                    });
                    if held.contains_key(&who) || taken {
                        continue;
                    }
                    seq += 1;
                    let claim = claim_of(&registered, who, unit, seq);
                    prop_assert!(bench.claim(claim.clone()).is_ok());
                    sent.push(Sent::Claim(claim.clone()));
                    held.insert(who, claim);
                }
                Step::Release { index } => {
                    let Some(who) = held.keys().copied().nth(index % held.len().max(1)) else {
                        continue;
                    };
                    let claim = held.remove(&who).unwrap();
                    seq += 1;
                    let release = release_of(&claim, seq);
                    prop_assert!(bench.release(release.clone()).is_ok());
                    sent.push(Sent::Release(release));
                }
                Step::Copy { index } => match sent.get(index % sent.len().max(1)).cloned() {
                    Some(Sent::Claim(claim)) => drop(bench.claim(claim)),
                    Some(Sent::Release(release)) => drop(bench.release(release)),
                    None => {}
                },
                Step::Restart => {
                    let before = bench.all();
                    let revision = bench.centre.log.revision();
                    bench.restart();
                    prop_assert_eq!(bench.all(), before);
                    prop_assert!(bench.centre.log.revision() >= revision, "no number comes twice");
                }
            }
            let recorded: BTreeMap<String, String> = bench
                .all()
                .into_iter()
                .filter(|allocation| allocation.state.is_held())
                .map(|a| (a.place.resource.to_string(), a.subscriber.to_string()))
                .collect();
            let expected: BTreeMap<String, String> = held
                .values()
                .map(|claim| (claim.resource.clone(), claim.subscriber.to_string()))
                .collect();
            prop_assert_eq!(recorded, expected);
            prop_assert!(bench.centre.audit().duplicates.is_empty());
        }
    }
}
