//! Who is let in, who votes, for whom tombstones wait.

use super::{name, node};
use crate::cluster::{
    Applied, ClusterState, Introduction, MAX_MEMBERS, MAX_PENDING, MAX_REMOVED, MemberCommand,
    MemberRefusal, MemberState, Refusal, Role,
};
use crate::time::ClusterTime;

fn tell(state: &mut ClusterState, command: MemberCommand) -> Result<Applied, MemberRefusal> {
    let now = ClusterTime(state.now().0 + 1);
    state
        .apply(now, command.into())
        .map_err(|error| match error {
            Refusal::Member(refusal) => refusal,
            other => panic!("{other}"),
        })
}

fn join(node: Introduction) -> MemberCommand {
    MemberCommand::Join {
        node,
        admit: false,
        replace: false,
    }
}

fn admitted(node: Introduction) -> MemberCommand {
    MemberCommand::Join {
        node,
        admit: true,
        replace: false,
    }
}

fn remove(called: &str) -> MemberCommand {
    MemberCommand::Remove { name: name(called) }
}

/// Three core nodes and a read node, all active: numbers 1, 2, 3 and 9.
fn cluster() -> ClusterState {
    let mut state = ClusterState::new();
    let _ = tell(&mut state, MemberCommand::Found(node(1, "a", Role::Core))).unwrap();
    for node in [
        node(2, "b", Role::Core),
        node(3, "c", Role::Write),
        node(9, "r", Role::Read),
    ] {
        let number = node.number;
        let _ = tell(&mut state, admitted(node)).unwrap();
        let _ = tell(&mut state, MemberCommand::CaughtUp { number }).unwrap();
    }
    state
}

fn voters(state: &ClusterState) -> Vec<u32> {
    state.members().wanted_voters().collect()
}

fn learners(state: &ClusterState) -> Vec<u32> {
    state.members().wanted_learners().collect()
}

fn held_by(state: &ClusterState) -> Vec<u32> {
    state.members().holding_tombstones().collect()
}

#[test]
fn a_node_waits_for_an_operator_then_fetches_then_votes() {
    let mut state = ClusterState::new();
    let _ = tell(&mut state, MemberCommand::Found(node(1, "a", Role::Core))).unwrap();
    assert_eq!((voters(&state), learners(&state)), (vec![1], vec![]));

    let applied = tell(&mut state, join(node(2, "b", Role::Write))).unwrap();
    assert_eq!(applied.member, Some(MemberState::Pending));
    assert_eq!(applied.members[0].from, None);
    assert_eq!((voters(&state), learners(&state)), (vec![1], vec![]));
    assert_eq!(held_by(&state), [1]);

    let applied = tell(&mut state, MemberCommand::Admit { name: name("b") }).unwrap();
    assert_eq!(applied.member, Some(MemberState::Joining));
    assert_eq!((voters(&state), learners(&state)), (vec![1], vec![2]));
    assert_eq!(held_by(&state), [1, 2], "tombstones wait from now on");

    let _ = tell(&mut state, MemberCommand::CaughtUp { number: 2 }).unwrap();
    assert_eq!((voters(&state), learners(&state)), (vec![1, 2], vec![]));
}

#[test]
fn a_read_node_never_votes() {
    let state = cluster();
    assert_eq!((voters(&state), learners(&state)), (vec![1, 2, 3], vec![9]));
}

#[test]
fn what_is_said_twice_changes_nothing_the_second_time() {
    let mut state = cluster();
    let twice = [
        join(node(2, "b", Role::Core)),
        MemberCommand::Admit { name: name("b") },
        MemberCommand::CaughtUp { number: 2 },
        MemberCommand::Update(node(2, "b", Role::Core)),
    ];
    let revision = state.members().revision();
    for command in twice {
        assert!(!state.members().is_news(&command), "{command:?}");
        let applied = tell(&mut state, command).unwrap();
        assert_eq!(applied.member, Some(MemberState::Active));
        assert!(applied.members.is_empty());
    }
    assert_eq!(state.members().revision(), revision);
    let evict = MemberCommand::Evict {
        number: 9,
        reason: "away for 7d".into(),
    };
    for command in [evict, remove("r")] {
        let first = tell(&mut state, command.clone()).unwrap();
        assert_eq!(first.members.len(), 1);
        let second = tell(&mut state, command).unwrap();
        assert!(second.members.is_empty());
    }
    assert_eq!(state.members().revision(), revision + 2);
}

#[test]
fn a_cluster_is_founded_once() {
    let mut state = cluster();
    let error = tell(&mut state, MemberCommand::Found(node(5, "e", Role::Core))).unwrap_err();
    assert!(matches!(error, MemberRefusal::Founded { .. }), "{error}");
}

#[test]
fn a_member_that_comes_back_elsewhere_is_known_by_its_number_and_key() {
    let mut state = cluster();
    let mut moved = node(2, "b", Role::Core);
    moved.addresses = vec!["/dns/b.example/udp/9000/quic-v1".into()];
    let command = join(moved.clone());
    assert!(state.members().is_news(&command));
    let applied = tell(&mut state, command).unwrap();
    assert_eq!(applied.members[0].to, Some(MemberState::Active));
    assert_eq!(state.members().get(2).unwrap().node, moved);
}

#[test]
fn copies_of_a_store_or_of_a_key_are_refused_with_the_name_of_the_other() {
    let mut state = cluster();
    let copied_store = Introduction {
        number: 2,
        ..node(7, "other", Role::Core)
    };
    let error = tell(&mut state, join(copied_store)).unwrap_err();
    assert!(error.to_string().contains("belongs to member b"), "{error}");
    let copied_key = Introduction {
        number: 7,
        name: name("other"),
        ..node(2, "b", Role::Core)
    };
    let error = tell(&mut state, join(copied_key)).unwrap_err();
    assert!(matches!(error, MemberRefusal::PeerInUse { .. }), "{error}");
    let new_key = Introduction {
        peer_id: "12D3KooWnew".into(),
        ..node(2, "b", Role::Core)
    };
    let error = tell(&mut state, join(new_key)).unwrap_err();
    assert!(matches!(error, MemberRefusal::OtherKey { .. }), "{error}");
}

#[test]
fn a_node_that_lost_its_store_takes_its_old_place_only_when_told_so() {
    let mut state = cluster();
    let fresh = || node(22, "b", Role::Core);
    let error = tell(&mut state, admitted(fresh())).unwrap_err();
    assert!(
        error.to_string().contains("under number 2 (active)"),
        "{error}"
    );
    let replace = MemberCommand::Join {
        node: fresh(),
        admit: true,
        replace: true,
    };
    let applied = tell(&mut state, replace).unwrap();
    assert_eq!(applied.members.len(), 2);
    assert_eq!(voters(&state), [1, 3]);
    assert_eq!(learners(&state), [9, 22]);
    let error = tell(&mut state, join(node(2, "b2", Role::Core))).unwrap_err();
    assert!(matches!(error, MemberRefusal::Removed { .. }), "{error}");
}

#[test]
fn a_replacement_that_kept_its_key_is_not_refused_for_it() {
    let mut state = cluster();
    let fresh = Introduction {
        number: 22,
        ..node(2, "b", Role::Core)
    };
    let replace = MemberCommand::Join {
        node: fresh.clone(),
        admit: true,
        replace: true,
    };
    let _ = tell(&mut state, replace).unwrap();
    assert_eq!(state.members().removed()[0].peer_id, None);
    let _ = tell(&mut state, join(fresh)).unwrap();
}

#[test]
fn a_removed_node_is_refused_under_its_number_and_under_its_key() {
    let mut state = cluster();
    let _ = tell(&mut state, remove("b")).unwrap();
    assert_eq!(voters(&state), [1, 3]);
    let same_key = Introduction {
        number: 77,
        ..node(2, "b", Role::Core)
    };
    let same_number = Introduction {
        number: 2,
        ..node(77, "b", Role::Core)
    };
    for back in [same_key, same_number] {
        let error = tell(&mut state, admitted(back.clone())).unwrap_err();
        assert!(matches!(error, MemberRefusal::Removed { .. }), "{error}");
        let error = tell(&mut state, MemberCommand::Update(back)).unwrap_err();
        assert!(matches!(error, MemberRefusal::Removed { .. }), "{error}");
    }
    let _ = tell(&mut state, admitted(node(77, "b", Role::Core))).unwrap();
}

#[test]
fn the_last_writer_can_neither_go_nor_become_a_reader() {
    let mut state = cluster();
    let _ = tell(&mut state, admitted(node(4, "d", Role::Core))).unwrap();
    for called in ["b", "c"] {
        let _ = tell(&mut state, remove(called)).unwrap();
    }
    // `d` has not caught up, so that `a` is the only one that knows everything.
    let reader = MemberCommand::Update(node(1, "a", Role::Read));
    let replaced = MemberCommand::Join {
        node: node(11, "a", Role::Core),
        admit: true,
        replace: true,
    };
    for command in [remove("a"), reader.clone(), replaced] {
        let error = tell(&mut state, command).unwrap_err();
        assert!(matches!(error, MemberRefusal::LastWriter { .. }), "{error}");
    }
    let _ = tell(&mut state, MemberCommand::CaughtUp { number: 4 }).unwrap();
    let _ = tell(&mut state, reader).unwrap();
    assert_eq!((voters(&state), learners(&state)), (vec![4], vec![1, 9]));
}

#[test]
fn an_evicted_reader_holds_nothing_up_and_joins_again_by_itself() {
    let mut state = cluster();
    let evict = |number| MemberCommand::Evict {
        number,
        reason: "away for 7d".into(),
    };
    let error = tell(&mut state, evict(2)).unwrap_err();
    assert!(
        matches!(error, MemberRefusal::NotEvictable { .. }),
        "{error}"
    );
    let _ = tell(&mut state, evict(9)).unwrap();
    assert_eq!(held_by(&state), [1, 2, 3]);
    assert_eq!(learners(&state), [0; 0]);
    assert_eq!(state.members().get(9).unwrap().reason, "away for 7d");
    let error = tell(&mut state, MemberCommand::CaughtUp { number: 9 }).unwrap_err();
    assert!(matches!(error, MemberRefusal::WrongState { .. }), "{error}");
    let applied = tell(&mut state, join(node(9, "r", Role::Read))).unwrap();
    assert_eq!(applied.member, Some(MemberState::Joining));
    assert_eq!(state.members().get(9).unwrap().reason, "");
    assert_eq!(held_by(&state), [1, 2, 3, 9]);
}

#[test]
fn each_admission_of_a_node_has_a_number_of_its_own() {
    let mut state = cluster();
    let admitted = |state: &ClusterState| state.members().get(9).unwrap().admitted;
    let first = admitted(&state);
    assert!(first > 0);
    let update = MemberCommand::Update(Introduction {
        http: String::new(),
        ..node(9, "r", Role::Read)
    });
    let _ = tell(&mut state, update).unwrap();
    assert_eq!(admitted(&state), first, "it was in all the time");
    let evict = MemberCommand::Evict {
        number: 9,
        reason: "away for 7d".into(),
    };
    let _ = tell(&mut state, evict).unwrap();
    let _ = tell(&mut state, join(node(9, "r", Role::Read))).unwrap();
    assert!(admitted(&state) > first);
    let _ = tell(&mut state, join(node(10, "s", Role::Read))).unwrap();
    assert_eq!(state.members().get(10).unwrap().admitted, 0, "not yet");
}

#[test]
fn lists_are_bounded_and_what_is_removed_first_is_forgotten_first() {
    let mut state = cluster();
    let number = |i: usize| u32::try_from(1000 + i).unwrap();
    for i in 0..MAX_PENDING {
        let _ = tell(
            &mut state,
            join(node(number(i), &format!("p{i}"), Role::Core)),
        )
        .unwrap();
    }
    let error = tell(&mut state, join(node(500, "x", Role::Core))).unwrap_err();
    assert!(matches!(error, MemberRefusal::Full { .. }), "{error}");
    for i in MAX_PENDING..MAX_MEMBERS - 4 {
        let node = node(number(i), &format!("p{i}"), Role::Core);
        let _ = tell(&mut state, admitted(node)).unwrap();
    }
    let error = tell(&mut state, admitted(node(500, "x", Role::Core))).unwrap_err();
    assert!(error.to_string().contains("bound of 64"), "{error}");
    let _ = tell(&mut state, remove("p0")).unwrap();
    for i in 0..MAX_REMOVED {
        let node = node(number(5000 + i), "x", Role::Core);
        let _ = tell(&mut state, admitted(node)).unwrap();
        let _ = tell(&mut state, remove("x")).unwrap();
    }
    assert_eq!(state.members().removed().len(), MAX_REMOVED);
    assert_eq!(state.members().removed()[0].number, number(5000));
}

#[test]
fn texts_that_nobody_could_use_are_refused_with_their_field() {
    let mut state = cluster();
    let bad = [
        (
            "peer_id",
            Introduction {
                peer_id: String::new(),
                ..node(5, "e", Role::Core)
            },
        ),
        (
            "http",
            Introduction {
                http: "a b".into(),
                ..node(5, "e", Role::Core)
            },
        ),
        (
            "grpc",
            Introduction {
                grpc: "x".repeat(257),
                ..node(5, "e", Role::Core)
            },
        ),
        (
            "addresses",
            Introduction {
                addresses: vec!["\n".into()],
                ..node(5, "e", Role::Core)
            },
        ),
        (
            "addresses",
            Introduction {
                addresses: vec!["/x".into(); 17],
                ..node(5, "e", Role::Core)
            },
        ),
    ];
    for (field, node) in bad {
        let error = tell(&mut state, join(node)).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{field} of node e")),
            "{error}"
        );
    }
    assert_eq!("write".parse(), Ok(Role::Write));
    assert!("writer".parse::<Role>().is_err());
}
