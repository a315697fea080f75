//! Why the shard table refuses a command.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{Epoch, OltId, PoolId, Seq, SessionId, SubscriberId};
use crate::pool::PoolError;
use crate::shard::ShardKey;

/// Why a command is refused. A refused command has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The name belongs to the cluster.
    #[error("OLT id `{0}` is the cluster's own: choose another id for this host")]
    ReservedId(OltId),
    /// The OLT is not known.
    #[error("OLT {0} is not known here: register it first")]
    UnknownOlt(OltId),
    /// Another session of the same OLT was heard of a moment ago.
    #[error(
        "OLT {olt} is alive under another session, heard {heard:?} ago: two hosts use one id, or the host has lost its store; stop the other one, or wait {wait:?} and register again"
    )]
    AlreadyAlive {
        /// The OLT.
        olt: OltId,
        /// How long ago the other session was heard of.
        heard: Duration,
        /// How long until this registration would be accepted.
        wait: Duration,
    },
    /// The session is not the OLT's (any more).
    #[error("session {session} of OLT {olt} is not its current one: register again")]
    NotCurrentSession {
        /// The OLT.
        olt: OltId,
        /// The session that was given.
        session: SessionId,
    },
    /// The session was replaced by another one.
    #[error("session {session} of OLT {olt} was replaced: start a new session")]
    Superseded {
        /// The OLT.
        olt: OltId,
        /// The session that was given.
        session: SessionId,
    },
    /// The OLT knows less than the centre about its own past.
    #[error(
        "OLT {olt} says that it has sent {given} commands, but {recorded} are recorded: its store was rolled back; start a new session"
    )]
    RolledBack {
        /// The OLT.
        olt: OltId,
        /// What it said.
        given: Seq,
        /// What is recorded.
        recorded: Seq,
    },
    /// The OLT lost shards and does not know it yet.
    #[error(
        "OLT {olt} works with configuration {given}, but has lost shards with revision {needed}: fetch the configuration or register again"
    )]
    StaleConfiguration {
        /// The OLT.
        olt: OltId,
        /// What it works with.
        given: u64,
        /// What it must know.
        needed: u64,
    },
    /// The OLT still owns shards.
    #[error(
        "OLT {olt} owns {shards} shards and is online: drain it first, and wait until it has given them back"
    )]
    NotDrained {
        /// The OLT.
        olt: OltId,
        /// How many shards.
        shards: usize,
    },
    /// Part of what was decided is missing.
    #[error(
        "this cluster goes on from less than all that was decided: nothing changes hands for another {} s, because it may be somebody's",
        .left.as_secs()
    )]
    Recovering {
        /// For how long.
        left: Duration,
    },
    /// A statement without a reason.
    #[error(
        "fencing OLT {0} needs a reason: say how it is known that the host hands out nothing any more"
    )]
    ReasonMissing(OltId),
    /// The pool makes no sense: the text of a [`PoolError`]. [`Pool::new`](crate::pool::Pool::new) says so
    /// before a command is proposed.
    #[error("{0}")]
    Pool(String),
    /// The id is taken.
    #[error("pool {0} exists: choose another id, or update it")]
    PoolExists(PoolId),
    /// Both pools would hand out the same resources.
    #[error(
        "pool {new} ({new_space}) overlaps pool {existing} ({existing_space}) in vrf {vrf}: change its space or its vrf"
    )]
    Overlap {
        /// The pool that is refused.
        new: PoolId,
        /// Its space.
        new_space: String,
        /// The pool that is there.
        existing: PoolId,
        /// Its space.
        existing_space: String,
        /// The vrf of both.
        vrf: String,
    },
    /// The pool is not known.
    #[error("pool {0} is not known: create it first")]
    UnknownPool(PoolId),
    /// Why the pool cannot become that: the text of a [`ChangeError`](crate::pool::ChangeError).
    #[error("{1}")]
    PoolChange(PoolId, String),
    /// The pool is being removed.
    #[error("pool {0} is being removed: wait until it is gone")]
    BeingRemoved(PoolId),
    /// A bound is reached.
    #[error("{what} is at its bound of {bound}: remove one first")]
    Full {
        /// What is full.
        what: Cow<'static, str>,
        /// The bound.
        bound: usize,
    },
    /// A text is too long.
    #[error("{field} of OLT {olt} has {len} bytes: at most {max}")]
    TooLong {
        /// The OLT.
        olt: OltId,
        /// Field.
        field: Cow<'static, str>,
        /// Length that was given.
        len: usize,
        /// Longest length.
        max: usize,
    },
    /// The shard is not the caller's under that epoch.
    #[error(
        "{key} under epoch {epoch} is not owned by OLT {olt} in this session: fetch the configuration"
    )]
    NotOwner {
        /// The shard.
        key: ShardKey,
        /// The epoch that was given.
        epoch: Epoch,
        /// The caller.
        olt: OltId,
    },
    /// The cluster may not allocate from the shard (any more).
    #[error("{0} is not one that the cluster allocates from: look up its shards again")]
    NotKept(ShardKey),
    /// There is no such unit, or it may not be handed out.
    #[error(
        "unit {unit} of {key} may not be handed out: it is excluded, reserved or beyond the end"
    )]
    NoSuchUnit {
        /// The shard.
        key: ShardKey,
        /// The unit that was given.
        unit: u64,
    },
    /// A unit of a pinned pool is on another OLT, which alone may say that it serves it no more.
    #[error(
        "unit {unit} of {key} is still on OLT {olt}: it is free for another one once that OLT has released it, or an operator has stated that it is fenced"
    )]
    UnitElsewhere {
        /// The shard.
        key: ShardKey,
        /// The unit that was given.
        unit: u64,
        /// Where it is.
        olt: OltId,
    },
    /// What was held on the OLT is being released, because nothing was heard of it for too long.
    #[error(
        "what was held on OLT {0} is being reclaimed, because it was away for longer than `reclaim_after`: register again in a moment"
    )]
    BeingReclaimed(OltId),
    /// Units of pinned pools are on the OLT.
    #[error(
        "{units} units of pinned pools are on OLT {olt}: release them there, or state that the host is fenced"
    )]
    HasUnits {
        /// The OLT.
        olt: OltId,
        /// How many.
        units: usize,
    },
    /// Somebody else has the unit.
    #[error("unit {unit} of {key} is taken by {holder}: choose another unit")]
    UnitTaken {
        /// The shard.
        key: ShardKey,
        /// The unit that was given.
        unit: u64,
        /// Who has it.
        holder: SubscriberId,
    },
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        Self::Pool(error.to_string())
    }
}
