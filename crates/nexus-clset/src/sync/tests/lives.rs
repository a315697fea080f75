//! Random lives of a cluster of machines: cuts, losses, kills with lost tails, wipes, clocks, age. In the end all are
//! alike, what was confirmed is there, and what was deleted is gone.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Delete(usize, u8),
    Run(u64),
    Isolate(usize),
    Cut(usize, usize),
    Heal,
    Kill(usize),
    Wipe(usize),
    Hang(usize),
    Clock(usize, i64),
    Age,
    Lose(u64),
    Compare(usize, usize),
}

const HOSTS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    prop_oneof![
        12 => (host.clone(), 0..12_u8).prop_map(|(host, key)| Step::Put(host, key)),
        6 => (host.clone(), 0..12_u8).prop_map(|(host, key)| Step::Delete(host, key)),
        8 => (1..400_u64).prop_map(Step::Run),
        2 => (1000..8000_u64).prop_map(Step::Run),
        2 => host.clone().prop_map(Step::Isolate),
        2 => (host.clone(), host.clone()).prop_map(|(a, b)| Step::Cut(a, b)),
        3 => Just(Step::Heal),
        2 => host.clone().prop_map(Step::Kill),
        1 => host.clone().prop_map(Step::Wipe),
        1 => host.clone().prop_map(Step::Hang),
        1 => (host.clone(), -400..400_i64).prop_map(|(host, by)| Step::Clock(host, by)),
        1 => Just(Step::Age),
        1 => (0..4_u64).prop_map(Step::Lose),
        1 => (host.clone(), host).prop_map(|(a, b)| Step::Compare(a, b)),
    ]
}

fn run(net: &mut Net, step: &Step) {
    match *step {
        Step::Put(host, key) if net.hosts[host].replica.is_complete() => {
            let value = net.number.to_string();
            net.put(host, &format!("k{key}"), &value);
        }
        Step::Delete(host, key) if net.hosts[host].replica.is_complete() => {
            net.delete(host, &format!("k{key}"));
        }
        Step::Put(..) | Step::Delete(..) => {}
        Step::Run(millis) => net.run(Duration::from_millis(millis)),
        Step::Isolate(host) => net.isolate(host),
        Step::Cut(a, b) if a != b => net.disconnect(a, b),
        Step::Cut(..) => {}
        Step::Heal => heal(net),
        Step::Kill(host) => net.restart(host),
        Step::Wipe(host) => {
            // The disk is lost after all it had was safe elsewhere, as an operator would see to.
            heal(net);
            let mine = net.hosts[host].replica.seen().clone();
            let safe = |net: &Net| {
                let others = (0..HOSTS).filter(|other| *other != host);
                others
                    .filter(|other| net.hosts[*other].replica.is_complete())
                    .any(|other| {
                        let id = net.hosts[other].id;
                        let mut mine = mine.clone();
                        mine.forget(|origin| net.hosts[other].replica.retired().contains(origin));
                        net.hosts[host].sync.acknowledged_by(id).covers(&mine)
                    })
            };
            net.run_until("safe elsewhere", Duration::from_secs(200), safe);
            net.wipe(host);
        }
        Step::Hang(host) => net.hosts[host].hangs = !net.hosts[host].hangs,
        Step::Clock(host, by) => net.hosts[host].clock += by,
        Step::Age => {
            for host in &mut net.hosts {
                host.clock += crate::TOMBSTONE_AGE.as_millis() as i64 + 100_000;
            }
        }
        Step::Lose(one_in) => net.loses = one_in,
        Step::Compare(a, b) => {
            let peer = net.hosts[b].id;
            net.hosts[a].sync.compare_ranges_with(peer);
        }
    }
}

fn heal(net: &mut Net) {
    for host in &mut net.hosts {
        host.hangs = false;
    }
    net.loses = 0;
    net.connect_all();
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 3000, ..ProptestConfig::with_cases(
        std::env::var("NEXUS_LIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(24)
    ) })]

    #[test]
    fn any_life_ends_in_one_state(steps in prop::collection::vec(step(), 1..80)) {
        let mut net = Net::new(HOSTS as u32);
        for step in &steps {
            run(&mut net, step);
            for host in &net.hosts {
                prop_assert!(host.sync.stopped().is_none(), "{:?}", host.sync.stopped());
                prop_assert!(host.misbehaved.is_empty(), "{:?}", host.misbehaved);
            }
        }
        heal(&mut net);
        net.run_until("in sync", Duration::from_secs(300), Net::converged);
        net.check_summaries();
        // Nobody was damaged, so no roots ever differed once all was seen.
        for host in &net.hosts {
            let differed = host.notices.iter().any(|notice| matches!(notice, Notice::RootsDiffer { .. }));
            prop_assert!(!differed, "{:?}", host.notices);
        }
        let rows = |host: &Host| [RowKind::Entry, RowKind::Dot, RowKind::Tombstone].map(|kind| host.rows.all(kind));
        for host in &net.hosts[1..] {
            prop_assert_eq!(rows(&net.hosts[0]), rows(host));
        }
        // All that was deleted goes, and all writers that left nothing.
        for key in 0..12 {
            net.delete(key % HOSTS, &format!("k{key}"));
        }
        for restart in [true, false] {
            net.run(Duration::from_secs(2));
            run(&mut net, &Step::Age);
            for host in (0..HOSTS).filter(|_| restart) {
                net.restart(host);
            }
            net.run(Duration::from_secs(40));
            net.run_until("in sync", Duration::from_secs(300), Net::converged);
        }
        for host in &net.hosts {
            prop_assert_eq!(host.replica.fingerprint().count, 0);
            prop_assert!(host.sync.report().origins <= HOSTS, "{} writers", host.sync.report().origins);
        }
    }
}
