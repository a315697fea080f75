//! Any commands in any order.

use proptest::prelude::*;

use super::*;
use crate::id::SubscriberId;
use crate::placement;

pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    let olt_and_session = (0u8..3, 0u8..3);
    prop_oneof![
        4 => olt_and_session.clone().prop_map(|(o, s)| {
            Command::Register(register(&format!("olt-{o}"), &format!("s-{s}")))
        }),
        6 => (olt_and_session.clone(), 0u64..40, 0u32..4, 0u64..4).prop_map(|((o, s), rev, shard, epoch)| {
            Command::Renew(Renew {
                olt: olt(&format!("olt-{o}")),
                session: session(&format!("s-{s}")),
                config_revision: rev,
                last_seq: Seq(rev),
                idle: BTreeMap::new(),
        in_use: BTreeMap::from([(pool_id("v"), rev)]),
                released: vec![ShardRef { pool: pool_id("v"), shard: ShardId(shard), epoch: Epoch(epoch) }],
                acked_below: Seq(rev / 2),
                keeping: rev.checked_sub(1),
            })
        }),
        1 => (0u8..3).prop_map(|o| Command::Drain { olt: olt(&format!("olt-{o}")) }),
        1 => (0u8..3).prop_map(|o| Command::Activate { olt: olt(&format!("olt-{o}")) }),
        1 => (3u16..9).prop_map(|shards| Command::UpdatePool { spec: vlans("v", shards) }),
        1 => (0u8..3).prop_map(|o| Command::Deregister { olt: olt(&format!("olt-{o}")) }),
        1 => (0u8..3).prop_map(|o| Command::Fence { olt: olt(&format!("olt-{o}")), reason: "test".into() }),
        2 => Just(Command::AddPool { spec: vlans("v", 5) }),
        1 => Just(Command::RemovePool { pool: pool_id("v") }),
        1 => (0u8..3, 0u64..200_000).prop_map(|(o, secs)| Command::Reclaimed { olt: olt(&format!("olt-{o}")), until: at(secs) }),
        4 => Just(Command::Tick),
        // Steps that somebody thought out on another table.
        3 => proptest::collection::vec(any_step(), 0..6).prop_map(|steps| Command::Place { steps }),
        1 => (1u64..100_000).prop_map(|secs| {
            let (length, heartbeat) = (Duration::from_secs(secs), Duration::from_millis(100));
            let rule = LeaseRule::new(length, heartbeat).unwrap();
            let after = Some(length / 3).filter(|after| after.as_secs() > 0);
            Command::SetRule { rule: rule.reclaiming_after(after).unwrap() }
        }),
        4 => (3u32..6, 0u64..11, 0u8..3).prop_map(|(shard, unit, holder)| Command::TakeUnit {
            shard: ShardKey { pool: pool_id("v"), shard: ShardId(shard) },
            unit,
            holder: SubscriberId::new(format!("sub-{holder}")).unwrap(),
            server: u32::from(holder),
        }),
        2 => (3u32..6, 0u64..11, 0u64..8).prop_map(|(shard, unit, seq)| Command::FreeUnit {
            shard: ShardKey { pool: pool_id("v"), shard: ShardId(shard) },
            unit,
            seq: Seq(seq),
        }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    (0u32..7, 0u8..5, any::<bool>()).prop_map(|(shard, o, grant)| {
        let shard = ShardKey {
            pool: pool_id("v"),
            shard: ShardId(shard),
        };
        let olt = match o {
            4 => OltId::cluster(),
            o => olt(&format!("olt-{o}")),
        };
        if grant {
            Step::Grant { shard, to: olt }
        } else {
            Step::Drain { shard, from: olt }
        }
    })
}

/// What no step may break, whoever thought it out.
fn check_owners(table: &ShardTable) -> Result<(), TestCaseError> {
    for row in table.shards(&pool_id("v")) {
        prop_assert!(table.pool(&pool_id("v")).unwrap().units(row.key.shard) > 0);
        prop_assert_eq!(row.owner.is_none(), row.state == ShardState::Free);
    }
    Ok(())
}

proptest! {
    #[test]
    fn epochs_only_grow_a_refusal_changes_nothing_and_placement_comes_to_rest(
        commands in proptest::collection::vec((any_command(), 0u64..60_000), 1..80),
    ) {
        let mut table = ShardTable::new(LeaseRule::default());
        let mut epochs: BTreeMap<ShardKey, Epoch> = BTreeMap::new();
        let mut secs = 0;
        for (command, wait) in commands {
            secs += wait;
            let mut before = table.clone();
            match table.drive(at(secs), command) {
                Err(_) => {
                    before.advance(at(secs));
                    prop_assert_eq!(before, table.clone());
                }
                Ok(applied) => {
                    for step in &applied.moves {
                        let last = epochs.insert(step.key.clone(), step.epoch).unwrap_or_default();
                        let grown = if step.to.is_some() { step.epoch > last } else { step.epoch >= last };
                        prop_assert!(grown, "{:?} after epoch {}", step, last);
                    }
                }
            }
            prop_assert!(table.is_placed_where_it_is_settled());
            check_owners(&table)?;
        }
    }
}

impl ShardTable {
    fn is_placed_where_it_is_settled(&self) -> bool {
        let settled = |(id, entry): (&PoolId, &PoolEntry)| {
            entry.unsettled.0
                || entry.removing
                || placement::place(
                    entry.shrink_to.as_ref().unwrap_or(&entry.pool),
                    &self.members(id),
                    &self.held(entry),
                )
                .is_empty()
        };
        self.pools.iter().all(settled)
    }
}
