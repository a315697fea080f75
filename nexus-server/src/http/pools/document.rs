//! A pool as JSON, in the customer's names: described here, read and checked by the core.

use std::collections::BTreeMap;

use nexus_core::pool::PoolSpec;
use serde::Serialize;
use utoipa::ToSchema;

/// A pool as an operator writes it. Read and checked by the core; this is its description.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pool)]
pub struct PoolDocument {
    /// 1 to 128 visible ASCII characters without / ? # % " \ and space.
    #[schema(example = "residential-ipv4")]
    id: String,
    /// ipv4, ipv6, vlan, svlan or port.
    #[serde(rename = "type")]
    #[schema(example = "ipv4")]
    kind: String,
    /// Address space (ipv4, ipv6).
    #[schema(example = "100.64.0.0/10")]
    cidr: Option<String>,
    /// Number space (vlan, svlan, port), both ends included.
    #[schema(example = "1000-2000")]
    range: Option<String>,
    /// Virtual nodes of an OLT on the ring; 100 if not given.
    #[schema(required = false)]
    sharding_factor: u32,
    /// Public addresses whose ports are handed out (port).
    #[schema(example = "203.0.113.0/24")]
    addresses: Option<String>,
    /// Ports of one subscriber, in a row (port); 1 if not given.
    block_size: Option<u16>,
    /// Parts that are never handed out.
    #[schema(required = false, example = json!(["100.64.0.0/24"]))]
    exclusions: Vec<String>,
    /// Parts that are never handed out because they serve something else.
    #[schema(required = false)]
    reserved: Vec<ReservedDocument>,
    /// When a subscriber gets something of the pool: session (with each session) or on-request (if the pool is
    /// named). If not given: session for ipv4 and ipv6, on-request for all others.
    #[schema(example = "session")]
    assign: Option<String>,
    /// Whether each unit is given out by the centre, so that a subscriber keeps it on whatever OLT it is; false if
    /// not given. Cannot change.
    #[schema(required = false)]
    pinned: bool,
    /// Who always gets which unit, in a pinned pool.
    #[serde(rename = "static")]
    #[schema(required = false)]
    fixed: Vec<StaticDocument>,
    /// Labels; `region` restricts the pool to the OLTs of that region.
    #[schema(required = false)]
    metadata: BTreeMap<String, String>,
    /// Routing context; `default` if not given.
    #[schema(required = false)]
    vrf: String,
    /// Size of a shard: prefix length (ipv4, ipv6) or how many numbers (vlan, svlan) or blocks (port).
    shard_size: Option<u32>,
    /// An OLT of whose units a smaller part (0 to 0.5) is free gets more; 0.1 if not given.
    #[schema(example = 0.1)]
    low_water: Option<f64>,
    /// OLTs get shards by use, and one of whose units a greater part (0.2 above low_water, to 1) is free gives
    /// shards back; never if not given.
    #[schema(example = 0.6)]
    high_water: Option<f64>,
    /// Length of the prefix of one subscriber (ipv6): 48 to 64, or 128 for single addresses; 56 if not given.
    delegated_length: Option<u8>,
    /// How long a released resource rests; 10m if not given.
    #[schema(required = false, example = "10m")]
    cool_down: String,
    /// What DHCP tells the subscribers (ipv4).
    #[schema(required = false)]
    dhcp: DhcpDocument,
}

/// A part of a pool that is kept for something else.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reserved)]
pub struct ReservedDocument {
    /// An address, prefix, number or range, as in `exclusions`.
    #[schema(example = "100.64.7.10")]
    resource: String,
    /// What for.
    #[schema(example = "monitoring probe")]
    reason: String,
}

/// A unit that is kept for one subscriber.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Static)]
pub struct StaticDocument {
    /// Who.
    #[schema(example = "sub-12345")]
    subscriber: String,
    /// One address, prefix, number or block of ports of the pool.
    #[schema(example = "203.0.113.7")]
    resource: String,
}

/// What DHCP tells the subscribers of a pool.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dhcp)]
pub struct DhcpDocument {
    /// Default gateway; the first address of the pool if not given.
    router: Option<String>,
    /// Name servers.
    #[schema(required = false)]
    dns: Vec<String>,
    /// Lease time; 1h if not given.
    #[schema(required = false)]
    lease_time: String,
    /// Domain name.
    domain_name: Option<String>,
    /// Time servers.
    #[schema(required = false)]
    ntp: Vec<String>,
    /// Interface MTU.
    mtu: Option<u16>,
    /// Where clients that boot over the network go next (`siaddr`).
    next_server: Option<String>,
    /// A client that asks for it gets its lease in one exchange (option 80); false if not given.
    #[schema(required = false)]
    rapid_commit: bool,
    /// What a DHCPRELEASE does: cool-down (the binding ends and its address cools down) or keep (it stays);
    /// cool-down if not given.
    #[schema(required = false, example = "cool-down")]
    release: String,
    /// How long a client may be silent before its binding ends, at least the lease time; never if not given.
    #[schema(example = "24h")]
    idle_release: Option<String>,
    /// Further options: code to value in hexadecimal digits.
    #[schema(required = false)]
    options: BTreeMap<String, String>,
}

/// All pools.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolList {
    /// In the order of their ids.
    #[schema(value_type = Vec<PoolDocument>)]
    pub pools: Vec<PoolSpec>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexus_core::id::PoolId;
    use nexus_core::resource::ResourceType;
    use utoipa::PartialSchema;

    use super::*;

    fn properties<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    #[test]
    fn the_description_of_a_pool_has_exactly_the_fields_that_are_read() {
        let mut spec =
            PoolSpec::minimal(PoolId::new("p").unwrap(), ResourceType::Ipv4, "10.0.0.0/8");
        spec.range = Some(String::new());
        spec.addresses = Some(String::new());
        spec.block_size = Some(1);
        spec.exclusions = vec![String::new()];
        spec.reserved = vec![nexus_core::pool::Reserved {
            resource: String::new(),
            reason: String::new(),
        }];
        spec.assign = Some(nexus_core::pool::Assign::Session);
        spec.pinned = true;
        spec.fixed = vec![nexus_core::pool::StaticEntry {
            subscriber: "s".parse().unwrap(),
            resource: String::new(),
        }];
        spec.metadata.insert(String::new(), String::new());
        spec.shard_size = Some(1);
        spec.delegated_length = Some(1);
        spec.low_water = nexus_core::pool::Share::from_per_mille(100);
        spec.high_water = nexus_core::pool::Share::from_per_mille(600);
        spec.dhcp.router = Some(String::new());
        spec.dhcp.dns = vec![String::new()];
        spec.dhcp.domain_name = Some(String::new());
        spec.dhcp.ntp = vec![String::new()];
        spec.dhcp.mtu = Some(1);
        spec.dhcp.next_server = Some(String::new());
        spec.dhcp.rapid_commit = true;
        spec.dhcp.release = nexus_core::pool::Release::Keep;
        spec.dhcp.idle_release = Some(spec.dhcp.lease_time);
        spec.dhcp.options.insert(1, String::new());
        let json = serde_json::to_value(&spec).unwrap();
        let keys = |value: &serde_json::Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(properties::<PoolDocument>(), keys(&json));
        assert_eq!(properties::<DhcpDocument>(), keys(&json["dhcp"]));
        assert_eq!(properties::<ReservedDocument>(), keys(&json["reserved"][0]));
        assert_eq!(properties::<StaticDocument>(), keys(&json["static"][0]));
    }
}
