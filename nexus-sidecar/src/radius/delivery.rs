//! How an Access-Accept tells a NAS what a subscriber has besides its IPv4 address, and how an AAA server says what
//! it gives itself.
//!
//! | resource | attribute |
//! |---|---|
//! | IPv6 /128 | Framed-IPv6-Address (RFC 6911 section 3.1) |
//! | IPv6 /64, or a pool labelled `framed: "true"` | Framed-IPv6-Prefix (RFC 3162 section 2.3) |
//! | another IPv6 prefix | Delegated-IPv6-Prefix (RFC 4818 section 3) |
//! | VLAN | Tunnel-Type, Tunnel-Medium-Type, Tunnel-Private-Group-Id (RFC 3580 section 3.31) |
//! | S-VLAN | Egress-VLANID, tagged (RFC 4675 section 2.1) |
//! | block of ports | IP-Port-Range (RFC 8045 section 3.1.2) |

use nexus_core::edge::Kind;
use nexus_core::id::{IdError, PoolId};
use nexus_core::resource::Resource;
use nexus_radius::values::{self, ip_port};
use nexus_radius::{AttributeError, AttributeId, Attributes};

use crate::edge_handle::{Delivered, Elsewhere, MAX_NAMED_POOLS};

/// Groups the three attributes of a VLAN (RFC 2868 section 3).
const TAG: u8 = 1;

/// Attributes that name a pool of something else than IPv4 addresses.
const POOL_NAMES: [AttributeId; 3] = [
    AttributeId::FRAMED_IPV6_POOL,
    AttributeId::DELEGATED_IPV6_PREFIX_POOL,
    AttributeId::STATEFUL_IPV6_ADDRESS_POOL,
];

/// Adds the attributes of one resource.
///
/// # Errors
/// If the packet is full.
pub(super) fn push(attributes: &mut Attributes, one: &Delivered) -> Result<(), AttributeError> {
    match one.resource {
        // The IPv4 address of a session is not one of many.
        Resource::Ipv4(_) => Ok(()),
        Resource::Ipv6(prefix) => match Kind::of(&one.resource) {
            Kind::Ipv6Address => {
                attributes.push(AttributeId::FRAMED_IPV6_ADDRESS, &prefix.addr().octets())
            }
            kind if kind == Kind::Ipv6Link || one.framed => {
                let value = values::ipv6_prefix(prefix);
                attributes.push(AttributeId::FRAMED_IPV6_PREFIX, &value)
            }
            _ => {
                let value = values::ipv6_prefix(prefix);
                attributes.push(AttributeId::DELEGATED_IPV6_PREFIX, &value)
            }
        },
        Resource::Vlan(vlan) => {
            let (kind, medium) = (values::TUNNEL_TYPE_VLAN, values::TUNNEL_MEDIUM_802);
            attributes.push(AttributeId::TUNNEL_TYPE, &values::tagged(TAG, kind))?;
            let medium = values::tagged(TAG, medium);
            attributes.push(AttributeId::TUNNEL_MEDIUM_TYPE, &medium)?;
            let group = values::tagged_text(TAG, &vlan.to_string());
            attributes.push(AttributeId::TUNNEL_PRIVATE_GROUP_ID, &group)
        }
        Resource::Svlan(vlan) => {
            attributes.push(AttributeId::EGRESS_VLANID, &values::egress_vlan(vlan))
        }
        Resource::Port {
            address,
            first,
            last,
        } => {
            let mut parts = vec![(ip_port::ALLOC, ip_port::ALLOCATION)];
            parts.extend(address.map(|address| (ip_port::EXT_IPV4_ADDR, address.to_bits())));
            parts.push((ip_port::RANGE_START, u32::from(first)));
            parts.push((ip_port::RANGE_END, u32::from(last)));
            attributes.push(AttributeId::IP_PORT_RANGE, &values::tlvs(&parts))
        }
    }
}

/// What an AAA server gives the subscriber itself: nothing of these kinds is given here.
pub(super) fn elsewhere(theirs: &Attributes) -> Vec<Elsewhere> {
    let prefix = |id: AttributeId| {
        let value = theirs.get(id)?;
        Some(values::read_ipv6_prefix(value))
    };
    let address = |value: &[u8]| {
        let octets = <[u8; 16]>::try_from(value).ok()?;
        ipnet::Ipv6Net::new(octets.into(), 128).ok()
    };
    let address = theirs.get(AttributeId::FRAMED_IPV6_ADDRESS).map(address);
    let plain = |id: AttributeId| theirs.contains(id).then_some(None);
    let all = [
        (Kind::Ipv6Address, address),
        (Kind::Ipv6Link, prefix(AttributeId::FRAMED_IPV6_PREFIX)),
        (
            Kind::Ipv6Delegated,
            prefix(AttributeId::DELEGATED_IPV6_PREFIX),
        ),
        (Kind::Vlan, plain(AttributeId::TUNNEL_PRIVATE_GROUP_ID)),
        (Kind::Svlan, plain(AttributeId::EGRESS_VLANID)),
        (Kind::Port, plain(AttributeId::IP_PORT_RANGE)),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(kind, prefix)| {
            Some(Elsewhere {
                kind,
                prefix: prefix?,
            })
        })
        .collect()
}

/// The pools of something else than IPv4 addresses that an AAA server names, at most [`MAX_NAMED_POOLS`].
///
/// # Errors
/// The attribute whose name cannot be one.
pub(super) fn named_pools(theirs: &Attributes) -> Result<Vec<PoolId>, (&'static str, IdError)> {
    let mut pools = Vec::new();
    for id in POOL_NAMES {
        for name in theirs.all(id) {
            let name = String::from_utf8_lossy(name);
            let pool = PoolId::new(name).map_err(|error| (id.name().unwrap_or("?"), error))?;
            if pools.len() < MAX_NAMED_POOLS && !pools.contains(&pool) {
                pools.push(pool);
            }
        }
    }
    Ok(pools)
}

/// Whether an attribute names a pool that something was given from: a NAS that gets both does not know which to
/// take. A pool that is not known here may be the NAS's own.
pub(super) fn is_used_up(number: u8, value: &[u8], given: &[Delivered]) -> bool {
    POOL_NAMES.contains(&AttributeId::Ietf(number))
        && given
            .iter()
            .any(|one| one.pool.as_str().as_bytes() == value)
}

#[cfg(test)]
mod tests {
    use nexus_core::resource::ResourceType;

    use super::*;

    fn delivered(kind: ResourceType, text: &str, framed: bool) -> Delivered {
        Delivered {
            pool: PoolId::new("p").unwrap(),
            resource: Resource::parse(kind, text).unwrap(),
            framed,
        }
    }

    #[test]
    fn every_resource_has_its_attributes() {
        use ResourceType::{Ipv6, Port, Svlan, Vlan};
        for (kind, text, framed, expected) in [
            (
                Ipv6,
                "2001:db8::5/128",
                false,
                "a81220010db8000000000000000000000005",
            ),
            (
                Ipv6,
                "2001:db8:0:7::/64",
                false,
                "6114004020010db8000000070000000000000000",
            ),
            (
                Ipv6,
                "2001:db8:0:70::/60",
                true,
                "6114003c20010db8000000700000000000000000",
            ),
            (
                Ipv6,
                "2001:db8:0:100::/56",
                false,
                "7b14003820010db8000001000000000000000000",
            ),
            (Vlan, "100", false, "40060100000d4106010000065106 01313030"),
            (Svlan, "200", false, "3806310000c8"),
            (
                Port,
                "1024-1535",
                false,
                "f1150608060000000109060000 04000a06000005ff",
            ),
            (
                Port,
                "203.0.113.7:1024-1535",
                false,
                "f11b060806000000010306cb0071070906000004000a06000005ff",
            ),
        ] {
            let mut attributes = Attributes::new();
            push(&mut attributes, &delivered(kind, text, framed)).unwrap();
            let expected = expected.replace(' ', "");
            assert_eq!(hex::encode(attributes.as_octets()), expected, "{text}");
        }
    }

    #[test]
    fn what_an_aaa_server_gives_or_names_is_read() {
        let mut theirs = Attributes::new();
        let prefix = "2001:db8::/48".parse().unwrap();
        let value = values::ipv6_prefix(prefix);
        theirs
            .push(AttributeId::DELEGATED_IPV6_PREFIX, &value)
            .unwrap();
        theirs
            .push(AttributeId::TUNNEL_PRIVATE_GROUP_ID, b"\x017")
            .unwrap();
        theirs
            .push(AttributeId::FRAMED_IPV6_POOL, b"links")
            .unwrap();
        theirs
            .push(AttributeId::STATEFUL_IPV6_ADDRESS_POOL, b"nas-own")
            .unwrap();
        let given = elsewhere(&theirs);
        let kinds: Vec<_> = given.iter().map(|one| (one.kind, one.prefix)).collect();
        assert_eq!(
            kinds,
            [(Kind::Ipv6Delegated, Some(prefix)), (Kind::Vlan, None)]
        );
        let named = named_pools(&theirs).unwrap();
        assert_eq!(
            named,
            ["links", "nas-own"].map(|id| PoolId::new(id).unwrap())
        );
        let link = Delivered {
            pool: named[0].clone(),
            ..delivered(ResourceType::Ipv6, "2001:db8:0:7::/64", false)
        };
        assert!(is_used_up(100, b"links", std::slice::from_ref(&link)));
        assert!(!is_used_up(172, b"nas-own", &[link]));
        theirs
            .push(AttributeId::FRAMED_IPV6_POOL, b"two words")
            .unwrap();
        assert_eq!(named_pools(&theirs).unwrap_err().0, "Framed-IPv6-Pool");
    }
}
