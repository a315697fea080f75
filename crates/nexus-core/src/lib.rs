//! Resources, pools, shards, the ring, the allocator, the lease rules and the cluster's state machine, without any I/O.

pub mod allocator;
pub mod cluster;
pub mod duration;
pub mod edge;
pub mod id;
pub mod lease;
pub mod placement;
pub mod pool;
pub mod resource;
pub mod ring;
pub mod shard;
pub mod shard_table;
pub mod time;
