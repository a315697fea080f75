//! Pools of each type: their shards, units, and what of them is never handed out.

use super::*;
use crate::resource::Resource;

#[test]
fn the_customers_residential_pool_has_256_shards_of_18() {
    let pool = pool(
        "id: residential-ipv4\ntype: ipv4\ncidr: 100.64.0.0/10\nsharding_factor: 100\n\
         exclusions: [100.64.0.0/24]\nmetadata: {region: east, service_type: residential}\n",
    )
    .unwrap();
    assert_eq!(pool.shard_count(), 256);
    assert_eq!(
        pool.shard_range(ShardId(0)).unwrap().to_string(),
        "100.64.0.0/18"
    );
    assert_eq!(
        pool.shard_range(ShardId(3)).unwrap().to_string(),
        "100.64.192.0/18"
    );
    assert_eq!(pool.shard_range(ShardId(256)), None);
    assert_eq!(pool.units(ShardId(0)), 16_384);
    assert_eq!(pool.allocatable_units(ShardId(0)), 16_384 - 256);
    assert_eq!(pool.allocatable_units(ShardId(255)), 16_383);
    assert_eq!(pool.dhcp().unwrap().router.to_string(), "100.64.0.1");
    assert_eq!(pool.dhcp().unwrap().netmask().to_string(), "255.192.0.0");
    assert_eq!(pool.dhcp().unwrap().lease_time, Duration::from_secs(3600));
    assert_eq!(pool.region(), Some("east"));
    assert_eq!(pool.cool_down(), Duration::from_secs(600));
}

#[test]
fn the_customers_vlan_pool_has_shards_of_100_numbers_and_a_short_last_one() {
    let pool =
        pool("id: business-vlans\ntype: vlan\nrange: 1000-2000\nsharding_factor: 10\n").unwrap();
    assert_eq!(pool.shard_count(), 11);
    assert_eq!(
        pool.shard_range(ShardId(0)).unwrap().to_string(),
        "1000-1099"
    );
    assert_eq!(
        pool.shard_range(ShardId(10)).unwrap().to_string(),
        "2000-2000"
    );
    assert_eq!((pool.units(ShardId(9)), pool.units(ShardId(10))), (100, 1));
    assert_eq!(pool.allocatable_total(), 1001);
}

#[test]
fn an_ipv6_pool_is_cut_into_48s_that_hand_out_56s() {
    let pool = pool("id: v6\ntype: ipv6\ncidr: 2001:db8::/32\n").unwrap();
    assert_eq!(pool.shard_count(), 65_536);
    assert_eq!(
        pool.shard_range(ShardId(1)).unwrap().to_string(),
        "2001:db8:1::/48"
    );
    assert_eq!(pool.units(ShardId(1)), 256);
    assert_eq!(
        pool.resource(ShardId(1), 2).unwrap().to_string(),
        "2001:db8:1:200::/56"
    );
    let other_length = Resource::parse(ResourceType::Ipv6, "2001:db8:1:200::/60").unwrap();
    assert_eq!(pool.locate(&other_length), None);
}

#[test]
fn a_pool_of_port_blocks_has_a_shard_for_each_public_address() {
    let pool = nat("block_size: 512").unwrap();
    assert_eq!(pool.shard_count(), 256);
    assert_eq!(pool.units(ShardId(0)), 126);
    assert_eq!(
        pool.shard_range(ShardId(7)).unwrap().to_string(),
        "203.0.113.7:1024-65535"
    );
    assert_eq!(
        pool.resource(ShardId(7), 1).unwrap().to_string(),
        "203.0.113.7:1536-2047"
    );
    assert_eq!(pool.allocatable_total(), 256 * 126);
    assert_eq!(pool.assign(), Assign::OnRequest);
    for other in [
        "1536-2047",
        "203.0.113.7:1536-2046",
        "203.0.113.7:1537-2048",
        "203.0.114.7:1536-2047",
        "203.0.113.7:512-1023",
    ] {
        let other = Resource::parse(ResourceType::Port, other).unwrap();
        assert_eq!(pool.locate(&other), None, "{other}");
    }
}

#[test]
fn a_shard_of_port_blocks_may_be_several_addresses_or_an_equal_part_of_one() {
    let wide = nat("block_size: 512\nshard_size: 1008").unwrap();
    assert_eq!(wide.shard_count(), 32);
    assert_eq!(
        wide.shard_range(ShardId(1)).unwrap().to_string(),
        "203.0.113.8-203.0.113.15:1024-65535"
    );
    let narrow = nat("block_size: 512\nshard_size: 63").unwrap();
    assert_eq!(
        narrow.shard_range(ShardId(3)).unwrap().to_string(),
        "203.0.113.1:33280-65535"
    );
    let short = nat("block_size: 512\nshard_size: 18900").unwrap();
    let last = short.shard_range(ShardId(1)).unwrap();
    assert_eq!(last.to_string(), "203.0.113.150-203.0.113.255:1024-65535");
    let unnamed = pool("id: p\ntype: port\nrange: 1024-65535\nblock_size: 64").unwrap();
    assert_eq!(unnamed.shard_count(), 63);
    assert_eq!(
        unnamed.shard_range(ShardId(1)).unwrap().to_string(),
        "2048-3071"
    );
}

#[test]
fn a_pinned_pool_keeps_units_for_subscribers() {
    let pool = with("pinned: true\nstatic: [{subscriber: alice, resource: 100.64.64.9}]").unwrap();
    let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    assert!(pool.is_pinned());
    assert_eq!(pool.static_of(&alice), Some((ShardId(1), 9)));
    assert_eq!(pool.static_of(&bob), None);
    assert_eq!(pool.static_holder(ShardId(1), 9), Some(&alice));
    assert_eq!(pool.static_holder(ShardId(1), 8), None);
    let kept = pool.resource(ShardId(1), 9).unwrap();
    assert!(pool.allows(&alice, &kept) && !pool.allows(&bob, &kept));
    let other = pool.resource(ShardId(1), 10).unwrap();
    assert!(pool.allows(&alice, &other) && pool.allows(&bob, &other));
    assert!(
        !pool.allows(&alice, &pool.resource(ShardId(0), 1).unwrap()),
        "the router"
    );
}

#[test]
fn ports_are_excluded_on_one_address_or_on_each_and_addresses_as_a_whole() {
    let pool = nat("block_size: 512\nexclusions: [203.0.113.0/31, 1030]\nreserved: [{resource: \"203.0.113.9:2000-3000\", reason: web server}]").unwrap();
    let withheld = |text| !pool.is_allocatable(&Resource::parse(ResourceType::Port, text).unwrap());
    assert!(withheld("203.0.113.1:65024-65535") && withheld("203.0.113.77:1024-1535"));
    assert!(withheld("203.0.113.9:1536-2047") && withheld("203.0.113.9:2560-3071"));
    assert!(!withheld("203.0.113.9:3072-3583") && !withheld("203.0.113.2:1536-2047"));
    assert_eq!(pool.allocatable_total(), 254 * 125 - 3);
    assert_eq!(
        pool.withheld_units(ShardId(9)).collect::<Vec<_>>(),
        [(0, 3)]
    );
}

#[test]
fn single_ipv6_addresses_are_cut_like_ipv4_and_the_routers_own_is_kept() {
    let pool = pool("id: p\ntype: ipv6\ncidr: 2001:db8::/112\ndelegated_length: 128").unwrap();
    assert_eq!((pool.shard_count(), pool.units(ShardId(0))), (256, 256));
    assert_eq!(pool.allocatable_units(ShardId(0)), 255);
    assert_eq!(
        pool.resource(ShardId(1), 2).unwrap().to_string(),
        "2001:db8::102/128"
    );
    assert_eq!(pool.assign(), Assign::Session);
    let large = super::tests::pool("id: p\ntype: ipv6\ncidr: 2001:db8::/92\ndelegated_length: 128");
    assert_eq!(large.unwrap().units(ShardId(0)), 1 << 20);
}

#[test]
fn small_pools_have_shards_that_are_worth_having() {
    for (cidr, shards, first) in [
        ("10.0.0.0/8", 256, "10.0.0.0/16"),
        ("192.0.2.0/24", 16, "192.0.2.0/28"),
        ("192.0.2.0/28", 1, "192.0.2.0/28"),
        ("192.0.2.4/30", 1, "192.0.2.4/30"),
    ] {
        let pool = pool(&format!("id: p\ntype: ipv4\ncidr: {cidr}")).unwrap();
        assert_eq!(pool.shard_count(), shards, "{cidr}");
        assert_eq!(pool.shard_range(ShardId(0)).unwrap().to_string(), first);
    }
    let ports = pool("id: p\ntype: port\nrange: 32768-65535").unwrap();
    assert_eq!(ports.shard_count(), 32);
    let single = pool("id: p\ntype: svlan\nrange: 7-7").unwrap();
    assert_eq!((single.shard_count(), single.units(ShardId(0))), (1, 1));
}

#[test]
fn network_broadcast_router_and_exclusions_are_not_allocatable() {
    let pool = with("exclusions: [100.64.1.0/24, 100.64.3.7, 100.64.4.1-100.64.4.9]\ndhcp: {router: 100.65.0.1}").unwrap();
    let allocatable =
        |text| pool.is_allocatable(&Resource::parse(ResourceType::Ipv4, text).unwrap());
    for withheld in [
        "100.64.0.0",
        "100.127.255.255",
        "100.65.0.1",
        "100.64.1.0",
        "100.64.1.255",
        "100.64.3.7",
        "100.64.4.1",
        "100.64.4.9",
        "100.63.255.255",
        "100.128.0.0",
    ] {
        assert!(!allocatable(withheld), "{withheld}");
    }
    for free in [
        "100.64.0.1",
        "100.64.2.0",
        "100.64.3.8",
        "100.64.4.0",
        "100.64.4.10",
        "100.127.255.254",
    ] {
        assert!(allocatable(free), "{free}");
    }
    assert!(!pool.is_allocatable(&Resource::Vlan(100)));
}
