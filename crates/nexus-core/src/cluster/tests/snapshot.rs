//! A node that installed a snapshot goes on exactly like one that applied the log.

use proptest::prelude::*;

use super::node;
use crate::cluster::{ClusterCommand, ClusterState, MemberCommand, Role, SnapshotError};
use crate::shard_table::tests::histories::any_command;
use crate::shard_table::tests::{at, vlans};
use crate::shard_table::{Command, RestoreError};

fn any_member_command() -> impl Strategy<Value = MemberCommand> {
    let role = prop_oneof![Just(Role::Core), Just(Role::Write), Just(Role::Read)];
    let any_node = (1u32..6, 0u8..4, role)
        .prop_map(|(number, called, role)| node(number, &format!("n{called}"), role));
    let number = 1u32..6;
    let called = (0u8..4).prop_map(|called| super::name(&format!("n{called}")));
    prop_oneof![
        2 => any_node.clone().prop_map(MemberCommand::Found),
        6 => (any_node.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(node, admit, replace)| MemberCommand::Join { node, admit, replace }),
        2 => called.clone().prop_map(|name| MemberCommand::Admit { name }),
        4 => number.clone().prop_map(|number| MemberCommand::CaughtUp { number }),
        2 => any_node.prop_map(MemberCommand::Update),
        2 => number.prop_map(|number| MemberCommand::Evict { number, reason: "away".into() }),
        1 => called.prop_map(|name| MemberCommand::Remove { name }),
    ]
}

fn any_cluster_command() -> impl Strategy<Value = ClusterCommand> {
    prop_oneof![
        3 => any_command().prop_map(ClusterCommand::Table),
        1 => any_member_command().prop_map(ClusterCommand::Member),
    ]
}

proptest! {
    #[test]
    fn a_node_that_installed_a_snapshot_goes_on_like_one_that_applied_the_log(
        commands in proptest::collection::vec((any_cluster_command(), 0u64..60_000, any::<bool>()), 1..80),
    ) {
        let mut applied = ClusterState::new();
        let mut installed = ClusterState::new();
        let mut secs = 0;
        for (command, wait, snapshot) in commands {
            secs += wait;
            // As it comes out of the log.
            let command = ClusterCommand::decode(&command.encode().unwrap()).unwrap();
            let one = applied.apply(at(secs), command.clone());
            prop_assert_eq!(&one, &installed.apply(at(secs), command));
            let bytes = applied.snapshot().unwrap();
            prop_assert_eq!(&bytes, &installed.snapshot().unwrap());
            if snapshot {
                installed = ClusterState::restore(&bytes).unwrap();
                prop_assert_eq!(&installed, &applied);
            }
        }
    }

    #[test]
    fn a_founded_cluster_always_has_a_voter_and_names_and_keys_are_unique(
        commands in proptest::collection::vec(any_member_command(), 1..80),
    ) {
        let mut state = ClusterState::new();
        let founder = MemberCommand::Found(node(1, "n0", Role::Core));
        let _ = state.apply(at(0), founder.into()).unwrap();
        for command in commands {
            let revision = state.members().revision();
            let news = state.members().is_news(&command);
            let before = state.clone();
            let outcome = state.apply(at(0), command.into());
            match outcome {
                Err(_) => prop_assert_eq!(&before, &state),
                Ok(applied) => {
                    prop_assert_eq!(news, !applied.members.is_empty());
                    prop_assert_eq!(news, state.members().revision() > revision);
                }
            }
            prop_assert!(state.members().wanted_voters().next().is_some());
            let mut names: Vec<_> = state.members().iter().map(|m| m.node.name.clone()).collect();
            let mut keys: Vec<_> = state.members().iter().map(|m| m.node.peer_id.clone()).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            keys.sort();
            keys.dedup();
            prop_assert_eq!((names.len(), keys.len()), (count, count));
            for removed in state.members().removed() {
                prop_assert!(state.members().get(removed.number).is_none());
            }
        }
    }
}

#[test]
fn a_snapshot_that_was_cut_flipped_or_made_by_another_version_is_refused() {
    let mut state = ClusterState::new();
    let _ = state
        .apply(
            at(0),
            MemberCommand::Found(node(1, "n0", Role::Core)).into(),
        )
        .unwrap();
    let spec = vlans("v", 5);
    let _ = state
        .drive(at(0), Command::AddPool { spec }.into())
        .unwrap();
    let bytes = state.snapshot().unwrap();
    for len in 0..bytes.len() {
        assert!(ClusterState::restore(&bytes[..len]).is_err(), "{len}");
    }
    let mut other = bytes.clone();
    other[0] = 9;
    let error = ClusterState::restore(&other).unwrap_err();
    assert!(error.to_string().contains("format 9"), "{error}");
    for at in 1..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        // Quorum's checksum notices what still makes sense; here nothing may break.
        if let Ok(state) = ClusterState::restore(&flipped) {
            let _ = state.snapshot().unwrap();
        }
    }
}

#[test]
fn a_snapshot_whose_parts_do_not_go_together_is_refused() {
    let mut state = ClusterState::new();
    let spec = vlans("v", 5);
    let _ = state
        .drive(at(0), Command::AddPool { spec }.into())
        .unwrap();
    let bytes = state.snapshot().unwrap();
    // The range of the pool, `1-50`, so that the shard that the cluster keeps lies beyond its end.
    let text = b"1-50";
    let place = bytes.windows(4).position(|four| four == text).unwrap();
    let mut short = bytes;
    short[place..place + 4].copy_from_slice(b"1-40");
    let error = ClusterState::restore(&short).unwrap_err();
    let expected = matches!(error, SnapshotError::Table(RestoreError::StrayShard(_)));
    assert!(expected, "{error}");
}
