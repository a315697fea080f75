//! Shards: who owns which part of which pool, and what a change would move.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{array, pools, query, rows, shown};
use crate::api::Api;
use crate::cli::{Shard, ShardFilter, ShardPlan};
use crate::table::{Table, cell};

/// Columns of a list of shards, as the server names them.
const SHARD: &[&str] = &[
    "pool_id",
    "shard",
    "range",
    "state",
    "olt_id",
    "epoch",
    "allocated",
    "total",
];
/// Where the server plans.
const PLAN: &str = "/api/v1/shards/plan";
/// Most moves that are shown one by one for each pool.
const MAX_SHOWN: usize = 50;

/// Carries out a command about shards.
///
/// # Errors
/// Why it was not carried out.
pub fn run(api: &Api, json: bool, command: &Shard) -> anyhow::Result<String> {
    match command {
        Shard::List(filter) => list(api, json, filter),
        Shard::Plan(plan) => {
            let answer = api.send("POST", PLAN, Some(&request(plan)?), &[])?;
            Ok(shown(json, &answer.body, plan_text))
        }
    }
}

/// Reads page after page until there is no more.
fn list(api: &Api, json: bool, filter: &ShardFilter) -> anyhow::Result<String> {
    let mut all: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let query = query(&[
            ("pool", filter.pool.as_deref()),
            ("olt", filter.olt.as_deref()),
            ("state", filter.state.as_deref()),
            ("cursor", cursor.as_deref()),
        ]);
        let mut page = api.get(&format!("/api/v1/shards{query}"))?.body;
        if let Some(Value::Array(shards)) = page.get_mut("shards").map(Value::take) {
            all.extend(shards);
        }
        let next = page.get("next_cursor").and_then(Value::as_str);
        cursor = next.map(ToOwned::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    let body = json!({ "shards": all });
    Ok(shown(json, &body, |body| rows(SHARD, body, "shards")))
}

fn request(plan: &ShardPlan) -> anyhow::Result<Value> {
    let join = plan.join.iter().map(|text| join(text));
    let join: Vec<Value> = join.collect::<anyhow::Result<_>>()?;
    let mut request = json!({ "join": join, "leave": plan.leave });
    if let Some(file) = &plan.pool {
        let mut pools = pools::read_pools(file)?;
        let (Some(pool), true) = (pools.pop(), pools.is_empty()) else {
            bail!("{} must hold exactly one pool for a plan", file.display());
        };
        if let Some(request) = request.as_object_mut() {
            request.insert("pool".to_owned(), pool);
        }
    }
    Ok(request)
}

/// `olt-1:2000:east` or `olt-1:2000`.
fn join(text: &str) -> anyhow::Result<Value> {
    let expected = || format!("--join {text}: expected id:capacity or id:capacity:region");
    let mut parts = text.splitn(3, ':');
    let id = parts.next().filter(|id| !id.is_empty());
    let id = id.with_context(expected)?;
    let capacity: u32 = parts
        .next()
        .and_then(|capacity| capacity.parse().ok())
        .with_context(expected)?;
    let region = parts.next().unwrap_or_default();
    Ok(json!({ "id": id, "capacity": capacity, "region": region }))
}

/// A plan for people: one paragraph for each pool.
pub fn plan_text(plan: &Value) -> String {
    let pools = array(plan, "pools");
    if pools.is_empty() {
        return "nothing would move\n".to_owned();
    }
    let mut text = String::new();
    for pool in pools {
        text.push_str(&pool_text(pool));
        text.push('\n');
    }
    let moved = number(plan, "moved_shards");
    let held = number(plan, "affected_allocations");
    text.push_str(&format!(
        "{moved} shards would move; {held} allocations are held in shards that would be asked for, and stay where they are until they end\n"
    ));
    if plan.get("complete") == Some(&Value::Bool(false)) {
        text.push_str("more would move: this is only the beginning\n");
    }
    text
}

fn pool_text(pool: &Value) -> String {
    let id = cell(pool.get("pool_id").unwrap_or(&Value::Null));
    let mut text = format!("pool {id}\n");
    for (name, when) in [("before", "now"), ("after", "then")] {
        if let Some(balance) = pool.get("balance").and_then(|balance| balance.get(name)) {
            text.push_str(&format!(
                "  {when:<5} {} shards on {} OLTs, {:.2} to {:.2} of a fair share\n",
                number(balance, "shards"),
                number(balance, "olts"),
                part(balance, "least"),
                part(balance, "most"),
            ));
        }
    }
    let mut moves: BTreeMap<u64, [String; 3]> = BTreeMap::new();
    let nobody = || ["-".to_owned(), "-".to_owned(), "0".to_owned()];
    for grant in array(pool, "grants") {
        let [_, to, _] = moves.entry(number(grant, "shard")).or_insert_with(nobody);
        *to = cell(grant.get("to").unwrap_or(&Value::Null));
    }
    for drain in array(pool, "drains") {
        let [from, _, held] = moves.entry(number(drain, "shard")).or_insert_with(nobody);
        *from = cell(drain.get("from").unwrap_or(&Value::Null));
        *held = number(drain, "allocations").to_string();
    }
    let mut table = Table::new(&["  shard", "from", "to", "allocations"]);
    for (shard, [from, to, held]) in moves.iter().take(MAX_SHOWN) {
        table.row(vec![
            format!("  {shard}"),
            from.clone(),
            to.clone(),
            held.clone(),
        ]);
    }
    if !moves.is_empty() {
        text.push_str(&table.text());
    }
    let more = moves.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        text.push_str(&format!("  and {more} more (--json shows them)\n"));
    }
    text
}

fn number(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn part(of: &Value, name: &str) -> f64 {
    of.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_names_id_capacity_and_perhaps_a_region() {
        assert_eq!(
            join("olt-1:2000").unwrap(),
            json!({"id": "olt-1", "capacity": 2000, "region": ""})
        );
        assert_eq!(
            join("olt-1:2000:east").unwrap(),
            json!({"id": "olt-1", "capacity": 2000, "region": "east"})
        );
        for wrong in ["olt-1", "olt-1:", "olt-1:many", ":2000"] {
            assert!(join(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plan_shows_each_move_in_one_line() {
        let plan = json!({
            "pools": [{
                "pool_id": "p",
                "grants": [{"shard": 3, "to": "b"}],
                "drains": [{"shard": 3, "from": "a", "allocations": 7}],
                "balance": {"before": {"olts": 1, "shards": 4, "least": 1.0, "most": 1.0}},
            }],
            "moved_shards": 1, "affected_allocations": 7, "complete": true,
        });
        let text = plan_text(&plan);
        assert!(text.contains("  3      a     b   7"), "{text}");
        assert!(text.contains("4 shards on 1 OLTs, 1.00 to 1.00"), "{text}");
        assert_eq!(plan_text(&json!({"pools": []})), "nothing would move\n");
    }
}
