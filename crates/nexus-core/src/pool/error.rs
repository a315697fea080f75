//! Why a pool is refused, in words for the person who wrote it.

use thiserror::Error;

use crate::id::PoolId;
use crate::resource::ResourceType;

/// Why a pool is refused. Each text names the field, the value and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    /// The space of the pool is not given, or given in the field of other types.
    #[error(
        "pool {pool}: `{expected}` is missing: a pool of type {kind} needs it, such as {example}"
    )]
    SpaceMissing {
        /// The pool.
        pool: PoolId,
        /// Type of the pool.
        kind: ResourceType,
        /// Field that is missing.
        expected: &'static str,
        /// A right value.
        example: &'static str,
    },
    /// A field that has no meaning for this type of pool.
    #[error("pool {pool}: `{field}` does not apply to a pool of type {kind}: remove it{instead}")]
    NotApplicable {
        /// The pool.
        pool: PoolId,
        /// Type of the pool.
        kind: ResourceType,
        /// Field to remove.
        field: &'static str,
        /// What to use in its place, as the end of the sentence; may be empty.
        instead: &'static str,
    },
    /// A value that cannot be read or is out of bounds.
    #[error("pool {pool}: {field} `{value}`: {problem}")]
    Value {
        /// The pool.
        pool: PoolId,
        /// Field, as a path such as `dhcp.dns`.
        field: &'static str,
        /// Value that was given, escaped.
        value: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An exclusion or a reserved part that is not a part of the pool.
    #[error(
        "pool {pool}: {field} `{exclusion}` is not inside the pool's {space}: correct or remove it"
    )]
    ExclusionOutside {
        /// The pool.
        pool: PoolId,
        /// Field that it stands in.
        field: &'static str,
        /// Exclusion that was given.
        exclusion: String,
        /// Space of the pool.
        space: String,
    },
    /// The pool is larger than the largest shards could make it.
    #[error(
        "pool {pool}: {space} holds {units} resources, more than 65536 shards of 1048576 can: divide it into several pools"
    )]
    TooLarge {
        /// The pool.
        pool: PoolId,
        /// Space of the pool.
        space: String,
        /// Resources in it.
        units: u128,
    },
    /// The pool would have too many shards.
    #[error(
        "pool {pool}: {space} in shards of {shard} gives {count} shards, more than 65536: choose larger shards with `shard_size`"
    )]
    TooManyShards {
        /// The pool.
        pool: PoolId,
        /// Space of the pool.
        space: String,
        /// Size of a shard as it was chosen.
        shard: String,
        /// Shards that it would make.
        count: u128,
    },
    /// A shard would be too large to be kept as a bitmap.
    #[error(
        "pool {pool}: a shard of {shard} holds {units} resources, more than 1048576: choose smaller shards with `shard_size`"
    )]
    ShardTooLarge {
        /// The pool.
        pool: PoolId,
        /// Size of a shard as it was chosen.
        shard: String,
        /// Resources in one shard.
        units: u128,
    },
    /// The DHCP options of the pool do not fit into a reply template.
    #[error(
        "pool {pool}: the DHCP options take {len} bytes encoded, more than {max}: remove some of dns, ntp, domain_name or options"
    )]
    OptionsTooLong {
        /// The pool.
        pool: PoolId,
        /// Bytes needed.
        len: usize,
        /// Bytes there are.
        max: usize,
    },
}
