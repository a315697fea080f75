//! Whatever bytes come, from whomever: nothing panics, garbage is told of, and nothing stalls.

use proptest::prelude::*;

use super::*;
use crate::sync::wire;

#[derive(Clone, Debug)]
enum Damage {
    Random(Vec<u8>),
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Longer(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes.clone().prop_map(Damage::Random),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        bytes.prop_map(Damage::Longer),
    ]
}

fn damaged(bytes: &[u8], damage: &Damage) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Random(random) => random.clone(),
        Damage::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
            bytes
        }
        Damage::Cut(at) => {
            bytes.truncate(at.index(bytes.len()));
            bytes
        }
        Damage::Longer(more) => {
            bytes.extend_from_slice(more);
            bytes
        }
    }
}

/// Everything that three hosts say to each other while they write, pull and compare.
fn conversation() -> (Net, Vec<(usize, usize, Mail)>) {
    let mut net = Net::new(2);
    for n in 0..600 {
        net.put(n % 2, &format!("k{n:04}"), "v");
    }
    net.delete(0, "k0001");
    net.loses = 2;
    let mut said = Vec::new();
    net.hosts[0].sync.compare_ranges_with(NodeId(2));
    for _ in 0..400 {
        net.tick();
        for (from, to, mail) in net.mail.values() {
            let copy = match mail {
                Mail::Gossip(bytes) => Mail::Gossip(bytes.clone()),
                Mail::Question(id, bytes) => Mail::Question(*id, bytes.clone()),
                Mail::Answer(id, bytes) => Mail::Answer(*id, bytes.clone()),
                Mail::Lost(id) => Mail::Lost(*id),
            };
            said.push((*from, *to, copy));
        }
    }
    (net, said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_never_panic_and_never_stall(
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..200),
    ) {
        let (mut net, said) = conversation();
        for (which, damage) in &damages {
            let (from, to, mail) = &said[which.index(said.len())];
            // Of another boot or another cluster a single byte may still be a valid message that says
            // something else; what it says is then true for nobody. Only those that cannot be read matter.
            let mail = match mail {
                Mail::Gossip(bytes) => Mail::Gossip(damaged(bytes, damage)),
                Mail::Question(_, bytes) => Mail::Question(u64::MAX, damaged(bytes, damage)),
                Mail::Answer(id, bytes) => Mail::Answer(*id, damaged(bytes, damage)),
                Mail::Lost(id) => Mail::Lost(*id),
            };
            let readable = match &mail {
                Mail::Gossip(bytes) => wire::read_publication(bytes).is_ok(),
                Mail::Question(_, bytes) => wire::Question::decode(bytes).is_ok(),
                Mail::Answer(_, bytes) => wire::Reply::decode(bytes).is_ok(),
                Mail::Lost(_) => true,
            };
            if !readable {
                net.deliver(*from, *to, mail);
            }
        }
        // The answer to a damaged question is one that nobody waits for.
        net.loses = 0;
        net.run_until("in sync", Duration::from_secs(120), Net::converged);
        net.check_summaries();
    }

    #[test]
    fn readable_nonsense_never_panics(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..60),
    ) {
        let (mut net, said) = conversation();
        for (which, at, byte) in &damages {
            let (from, to, mail) = &said[which.index(said.len())];
            let change = |bytes: &[u8]| damaged(bytes, &Damage::Byte(*at, *byte));
            let mail = match mail {
                Mail::Gossip(bytes) => Mail::Gossip(change(bytes)),
                Mail::Question(_, bytes) => Mail::Question(u64::MAX, change(bytes)),
                Mail::Answer(id, bytes) => Mail::Answer(*id, change(bytes)),
                Mail::Lost(id) => Mail::Lost(*id),
            };
            net.deliver(*from, *to, mail);
        }
        net.run(Duration::from_secs(5));
    }
}

#[test]
fn garbage_is_told_of_with_whom_it_came_from() {
    let mut net = Net::new(2);
    net.deliver(1, 0, Mail::Gossip(b"garbage".to_vec()));
    net.deliver(1, 0, Mail::Question(7, vec![1, b'?']));
    net.deliver(1, 0, Mail::Gossip(vec![9; 40]));
    assert_eq!(net.hosts[0].misbehaved.len(), 3);
    let told = &net.hosts[0].misbehaved[2];
    assert!(told.contains("format 9"), "{told}");
}

#[test]
fn an_answer_that_was_not_asked_for_or_comes_late_is_let_go() {
    let mut net = Net::new(2);
    let before = net.hosts[0].replica.digest();
    let reply = wire::Reply::Stored.encode();
    for id in [0, 1, 5, u64::MAX] {
        net.deliver(1, 0, Mail::Answer(id, reply.clone()));
        net.deliver(1, 0, Mail::Lost(id));
    }
    assert_eq!(net.hosts[0].replica.digest(), before);
    net.put(0, "k", "v");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
}
