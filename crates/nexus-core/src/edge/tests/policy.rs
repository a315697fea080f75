//! What the policies let happen, and what stays as it is.

use super::*;
use crate::edge::policy::change;

fn policies(subscriber_moves: Policy, mac_changes: Policy) -> Policies {
    Policies {
        subscriber_moves,
        mac_changes,
        quarantine: Duration::from_secs(300),
    }
}

/// What a subscriber gets on a line under policies, and what was noted of it.
fn ask(
    edge: &mut Edge,
    shell: &mut Shell,
    now: u64,
    (sub, on): Asker,
    policies: Policies,
) -> (Result<Granted, Denied>, Vec<Note>) {
    let request = Authorized {
        policies,
        ..request(sub, on)
    };
    let mut fx = Effects::new();
    let before = bound(edge);
    let granted = edge
        .authorize(at(now), &request, &mut fx)
        .map(|grants| grants.ipv4);
    if granted.is_err() {
        assert_eq!(bound(edge), before, "a refusal changes nothing");
    }
    shell.run(fx);
    let notes = shell.take().into_iter().filter_map(|action| match action {
        Action::Note(note) => Some(note),
        _ => None,
    });
    (granted, notes.collect())
}

fn bound(edge: &Edge) -> Vec<(SubscriberId, Option<LineKey>, Resource)> {
    let row = |view: BindingView<'_>| {
        (
            view.row.subscriber.clone(),
            view.row.key.clone(),
            view.resource,
        )
    };
    edge.bindings(None).map(row).collect()
}

use Policy::{Quarantine, Refuse, TakeOver};

/// A subscriber on a line.
type Asker = (u32, u16);

/// Who is bound where, who asks for which line next, and what is in its way.
const CONFLICTS: [(Asker, Asker, Conflict); 6] = [
    ((1, 1), (1, 2), Conflict::Moved),
    ((1, 1), (1, 5), Conflict::Moved),
    ((1, 1), (2, 1), Conflict::LineTaken),
    ((1, 5), (2, 5), Conflict::LineTaken),
    ((1, 5), (1, 6), Conflict::MacChanged),
    ((1, 7), (1, 8), Conflict::MacChanged),
];

#[test]
fn what_may_be_taken_over_is_and_what_may_not_stays() {
    for (first, then, conflict) in CONFLICTS {
        for strict in [Refuse, Quarantine] {
            let (held, free) = match conflict {
                Conflict::MacChanged => (policies(TakeOver, strict), policies(strict, TakeOver)),
                _ => (policies(strict, TakeOver), policies(TakeOver, strict)),
            };
            let mut shell = Shell::default();
            let mut edge = ready(&mut shell);
            let (granted, _) = ask(&mut edge, &mut shell, 200, first, held);
            let kept = line(first.1);
            let address = granted.unwrap().resource;
            let (denied, notes) = ask(&mut edge, &mut shell, 201, then, held);
            assert_eq!(denied, Err(Denied::Conflict(conflict)));
            let quarantine = (strict == Quarantine).then_some(held.quarantine);
            let note = Note::NotLet {
                conflict,
                subscriber: subscriber(then.0),
                key: line(then.1),
                holder: subscriber(first.0),
                on: kept.clone(),
                quarantine,
            };
            assert_eq!(notes, [note]);
            assert_eq!(edge.map_entry(&kept.place()).unwrap().key, kept);
            let (again, _) = ask(&mut edge, &mut shell, 202, first, held);
            assert_eq!(again.unwrap().resource, address, "what is bound goes on");
            if strict == Refuse {
                let (granted, notes) = ask(&mut edge, &mut shell, 203, then, free);
                assert!(granted.is_ok(), "{then:?} where the other policy is strict");
                assert_eq!(notes.len(), 1);
                assert_eq!(
                    edge.map_entry(&line(then.1).place()).unwrap().key,
                    line(then.1)
                );
            }
        }
    }
}

#[test]
fn the_strictest_policy_counts_for_another_subscriber_with_another_mac() {
    for (held, conflict) in [
        (policies(Refuse, TakeOver), Conflict::LineTaken),
        (policies(TakeOver, Refuse), Conflict::MacChanged),
        (policies(Refuse, Quarantine), Conflict::MacChanged),
    ] {
        let mut shell = Shell::default();
        let mut edge = ready(&mut shell);
        ask(&mut edge, &mut shell, 200, (1, 5), held).0.unwrap();
        let (denied, _) = ask(&mut edge, &mut shell, 201, (2, 6), held);
        assert_eq!(denied, Err(Denied::Conflict(conflict)));
    }
}

#[test]
fn another_mac_at_a_place_is_written_over_the_one_before() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 5).unwrap();
    shell.take();
    authorize(&mut edge, &mut shell, 201, 1, 6).unwrap();
    let actions = shell.take();
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::RemoveBinding(_)))
    );
    let note = Note::MacChanged {
        subscriber: subscriber(1),
        from: line(5),
        to: line(6),
    };
    assert!(actions.contains(&Action::Note(note)));
    assert_eq!(
        edge.map_entries()
            .map(|entry| entry.key)
            .collect::<Vec<_>>(),
        [line(6)]
    );
    let mut edge = shell.restart(at(202), "boot-a");
    let resource = edge.bindings(None).next().unwrap().resource;
    let mut fx = Effects::new();
    assert!(edge.dhcp_release(at(203), &line(5).place(), resource, &mut fx));
    assert!(fx.actions.contains(&Action::RemoveBinding(line(6).place())));
}

#[test]
fn a_decline_on_a_line_of_one_subscriber_keeps_the_mac_that_is_allowed() {
    for on in [6, 8, 9] {
        let mut shell = Shell::default();
        let mut edge = ready(&mut shell);
        let first = authorize(&mut edge, &mut shell, 200, 1, on).unwrap();
        let mut fx = Effects::new();
        let place = line(on).place();
        let other = edge
            .dhcp_decline(at(201), &place, first.resource, String::new(), &mut fx)
            .unwrap()
            .unwrap();
        assert_ne!(other.resource, first.resource);
        assert_eq!(edge.map_entry(&place).unwrap().key, line(on));
    }
}

#[test]
fn a_quarantine_holds_its_time_whatever_changes_and_no_longer() {
    let held = policies(Quarantine, TakeOver);
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    ask(&mut edge, &mut shell, 200, (1, 1), held).0.unwrap();
    ask(&mut edge, &mut shell, 201, (2, 1), held).0.unwrap_err();
    let mut fx = Effects::new();
    edge.end_session(at(202), &subscriber(1), "session-stop", &mut fx);
    let (denied, notes) = ask(&mut edge, &mut shell, 203, (2, 1), held);
    assert_eq!(denied, Err(Denied::KeptAway(Duration::from_secs(298))));
    assert!(notes.is_empty(), "it was said once");
    assert_eq!(edge.view(at(203)).kept_away, 1);
    ask(&mut edge, &mut shell, 204, (2, 2), held).0.unwrap();
    ask(&mut edge, &mut shell, 205, (3, 1), held).0.unwrap();
    edge.end_session(at(206), &subscriber(2), "session-stop", &mut fx);
    edge.end_session(at(206), &subscriber(3), "session-stop", &mut fx);
    ask(&mut edge, &mut shell, 500, (2, 1), held).0.unwrap_err();
    ask(&mut edge, &mut shell, 501, (2, 1), held).0.unwrap();
    assert_eq!(edge.view(at(501)).kept_away, 0);
}

#[test]
fn the_table_of_those_kept_away_is_bounded_and_the_oldest_leaves_it() {
    let held = policies(Quarantine, TakeOver);
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    ask(&mut edge, &mut shell, 200, (0, 1), held).0.unwrap();
    let limit = u32::try_from(KEPT_AWAY_LIMIT).unwrap();
    for sub in 1..=limit + 1 {
        ask(&mut edge, &mut shell, 201, (sub, 1), held)
            .0
            .unwrap_err();
    }
    assert_eq!(edge.view(at(201)).kept_away, u64::from(limit));
    let denied = |edge: &mut Edge, shell: &mut Shell, sub| {
        ask(edge, shell, 202, (sub, 1), held).0.unwrap_err()
    };
    assert!(matches!(
        denied(&mut edge, &mut shell, 2),
        Denied::KeptAway(_)
    ));
    assert!(matches!(
        denied(&mut edge, &mut shell, 1),
        Denied::Conflict(_)
    ));
}

#[test]
fn a_line_that_is_only_named_otherwise_is_the_same_line() {
    let key = |text: &str| text.parse::<LineKey>().unwrap();
    let mac = "02:00:00:00:00:01";
    for (old, new, expected) in [
        ("e1 100.7", "e1 vlan 100.7", None),
        ("e1 any", "e1 100.7", None),
        ("e1 vlan 100.7", "e1 circuit 30", None),
        ("e1 100.7", "e1 vlan 100.8", Some(Conflict::Moved)),
        ("e1 circuit 30", "e1 circuit 31", Some(Conflict::Moved)),
        ("e1 any", "e2 any", Some(Conflict::Moved)),
        ("e1 vlan 100.7", "e2 vlan 100.7", Some(Conflict::Moved)),
    ] {
        let [old, new] = [old, new].map(|at| format!("{at} {mac}"));
        assert_eq!(change(&key(&old), &key(&new)), expected, "{old} {new}");
    }
    for (old, new, expected) in [
        ("e1 100.7", "e1 100.7", Conflict::MacChanged),
        ("e1 any", "e1 any", Conflict::MacChanged),
        ("e1 100.7", "e1 vlan 100.7", Conflict::MacChanged),
        ("e1 any", "e1 100.7", Conflict::Moved),
    ] {
        let (old, new) = (format!("{old} {mac}"), format!("{new} 02:00:00:00:00:02"));
        assert_eq!(
            change(&key(&old), &key(&new)),
            Some(expected),
            "{old} {new}"
        );
    }
}

#[test]
fn a_binding_on_an_interface_that_is_not_served_any_more_is_in_nobodys_way() {
    let held = policies(Refuse, Refuse);
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    ask(&mut edge, &mut shell, 200, (1, 1), held).0.unwrap();
    let elsewhere = Authorized {
        key: LineKey {
            interface: "eth2".to_owned(),
            ..line(1)
        },
        policies: held,
        ..request(1, 1)
    };
    let mut fx = Effects::new();
    let denied = edge.authorize(at(201), &elsewhere, &mut fx);
    assert_eq!(denied, Err(Denied::Conflict(Conflict::Moved)));
    edge.serve_interfaces(["eth2".to_owned()]);
    assert!(
        edge.authorize(at(202), &elsewhere, &mut fx)
            .unwrap()
            .ipv4
            .known
    );
}
