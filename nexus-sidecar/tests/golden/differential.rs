//! Kernel and host over generated and spoilt frames, by the hundred thousand: one verdict, the same bytes,
//! the same counters.

use std::time::Instant;

use nexus_abi::{Binding, NEVER_EXPIRES, Outcome};
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Frame, Tag};

use crate::generator::{Generator, mend_lengths};
use crate::world::{
    ANYWHERE, BOUND, ENDING, Fate, INTERFACES, LINES, PLAIN, QINQ, World, boot_secs, fate,
    is_slow_machine, key,
};

/// Names of the variables with the number of cases and the seed; `cargo xtask differential` sets them.
const CASES: &str = "NEXUS_DIFFERENTIAL_CASES";
const SEED: &str = "NEXUS_DIFFERENTIAL_SEED";
/// What `cargo xtask test` runs.
const FEW: u64 = 100_000;
const FEWEST: u64 = 6000;
/// Counters are compared after so many cases.
const BATCH: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

type Counts = [u64; Outcome::ALL.len()];

/// One world and its stream of frames.
struct Run {
    world: World,
    frames: Generator,
    seed: u64,
    met: Counts,
    answered: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut world = World::new(&format!("differ{}", seed % 100));
        if seed % 2 == 1 {
            // What is told changes nothing; nobody reads it here.
            for (number, ..) in INTERFACES {
                world.listen(number, true, &[ANYWHERE, QINQ]);
            }
        }
        Self {
            world,
            frames: Generator::new(seed),
            seed,
            met: [0; Outcome::ALL.len()],
            answered: 0,
        }
    }

    fn counters(&self) -> Counts {
        let mut counts = [0; Outcome::ALL.len()];
        for (outcome, count) in self.world.kernel.counters().unwrap() {
            counts[outcome as usize] = count;
        }
        counts
    }

    /// A binding whose end comes nearer while the batch runs, now and then within it.
    fn shorten(&mut self, batch: u64) {
        let (mac, address, ..) = BOUND.iter().find(|bound| bound.0 == ENDING).unwrap();
        let left = [500, 2, 1, 4000, 86_400][usize::try_from(batch % 5).unwrap()];
        let binding = Binding {
            valid_until_secs: boot_secs() + left,
            ..crate::world::binding(*mac, *address, PLAIN)
        };
        assert_ne!(binding.valid_until_secs, NEVER_EXPIRES);
        self.world.bind(key(LINES, 2, (0, 0), *mac), binding);
    }

    fn batch(&mut self, batch: u64) {
        self.shorten(batch);
        let before = self.counters();
        let mut expected = before;
        for case in 0..BATCH {
            let (number, frame) = self.frames.next_frame();
            let early = boot_secs();
            let (verdict, after) = self.world.verdict(number, &frame);
            let mut host = self.world.on_host(number, &frame, early);
            let kernel = |host: &Fate| fate(verdict, after.clone(), &frame, host.outcome());
            if kernel(&host) != host {
                // A second may have passed meanwhile.
                host = self.world.on_host(number, &frame, boot_secs());
            }
            assert_eq!(
                kernel(&host),
                host,
                "seed {}, case {}, interface {number}: {frame:02x?}",
                self.seed,
                batch * BATCH + case,
            );
            self.met[host.outcome() as usize] += 1;
            self.answered += u64::from(matches!(host, Fate::Reply(..)));
            if host.outcome() != Outcome::NotDhcp {
                expected[host.outcome() as usize] += 1;
            }
        }
        let seed = self.seed;
        assert_eq!(self.counters(), expected, "seed {seed}, batch {batch}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn kernel_and_host_agree_on_a_hundred_thousand_generated_and_spoilt_frames() {
    let few = if is_slow_machine() { FEWEST } else { FEW };
    let cases = number(CASES).unwrap_or(few);
    let seed = number(SEED).unwrap_or_else(|| u64::from(boot_secs()) << 8);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4)) as u64;
    let batches = cases.div_ceil(BATCH * threads);
    eprintln!("{threads} threads of {batches} batches of {BATCH} cases, {SEED}={seed}");
    let began = Instant::now();
    let mut met: Counts = [0; Outcome::ALL.len()];
    let mut answered = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut run = Run::new(seed + thread);
                    (0..batches).for_each(|batch| run.batch(batch));
                    (run.met, run.answered)
                })
            })
            .collect();
        for worker in workers {
            let (counts, replies) = worker.join().unwrap();
            met.iter_mut()
                .zip(counts)
                .for_each(|(sum, count)| *sum += count);
            answered += replies;
        }
    });
    let all: u64 = met.iter().sum();
    eprintln!(
        "{all} cases, {answered} of them answered, in {:.1?}",
        began.elapsed()
    );
    for outcome in Outcome::ALL {
        eprintln!("  {:16} {}", outcome.label(), met[*outcome as usize]);
    }
    // The generator is worth something only if it reaches every branch, often.
    assert!(answered > all / 4, "{answered} of {all} were answered");
    for outcome in Outcome::ALL {
        let elsewhere = [
            Outcome::NoRoom,
            Outcome::ArpReply,
            Outcome::Internal,
            Outcome::Flooded,
        ];
        let count = met[*outcome as usize];
        if elsewhere.contains(outcome) {
            assert_eq!(count, 0, "{outcome:?}");
        } else {
            assert!(count > all / 1000, "{outcome:?} was met {count} times only");
        }
    }
}

/// One message as long as a frame can be, its options up to the end.
fn long_frame() -> Vec<u8> {
    let mut message = Client::HomeGateway.message(QINQ, 7, Says::Discover);
    message.min_len = 0;
    for code in (200..).take(4) {
        message.options.push((code, vec![code; 220]));
    }
    let used = message.build().len();
    message.options.push((210, vec![7; 1472 - used - 2]));
    let frame = Frame::from_client(&message);
    frame.tag(Tag::s_vlan(200)).tag(Tag::c_vlan(30)).build()
}

#[test]
#[ignore = "needs root and the kernel"]
fn kernel_and_host_agree_at_every_length_of_a_cut_off_frame() {
    let mut world = World::new("lengths");
    let whole = long_frame();
    assert_eq!(whole.len(), 22 + 1500);
    let fate = world.run(&whole);
    assert!(matches!(fate, Fate::Reply(Outcome::Offer, _)), "{fate:?}");
    let step = if is_slow_machine() { 7 } else { 1 };
    for len in (14..whole.len()).step_by(step) {
        let expected = if len < 22 + 28 {
            Outcome::NotDhcp
        } else {
            Outcome::Malformed
        };
        // As it was cut off, and as if it had been sent so.
        let mut cut = whole[..len].to_vec();
        assert_eq!(world.run(&cut), Fate::Untouched(expected), "{len} bytes");
        mend_lengths(&mut cut, 22, 0);
        assert_eq!(
            world.run(&cut),
            Fate::Untouched(expected),
            "{len} bytes, mended"
        );
        // With an END at its end it is whole again, if the cut fell between two options.
        *cut.last_mut().unwrap() = 255;
        let fate = world.run(&cut);
        let is_offer = matches!(fate, Fate::Reply(Outcome::Offer, _));
        assert!(
            is_offer || matches!(fate, Fate::Untouched(_)),
            "{len} bytes, END: {fate:?}"
        );
    }
}

/// On every interface: noise, zeros and ones, a real header before them, and options that never end. The
/// kernel takes no frame below an Ethernet header for a test run; the host does.
#[test]
#[ignore = "needs root and the kernel"]
fn kernel_and_host_agree_on_nonsense_of_every_length() {
    let mut world = World::new("nonsense");
    let head = long_frame();
    let head = &head[..22 + 28 + 240];
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let step = if is_slow_machine() { 11 } else { 1 };
    for len in (0..=1514).step_by(step) {
        let mut random = Vec::with_capacity(len);
        random.resize_with(len, || {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        });
        for fill in [None, Some(0), Some(255), Some(1), Some(82)] {
            let plain = fill.map_or_else(|| random.clone(), |byte| vec![byte; len]);
            let mut headed = plain.clone();
            let real = head.len().min(len);
            headed[..real].copy_from_slice(&head[..real]);
            mend_lengths(&mut headed, 22, 0);
            for frame in [&plain, &headed] {
                for (number, ..) in INTERFACES {
                    if len < 14 {
                        let fate = world.on_host(number, frame, 0);
                        assert_eq!(fate, Fate::Untouched(Outcome::NotDhcp));
                        continue;
                    }
                    let (verdict, after) = world.verdict(number, frame);
                    let host = world.on_host(number, frame, boot_secs());
                    let kernel = fate(verdict, after, frame, host.outcome());
                    assert_eq!(kernel, host, "{len} bytes of {fill:?}, interface {number}");
                    assert!(!matches!(host, Fate::Reply(..)) || len >= head.len());
                }
            }
        }
    }
}
