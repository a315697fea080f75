//! How a space is cut into shards and units, and where it meets another.

use proptest::prelude::*;

use super::*;

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

pub(super) fn any_pool() -> impl Strategy<Value = Pool> {
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

#[test]
fn a_resource_of_another_size_touches_a_pool_if_part_of_it_lies_there() {
    let prefixes = pool("{id: p, type: ipv6, cidr: '2001:db8:0:80::/57', delegated_length: 64}");
    let of_7 = nat("block_size: 512");
    let unknown = pool("{id: p, type: port, range: 2000-2999}");
    for (pool, resource, expected) in [
        (&prefixes, "2001:db8::/56", true),
        (&prefixes, "2001:db8:0:ff::1/128", true),
        (&prefixes, "2001:db8::/57", false),
        (&of_7, "203.0.113.7:1000-1024", true),
        (&of_7, "203.0.113.7:1000-1023", false),
        (&of_7, "203.0.112.7:2000-2001", false),
        (&of_7, "2000", true),
        (&unknown, "203.0.113.7:1000-2000", true),
        (&unknown, "203.0.113.7:3000-4000", false),
    ] {
        let pool = pool.as_ref().unwrap();
        let resource = Resource::parse(pool.kind(), resource).unwrap();
        assert_eq!(pool.touches(&resource), expected, "{resource}");
    }
    let vlans = pool("{id: p, type: vlan, range: 100-199}").unwrap();
    assert!(vlans.touches(&Resource::Vlan(199)));
    assert!(!vlans.touches(&Resource::Vlan(200)) && !vlans.touches(&Resource::Svlan(150)));
}

proptest! {
    #[test]
    fn every_unit_of_a_pool_touches_it(pool in any_pool(), shard in any::<u32>(), unit in any::<u64>()) {
        let shard = ShardId(shard % pool.shard_count());
        let resource = pool.resource(shard, unit % pool.units(shard)).unwrap();
        prop_assert!(pool.touches(&resource));
    }

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
