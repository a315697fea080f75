//! Pools that a workload allocates from.

use anyhow::{Result, ensure};
use serde_json::json;

use super::rest::Client;

/// A pool of addresses with shards of a given size; the cluster keeps the last one.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    /// Its id.
    pub id: String,
    /// Its space.
    pub cidr: String,
    /// Prefix length of a shard.
    pub shard_size: u32,
}

impl PoolPlan {
    /// 10.0.0.0/9 in shards of 65,536 addresses.
    #[must_use]
    pub fn large(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            cidr: "10.0.0.0/9".to_owned(),
            shard_size: 16,
        }
    }

    /// Creates it through that node.
    ///
    /// # Errors
    /// If the node does not answer, or refuses.
    pub fn create(&self, client: &Client) -> Result<()> {
        let pool = json!({
            "id": self.id, "type": "ipv4", "cidr": self.cidr, "shard_size": self.shard_size,
            "cool_down": "1s", "exclusions": [],
        });
        let answer = client.post("/api/v1/pools", &pool)?;
        ensure!(
            answer.status == 201,
            "pool {} was not created: HTTP {} {}",
            self.id,
            answer.status,
            answer.body
        );
        Ok(())
    }
}
