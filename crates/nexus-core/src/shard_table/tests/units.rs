//! Units of the cluster's own shards: taken once, freed by their number, kept while somebody has them.

use super::*;
use crate::id::SubscriberId;

/// The shard that the cluster keeps of `vlans("v", 3)`.
fn kept() -> ShardKey {
    ShardKey {
        pool: pool_id("v"),
        shard: ShardId(2),
    }
}

fn take(table: &mut ShardTable, unit: u64, holder: &str) -> Result<UnitGrant, Refusal> {
    let holder = SubscriberId::new(holder).unwrap();
    let command = Command::TakeUnit {
        shard: kept(),
        unit,
        holder,
        server: 7,
    };
    Ok(table.drive(at(1), command)?.unit.unwrap())
}

fn free(table: &mut ShardTable, unit: u64, seq: Seq) -> Applied {
    let command = Command::FreeUnit {
        shard: kept(),
        unit,
        seq,
    };
    table.drive(at(2), command).unwrap()
}

fn taken(table: &ShardTable) -> Vec<(u64, Seq, String)> {
    let row = |unit: TakenUnit<'_>| (unit.unit, unit.grant.seq, unit.holder.to_string());
    table.taken_units().map(row).collect()
}

#[test]
fn a_unit_goes_to_one_holder_and_every_grant_has_a_greater_number() {
    let mut table = table_with(vlans("v", 3));
    let first = take(&mut table, 4, "sub-1").unwrap();
    assert_eq!((first.epoch, first.seq), (Epoch(1), Seq(1)));
    let error = take(&mut table, 4, "sub-2").unwrap_err();
    assert!(error.to_string().contains("taken by sub-1"), "{error}");
    assert_eq!(take(&mut table, 7, "sub-2").unwrap().seq, Seq(2));
    let rows = [(4, Seq(1), "sub-1".into()), (7, Seq(2), "sub-2".into())];
    assert_eq!(taken(&table), rows);
    assert_eq!(table.units_taken(), 2);
    let known = table.taken_unit(&kept(), 7).unwrap();
    assert_eq!((known.grant.epoch, known.since), (Epoch(1), at(1)));
    assert_eq!(table.taken_unit(&kept(), 8), None);
}

#[test]
fn only_the_first_right_to_a_unit_is_new() {
    let mut table = table_with(vlans("v", 3));
    let mut is_new = |holder: &str| {
        let command = Command::TakeUnit {
            shard: kept(),
            unit: 4,
            holder: SubscriberId::new(holder).unwrap(),
            server: 7,
        };
        table
            .drive(at(1), command)
            .map(|applied| applied.unit_is_new)
    };
    assert_eq!(is_new("sub-1"), Ok(true));
    assert_eq!(is_new("sub-1"), Ok(false), "it has it already");
    assert!(is_new("sub-2").is_err());
    let seq = table.taken_unit(&kept(), 4).unwrap().grant.seq;
    let _ = free(&mut table, 4, seq);
    let again = Command::TakeUnit {
        shard: kept(),
        unit: 4,
        holder: SubscriberId::new("sub-2").unwrap(),
        server: 7,
    };
    assert!(table.drive(at(3), again).unwrap().unit_is_new);
}

#[test]
fn an_old_copy_of_a_release_does_not_free_what_was_taken_again() {
    let mut table = table_with(vlans("v", 3));
    let first = take(&mut table, 4, "sub-1").unwrap();
    let again = take(&mut table, 4, "sub-1").unwrap();
    assert!(again.seq > first.seq, "the same subscriber, a new number");
    let _ = free(&mut table, 4, first.seq);
    assert_eq!(taken(&table).len(), 1);
    let _ = free(&mut table, 4, again.seq);
    assert_eq!(taken(&table), []);
    let _ = free(&mut table, 4, again.seq);
    let other = take(&mut table, 4, "sub-2").unwrap();
    assert!(other.seq > again.seq);
    let _ = free(&mut table, 4, again.seq);
    assert_eq!(taken(&table).len(), 1);
}

#[test]
fn only_what_the_cluster_keeps_and_may_hand_out_is_taken() {
    let mut table = table_with(vlans("v", 3));
    let error = take(&mut table, 10, "sub-1").unwrap_err();
    assert!(matches!(error, Refusal::NoSuchUnit { .. }), "{error}");
    let mut spec = vlans("v", 3);
    spec.exclusions = vec!["25".into()];
    let _ = table.drive(at(1), Command::UpdatePool { spec }).unwrap();
    let error = take(&mut table, 4, "sub-1").unwrap_err();
    assert!(matches!(error, Refusal::NoSuchUnit { .. }), "{error}");
    let of_an_olt = refs(&table, "a", "v")[0].key();
    let nowhere = ShardKey {
        pool: pool_id("nowhere"),
        shard: ShardId(0),
    };
    for shard in [of_an_olt, nowhere] {
        let holder = SubscriberId::new("sub-1").unwrap();
        let unit = 1;
        let command = Command::TakeUnit {
            shard,
            unit,
            holder,
            server: 7,
        };
        let error = table.drive(at(1), command).unwrap_err();
        assert!(matches!(error, Refusal::NotKept(_)), "{error}");
    }
}

#[test]
fn a_pool_does_not_go_while_somebody_has_a_unit_of_it() {
    let mut table = table_with(vlans("v", 3));
    let grant = take(&mut table, 4, "sub-1").unwrap();
    let remove = Command::RemovePool { pool: pool_id("v") };
    let _ = table.drive(at(1), remove).unwrap();
    let give = Command::GiveBack {
        olt: olt("a"),
        session: session("s1"),
        shards: refs(&table, "a", "v"),
    };
    let applied = table.drive(at(2), give).unwrap();
    assert!(applied.removed_pools.is_empty());
    let error = take(&mut table, 5, "sub-2").unwrap_err();
    assert!(matches!(error, Refusal::NotKept(_)), "{error}");
    let applied = free(&mut table, 4, grant.seq);
    assert_eq!(applied.removed_pools, [pool_id("v")]);
    let spec = vlans("v", 3);
    let _ = table.drive(at(3), Command::AddPool { spec }).unwrap();
    let later = take(&mut table, 4, "sub-2").unwrap();
    assert!(later.seq > grant.seq && later.epoch > grant.epoch);
}

#[test]
fn what_a_server_took_and_what_a_subscriber_has_is_found() {
    let mut table = table_with(vlans("v", 3));
    let _ = take(&mut table, 4, "sub-1").unwrap();
    let command = Command::TakeUnit {
        shard: kept(),
        unit: 5,
        holder: SubscriberId::new("sub-1").unwrap(),
        server: 8,
    };
    let _ = table.drive(at(9), command).unwrap();
    let by = |server, before| {
        let taken = table.taken_by(server, before);
        taken.map(|taken| taken.unit).collect::<Vec<_>>()
    };
    assert_eq!(by(7, at(1)), [0; 0], "not before it was taken");
    assert_eq!((by(7, at(10)), by(8, at(10))), (vec![4], vec![5]));
    let of = |holder: &str, pool: &str| {
        let holder = SubscriberId::new(holder).unwrap();
        table.units_of(&pool_id(pool), &holder).count()
    };
    assert_eq!(
        (of("sub-1", "v"), of("sub-2", "v"), of("sub-1", "w")),
        (2, 0, 0)
    );
}

/// `vlans("v", n)` under the same name.
fn grow(table: &mut ShardTable, shards: u16) -> Applied {
    let spec = vlans("v", shards);
    table.drive(at(3), Command::UpdatePool { spec }).unwrap()
}

fn kept_shards(table: &ShardTable) -> Vec<(u32, ShardState)> {
    let own = table.shards_of(&OltId::cluster());
    let own = own.get(&pool_id("v")).into_iter().flatten();
    own.map(|shard| (shard.shard.0, shard.state)).collect()
}

#[test]
fn when_a_pool_has_grown_the_cluster_gives_back_the_shard_that_it_kept_before() {
    let mut table = table_with(vlans("v", 3));
    let applied = grow(&mut table, 6);
    assert_eq!(kept_shards(&table), [(5, ShardState::Owned)]);
    let back = applied.moves.iter().find(|moved| moved.key == kept());
    assert_eq!(back.unwrap().to, None);
    let _ = table.drive(at(4), Command::Tick).unwrap();
    let of_a = refs(&table, "a", "v");
    let again = of_a.iter().find(|shard| shard.shard == ShardId(2)).unwrap();
    assert_eq!(again.epoch, Epoch(2), "an OLT has it now");
}

#[test]
fn a_kept_shard_that_is_outgrown_goes_when_nobody_has_anything_of_it_any_more() {
    let mut table = table_with(vlans("v", 3));
    let first = take(&mut table, 4, "sub-1").unwrap();
    let _ = grow(&mut table, 6);
    let both = [(2, ShardState::Draining), (5, ShardState::Owned)];
    assert_eq!(kept_shards(&table), both);
    let error = take(&mut table, 5, "sub-2").unwrap_err();
    assert!(matches!(error, Refusal::NotKept(_)), "{error}");
    let error = take(&mut table, 4, "sub-2").unwrap_err();
    assert!(matches!(error, Refusal::NotKept(_)), "{error}");
    let again = take(&mut table, 4, "sub-1").unwrap();
    assert!(again.seq > first.seq, "who has it keeps it");
    let restored = ShardTable::from_image(table.image()).unwrap();
    assert_eq!(restored, table);
    let _ = grow(&mut table, 9);
    let both = [(2, ShardState::Draining), (8, ShardState::Owned)];
    assert_eq!(kept_shards(&table), both);
    let _ = free(&mut table, 4, again.seq);
    assert_eq!(kept_shards(&table), [(8, ShardState::Owned)]);
}
