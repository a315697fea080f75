//! One allocation as the record keeps it, and its form in the store.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use nexus_core::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::resource::{Resource, ResourceType};
use prost::Message as _;

/// First part of the CLSet key of every allocation.
pub const KEY_PREFIX: &str = "/allocations/";
/// Most labels of an allocation.
pub const MAX_METADATA: usize = 64;
/// Longest key or value of a label, in bytes.
pub const MAX_METADATA_LEN: usize = 256;

/// A resource in its routing context: what only one subscriber may hold. Ordered so that the resources of a
/// shard stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Routing context.
    pub vrf: String,
    /// The resource itself.
    pub resource: Resource,
}

/// What a record says about its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllocationState {
    /// The subscriber holds it.
    Active,
    /// The subscriber holds it, and the OLT was asked to end that.
    Releasing,
    /// Nobody holds it; it cools down.
    Released,
}

/// One resource bound to one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What is bound.
    pub place: Place,
    /// Pool that it comes from.
    pub pool: PoolId,
    /// Who holds it.
    pub subscriber: SubscriberId,
    /// OLT that the subscriber is on; the cluster itself if none was named.
    pub olt: OltId,
    /// Session of the OLT that recorded it; `None`: the centre chose the resource.
    pub session: Option<SessionId>,
    /// Shard of the pool that the resource lies in.
    pub shard: ShardId,
    /// Epoch of the shard under which it was allocated.
    pub epoch: Epoch,
    /// Number of the newest command that it is based on; for the centre's own, that of the quorum's grant.
    pub seq: Seq,
    /// Held or not.
    pub state: AllocationState,
    /// When the subscriber got it.
    pub made_at: Timestamp,
    /// When the state changed last.
    pub changed_at: Timestamp,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
}

/// Why a row of the store cannot be taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} in the store cannot be read: {problem}; restore the store from a backup")]
pub struct RowError {
    key: String,
    problem: String,
}

impl RowError {
    /// What cannot be read, and why.
    #[must_use]
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(string, tag = "1")]
    pool: String,
    #[prost(string, tag = "2")]
    subscriber: String,
    #[prost(string, tag = "3")]
    olt: String,
    #[prost(string, optional, tag = "4")]
    session: Option<String>,
    #[prost(uint32, tag = "5")]
    shard: u32,
    #[prost(uint64, tag = "6")]
    epoch: u64,
    #[prost(uint64, tag = "7")]
    seq: u64,
    #[prost(uint32, tag = "8")]
    state: u32,
    #[prost(int64, tag = "9")]
    made_at_ms: i64,
    #[prost(int64, tag = "10")]
    changed_at_ms: i64,
    #[prost(btree_map = "string, string", tag = "11")]
    metadata: BTreeMap<String, String>,
}

impl AllocationState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Releasing, Self::Released];

    /// Name as it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Releasing => "releasing",
            Self::Released => "released",
        }
    }

    /// Whether a subscriber holds the resource.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Active | Self::Releasing)
    }

    const fn code(self) -> u32 {
        match self {
            Self::Active => 1,
            Self::Releasing => 2,
            Self::Released => 3,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.vrf.replace('%', "%25").replace('/', "%2F"),
            self.resource.kind(),
            self.resource
        )
    }
}

impl Place {
    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (vrf, rest) = text.split_once('/')?;
        let (kind, resource) = rest.split_once('/')?;
        let kind: ResourceType = kind.parse().ok()?;
        Some(Self {
            vrf: vrf.replace("%2F", "/").replace("%25", "%"),
            resource: Resource::parse(kind, resource).ok()?,
        })
    }

    /// CLSet key of the allocation of this resource.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{KEY_PREFIX}{self}")
    }
}

impl Allocation {
    /// Whether the centre chose the resource from a shard that the cluster keeps.
    #[must_use]
    pub fn is_central(&self) -> bool {
        self.session.is_none()
    }

    /// Number of the newest command of its OLT that it is based on; 0 if the centre chose the resource.
    #[must_use]
    pub fn command(&self) -> Seq {
        if self.is_central() { Seq(0) } else { self.seq }
    }

    /// The value of its row. Times are kept to the millisecond.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Row {
            pool: self.pool.to_string(),
            subscriber: self.subscriber.to_string(),
            olt: self.olt.to_string(),
            session: self.session.as_ref().map(ToString::to_string),
            shard: self.shard.0,
            epoch: self.epoch.0,
            seq: self.seq.0,
            state: self.state.code(),
            made_at_ms: self.made_at.as_millisecond(),
            changed_at_ms: self.changed_at.as_millisecond(),
            metadata: self.metadata.clone(),
        }
        .encode_to_vec()
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// If key or value is not what [`Place::key`] and [`Allocation::encode`] write.
    pub fn decode(key: &str, value: &[u8]) -> Result<Self, RowError> {
        let fail = |problem: String| RowError::new(key.escape_default().to_string(), problem);
        let place = key
            .strip_prefix(KEY_PREFIX)
            .and_then(Place::parse)
            .ok_or_else(|| fail("its key names no resource".to_owned()))?;
        let row = Row::decode(value).map_err(|error| fail(error.to_string()))?;
        let id = |error: nexus_core::id::IdError| fail(error.to_string());
        let time = |ms| Timestamp::from_millisecond(ms).map_err(|error| fail(error.to_string()));
        Ok(Self {
            place,
            pool: PoolId::new(row.pool).map_err(id)?,
            subscriber: SubscriberId::new(row.subscriber).map_err(id)?,
            olt: OltId::new(row.olt).map_err(id)?,
            session: row.session.map(SessionId::new).transpose().map_err(id)?,
            shard: ShardId(row.shard),
            epoch: Epoch(row.epoch),
            seq: Seq(row.seq),
            state: AllocationState::ALL
                .into_iter()
                .find(|state| state.code() == row.state)
                .ok_or_else(|| fail(format!("state {} is not known", row.state)))?,
            made_at: time(row.made_at_ms)?,
            changed_at: time(row.changed_at_ms)?,
            metadata: row.metadata,
        })
    }
}

/// Cuts a time to what a row keeps, so that an allocation is the same before and after a restart.
#[must_use]
pub fn to_millisecond(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Checks labels.
///
/// # Errors
/// What is wrong with them and what is allowed.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    if metadata.len() > MAX_METADATA {
        return Err(format!(
            "{} labels are too many: at most {MAX_METADATA}",
            metadata.len()
        ));
    }
    let bad = |(key, value): &(&String, &String)| {
        key.is_empty() || key.len() > MAX_METADATA_LEN || value.len() > MAX_METADATA_LEN
    };
    match metadata.iter().find(bad) {
        None => Ok(()),
        Some((key, _)) => Err(format!(
            "label `{}`: keys take 1 to {MAX_METADATA_LEN} bytes, values at most {MAX_METADATA_LEN}",
            key.escape_default()
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example(subscriber: &str, pool: &str, resource: &str) -> Allocation {
        Allocation {
            place: Place {
                vrf: "default".into(),
                resource: Resource::parse(ResourceType::Ipv4, resource).unwrap(),
            },
            pool: PoolId::new(pool).unwrap(),
            subscriber: SubscriberId::new(subscriber).unwrap(),
            olt: OltId::new("olt-1").unwrap(),
            session: Some(SessionId::new("s-1").unwrap()),
            shard: ShardId(2),
            epoch: Epoch(3),
            seq: Seq(4),
            state: AllocationState::Active,
            made_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            changed_at: Timestamp::from_millisecond(1_700_000_000_456).unwrap(),
            metadata: BTreeMap::from([("mac".into(), "aa:bb:cc:dd:ee:ff".into())]),
        }
    }

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let allocation = example("sub-1", "p", "100.64.1.50");
        assert_eq!(
            allocation.place.key(),
            "/allocations/default/ipv4/100.64.1.50"
        );
        let back = Allocation::decode(&allocation.place.key(), &allocation.encode()).unwrap();
        assert_eq!(back, allocation);
    }

    #[test]
    fn every_resource_type_and_vrf_has_one_key() {
        for (vrf, kind, text) in [
            ("a/b%2Fc", ResourceType::Ipv6, "2001:db8:1::/56"),
            ("default", ResourceType::Vlan, "100"),
            ("x", ResourceType::Port, "40000"),
            (
                "x/203.0.113.7:1",
                ResourceType::Port,
                "203.0.113.7:40000-40511",
            ),
            ("default", ResourceType::Ipv6, "2001:db8::1/128"),
        ] {
            let place = Place {
                vrf: vrf.into(),
                resource: Resource::parse(kind, text).unwrap(),
            };
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        assert_eq!(Place::parse("default/ipv4/x"), None);
        assert_eq!(Place::parse("default"), None);
    }

    #[test]
    fn a_damaged_row_is_refused_with_its_key() {
        let key = "/allocations/default/ipv4/100.64.1.50";
        for value in [&b"\xff\xff"[..], &[]] {
            let error = Allocation::decode(key, value).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(Allocation::decode("/pools/x", &[]).is_err());
    }

    #[test]
    fn labels_are_bounded() {
        let long = "x".repeat(MAX_METADATA_LEN + 1);
        assert!(check_metadata(&BTreeMap::from([(long.clone(), String::new())])).is_err());
        assert!(check_metadata(&BTreeMap::from([("k".into(), long)])).is_err());
        assert!(check_metadata(&BTreeMap::from([(String::new(), "v".into())])).is_err());
        let many = (0..=MAX_METADATA).map(|n| (n.to_string(), String::new()));
        assert!(check_metadata(&many.collect()).is_err());
        assert!(check_metadata(&BTreeMap::from([("k".into(), "v".into())])).is_ok());
    }
}
