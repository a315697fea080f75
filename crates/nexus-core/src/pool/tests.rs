//! Tests of pools: the customer's examples, bad input, and arithmetic as properties.

use proptest::prelude::*;

use super::*;
use crate::resource::Resource;

mod change;
mod examples;

fn pool(yaml: &str) -> Result<Pool, String> {
    let spec: PoolSpec = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    Pool::new(spec).map_err(|error| error.to_string())
}

/// A valid pool of ports of 256 public addresses with `extra` appended.
fn nat(extra: &str) -> Result<Pool, String> {
    pool(&format!(
        "id: nat\ntype: port\nrange: 1024-65535\naddresses: 203.0.113.0/24\n{extra}\n"
    ))
}

/// A valid IPv4 pool with `extra` appended.
fn with(extra: &str) -> Result<Pool, String> {
    pool(&format!(
        "id: p4\ntype: ipv4\ncidr: 100.64.0.0/10\n{extra}\n"
    ))
}

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

#[test]
fn every_mistake_in_a_pool_is_named_with_field_value_and_remedy() {
    let many_dns = "1.1.1.1, ".repeat(70);
    let long_option = format!("dhcp: {{options: {{43: \"{}\"}}}}", "00".repeat(256));
    let filling_option = format!("dhcp: {{options: {{43: \"{}\"}}}}", "00".repeat(250));
    let cases: Vec<(Result<Pool, String>, &[&str])> = vec![
        (
            with("shardingfactor: 3"),
            &["unknown field", "shardingfactor"],
        ),
        (
            with("dhcp: {gateway: 100.64.0.1}"),
            &["unknown field", "gateway"],
        ),
        (
            pool("id: p\ntype: ipv4"),
            &["`cidr` is missing", "100.64.0.0/10"],
        ),
        (
            pool("id: p\ntype: vlan"),
            &["`range` is missing", "1000-2000"],
        ),
        (with("range: 1-2"), &["`range` does not apply", "cidr"]),
        (
            pool("id: p\ntype: vlan\ncidr: 10.0.0.0/8\nrange: 1-2"),
            &["`cidr` does not apply"],
        ),
        (
            pool("id: p\ntype: ipv4\ncidr: 10.0.0/8"),
            &["cidr `10.0.0/8`", "not an IPv4 prefix"],
        ),
        (
            pool("id: p\ntype: ipv4\ncidr: 2001:db8::/32"),
            &["not an IPv4 prefix"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 10.0.0.0/8"),
            &["not an IPv6 prefix"],
        ),
        (
            pool("id: p\ntype: ipv4\ncidr: 10.0.0.1/8"),
            &["host bits", "10.0.0.0/8"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 2001:db8::1/32"),
            &["host bits", "2001:db8::/32"],
        ),
        (pool("id: p\ntype: ipv4\ncidr: 10.0.0.0/31"), &["/30"]),
        (
            pool("id: p\ntype: vlan\nrange: 200-100"),
            &["reversed", "100-200"],
        ),
        (
            pool("id: p\ntype: vlan\nrange: 0-100"),
            &["`0-100`", "between 1 and 4094"],
        ),
        (
            pool("id: p\ntype: svlan\nrange: 1-4095"),
            &["`1-4095`", "between 1 and 4094"],
        ),
        (
            pool("id: p\ntype: port\nrange: 0-10"),
            &["between 1 and 65535"],
        ),
        (
            pool("id: p\ntype: port\nrange: 1-65536"),
            &["`1-65536`", "up to 65535"],
        ),
        (
            pool("id: p\ntype: vlan\nrange: all"),
            &["range `all`", "1000-2000"],
        ),
        (
            with("exclusions: [100.128.0.0/24]"),
            &["100.128.0.0/24", "100.64.0.0/10", "not inside"],
        ),
        (
            with("exclusions: [100.0.0.0/8]"),
            &["100.0.0.0/8", "not inside"],
        ),
        (
            with("exclusions: [100.64.0.1/24]"),
            &["exclusions `100.64.0.1/24`"],
        ),
        (with("exclusions: [100.64.0.9-100.64.0.1]"), &["reversed"]),
        (with("exclusions: [nonsense]"), &["exclusions `nonsense`"]),
        (
            pool("id: p\ntype: vlan\nrange: 10-20\nexclusions: [21]"),
            &["`21`", "10-20"],
        ),
        (
            with("shard_size: 27"),
            &["131072 shards", "65536", "shard_size"],
        ),
        (with("shard_size: 9"), &["shard_size `9`", "from 10"]),
        (with("shard_size: 33"), &["to 32"]),
        (with("shard_size: 10"), &["4194304 resources", "1048576"]),
        (
            pool("id: p\ntype: vlan\nrange: 10-20\nshard_size: 0"),
            &["at least 1"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 2001:db8::/32\ndelegated_length: 31"),
            &["delegated_length `31`"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 2001:db8::/32\ndelegated_length: 129"),
            &["delegated_length `129`"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: ::/0\ndelegated_length: 128\nshard_size: 0"),
            &["65536 shards of 1048576", "several pools"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 2001:db8::/32\ndelegated_length: 65"),
            &["delegated_length `65`", "48 to 64, or 128"],
        ),
        (
            pool("id: p\ntype: ipv6\ncidr: 2001:db8::/91\ndelegated_length: 128"),
            &["2001:db8::/91", "several pools"],
        ),
        (
            with("addresses: 203.0.113.0/24"),
            &["`addresses` does not apply"],
        ),
        (
            pool("id: p\ntype: vlan\nrange: 10-20\nblock_size: 2"),
            &["`block_size` does not apply"],
        ),
        (nat("block_size: 0"), &["block_size `0`", "at least 1"]),
        (
            nat("block_size: 500"),
            &["block_size `500`", "64512 ports", "1024-65523"],
        ),
        (nat("block_size: 64513"), &["more than the 64512 ports"]),
        (
            nat("block_size: 512\nshard_size: 100"),
            &["shard_size `100`", "126 blocks"],
        ),
        (nat("shard_size: 0"), &["at least 1"]),
        (
            pool("id: p\ntype: port\nrange: 1-10\naddresses: 203.0.113.1/24"),
            &["addresses `203.0.113.1/24`", "203.0.113.0/24"],
        ),
        (
            pool("id: p\ntype: port\nrange: 1-10\naddresses: public"),
            &["addresses `public`", "203.0.113.0/24"],
        ),
        (
            pool("id: p\ntype: port\nrange: 1-10\naddresses: 0.0.0.0/15"),
            &["131072 shards", "shard_size"],
        ),
        (
            pool("id: p\ntype: port\nrange: 1-65535\naddresses: 0.0.0.0/8\nshard_size: 65535"),
            &["0.0.0.0/8:1-65535", "several pools"],
        ),
        (
            nat("exclusions: [203.0.114.7]"),
            &["exclusions `203.0.114.7`", "203.0.113.0/24:1024-65535"],
        ),
        (
            nat("exclusions: [\"203.0.113.7:80\"]"),
            &["exclusions `203.0.113.7:80`", "not inside"],
        ),
        (
            nat("exclusions: [\"203.0.113.7:\"]"),
            &["a port, ports first-last"],
        ),
        (
            nat("exclusions: [\"203.0.113.9-203.0.113.7\"]"),
            &["reversed"],
        ),
        (
            pool("id: p\ntype: port\nrange: 1-100\nexclusions: [203.0.113.7]"),
            &["exclusions `203.0.113.7`", "not inside"],
        ),
        (
            pool(
                "id: p\ntype: port\nrange: 1-100\naddresses: 10.0.0.0/15\nshard_size: 1000\nexclusions: [80]",
            ),
            &["exclusions `80`", "131072 addresses", "narrow `range`"],
        ),
        (
            with("reserved: [{resource: 100.128.0.1, reason: printer}]"),
            &["reserved `100.128.0.1`", "not inside"],
        ),
        (
            with("reserved: [{resource: 100.64.0.9, reason: \"\"}]"),
            &["reserved `100.64.0.9`", "`reason`"],
        ),
        (with("reserved: [{resource: 100.64.0.9}]"), &["reason"]),
        (
            with("static: [{subscriber: alice, resource: 100.64.64.9}]"),
            &["static `100.64.64.9`", "`pinned: true`"],
        ),
        (
            with("pinned: true\nstatic: [{subscriber: alice, resource: 100.64.0.0/24}]"),
            &["static `100.64.0.0/24`", "100.64.1.50"],
        ),
        (
            with("pinned: true\nstatic: [{subscriber: alice, resource: 100.64.0.1}]"),
            &["static `100.64.0.1`", "router"],
        ),
        (
            with("pinned: true\nstatic: [{subscriber: alice, resource: 10.0.0.1}]"),
            &["static `10.0.0.1`", "100.64.0.0/10"],
        ),
        (
            with(
                "pinned: true\nstatic: [{subscriber: a, resource: 100.64.0.9}, {subscriber: b, resource: 100.64.0.9}]",
            ),
            &["stands twice, for a too"],
        ),
        (
            with(
                "pinned: true\nstatic: [{subscriber: a, resource: 100.64.0.9}, {subscriber: a, resource: 100.64.0.8}]",
            ),
            &["static `100.64.0.8`", "second entry for a"],
        ),
        (with("assign: always"), &["always", "session", "on-request"]),
        (
            with("delegated_length: 56"),
            &["`delegated_length` does not apply"],
        ),
        (
            pool("id: p\ntype: vlan\nrange: 10-20\ndhcp: {mtu: 1500}"),
            &["`dhcp` does not apply"],
        ),
        (
            with("dhcp: {lease_time: soon}"),
            &["dhcp.lease_time", "`soon`", "30s, 10m or 24h"],
        ),
        (with("dhcp: {lease_time: 0s}"), &["dhcp.lease_time `0s`"]),
        (
            with("dhcp: {release: free}"),
            &["free", "cool-down", "keep"],
        ),
        (
            with("dhcp: {idle_release: 24}"),
            &["dhcp.idle_release", "`24`", "30s, 10m or 24h"],
        ),
        (
            with(&format!(
                "dhcp: {{options: {{{}}}}}",
                (200..230)
                    .map(|code| format!("{code}: \"00\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
            &["dhcp.options `30`", "32 DHCP options", "at most 31"],
        ),
        (
            with("dhcp: {lease_time: 2h, idle_release: 119m}"),
            &[
                "dhcp.idle_release `119m`",
                "dhcp.lease_time 2h",
                "at least 2h",
            ],
        ),
        (
            with("dhcp: {idle_release: 59m}"),
            &["dhcp.idle_release `59m`", "at least 1h"],
        ),
        (
            with("dhcp: {lease_time: 1500ms}"),
            &["dhcp.lease_time `1500ms`", "whole seconds"],
        ),
        (with("cool_down: 10"), &["cool_down", "`10`"]),
        (
            with("dhcp: {dns: [resolver.example.net]}"),
            &["dhcp.dns `resolver.example.net`"],
        ),
        (with("dhcp: {ntp: [\"::1\"]}"), &["dhcp.ntp `::1`"]),
        (
            with("dhcp: {router: 10.0.0.1}"),
            &["dhcp.router `10.0.0.1`", "100.64.0.0/10"],
        ),
        (
            with("dhcp: {router: 100.64.0.0}"),
            &["dhcp.router `100.64.0.0`"],
        ),
        (with("dhcp: {router: none}"), &["dhcp.router `none`"]),
        (with("dhcp: {mtu: 67}"), &["dhcp.mtu `67`"]),
        (
            with("dhcp: {domain_name: \"a..b\"}"),
            &["dhcp.domain_name `a..b`"],
        ),
        (
            with("dhcp: {options: {6: \"01020304\"}}"),
            &["dhcp.options `6`", "dhcp.dns"],
        ),
        (
            with("dhcp: {options: {300: \"00\"}}"),
            &["dhcp.options `300`"],
        ),
        (
            with("dhcp: {options: {43: \"0\"}}"),
            &["dhcp.options `43`", "hexadecimal"],
        ),
        (with("dhcp: {options: {43: \"0x01\"}}"), &["hexadecimal"]),
        (with(&long_option), &["256 bytes: at most 255"]),
        (with(&filling_option), &["264 bytes", "more than 256"]),
        (
            with(&format!("dhcp: {{dns: [{many_dns}]}}")),
            &["more than 256"],
        ),
        (with("sharding_factor: 0"), &["sharding_factor `0`"]),
        (with("sharding_factor: 1001"), &["sharding_factor `1001`"]),
        (with("vrf: \"\""), &["vrf"]),
        (with("metadata: {\"\": x}"), &["metadata"]),
        (
            pool("id: a/b\ntype: ipv4\ncidr: 10.0.0.0/8"),
            &["`a/b`", "'/'"],
        ),
        (pool("id: p\ntype: ipv5\ncidr: 10.0.0.0/8"), &["ipv5"]),
    ];
    for (index, (result, expected)) in cases.into_iter().enumerate() {
        let error = result
            .err()
            .unwrap_or_else(|| panic!("case {index} ({expected:?}) passed"));
        for part in expected {
            assert!(
                error.contains(part),
                "case {index}: `{part}` is missing in: {error}"
            );
        }
    }
}

#[test]
fn options_that_belong_to_the_protocol_are_refused() {
    for code in [0, 53, 54, 51, 58, 59, 61, 82, 255] {
        let error = with(&format!("dhcp: {{options: {{{code}: \"00\"}}}}")).unwrap_err();
        assert!(
            error.contains(&format!("`{code}`")) && error.contains("reserved"),
            "{error}"
        );
    }
    let pool = with("dhcp: {options: {43: \"0a0B\", 252: \"\"}}").unwrap();
    let options = &pool.dhcp().unwrap().options;
    assert_eq!(options[&43], [0x0a, 0x0b]);
    assert_eq!(pool.dhcp().unwrap().encoded_len(), 12 + 4 + 2);
}

#[test]
fn what_an_operator_wrote_comes_back_from_json_unchanged() {
    let pool = with(
        "exclusions: [100.64.0.0/24]\ndhcp: {dns: [1.1.1.1], options: {43: \"0a\"}}\nvrf: blue",
    )
    .unwrap();
    let json = serde_json::to_string(pool.spec()).unwrap();
    let again = Pool::new(serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(again, pool);
}

#[test]
fn options_come_back_from_a_row_that_says_what_it_is() {
    let pool = with("dhcp: {options: {43: \"0102\", 66: \"61\"}}").unwrap();
    let row = crate::edge::Row::Pool(pool.spec().clone());
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::edge::Row>(&text).unwrap(),
        row
    );
}

#[test]
fn an_option_code_that_is_none_is_refused() {
    for code in ["-1", "70000", "x", "\"\""] {
        let error = with(&format!("dhcp: {{options: {{{code}: \"00\"}}}}")).unwrap_err();
        assert!(error.contains("the code of a DHCP option"), "{error}");
    }
}

#[test]
fn pools_overlap_only_in_one_vrf_and_type() {
    let a = with("").unwrap();
    let b = pool("id: b\ntype: ipv4\ncidr: 100.127.0.0/16").unwrap();
    let c = pool("id: c\ntype: ipv4\ncidr: 100.127.0.0/16\nvrf: blue").unwrap();
    let d = pool("id: d\ntype: ipv4\ncidr: 100.128.0.0/16").unwrap();
    assert!(a.overlaps(&b) && b.overlaps(&a) && a.overlaps(&a));
    assert!(!a.overlaps(&c) && !a.overlaps(&d) && !d.overlaps(&a));
    let nat = nat("").unwrap();
    let ports = |range: &str, addresses: &str| {
        pool(&format!("id: q\ntype: port\nrange: {range}\n{addresses}")).unwrap()
    };
    assert!(nat.overlaps(&ports("65535-65535", "addresses: 203.0.113.9/32")));
    assert!(nat.overlaps(&ports("1-2000", "")), "of any address");
    assert!(!nat.overlaps(&ports("1-1023", "addresses: 203.0.113.9/32")));
    assert!(!nat.overlaps(&ports("1-65535", "addresses: 203.0.114.0/24")));
    let vlan = pool("id: v\ntype: vlan\nrange: 100-200").unwrap();
    let svlan = pool("id: s\ntype: svlan\nrange: 100-200").unwrap();
    assert!(!vlan.overlaps(&svlan));
}

#[test]
fn only_what_leaves_all_shards_in_place_is_the_same_geometry() {
    let plain = with("").unwrap();
    assert!(plain.same_geometry(&with("exclusions: [100.64.9.0/24]\ncool_down: 1h").unwrap()));
    assert!(!plain.same_geometry(&with("shard_size: 20").unwrap()));
    assert!(!plain.same_geometry(&with("vrf: blue").unwrap()));
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let v4 = (
        any::<u32>(),
        8u8..=30,
        0u32..=12,
        proptest::collection::vec((0u32..64, 0u32..64), 0..4),
    )
        .prop_filter_map("valid", |(bits, len, more, exclusions)| {
            let net = ipnet::Ipv4Net::new(bits.into(), len).ok()?.trunc();
            let mut spec =
                PoolSpec::minimal("p".parse().ok()?, ResourceType::Ipv4, &net.to_string());
            spec.shard_size = Some((u32::from(len) + more).min(32));
            for (start, length) in exclusions {
                let first = net.network().to_bits() + start;
                let last = first + length;
                if last <= net.broadcast().to_bits() {
                    let (first, last) = (
                        std::net::Ipv4Addr::from(first),
                        std::net::Ipv4Addr::from(last),
                    );
                    spec.exclusions.push(format!("{first}-{last}"));
                }
            }
            Pool::new(spec).ok()
        });
    let v6 = (
        any::<u128>(),
        30u8..=64,
        0u32..=16,
        48u8..=64,
        any::<bool>(),
    )
        .prop_filter_map("valid", |(bits, len, more, delegated, single)| {
            let (len, delegated) = if single {
                (len + 50, 128)
            } else {
                (len, delegated)
            };
            let net = ipnet::Ipv6Net::new(bits.into(), len).ok()?.trunc();
            let mut spec =
                PoolSpec::minimal("p".parse().ok()?, ResourceType::Ipv6, &net.to_string());
            spec.shard_size = Some(u32::from(len) + more);
            spec.delegated_length = Some(delegated);
            Pool::new(spec).ok()
        });
    let numbers = (1u16..=4094, 1u16..=4094, 1u32..=500, any::<bool>()).prop_filter_map(
        "valid",
        |(a, b, size, port)| {
            let kind = if port {
                ResourceType::Port
            } else {
                ResourceType::Vlan
            };
            let range = format!("{}-{}", a.min(b), a.max(b));
            let mut spec = PoolSpec::minimal("p".parse().ok()?, kind, &range);
            spec.shard_size = Some(size);
            Pool::new(spec).ok()
        },
    );
    let blocks = (
        any::<u32>(),
        20u8..=32,
        1u16..=2000,
        (1u16..=600, 1u32..=120),
        proptest::collection::vec((0u32..3000, 0u32..40, any::<bool>()), 0..4),
    )
        .prop_filter_map("valid", |(bits, len, first, (block, times), exclusions)| {
            let net = ipnet::Ipv4Net::new(bits.into(), len).ok()?.trunc();
            let last = u32::from(first) + u32::from(block) * times - 1;
            let range = format!("{first}-{last}");
            let mut spec = PoolSpec::minimal("p".parse().ok()?, ResourceType::Port, &range);
            spec.addresses = Some(net.to_string());
            spec.block_size = Some(block);
            spec.shard_size = (times % 3 == 0).then_some(times / 3);
            for (start, more, everywhere) in exclusions {
                let ports = format!(
                    "{}-{}",
                    u32::from(first) + start,
                    u32::from(first) + start + more
                );
                let address = if everywhere {
                    String::new()
                } else {
                    format!("{}:", net.addr())
                };
                if u32::from(first) + start + more <= last {
                    spec.exclusions.push(format!("{address}{ports}"));
                }
            }
            Pool::new(spec).ok()
        });
    prop_oneof![v4, v6, numbers, blocks]
}

proptest! {
    #[test]
    fn locate_is_the_inverse_of_resource(pool in any_pool(), shard in any::<u32>(), unit in any::<u64>()) {
        let shard = ShardId(shard % pool.shard_count());
        let unit = unit % pool.units(shard);
        let resource = pool.resource(shard, unit).unwrap();
        prop_assert_eq!(pool.locate(&resource), Some((shard, unit)));
        prop_assert_eq!(pool.is_allocatable(&resource), pool.is_allocatable_unit(shard, unit));
        prop_assert_eq!(Resource::parse(pool.kind(), &resource.to_string()), Ok(resource));
        prop_assert_eq!(pool.resource(shard, pool.units(shard)), None);
    }

    #[test]
    fn shards_follow_one_another_without_gap_or_overlap(pool in any_pool(), shard in any::<u32>()) {
        let shard = ShardId(shard % pool.shard_count());
        let next = ShardId(shard.0 + 1);
        let last = pool.resource(shard, pool.units(shard) - 1).unwrap();
        match pool.resource(next, 0) {
            Some(first) => prop_assert!(first > last && pool.shard_range(next) != pool.shard_range(shard)),
            None => prop_assert_eq!(next.0, pool.shard_count()),
        }
    }

    #[test]
    fn allocatable_units_are_counted_as_they_are_listed(pool in any_pool(), shard in any::<u32>()) {
        let shard = ShardId(shard % pool.shard_count());
        prop_assume!(pool.units(shard) <= 4096);
        let listed = (0..pool.units(shard)).filter(|unit| pool.is_allocatable_unit(shard, *unit)).count();
        prop_assert_eq!(pool.allocatable_units(shard), listed as u64);
        let withheld: u64 = pool.withheld_units(shard).map(|(low, high)| high - low + 1).sum();
        prop_assert_eq!(withheld, pool.units(shard) - listed as u64);
        if pool.shard_count() <= 256 {
            let all: u64 = pool.shards().map(|shard| pool.allocatable_units(shard)).sum();
            prop_assert_eq!(pool.allocatable_total(), all);
        }
    }
}
