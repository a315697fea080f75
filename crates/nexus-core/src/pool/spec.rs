//! A pool as an operator writes it, in the customer's field names.

use std::collections::BTreeMap;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::duration::HumanDuration;
use crate::id::{PoolId, SubscriberId};
use crate::resource::ResourceType;

use super::marks::Share;

/// Virtual nodes of an OLT on the ring of a pool, if the pool does not say.
pub const DEFAULT_SHARDING_FACTOR: u32 = 100;
/// How long a released resource rests, if the pool does not say.
pub const DEFAULT_COOL_DOWN: HumanDuration = HumanDuration::from_secs(600);
/// DHCP lease time, if the pool does not say.
pub const DEFAULT_LEASE_TIME: HumanDuration = HumanDuration::from_secs(3600);
/// Length of the IPv6 prefix that one subscriber gets, if the pool does not say (RFC 6177).
pub const DEFAULT_DELEGATED_LENGTH: u8 = 56;

/// A pool as it is written in YAML and JSON. Only [`Pool::new`](super::Pool::new) says whether it
/// makes sense; unknown fields are refused on reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Name of the pool.
    pub id: PoolId,
    /// What the pool hands out.
    #[serde(rename = "type")]
    pub kind: ResourceType,
    /// Address space (`ipv4`, `ipv6`), such as `100.64.0.0/10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// Number space (`vlan`, `svlan`, `port`), such as `1000-2000`, both ends included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// Virtual nodes on the ring of an OLT for 2000 subscribers, 1 to 1000; others in proportion.
    #[serde(default = "default_sharding_factor")]
    pub sharding_factor: u32,
    /// Public addresses whose ports the pool hands out (`port` only), such as `203.0.113.0/24`. Without
    /// them the ports are of an address that the pool does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<String>,
    /// Ports that one subscriber gets, in a row (`port` only; 1 if not given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u16>,
    /// Parts that are never handed out: addresses, prefixes, numbers, or `first-last`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<String>,
    /// Parts that are never handed out because they serve something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<Reserved>,
    /// Whether each session gets something of the pool; if not given, as
    /// [`Pool::assign`](super::Pool::assign) says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign: Option<Assign>,
    /// Whether each unit is given out by the centre, so that a subscriber keeps it on whatever OLT it is. All
    /// shards are the cluster's own then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Who always gets which unit, in a pinned pool.
    #[serde(default, rename = "static", skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<StaticEntry>,
    /// Labels; `region` restricts the pool to the OLTs of that region.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Routing context: the same resource may exist once in each.
    #[serde(default = "default_vrf")]
    pub vrf: String,
    /// Size of a shard: prefix length (`ipv4`, `ipv6`), or how many numbers (`vlan`, `svlan`) or blocks
    /// (`port`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_size: Option<u32>,
    /// An OLT of whose units in this pool a smaller part is free gets more, out of the reserve if need be;
    /// 0.1 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_water: Option<Share>,
    /// If given, OLTs get shards by what is in use on them and not by their capacity, and one of whose units a
    /// greater part is free gives shards back, empty ones first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water: Option<Share>,
    /// Length of the prefix that one subscriber gets (`ipv6` only; 56 if not given): 48 to 64, or 128
    /// for single addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_length: Option<u8>,
    /// How long a released resource rests before another subscriber may get it; longer where its client
    /// may not have heard of the release, see [`Pool::rest`](super::Pool::rest).
    #[serde(
        default = "default_cool_down",
        deserialize_with = "deserialize_cool_down"
    )]
    pub cool_down: HumanDuration,
    /// What DHCP tells the subscribers of the pool (`ipv4` only).
    #[serde(default, skip_serializing_if = "DhcpSpec::is_default")]
    pub dhcp: DhcpSpec,
}

/// A part of a pool that is kept for something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// What is kept, as in `exclusions`.
    pub resource: String,
    /// What for, in words for the next operator; 1 to 256 bytes.
    pub reason: String,
}

/// A unit that is kept for one subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticEntry {
    /// Who.
    pub subscriber: SubscriberId,
    /// Which unit: one address, prefix, number or block of ports.
    pub resource: String,
}

/// When a subscriber gets something of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assign {
    /// With each session, without being named.
    Session,
    /// Only if the pool is named, by the users file or the AAA server.
    OnRequest,
}

/// What DHCP tells the subscribers of a pool, as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DhcpSpec {
    /// Default gateway (option 3); the first address of the pool after the network address if not
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// Name servers (option 6).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Lease time (option 51), whole seconds.
    #[serde(deserialize_with = "deserialize_lease_time")]
    pub lease_time: HumanDuration,
    /// Domain name (option 15).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// Time servers (option 42).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// Interface MTU (option 26).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// `siaddr` of replies, where clients that boot over the network go next (RFC 2131 section 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_server: Option<String>,
    /// A client that asks for it gets its lease in one exchange (option 80, RFC 4039).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rapid_commit: bool,
    /// What a DHCPRELEASE does.
    #[serde(skip_serializing_if = "Release::is_default")]
    pub release: Release,
    /// How long a client may be silent before its binding ends, at least one lease time; never if not
    /// given. Only for pools whose subscribers use DHCP: nothing else shows that they are there.
    #[serde(
        deserialize_with = "deserialize_idle_release",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_release: Option<HumanDuration>,
    /// Further options: code to value in hexadecimal digits.
    #[serde(
        deserialize_with = "deserialize_options",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub options: BTreeMap<u16, String>,
}

/// What becomes of a binding whose client sends DHCPRELEASE (RFC 2131 section 4.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// It ends, and the address cools down.
    #[default]
    CoolDown,
    /// It stays for its subscriber, until the session ends otherwise.
    Keep,
}

impl Release {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for DhcpSpec {
    fn default() -> Self {
        Self {
            router: None,
            dns: Vec::new(),
            lease_time: DEFAULT_LEASE_TIME,
            domain_name: None,
            ntp: Vec::new(),
            mtu: None,
            next_server: None,
            rapid_commit: false,
            release: Release::CoolDown,
            idle_release: None,
            options: BTreeMap::new(),
        }
    }
}

impl DhcpSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl PoolSpec {
    /// A pool with only its name, type and space; everything else as if it were not written.
    #[must_use]
    pub fn minimal(id: PoolId, kind: ResourceType, space: &str) -> Self {
        let is_address = matches!(kind, ResourceType::Ipv4 | ResourceType::Ipv6);
        Self {
            id,
            kind,
            cidr: is_address.then(|| space.to_owned()),
            range: (!is_address).then(|| space.to_owned()),
            sharding_factor: DEFAULT_SHARDING_FACTOR,
            addresses: None,
            block_size: None,
            exclusions: Vec::new(),
            reserved: Vec::new(),
            assign: None,
            pinned: false,
            fixed: Vec::new(),
            metadata: BTreeMap::new(),
            vrf: default_vrf(),
            shard_size: None,
            low_water: None,
            high_water: None,
            delegated_length: None,
            cool_down: DEFAULT_COOL_DOWN,
            dhcp: DhcpSpec::default(),
        }
    }
}

fn default_sharding_factor() -> u32 {
    DEFAULT_SHARDING_FACTOR
}

fn default_vrf() -> String {
    "default".to_owned()
}

fn default_cool_down() -> HumanDuration {
    DEFAULT_COOL_DOWN
}

// Not every format says where in the document a value stood, so that the field is named here.
fn named<'de, D: Deserializer<'de>>(
    field: &str,
    deserializer: D,
) -> Result<HumanDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| serde::de::Error::custom(format!("{field}: {error}")))
}

fn deserialize_cool_down<'de, D: Deserializer<'de>>(d: D) -> Result<HumanDuration, D::Error> {
    named("cool_down", d)
}

/// Keys are numbers in YAML and strings in JSON. Where serde has to look at a document before it knows what
/// it is, as with the tag of an enum, a string stays one; so both are read here.
fn deserialize_options<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<u16, String>, D::Error> {
    let options = BTreeMap::<Code, String>::deserialize(d)?;
    Ok(options
        .into_iter()
        .map(|(Code(code), value)| (code, value))
        .collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Code(u16);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl Visitor<'_> for CodeVisitor {
    type Value = Code;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the code of a DHCP option, 1 to 254")
    }

    fn visit_u64<E: serde::de::Error>(self, code: u64) -> Result<Code, E> {
        let out_of_range = |_| E::invalid_value(Unexpected::Unsigned(code), &self);
        u16::try_from(code).map(Code).map_err(out_of_range)
    }

    fn visit_i64<E: serde::de::Error>(self, code: i64) -> Result<Code, E> {
        let out_of_range = |_| E::invalid_value(Unexpected::Signed(code), &self);
        u16::try_from(code).map(Code).map_err(out_of_range)
    }

    fn visit_str<E: serde::de::Error>(self, code: &str) -> Result<Code, E> {
        let no_number = |_| E::invalid_value(Unexpected::Str(code), &self);
        code.parse().map(Code).map_err(no_number)
    }
}

fn deserialize_lease_time<'de, D: Deserializer<'de>>(d: D) -> Result<HumanDuration, D::Error> {
    named("dhcp.lease_time", d)
}

fn deserialize_idle_release<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<HumanDuration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error| serde::de::Error::custom(format!("dhcp.idle_release: {error}")))
}
