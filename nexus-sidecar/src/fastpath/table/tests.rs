//! The table against a model, against the kernel's way of reading, cut off anywhere, and full.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nexus_abi::{
    BUCKET_ENTRIES, Bucket, CIRCUIT_WORDS, Circuit, Entry, NEVER_EXPIRES, Place, hash_circuit,
    hash_key,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SEED: u64 = 0x0123_4567_89ab_cdef;
const WORDS_PER_BUCKET: usize = size_of::<Bucket>() / 8;

/// Memory that outlives its writer, who may be cut off after so many stores.
#[derive(Clone, Debug)]
struct Shared {
    words: Rc<[AtomicU64]>,
    stores_left: Rc<Cell<u64>>,
}

impl Shared {
    fn new(words: usize) -> Self {
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            stores_left: Rc::new(Cell::new(u64::MAX)),
        }
    }

    fn may_store(&self) -> bool {
        let left = self.stores_left.get();
        self.stores_left.set(left.saturating_sub(1));
        left > 0
    }
}

impl Memory for Shared {
    fn words(&self) -> usize {
        self.words.words()
    }

    fn load(&self, at: usize) -> u64 {
        Memory::load(&*self.words, at)
    }

    fn store(&self, at: usize, word: u64) {
        if self.may_store() {
            Memory::store(&*self.words, at, word);
        }
    }

    fn update(&self, at: usize, change: impl Fn(u64) -> u64) {
        if self.may_store() {
            Memory::update(&*self.words, at, change);
        }
    }
}

fn memories(buckets: u32, circuits: u32) -> (Shared, Shared) {
    let buckets = Shared::new(buckets as usize * WORDS_PER_BUCKET);
    let circuits = Shared {
        stores_left: Rc::clone(&buckets.stores_left),
        ..Shared::new(circuits as usize * CIRCUIT_WORDS)
    };
    (buckets, circuits)
}

fn open(memories: &(Shared, Shared), limit: u32) -> (Table<Shared>, Repairs) {
    Table::open(memories.0.clone(), memories.1.clone(), SEED, limit)
}

fn table(buckets: u32, circuits: u32) -> (Table<Shared>, (Shared, Shared)) {
    let memories = memories(buckets, circuits);
    let (table, repairs) = open(&memories, buckets);
    assert!(repairs.is_none());
    (table, memories)
}

fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// The keys of a subscriber, one of each kind.
fn key(kind: u8, number: u32) -> BindingKey {
    let interface = (number % 3) as u8;
    let (outer_vid, inner_vid) = ((number >> 12) as u16 & 0xfff, number as u16 & 0xfff);
    match kind {
        0 => BindingKey::Line {
            interface,
            outer_vid,
            inner_vid,
            mac: mac(number),
        },
        1 => BindingKey::Mac {
            interface,
            mac: mac(number),
        },
        2 => BindingKey::Vlan {
            interface,
            outer_vid,
            inner_vid,
        },
        _ => BindingKey::Circuit {
            interface,
            circuit: Circuit::new(format!("olt 1/{number}").as_bytes(), b"").unwrap(),
        },
    }
}

/// The `version`th binding of a subscriber; no two are alike in address and end.
fn binding(number: u32, version: u32) -> Binding {
    Binding {
        address: number.to_be_bytes(),
        valid_until_secs: version + 1,
        mac: mac(number),
        profile: (number ^ version) as u16,
        last_seen_jiffies: 0,
    }
}

/// What the kernel finds: the reader's rule of `nexus_abi`'s table, word by word.
fn kernel_finds(memories: &(Shared, Shared), key: &BindingKey) -> Option<Binding> {
    let (buckets, circuits) = memories;
    let mask = slot::buckets_in(buckets) - 1;
    let probe = Probe::of(SEED, key);
    let hash = match &probe.circuit {
        Some(circuit) => hash_circuit(SEED, key.interface(), circuit),
        None => hash_key(SEED, probe.identity, probe.vids),
    };
    let Place { home, other } = Place::of(hash, mask);
    let look = |bucket: u32| {
        (0..BUCKET_ENTRIES).find_map(|entry| {
            let first = bucket as usize * WORDS_PER_BUCKET + entry * 4;
            let held = buckets.load(first + Entry::HELD / 8);
            if held >> 32 == 0 {
                return None;
            }
            let (identity, rest) = (buckets.load(first), buckets.load(first + 1));
            let ours = probe.is(identity)
                && match &probe.circuit {
                    None => rest as u32 == probe.vids,
                    Some(circuit) => (0..CIRCUIT_WORDS).all(|word| {
                        let at = (rest as u32 as usize) * CIRCUIT_WORDS + word;
                        circuits.load(at) == circuit.words[word]
                    }),
                };
            let seen = buckets.load(first + Entry::LAST_SEEN / 8);
            if !ours || buckets.load(first + Entry::HELD / 8) != held {
                return None;
            }
            let words = Words {
                identity,
                rest,
                held,
                last_seen: seen as u32,
            };
            words.binding()
        })
    };
    look(home).or_else(|| {
        let counted = slot::overflow_of(buckets, home);
        if counted == 0 { None } else { look(other) }
    })
}

/// The table is what the model says, for its own reader and for the kernel, and nothing is wrong in it.
fn agrees(
    memories: &(Shared, Shared),
    table: &Table<Shared>,
    model: &BTreeMap<BindingKey, Binding>,
) {
    assert_eq!(table.len as usize, model.len());
    assert_eq!(table.all().into_iter().collect::<BTreeMap<_, _>>(), *model);
    for (key, binding) in model {
        assert_eq!(table.get(key), Some(*binding), "{key:?}");
        assert_eq!(kernel_finds(memories, key), Some(*binding), "{key:?}");
    }
    let (again, repairs) = open(memories, table.limit);
    assert!(repairs.is_none(), "{repairs:?}");
    assert_eq!(again.all().len(), model.len());
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u32, u32),
    Remove(u8, u32),
    Reopen,
}

fn steps(subscribers: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u8..4, 0..subscribers, 0_u32..4).prop_map(|(kind, n, v)| Step::Put(kind, n, v)),
        3 => (0_u8..4, 0..subscribers).prop_map(|(kind, n)| Step::Remove(kind, n)),
        1 => Just(Step::Reopen),
    ];
    vec(step, 1..200)
}

/// Carries out a step on both; the table refuses only what it may.
fn carry_out(
    step: &Step,
    memories: &(Shared, Shared),
    table: &mut Table<Shared>,
    model: &mut BTreeMap<BindingKey, Binding>,
) {
    match step {
        Step::Put(kind, number, version) => {
            let (key, mut binding) = (key(*kind, *number), binding(*number, *version));
            match table.put(&key, &binding) {
                Ok(()) => {
                    if let Some(there) = model.get(&key) {
                        binding.last_seen_jiffies = there.last_seen_jiffies;
                    }
                    model.insert(key, binding);
                }
                Err(full) => {
                    assert!(!model.contains_key(&key), "{full:?}");
                    let circuits = model.keys().filter(|key| key.mac().is_none()).count();
                    match full {
                        Full::Bindings(_) => assert_eq!(model.len(), table.limit as usize),
                        Full::Circuits(most) => assert!(circuits >= most as usize),
                        // Possible in a table this small.
                        Full::Crowded(_) => assert!(model.len() >= 4),
                    }
                }
            }
        }
        Step::Remove(kind, number) => {
            let key = key(*kind, *number);
            assert_eq!(table.remove(&key), model.remove(&key).is_some());
        }
        Step::Reopen => {
            let (again, repairs) = open(memories, table.limit);
            assert!(repairs.is_none(), "{repairs:?}");
            *table = again;
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_a_map(steps in steps(24), buckets in 2_u32..5) {
        let (mut table, memories) = table(1 << buckets, 8);
        let mut model = BTreeMap::new();
        for step in &steps {
            carry_out(step, &memories, &mut table, &mut model);
        }
        agrees(&memories, &table, &model);
    }

    /// Whatever the writer was at when it was cut off: who was in the table and was not being written is
    /// found by the kernel at once, nobody gets what is another's, and opening puts all of it right.
    #[test]
    fn a_writer_that_is_cut_off_leaves_a_table_that_serves_and_can_be_put_right(
        before in steps(24), kind in 0_u8..4, number in 0_u32..24, removes: bool, cut in 0_u64..24,
    ) {
        let (mut table, memories) = table(16, 8);
        let mut model = BTreeMap::new();
        for step in &before {
            carry_out(step, &memories, &mut table, &mut model);
        }
        let (changed, new) = (key(kind, number), binding(number, 9));
        memories.0.stores_left.set(cut);
        if removes {
            table.remove(&changed);
        } else {
            let _ = table.put(&changed, &new);
        }
        memories.0.stores_left.set(u64::MAX);

        let allowed = |found: Option<Binding>| {
            found.is_none_or(|found| {
                let found = Binding { last_seen_jiffies: 0, ..found };
                found == new || model.get(&changed) == Some(&found)
            })
        };
        let others = |look: &dyn Fn(&BindingKey) -> Option<Binding>| {
            for (key, binding) in model.iter().filter(|(key, _)| **key != changed) {
                assert_eq!(look(key), Some(*binding), "{key:?}");
            }
            assert!(allowed(look(&changed)), "{:?}", look(&changed));
        };
        others(&|key| kernel_finds(&memories, key));
        let (mut again, _) = open(&memories, 16);
        others(&|key| again.get(key));
        others(&|key| kernel_finds(&memories, key));
        let (_, repairs) = open(&memories, 16);
        prop_assert!(repairs.is_none(), "{:?}", repairs);
        // Nothing was lost for good: no place, no number of a circuit.
        for (key, _) in again.all() {
            prop_assert!(again.remove(&key));
        }
        for number in 0..8 {
            prop_assert_eq!(again.put(&key(3, 1000 + number), &binding(number, 0)), Ok(()));
        }
    }
}

/// Fills a table to half of its places, and tells how many keys stand elsewhere.
fn fill(bindings: u32) -> f64 {
    let memories = memories(bindings, 2);
    let mut table = open(&memories, bindings).0;
    for number in 0..bindings {
        let kind = (number % 2) as u8;
        table.put(&key(kind, number), &binding(number, 0)).unwrap();
    }
    assert_eq!(
        table.put(&key(0, bindings), &binding(0, 0)),
        Err(Full::Bindings(bindings))
    );
    for number in 0..bindings {
        let found = table.get(&key((number % 2) as u8, number));
        assert_eq!(found, Some(binding(number, 0)));
    }
    assert!(open(&memories, bindings).1.is_none());
    let elsewhere: u32 = (0..bindings)
        .map(|bucket| slot::overflow_of(&memories.0, bucket))
        .sum();
    f64::from(elsewhere) / f64::from(bindings)
}

#[test]
fn half_of_the_places_can_always_be_filled() {
    for bindings in [256, 512, 4096] {
        fill(bindings);
    }
    // Of a random half, a tenth have to share a home with two others.
    let elsewhere = fill(65_536);
    assert!(elsewhere < 0.15, "{elsewhere} of the keys are not at home");
}

#[test]
#[ignore = "a million entries: run it in release"]
fn a_million_bindings_fit_into_a_table_made_for_a_million() {
    let elsewhere = fill(1 << 20);
    assert!(elsewhere < 0.15, "{elsewhere} of the keys are not at home");
}

#[test]
fn a_table_stays_usable_however_often_its_subscribers_change() {
    let bindings = 4096;
    let (mut table, memories) = table(bindings, 2);
    for number in 0..bindings * 20 {
        if let Some(oldest) = number.checked_sub(bindings) {
            assert!(table.remove(&key(0, oldest)));
        }
        table.put(&key(0, number), &binding(number, 0)).unwrap();
    }
    assert_eq!(table.len, bindings);
    assert!(open(&memories, bindings).1.is_none());
}

#[test]
fn the_same_profile_and_mac_are_one_store_and_nothing_new_is_none() {
    let (mut table, memories) = table(16, 2);
    let key = key(0, 1);
    table.put(&key, &binding(1, 0)).unwrap();
    let stores = |table: &mut Table<Shared>, binding: &Binding| {
        memories.0.stores_left.set(1000);
        table.put(&key, binding).unwrap();
        1000 - memories.0.stores_left.get()
    };
    assert_eq!(stores(&mut table, &binding(1, 0)), 0);
    let later = Binding {
        valid_until_secs: NEVER_EXPIRES,
        ..binding(1, 0)
    };
    assert_eq!(stores(&mut table, &later), 1);
    let other = Binding {
        profile: 77,
        ..later
    };
    assert_eq!(stores(&mut table, &other), 4);
    assert_eq!(table.get(&key), Some(other));
    let over = Binding {
        valid_until_secs: 0,
        ..other
    };
    table.put(&key, &over).unwrap();
    assert_eq!((table.get(&key), table.len), (None, 0));
}

#[test]
fn when_a_client_was_last_seen_is_kept_through_changes_and_moves() {
    let (mut table, memories) = table(256, 2);
    let seen = |number: u32| number + 1000;
    for number in 0..256 {
        table.put(&key(0, number), &binding(number, 0)).unwrap();
        let slot = table.find(&Probe::of(SEED, &key(0, number))).unwrap();
        slot.see(&memories.0, seen(number));
    }
    for number in 0..256 {
        table.put(&key(0, number), &binding(number, 5)).unwrap();
        let found = table.get(&key(0, number)).unwrap();
        let expected = Binding {
            last_seen_jiffies: seen(number),
            ..binding(number, 5)
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn what_no_writer_has_left_there_is_thrown_out() {
    let (mut table, memories) = table(256, 4);
    table.put(&key(3, 1), &binding(1, 0)).unwrap();
    table.put(&key(0, 2), &binding(2, 0)).unwrap();
    let bytes = |entry: Entry| -> [u64; 4] { zerocopy::transmute!(entry) };
    let write = |slot: Slot, entry: Entry| {
        let base = slot.bucket() as usize * WORDS_PER_BUCKET;
        let at = base
            + if Slot::of(slot.bucket())[0] == slot {
                0
            } else {
                4
            };
        for (at, word) in (at..).zip(bytes(entry)) {
            memories.0.store(at, word);
        }
    };
    let free = || {
        Slot::all(255)
            .find(|slot| slot.is_free(&memories.0))
            .unwrap()
    };
    let held = Entry {
        valid_until_secs: 9,
        ..Entry::default()
    };
    // No kind; a circuit beyond the last; a circuit of another entry; a key that is at home elsewhere.
    let foreign = [
        (9, 0, 0),
        (BindingKey::KIND_CIRCUIT, 0, 4),
        (BindingKey::KIND_CIRCUIT, 2, 0),
        (BindingKey::KIND_MAC, 0, 0),
    ];
    for (kind, interface, outer_vid) in foreign {
        let entry = Entry {
            kind,
            interface,
            outer_vid,
            ..held
        };
        write(free(), entry);
    }
    let (table, repairs) = open(&memories, 256);
    assert_eq!(repairs.lost, 4);
    assert_eq!(table.all().len(), 2);
    assert!(open(&memories, 256).1.is_none());
}

#[test]
fn another_seed_finds_nothing_and_leaves_an_empty_table() {
    let (mut table, memories) = table(256, 2);
    for number in 0..200 {
        table.put(&key(0, number), &binding(number, 0)).unwrap();
    }
    let (other, repairs) = Table::open(memories.0.clone(), memories.1.clone(), SEED + 1, 256);
    assert!(repairs.lost > 190);
    assert_eq!(other.all().len(), other.len as usize);
}

/// The writer keeps entries moving, changing and going while a reader looks for them as the kernel does.
#[test]
fn a_reader_that_runs_meanwhile_never_sees_what_is_another_s() {
    struct Words(Box<[AtomicU64]>);
    impl Memory for &Words {
        fn words(&self) -> usize {
            self.0.words()
        }
        fn load(&self, at: usize) -> u64 {
            Memory::load(&*self.0, at)
        }
        fn store(&self, at: usize, word: u64) {
            Memory::store(&*self.0, at, word);
        }
        fn update(&self, at: usize, change: impl Fn(u64) -> u64) {
            Memory::update(&*self.0, at, change);
        }
    }
    let words = |count: usize| Words((0..count).map(|_| AtomicU64::new(0)).collect());
    let (buckets, circuits) = (words(16 * WORDS_PER_BUCKET), words(16 * CIRCUIT_WORDS));
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let probes: Vec<_> = (0..40_u32)
                .map(|number| (number, Probe::of(SEED, &key((number % 4) as u8, number))))
                .collect();
            let mut found = 0_u64;
            while !done.load(Ordering::Relaxed) {
                for (number, probe) in &probes {
                    let place = probe.place(15);
                    for bucket in [place.home, place.other] {
                        for slot in Slot::of(bucket) {
                            let held = slot.words(&&buckets).held;
                            let read = slot.words(&&buckets);
                            let table = Circuits::new(&circuits);
                            let ours = table.matches(probe, &read);
                            let after = slot.words(&&buckets).held;
                            if held >> 32 == 0 || !ours || held != after {
                                continue;
                            }
                            let read = super::Words { held, ..read }.binding().unwrap();
                            let right = binding(*number, read.valid_until_secs - 1);
                            let read = Binding {
                                last_seen_jiffies: 0,
                                ..read
                            };
                            assert_eq!(read, right);
                            found += 1;
                        }
                    }
                }
            }
            found
        });
        let (mut table, _) = Table::open(&buckets, &circuits, SEED, 16);
        let mut random = 1_u64;
        // The version grows, so no address and end come a second time.
        for version in 0..400_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = (random >> 33) as u32 % 40;
            let key = key((number % 4) as u8, number);
            if version % 3 == 0 {
                table.remove(&key);
            } else {
                let _ = table.put(&key, &binding(number, version));
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(found > 0, "the reader has met nobody");
}
