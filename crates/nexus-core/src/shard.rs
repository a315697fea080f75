//! A shard: the part of a pool that has one owner at a time.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::id::{Epoch, PoolId, ShardId};

/// What a shard covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardRange {
    /// A part of an IPv4 pool; prints as `100.64.0.0/18`.
    Ipv4(Ipv4Net),
    /// A part of an IPv6 pool; prints as `2001:db8::/48`.
    Ipv6(Ipv6Net),
    /// VLAN ids or ports, both ends included; prints as `100-199`.
    Numbers {
        /// Lowest number of the shard.
        first: u16,
        /// Highest number of the shard.
        last: u16,
    },
    /// Ports of public addresses: the same ports of each of them. Prints as
    /// `203.0.113.7:1024-65535` or `203.0.113.4-203.0.113.7:1024-65535`.
    Ports {
        /// Lowest address of the shard.
        from: Ipv4Addr,
        /// Highest address of the shard.
        to: Ipv4Addr,
        /// Lowest port.
        first: u16,
        /// Highest port.
        last: u16,
    },
}

impl fmt::Display for ShardRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(net) => f.pad(&net.to_string()),
            Self::Ipv6(net) => f.pad(&net.to_string()),
            Self::Numbers { first, last } => f.pad(&format!("{first}-{last}")),
            Self::Ports {
                from,
                to,
                first,
                last,
            } if from == to => f.pad(&format!("{from}:{first}-{last}")),
            Self::Ports {
                from,
                to,
                first,
                last,
            } => f.pad(&format!("{from}-{to}:{first}-{last}")),
        }
    }
}

/// Names a shard among all pools.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardKey {
    /// Pool that the shard is a part of.
    pub pool: PoolId,
    /// Index of the shard in the pool.
    pub shard: ShardId,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of pool {}", self.shard, self.pool)
    }
}

/// Names one ownership of a shard: what an OLT gives back, and what commands carry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardRef {
    /// Pool that the shard is a part of.
    pub pool: PoolId,
    /// Index of the shard in the pool.
    pub shard: ShardId,
    /// Epoch of the ownership.
    pub epoch: Epoch,
}

impl ShardRef {
    /// The shard without the epoch.
    #[must_use]
    pub fn key(&self) -> ShardKey {
        ShardKey {
            pool: self.pool.clone(),
            shard: self.shard,
        }
    }
}

/// State of a shard in the shard table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardState {
    /// Nobody has a right to it.
    Free,
    /// Its owner may allocate from it while the owner's lease lasts.
    Owned,
    /// Its owner shall not allocate anything new from it, and gives it back once it is empty.
    Draining,
    /// Its owner is gone or was replaced, but its right may not have ended yet.
    Frozen,
}

impl ShardState {
    /// Name as it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Owned => "owned",
            Self::Draining => "draining",
            Self::Frozen => "frozen",
        }
    }
}

impl fmt::Display for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
