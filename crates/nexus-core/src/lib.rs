//! Resources, pools, shards, the ring, the allocator and the lease rules, without any I/O.
