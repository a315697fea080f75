//! Resources, pools, shards, the ring, the allocator and the lease rules, without any I/O.

pub mod allocator;
pub mod duration;
pub mod id;
pub mod pool;
pub mod resource;
pub mod shard;
pub mod time;
