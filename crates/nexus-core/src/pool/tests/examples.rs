//! The operator's page about pools: its examples are pools, and it names every field.

use std::collections::BTreeMap;

use super::pool;
use crate::pool::{Assign, Pool, Reserved, StaticEntry};
use crate::resource::ResourceType;

const PAGE: &str = include_str!("../../../../../docs/POOLS.md");

fn examples() -> BTreeMap<String, Pool> {
    let blocks = PAGE.split("```yaml\n").skip(1);
    let pools = blocks.map(|block| {
        let text = block.split("```").next().unwrap();
        pool(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    });
    pools.map(|pool| (pool.id().to_string(), pool)).collect()
}

#[test]
fn every_example_of_the_operators_page_is_a_pool_as_it_says() {
    let examples = examples();
    assert_eq!(examples.len(), 8);
    for kind in ResourceType::ALL {
        assert!(examples.values().any(|pool| pool.kind() == kind), "{kind}");
    }
    let cgnat = &examples["cgnat"];
    assert_eq!(
        (cgnat.shard_count(), cgnat.units(crate::id::ShardId(7))),
        (256, 126)
    );
    let single = &examples["residential-ipv6"];
    assert_eq!(
        (single.shard_count(), single.units(crate::id::ShardId(0))),
        (256, 4096)
    );
    assert!(examples["business-pinned"].is_pinned());
    let small = pool("id: growing\ntype: ipv4\ncidr: 100.64.0.0/11").unwrap();
    assert_eq!(
        small.change_to(&examples["growing"]),
        Ok(crate::pool::Change::Grown { shards: 256 })
    );
}

#[test]
fn the_operators_page_names_every_field() {
    let mut spec = examples()["cgnat"].spec().clone();
    spec.cidr = Some(String::new());
    spec.delegated_length = Some(1);
    spec.shard_size = Some(1);
    spec.assign = Some(Assign::Session);
    spec.pinned = true;
    spec.reserved.push(Reserved {
        resource: String::new(),
        reason: String::new(),
    });
    spec.fixed.push(StaticEntry {
        subscriber: "s".parse().unwrap(),
        resource: String::new(),
    });
    spec.metadata.insert(String::new(), String::new());
    spec.dhcp.router = Some(String::new());
    spec.dhcp.dns.push(String::new());
    spec.dhcp.ntp.push(String::new());
    spec.dhcp.domain_name = Some(String::new());
    spec.dhcp.mtu = Some(1);
    spec.dhcp.next_server = Some(String::new());
    spec.dhcp.rapid_commit = true;
    spec.dhcp.release = crate::pool::Release::Keep;
    spec.dhcp.idle_release = Some(spec.dhcp.lease_time);
    spec.dhcp.options.insert(1, String::new());
    let json = serde_json::to_value(&spec).unwrap();
    let named = |object: &serde_json::Value| {
        for field in object.as_object().unwrap().keys() {
            assert!(PAGE.contains(&format!("`{field}`")), "{field} is not named");
        }
    };
    named(&json);
    named(&json["dhcp"]);
}
