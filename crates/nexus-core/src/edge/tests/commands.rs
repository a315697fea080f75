//! What is told to the centre, in which order, and how its answers count.

use super::*;

#[test]
fn acked_below_stays_at_the_oldest_unacknowledged_command() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for n in 1..=3 {
        authorize(&mut edge, &mut shell, 200, n, n as u16).unwrap();
    }
    acked(&mut edge, &mut shell, 2);
    shell.take();
    authorize(&mut edge, &mut shell, 201, 4, 4).unwrap();
    assert_eq!(shell.sent()[0].acked_below, Seq(1));
    acked(&mut edge, &mut shell, 1);
    authorize(&mut edge, &mut shell, 201, 5, 5).unwrap();
    assert_eq!(shell.sent()[0].acked_below, Seq(3));
}

#[test]
fn only_so_many_commands_are_on_their_way_and_lost_ones_are_sent_again() {
    let mut spec = spec();
    spec.cidr = Some("10.0.0.0/23".to_owned());
    spec.shard_size = Some(24);
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(1), "boot-a");
    let mut fx = Effects::new();
    let mut config = config(1, &[(0, 1), (1, 1)]);
    config.pools[0].spec = spec;
    edge.registered(at(1), at(1), Duration::from_secs(600), config, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(1), &mut fx);
    for n in 0..IN_FLIGHT_LIMIT as u32 + 100 {
        edge.authorize(at(1), &request(n, n as u16), &mut fx)
            .unwrap();
    }
    shell.run(fx);
    assert_eq!(shell.sent().len(), IN_FLIGHT_LIMIT);
    edge.lost(at(2), Seq(7));
    let mut fx = Effects::new();
    edge.acked(at(200), Seq(1), &mut fx);
    edge.tick(at(3), &mut fx);
    assert!(!fx.actions.iter().any(|a| matches!(a, Action::Send(_))));
    edge.tick(at(4), &mut fx);
    shell.run(fx);
    let seqs: Vec<_> = shell.sent().iter().map(|out| out.seq).collect();
    assert_eq!(seqs, [Seq(7), Seq(IN_FLIGHT_LIMIT as u64 + 1)]);
}
