//! Pools that change while something of them is held.

use super::*;

/// The pool with other exclusions and another space, whose first shard is this host's.
fn changed(revision: u64, cidr: &str, exclusions: &[&str], shards: &[(u32, u64)]) -> EdgeConfig {
    let mut config = config(revision, shards);
    config.pools[0].spec.cidr = Some(cidr.to_owned());
    config.pools[0].spec.exclusions = exclusions.iter().map(|one| (*one).to_owned()).collect();
    config
}

fn configure(edge: &mut Edge, shell: &mut Shell, now: u64, config: EdgeConfig) -> Vec<Action> {
    let mut fx = Effects::new();
    edge.configure(at(now), config, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(now), &mut fx);
    let actions = fx.actions.clone();
    shell.run(fx);
    actions
}

#[test]
fn a_pool_grows_and_shrinks_under_its_bindings() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let grown = changed(2, "10.0.0.0/25", &[], &[(0, 1), (1, 1), (7, 1)]);
    let actions = configure(&mut edge, &mut shell, 201, grown);
    let touched = |action: &Action| matches!(action, Action::RemoveBinding(_) | Action::Note(_));
    assert!(!actions.iter().any(touched), "{actions:?}");
    assert_eq!(edge.view(at(201)).shards.len(), 3);
    // More than the two shards of before have.
    for n in 2..=30 {
        let mut fx = Effects::new();
        let key = LineKey {
            at: At::Mac,
            mac: [2, 0, 0, 0, 1, u8::try_from(n).unwrap()],
            ..line(9)
        };
        let request = Authorized {
            key,
            ..request(n, 9)
        };
        edge.authorize(at(202), &request, &mut fx).unwrap();
        shell.run(fx);
    }
    let last = |resource: &Resource| matches!(resource, Resource::Ipv4(a) if a.octets()[3] >= 112);
    let in_last = |edge: &Edge| {
        edge.bindings(None)
            .filter(|view| last(&view.resource))
            .count()
    };
    let going = in_last(&edge);
    assert!(going > 0);
    let mut edge = shell.restart(at(203), "boot-a");
    assert_eq!(edge.bindings(None).count(), 30);
    // The centre lets a shard go once it is empty; what it does not know of ends with it.
    let shrunk = changed(3, "10.0.0.0/26", &[], &[(0, 1), (1, 1)]);
    configure(&mut edge, &mut shell, 204, shrunk);
    assert_eq!(
        (in_last(&edge), edge.bindings(None).count()),
        (0, 30 - going)
    );
    let gone = |row: &&Row| matches!(row, Row::Unit(row) if last(&row.resource));
    assert_eq!(shell.rows.values().find(gone), None);
    let edge = shell.restart(at(205), "boot-a");
    assert_eq!(edge.bindings(None).count(), 30 - going);
}

#[test]
fn an_address_that_is_excluded_while_it_is_held_stays_until_it_is_released_and_is_not_given_again()
{
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let shards = [(0, 1), (1, 1)];
    let excluded = changed(2, "10.0.0.0/26", &["10.0.0.2"], &shards);
    configure(&mut edge, &mut shell, 201, excluded);
    let again = authorize(&mut edge, &mut shell, 202, 1, 1).unwrap();
    assert_eq!((again.resource, again.known), (granted.resource, true));
    let mut fx = Effects::new();
    edge.end_session(at(203), &subscriber(1), "session-stop", &mut fx);
    shell.run(fx);
    let other = authorize(&mut edge, &mut shell, 204, 1, 1).unwrap();
    assert_ne!(other.resource, granted.resource);
}

#[test]
fn another_start_of_a_pool_in_use_is_refused_with_what_to_do() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let moved = changed(2, "10.0.1.0/26", &[], &[(0, 1), (1, 1)]);
    let actions = configure(&mut edge, &mut shell, 201, moved);
    let said = actions.iter().find_map(|action| match action {
        Action::Note(Note::BadPool { why, .. }) => Some(why),
        _ => None,
    });
    let said = said.unwrap();
    assert!(
        said.contains("released first") && said.contains("10.0.1.0/26"),
        "{said}"
    );
    assert_eq!(edge.bindings(None).count(), 1);
}

#[test]
fn a_shard_that_is_asked_back_gives_nothing_new_and_its_bindings_stay() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut asked_back = config(2, &[(0, 1), (1, 1)]);
    asked_back.pools[0].shards[0].draining = true;
    configure(&mut edge, &mut shell, 201, asked_back);
    let again = authorize(&mut edge, &mut shell, 202, 1, 1).unwrap();
    assert_eq!((again.resource, again.known), (granted.resource, true));
    let other = authorize(&mut edge, &mut shell, 203, 2, 2).unwrap();
    assert_eq!(other.resource, address("10.0.0.16"), "of the other shard");
}
