//! Commands and outcomes as bytes.

use std::time::Duration;

use proptest::prelude::*;

use super::{name, node};
use crate::cluster::{
    Answer, ClusterCommand, CodecError, MAX_COMMAND_BYTES, MemberCommand, MemberRefusal, Refusal,
    Role, decode_outcome, encode_outcome,
};
use crate::id::{Epoch, PoolId, Seq};
use crate::lease::Keeping;
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::ShardKey;
use crate::shard_table::tests::histories::any_command;
use crate::shard_table::{self, Command, UnitGrant};

fn back_and_forth(command: &ClusterCommand) {
    let bytes = command.encode().unwrap();
    assert_eq!(ClusterCommand::decode(&bytes).as_ref(), Ok(command));
}

#[test]
fn a_pool_with_everything_that_it_can_have_comes_out_as_it_went_in() {
    let text = r#"
id: full
type: ipv4
cidr: 100.64.0.0/16
sharding_factor: 7
exclusions: ["100.64.0.0/24", "100.64.3.1-100.64.3.9"]
metadata: { region: east, tier: "ä" }
vrf: blue
shard_size: 24
cool_down: 90s
dhcp:
  router: 100.64.0.1
  dns: ["192.0.2.53"]
  lease_time: 10m
  domain_name: example.net
  ntp: ["192.0.2.123"]
  mtu: 1492
  next_server: 192.0.2.9
  rapid_commit: true
  release: keep
  idle_release: 1h
  options: { 43: "0a0b", 120: "00" }
"#;
    let spec: PoolSpec = serde_saphyr::from_str(text).unwrap();
    back_and_forth(
        &Command::AddPool {
            spec: Box::new(spec),
        }
        .into(),
    );
    let spec = PoolSpec::minimal(PoolId::new("v").unwrap(), ResourceType::Vlan, "1-9");
    back_and_forth(
        &Command::AddPool {
            spec: Box::new(spec),
        }
        .into(),
    );
}

#[test]
fn every_command_about_members_comes_out_as_it_went_in() {
    let node = node(7, "seven", Role::Write);
    for command in [
        MemberCommand::Found(node.clone()),
        MemberCommand::Join {
            node: node.clone(),
            admit: true,
            replace: false,
        },
        MemberCommand::Admit {
            name: name("seven"),
        },
        MemberCommand::CaughtUp { number: 7 },
        MemberCommand::Update(node),
        MemberCommand::Evict {
            number: 7,
            reason: "away".into(),
        },
        MemberCommand::Remove {
            name: name("seven"),
        },
    ] {
        back_and_forth(&command.into());
    }
}

#[test]
fn outcomes_come_out_as_they_went_in() {
    let key = ShardKey {
        pool: PoolId::new("v").unwrap(),
        shard: crate::id::ShardId(3),
    };
    let seq = Seq(9);
    for outcome in [
        Ok(Answer::default()),
        Ok(Answer {
            lease: Some(Duration::from_millis(86_400_123)),
            keeping: Some(Keeping {
                after: Some(Duration::from_secs(7)),
                rule: 3,
            }),
            unit: Some(UnitGrant {
                epoch: Epoch(4),
                seq,
            }),
            unit_is_new: true,
            member: Some(crate::cluster::MemberState::Evicted),
        }),
        Err(Refusal::Table(shard_table::Refusal::NotKept(key))),
        Err(Refusal::Table(shard_table::Refusal::Full {
            what: "it".into(),
            bound: 3,
        })),
        Err(Refusal::Member(MemberRefusal::UnknownNumber(5))),
    ] {
        let bytes = encode_outcome(&outcome).unwrap();
        assert_eq!(decode_outcome(&bytes), Ok(outcome));
    }
}

#[test]
fn a_command_of_another_version_is_told_from_garbage() {
    let mut bytes = ClusterCommand::from(Command::Tick).encode().unwrap();
    bytes[0] = 2;
    let error = ClusterCommand::decode(&bytes).unwrap_err();
    assert!(error.is_other_format(), "{error}");
    bytes[0] = 1;
    bytes.push(0xc0);
    let error = ClusterCommand::decode(&bytes).unwrap_err();
    assert!(!error.is_other_format(), "{error}");
    assert!(error.to_string().contains("1 bytes too many"), "{error}");
    assert!(matches!(
        ClusterCommand::decode(&[]),
        Err(CodecError::Empty { .. })
    ));
    let huge = vec![1; MAX_COMMAND_BYTES + 1];
    let error = ClusterCommand::decode(&huge).unwrap_err();
    assert!(matches!(error, CodecError::TooLarge { .. }), "{error}");
}

#[test]
fn a_heartbeat_takes_few_bytes() {
    let beat = serde_json::from_str::<Command>(
        r#"{"command":"renew","olt":"olt-east-01","session":"0123456789abcdef0123456789abcdef",
        "config_revision":1234,"last_seq":100000,"in_use":{"residential-ipv4":1500},"released":[]}"#,
    )
    .unwrap();
    let bytes = ClusterCommand::from(beat).encode().unwrap();
    assert!(bytes.len() <= 190, "{} bytes", bytes.len());
}

proptest! {
    #[test]
    fn every_command_about_shards_comes_out_as_it_went_in(command in any_command()) {
        back_and_forth(&command.into());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        command in any_command(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut with_format = vec![1];
        with_format.extend(&bytes);
        prop_assert!(ClusterCommand::decode(&with_format).is_err());
        let _ = decode_outcome(&with_format);
        let _ = crate::cluster::ClusterState::restore(&with_format);
        // One flipped bit may make another command, but whatever is read can be written again.
        let mut flipped = ClusterCommand::from(command).encode().unwrap();
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        if let Ok(command) = ClusterCommand::decode(&flipped) {
            back_and_forth(&command);
        }
        let cut = ClusterCommand::decode(&flipped[..at]);
        prop_assert!(cut.is_err());
    }
}
