//! Why the centre refuses a request: one list for REST, gRPC and the metrics.

use nexus_core::cluster;
use nexus_core::id::{Epoch, OltId, PoolId, SubscriberId};
use nexus_core::pool::PoolError;
use nexus_core::resource::Resource;
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::Refusal;

use crate::allocation::Allocation;

/// Why a request was refused; nothing was changed. The text says what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field of the request makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A pool that makes no sense.
    #[error("{0}")]
    BadPool(#[from] PoolError),
    /// No such pool.
    #[error("there is no pool {0}: see GET /api/v1/pools")]
    UnknownPool(PoolId),
    /// No such OLT.
    #[error("OLT {0} is not registered: see GET /api/v1/nodes")]
    UnknownOlt(OltId),
    /// The subscriber holds nothing there.
    #[error("subscriber {subscriber} holds nothing{}", pool.as_ref().map_or_else(String::new, |pool| format!(" in pool {pool}")))]
    NoAllocation {
        /// The subscriber.
        subscriber: SubscriberId,
        /// The pool, if one was named.
        pool: Option<PoolId>,
    },
    /// The pool's id is taken.
    #[error("pool {0} exists already: choose another id, or change it with PUT")]
    PoolExists(PoolId),
    /// Two pools could hand out the same resource.
    #[error(
        "{space} overlaps {other_space} of pool {other} in vrf {vrf}: separate them, or give one another vrf"
    )]
    PoolOverlaps {
        /// Space that was asked for.
        space: String,
        /// Pool that it meets.
        other: PoolId,
        /// That pool's space.
        other_space: String,
        /// Routing context of both.
        vrf: String,
    },
    /// What another pool has given out is in the way.
    #[error(
        "{count} allocations of pool {pool} are in the way: deallocate those that are held, and wait until the others have rested"
    )]
    PoolHasAllocations {
        /// The pool.
        pool: PoolId,
        /// How many.
        count: u64,
    },
    /// The pool goes as soon as its shards have come back.
    #[error("pool {0} is being removed: wait until it is gone")]
    BeingRemoved(PoolId),
    /// The change would move shards under their owners.
    #[error("{why}")]
    GeometryInUse {
        /// The pool.
        pool: PoolId,
        /// What cannot change, and what to do instead.
        why: String,
    },
    /// Subscribers hold what the change takes away.
    #[error(
        "{count} allocations of pool {pool} are held that the change takes away: look at it with dry_run=true, and have them asked back with drain=true (force=true to remove the pool)"
    )]
    InUse {
        /// The pool.
        pool: PoolId,
        /// How many.
        count: u64,
        /// The first of them.
        first: Vec<Allocation>,
    },
    /// The pool was changed since it was read.
    #[error(
        "pool {pool} has ETag {current} now: read it again and repeat the change with that ETag in If-Match"
    )]
    EtagMismatch {
        /// The pool.
        pool: PoolId,
        /// Its ETag.
        current: String,
    },
    /// The resource is another subscriber's.
    #[error("{resource} is already held by another subscriber: choose another resource")]
    ResourceTaken {
        /// The resource.
        resource: Resource,
    },
    /// The shard is not the caller's under that epoch.
    #[error(
        "{shard} under epoch {epoch} does not belong to this session of OLT {olt}: the right to it has ended, fetch the configuration"
    )]
    NotYourShard {
        /// The shard.
        shard: ShardKey,
        /// Epoch of the request.
        epoch: Epoch,
        /// The caller.
        olt: OltId,
    },
    /// The resource was allocated again since.
    #[error("{resource} was allocated again under epoch {current}: epoch {given} has ended")]
    StaleEpoch {
        /// The resource.
        resource: Resource,
        /// Epoch of the record.
        current: Epoch,
        /// Epoch of the request.
        given: Epoch,
    },
    /// The allocation was made by another OLT.
    #[error("{resource} is allocated on OLT {holder}, not on {olt}")]
    OtherOlt {
        /// The resource.
        resource: Resource,
        /// OLT in the record.
        holder: OltId,
        /// The caller.
        olt: OltId,
    },
    /// A newer command for the resource is known.
    #[error("command {given} is older than command {known}, which is recorded for {resource}")]
    StaleSeq {
        /// The resource.
        resource: Resource,
        /// Number in the record.
        known: u64,
        /// Number of the request.
        given: u64,
    },
    /// A newer command has reached the record by another server.
    #[error("{resource}: {given} is older than {current}, which another server has recorded")]
    Superseded {
        /// Key of the resource.
        resource: String,
        /// What is recorded.
        current: String,
        /// What the request is based on.
        given: String,
    },
    /// This server takes no writes.
    #[error(
        "this server is a read replica: write to {}",
        if writers.is_empty() { "a core or write node (none is known to it now)".to_owned() } else { writers.join(" or ") }
    )]
    ReadOnly {
        /// Where writes are taken.
        writers: Vec<String>,
    },
    /// This server does not know enough yet, or must not write now.
    #[error("this server takes no writes now: {0}")]
    NotNow(String),
    /// The quorum cannot decide.
    #[error("the cluster cannot decide now: {0}; what is held stays held, try again in a moment")]
    NoQuorum(String),
    /// Nobody knows whether the quorum has decided.
    #[error("it is not known whether the cluster has done this: {0}; look, or repeat the request")]
    OutcomeUnknown(String),
    /// The caller has said that it knows the answer to this command.
    #[error("command {given} is a stray copy: all below {floor} have been acknowledged")]
    StrayCopy {
        /// First number that may not have been acknowledged.
        floor: u64,
        /// Number of the request.
        given: u64,
    },
    /// The subscriber holds another resource of the pool on the same OLT.
    #[error(
        "subscriber {subscriber} still holds {held} in pool {pool} on this OLT: release it first"
    )]
    ReleaseFirst {
        /// The subscriber.
        subscriber: SubscriberId,
        /// The pool.
        pool: PoolId,
        /// What it holds.
        held: Resource,
    },
    /// Another session of the OLT is alive.
    #[error("{0}")]
    AliveElsewhere(String),
    /// The session is unknown or was replaced.
    #[error("{0}")]
    SessionOver(String),
    /// The OLT's store went back in time.
    #[error("{0}")]
    RolledBack(String),
    /// A pinned resource is still on another OLT, or with another subscriber, and on its way.
    #[error("{0}: try again in a moment")]
    BeingMoved(String),
    /// The shard table refuses the change.
    #[error("{0}")]
    NotPossible(String),
    /// The list of members does not take the change.
    #[error("{0}")]
    Member(String),
    /// A bound of the shard table is reached.
    #[error("{0}")]
    Full(String),
    /// The node is not drained.
    #[error(
        "OLT {olt} is {state} and has {allocations} allocations and {shards} shards: drain it first (POST /api/v1/nodes/{olt}/drain) and wait until it is empty"
    )]
    DrainFirst {
        /// The OLT.
        olt: OltId,
        /// Its state.
        state: &'static str,
        /// Allocations that are held on it.
        allocations: u64,
        /// Shards that belong to it.
        shards: u64,
    },
    /// Nothing is free.
    #[error(
        "pool {pool} has no free resource in the shards that the centre keeps for itself: add a pool, or let an OLT allocate"
    )]
    Exhausted {
        /// The pool.
        pool: PoolId,
    },
    /// An idempotency key was used for another request.
    #[error("this Idempotency-Key was used for another request: choose a new key")]
    KeyReused,
    /// Too much at once.
    #[error("{what} is full: try again in a moment")]
    Overloaded {
        /// Which queue or table.
        what: &'static str,
    },
    /// The server stops.
    #[error("the server is stopping: try again, or use another one")]
    Stopping,
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}

/// What kind of refusal it is; decides the status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong in itself: 422, `INVALID_ARGUMENT`.
    Invalid,
    /// What it names is not there: 404, `NOT_FOUND`.
    NotFound,
    /// What it wants to make is there already: 409, `ALREADY_EXISTS`.
    Exists,
    /// The state does not allow it: 409, `FAILED_PRECONDITION`.
    Conflict,
    /// A condition of the request does not hold: 412, `ABORTED`.
    Condition,
    /// Not yet, but soon: 409, `ABORTED`.
    Moving,
    /// Nothing is left: 409, `RESOURCE_EXHAUSTED`.
    Exhausted,
    /// Not here: 403, `UNAVAILABLE` (with the addresses of others).
    Elsewhere,
    /// Not now: 503, `UNAVAILABLE`.
    Unavailable,
}

impl From<cluster::Refusal> for Refused {
    fn from(refusal: cluster::Refusal) -> Self {
        match refusal {
            cluster::Refusal::Table(refusal) => refusal.into(),
            cluster::Refusal::Member(refusal) => Self::Member(refusal.to_string()),
            cluster::Refusal::Unreadable(_) => Self::NotPossible(refusal.to_string()),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::ReservedId(_) => Self::invalid("id", text),
            Refusal::TooLong { field, .. } => Self::invalid(field, text),
            Refusal::ReasonMissing(_) => Self::invalid("reason", text),
            Refusal::UnknownOlt(olt) => Self::UnknownOlt(olt),
            Refusal::AlreadyAlive { .. } => Self::AliveElsewhere(text),
            Refusal::NotCurrentSession { .. }
            | Refusal::Superseded { .. }
            | Refusal::StaleConfiguration { .. } => Self::SessionOver(text),
            Refusal::RolledBack { .. } => Self::RolledBack(text),
            Refusal::Pool(_) => Self::invalid("pool", text),
            Refusal::PoolExists(pool) => Self::PoolExists(pool),
            Refusal::Overlap {
                new_space,
                existing,
                existing_space,
                vrf,
                ..
            } => Self::PoolOverlaps {
                space: new_space,
                other: existing,
                other_space: existing_space,
                vrf,
            },
            Refusal::UnknownPool(pool) => Self::UnknownPool(pool),
            Refusal::PoolChange(pool, why) => Self::GeometryInUse { pool, why },
            Refusal::BeingRemoved(pool) => Self::BeingRemoved(pool),
            Refusal::NotOwner { key, epoch, olt } => Self::NotYourShard {
                shard: key,
                epoch,
                olt,
            },
            Refusal::NotDrained { .. }
            | Refusal::NotKept(_)
            | Refusal::NoSuchUnit { .. }
            | Refusal::UnitTaken { .. }
            | Refusal::HasUnits { .. } => Self::NotPossible(text),
            Refusal::UnitElsewhere { .. } => Self::BeingMoved(text),
            Refusal::Recovering { .. } | Refusal::BeingReclaimed(_) => Self::NotNow(text),
            Refusal::Full { .. } => Self::Full(text),
        }
    }
}

impl Refused {
    /// A field that makes no sense.
    pub fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.to_string(),
        }
    }

    /// Short stable name: end of the problem type and metric label.
    #[must_use]
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid-field",
            Self::BadPool(_) => "invalid-pool",
            Self::UnknownPool(_) => "unknown-pool",
            Self::UnknownOlt(_) => "unknown-node",
            Self::NoAllocation { .. } => "no-allocation",
            Self::PoolExists(_) => "pool-exists",
            Self::PoolOverlaps { .. } => "pool-overlaps",
            Self::PoolHasAllocations { .. } => "pool-has-allocations",
            Self::BeingRemoved(_) => "pool-being-removed",
            Self::GeometryInUse { .. } => "pool-geometry-in-use",
            Self::InUse { .. } => "in-use",
            Self::EtagMismatch { .. } => "etag-mismatch",
            Self::ResourceTaken { .. } => "resource-taken",
            Self::StaleEpoch { .. } => "stale-epoch",
            Self::NotYourShard { .. } => "not-your-shard",
            Self::OtherOlt { .. } => "other-olt",
            Self::StaleSeq { .. } => "stale-sequence",
            Self::Superseded { .. } => "superseded",
            Self::ReadOnly { .. } => "read-only-replica",
            Self::NotNow(_) => "not-now",
            Self::NoQuorum(_) => "no-quorum",
            Self::OutcomeUnknown(_) => "outcome-unknown",
            Self::StrayCopy { .. } => "stray-copy",
            Self::ReleaseFirst { .. } => "release-first",
            Self::AliveElsewhere(_) => "alive-elsewhere",
            Self::SessionOver(_) => "session-refused",
            Self::RolledBack(_) => "rolled-back",
            Self::BeingMoved(_) => "being-moved",
            Self::NotPossible(_) => "not-possible",
            Self::Member(_) => "membership",
            Self::DrainFirst { .. } => "drain-first",
            Self::Full(_) => "bound-reached",
            Self::Exhausted { .. } => "pool-exhausted",
            Self::KeyReused => "idempotency-key-reused",
            Self::Overloaded { .. } => "overloaded",
            Self::Stopping => "stopping",
            Self::Store(_) => "store-failed",
        }
    }

    /// What kind of refusal it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Invalid { .. } | Self::BadPool(_) | Self::KeyReused => Class::Invalid,
            Self::UnknownPool(_) | Self::UnknownOlt(_) | Self::NoAllocation { .. } => {
                Class::NotFound
            }
            Self::PoolExists(_)
            | Self::PoolOverlaps { .. }
            | Self::ResourceTaken { .. }
            | Self::AliveElsewhere(_) => Class::Exists,
            Self::PoolHasAllocations { .. }
            | Self::BeingRemoved(_)
            | Self::GeometryInUse { .. }
            | Self::InUse { .. }
            | Self::StaleEpoch { .. }
            | Self::NotYourShard { .. }
            | Self::OtherOlt { .. }
            | Self::StaleSeq { .. }
            | Self::StrayCopy { .. }
            | Self::Superseded { .. }
            | Self::ReleaseFirst { .. }
            | Self::SessionOver(_)
            | Self::RolledBack(_)
            | Self::NotPossible(_)
            | Self::Member(_)
            | Self::DrainFirst { .. } => Class::Conflict,
            Self::EtagMismatch { .. } => Class::Condition,
            Self::BeingMoved(_) => Class::Moving,
            Self::Full(_) | Self::Exhausted { .. } => Class::Exhausted,
            Self::ReadOnly { .. } => Class::Elsewhere,
            Self::Overloaded { .. }
            | Self::Stopping
            | Self::Store(_)
            | Self::NotNow(_)
            | Self::NoQuorum(_)
            | Self::OutcomeUnknown(_) => Class::Unavailable,
        }
    }

    /// How many things stand in the way, where that is the point.
    #[must_use]
    pub const fn count(&self) -> Option<u64> {
        match self {
            Self::PoolHasAllocations { count, .. } | Self::InUse { count, .. } => Some(*count),
            Self::DrainFirst { allocations, .. } => Some(*allocations),
            _ => None,
        }
    }

    /// Field of the request that is wrong, if it is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::BadPool(PoolError::Value { field, .. }) => Some(field),
            Self::BadPool(PoolError::ExclusionOutside { field, .. }) => Some(field),
            _ => None,
        }
    }
}
