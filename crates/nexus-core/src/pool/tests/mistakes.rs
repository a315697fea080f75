//! What is wrong in a pool is refused, with field, value and what to write instead.

use super::*;

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
fn an_option_code_that_is_none_is_refused() {
    for code in ["-1", "70000", "x", "\"\""] {
        let error = with(&format!("dhcp: {{options: {{{code}: \"00\"}}}}")).unwrap_err();
        assert!(error.contains("the code of a DHCP option"), "{error}");
    }
}
