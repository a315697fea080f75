//! Resources, pools, shards, the ring, the allocator and the lease rules, without any I/O.

pub mod allocator;
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
