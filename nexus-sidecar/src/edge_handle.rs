//! The way into the one task that owns the edge: what RADIUS, the slow path and the control socket may ask of it.
//!
//! Every request crosses one bounded queue ([`QUEUE_LIMIT`]) and is answered on its own oneshot. A full
//! queue answers [`EdgeError::Busy`] at once: the caller drops the packet and the client sends it again,
//! which is what RADIUS and DHCP clients do anyway. Nothing is half-done then.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use nexus_abi::{Binding, BindingKey, Profile};
use nexus_core::edge::{Conflict, Kind};
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::resource::Resource;
use nexus_core::time::BootTime;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;
use crate::packet_events::Switches;
use crate::served::Served;
use crate::status::{BindingReport, StatusReport};

/// Most requests that wait for the edge task at a time.
pub const QUEUE_LIMIT: usize = 1024;

/// How often, and how long after one another, it is looked whether the centre has answered. A NAS asks again after
/// about three seconds.
const ASKED_LOOKS: usize = 25;
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// Most pools that may be named for one subscriber besides that of its IPv4 address.
pub const MAX_NAMED_POOLS: usize = 16;

/// A subscriber that has proved who it is, and the line that DHCP will see it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedSubscriber {
    /// Who it is, in the operator's own naming.
    pub subscriber: SubscriberId,
    /// Name of the interface that it is on; `None`: the only one there is.
    pub interface: Option<String>,
    /// Hardware address of the client (`chaddr`).
    pub mac: [u8; 6],
    /// Outer and inner VLAN id of the line; 0 for a tag that is not there, so `(0, 0)` is an untagged
    /// line. `None`: the VLANs are not known.
    pub vlans: Option<(u16, u16)>,
    /// Circuit-id as DHCP will show it in option 82, byte for byte; `None`: not known.
    pub circuit_id: Option<Vec<u8>>,
    /// Remote-id likewise.
    pub remote_id: Option<Vec<u8>>,
    /// Pool to take the address from; `None`: that of the interface, else `default_pool`.
    pub pool: Option<PoolId>,
    /// Pool where nothing else names one; `None`: the pool that the subscriber has an address of, else
    /// the first IPv4 pool in which this host owns shards.
    pub default_pool: Option<PoolId>,
    /// Pools of other kinds that it gets a unit of, besides those that every session gets one of.
    pub pools: Vec<PoolId>,
    /// What it gets from elsewhere: nothing of these kinds is given here.
    pub elsewhere: Vec<Elsewhere>,
    /// What shall stand in the record at the centre: `circuit_id`, `mac`, `nas_port_id`, ...
    pub metadata: BTreeMap<String, String>,
}

/// Something that an AAA server gives a subscriber itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// What it is used as.
    pub kind: Kind,
    /// The prefix or address, if it is one that can be read.
    pub prefix: Option<Ipv6Net>,
}

/// What a subscriber has besides its IPv4 address, durable on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its pool.
    pub pool: PoolId,
    /// What it is.
    pub resource: Resource,
    /// The pool's label `framed` is `true`: a prefix of it is that of the link.
    pub framed: bool,
}

/// The address of one subscriber: durable on this host and in the kernel's map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Pool of the address.
    pub pool: PoolId,
    /// `Framed-IP-Address`.
    pub address: Ipv4Addr,
    /// `Framed-IP-Netmask`.
    pub mask: Ipv4Addr,
    /// DHCP lease time that holds now, whole seconds: that of the pool, or what is left if the binding has an end.
    pub lease_secs: u32,
    /// Index into the kernel's `PROFILES`.
    pub profile_id: u16,
    /// The subscriber had this address before.
    pub known: bool,
    /// Whatever else it has.
    pub further: Vec<Delivered>,
}

/// Why the edge did not do it. The text is for the log; RADIUS answers Reject or nothing as
/// [`EdgeError::is_transient`] says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// The queue to the edge task is full.
    #[error("the edge task has {QUEUE_LIMIT} requests waiting; the client will ask again")]
    Busy,
    /// The edge task has ended.
    #[error("the edge task has stopped")]
    Stopped,
    /// There is no configuration from the centre yet, or its record has not been read to the end.
    #[error(
        "this host may not allocate yet: {0}; it can as soon as a nexus-server has been reached"
    )]
    NotReady(String),
    /// Another host with this OLT id is alive, and this one has no right to anything.
    #[error("this host is the second one with its olt.id and gives nothing: {0}")]
    SecondHost(String),
    /// The lease on this host's shards has ended and the subscriber has no binding.
    #[error(
        "the lease on this host's shards has ended, no new address may be given until a nexus-server has been reached"
    )]
    LeaseEnded,
    /// The pool is pinned, and the centre has been asked for what the subscriber has of it.
    #[error(
        "the centre has been asked for what the subscriber has of the pinned pool {0}, and has not answered yet"
    )]
    Asked(PoolId),
    /// The pool is pinned, and the centre cannot be asked.
    #[error(
        "pool {0} is pinned: only the centre can give of it, and no nexus-server can be reached now"
    )]
    CannotAsk(PoolId),
    /// The pool is not in this host's configuration.
    #[error("pool {0} is not in this host's configuration")]
    UnknownPool(PoolId),
    /// The AAA server gives what this host's pools hold.
    #[error(
        "the AAA server gave {0}, which lies in pool {1}: this host might give it to somebody else; let the AAA server name a pool, or exclude it from this one"
    )]
    InPool(Ipv6Net, PoolId),
    /// The pool is not of type ipv4.
    #[error("pool {0} does not hold IPv4 addresses")]
    NotIpv4(PoolId),
    /// No pool was named and there is none to take.
    #[error("no pool was named and this host owns shards of no IPv4 pool")]
    NoPool,
    /// All units of this host's shards are in use, cooling down or in quarantine.
    #[error("pool {0} has no free address in the shards of this host")]
    Exhausted(PoolId),
    /// What is bound already, and a policy that keeps it.
    #[error("{0}")]
    Conflict(Conflict),
    /// The subscriber was refused on this line before, and has to wait for so long.
    #[error(
        "the subscriber is kept away from this line for another {} s, by policies.quarantine",
        .0.as_secs()
    )]
    KeptAway(Duration),
    /// Key, MAC or interface are not usable.
    #[error("the line key cannot be used: {0}")]
    BadKey(String),
    /// It was given and has ended before it could be answered.
    #[error("the binding has ended before it could be answered; the client will ask again")]
    Ended,
    /// The row could not be made durable.
    #[error("the binding could not be stored: {0}")]
    Store(String),
    /// The kernel's map did not take the entry.
    #[error("the binding could not be written to the kernel's map: {0}")]
    Map(String),
}

impl EdgeError {
    /// The same request may succeed a moment later: do not answer, the client repeats it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::Stopped
                | Self::NotReady(_)
                | Self::SecondHost(_)
                | Self::Asked(_)
                | Self::CannotAsk(_)
                | Self::Ended
                | Self::Store(_)
                | Self::Map(_)
        )
    }

    /// Label for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Stopped => "stopped",
            Self::NotReady(_) => "not-ready",
            Self::SecondHost(_) => "second-host",
            Self::LeaseEnded => "lease-ended",
            Self::Asked(_) => "asked",
            Self::CannotAsk(_) => "cannot-ask",
            Self::UnknownPool(_) => "unknown-pool",
            Self::InPool(..) => "static-address",
            Self::NotIpv4(_) => "not-ipv4",
            Self::NoPool => "no-pool",
            Self::Exhausted(_) => "exhausted",
            Self::Conflict(conflict) => conflict.label(),
            Self::KeptAway(_) => "kept-away",
            Self::BadKey(_) => "bad-key",
            Self::Ended => "ended",
            Self::Store(_) => "store",
            Self::Map(_) => "map",
        }
    }
}

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What the edge task is asked.
#[derive(Debug)]
pub(crate) enum EdgeRequest {
    /// [`EdgeHandle::authorize`].
    Authorize(Box<AuthorizedSubscriber>, Reply<Result<Grant, EdgeError>>),
    /// [`EdgeHandle::end_session`].
    EndSession(SubscriberId, String, Reply<Result<bool, EdgeError>>),
    /// [`EdgeHandle::dhcp_release`].
    DhcpRelease(BindingKey, Ipv4Addr, Reply<Result<bool, EdgeError>>),
    /// [`EdgeHandle::dhcp_decline`].
    DhcpDecline(
        BindingKey,
        Ipv4Addr,
        Reply<Result<Option<Ipv4Addr>, EdgeError>>,
    ),
    /// [`EdgeHandle::status`].
    Status(Reply<StatusReport>),
    /// [`EdgeHandle::switch_packet_events`].
    SwitchPacketEvents(Vec<Switches>, Reply<Result<(), EdgeError>>),
    /// [`EdgeHandle::bindings`].
    Bindings(Option<SubscriberId>, Reply<Vec<BindingReport>>),
}

/// A cloneable handle to the edge task.
#[derive(Clone, Debug)]
pub struct EdgeHandle {
    requests: mpsc::Sender<EdgeRequest>,
    served: Served,
    metrics: Metrics,
}

impl EdgeHandle {
    /// A handle and the queue that the edge task reads. `served`: what it serves.
    pub(crate) fn channel(served: Served, metrics: Metrics) -> (Self, mpsc::Receiver<EdgeRequest>) {
        let (requests, queue) = mpsc::channel(QUEUE_LIMIT);
        let handle = Self {
            requests,
            served,
            metrics,
        };
        (handle, queue)
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> EdgeRequest) -> Result<T, EdgeError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .try_send(make(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    self.metrics.queue_full();
                    EdgeError::Busy
                }
                mpsc::error::TrySendError::Closed(_) => EdgeError::Stopped,
            })?;
        answer.await.map_err(|_| EdgeError::Stopped)
    }

    /// Gives the subscriber an address and whatever else its pools say, what it has if it has it. Returns once
    /// all rows are durable
    /// and the kernel's map has been written, so an Access-Accept may leave at once. Idempotent: the
    /// same subscriber gets the same address as long as this host can keep it. As far as the
    /// policies of the interface let it, a new line moves the binding there, and a line that another
    /// subscriber held is taken from it first.
    ///
    /// # Errors
    /// See [`EdgeError`]; nothing has been given then.
    pub async fn authorize(&self, subscriber: AuthorizedSubscriber) -> Result<Grant, EdgeError> {
        let again = subscriber.clone();
        let first = self
            .ask(|reply| EdgeRequest::Authorize(Box::new(subscriber), reply))
            .await?;
        let Err(EdgeError::Asked(pool)) = first else {
            return first;
        };
        for _ in 0..ASKED_LOOKS {
            tokio::time::sleep(ASKED_AGAIN).await;
            let again = again.clone();
            let answer = self
                .ask(|reply| EdgeRequest::Authorize(Box::new(again), reply))
                .await?;
            if !matches!(answer, Err(EdgeError::Asked(_))) {
                return answer;
            }
        }
        Err(EdgeError::Asked(pool))
    }

    /// Ends the subscriber's bindings (`reason`: `session-stop`, `disconnect`, ...): they leave the map,
    /// their addresses cool down and the centre is told. `false`: it had none.
    ///
    /// # Errors
    /// [`EdgeError::Busy`], [`EdgeError::Stopped`], [`EdgeError::Store`] or [`EdgeError::Map`].
    pub async fn end_session(
        &self,
        subscriber: SubscriberId,
        reason: impl Into<String>,
    ) -> Result<bool, EdgeError> {
        let reason = reason.into();
        self.ask(|reply| EdgeRequest::EndSession(subscriber, reason, reply))
            .await?
    }

    /// The entry as it is served now and its profile, without waiting for the edge task: see
    /// [`Served::get`].
    #[must_use]
    pub fn binding(&self, key: &BindingKey) -> Option<(Binding, Arc<Profile>)> {
        self.served.get(key)
    }

    /// The slow path has served the client of `key`, which has a binding: it is there, as the kernel's own note
    /// says of the clients that the kernel answers.
    pub fn seen(&self, key: BindingKey, now: BootTime) {
        self.served.seen(key, now);
    }

    /// DHCPRELEASE (RFC 2131 4.3.4): does with the binding of `key` what its pool's `dhcp.release` says, if
    /// `address` is its address; `false` if not, and nothing has changed.
    ///
    /// # Errors
    /// As [`EdgeHandle::end_session`].
    pub async fn dhcp_release(
        &self,
        key: BindingKey,
        address: Ipv4Addr,
    ) -> Result<bool, EdgeError> {
        self.ask(|reply| EdgeRequest::DhcpRelease(key, address, reply))
            .await?
    }

    /// DHCPDECLINE (RFC 2131 4.3.3): somebody else answers for `address`. It goes into quarantine for
    /// 10 minutes and the subscriber gets another one at once, which is returned. `None`: `address` is
    /// not the address of `key`, and nothing has changed.
    ///
    /// # Errors
    /// As [`EdgeHandle::authorize`]. The declined address is in quarantine even if there was no other one.
    pub async fn dhcp_decline(
        &self,
        key: BindingKey,
        address: Ipv4Addr,
    ) -> Result<Option<Ipv4Addr>, EdgeError> {
        self.ask(|reply| EdgeRequest::DhcpDecline(key, address, reply))
            .await?
    }

    /// Makes the programs of interfaces tell of single packets, or stop it. Takes up to 0.2 s for each that
    /// has to change, in which the edge task does nothing else.
    ///
    /// # Errors
    /// [`EdgeError::Busy`], [`EdgeError::Stopped`] or [`EdgeError::Map`].
    pub(crate) async fn switch_packet_events(
        &self,
        switches: Vec<Switches>,
    ) -> Result<(), EdgeError> {
        self.ask(|reply| EdgeRequest::SwitchPacketEvents(switches, reply))
            .await?
    }

    /// How this host stands: mode, time left, shards, counts.
    ///
    /// # Errors
    /// [`EdgeError::Busy`] or [`EdgeError::Stopped`].
    pub async fn status(&self) -> Result<StatusReport, EdgeError> {
        self.ask(EdgeRequest::Status).await
    }

    /// All bindings in the order of subscriber and pool, or those of one subscriber.
    ///
    /// # Errors
    /// [`EdgeError::Busy`] or [`EdgeError::Stopped`].
    pub async fn bindings(
        &self,
        subscriber: Option<SubscriberId>,
    ) -> Result<Vec<BindingReport>, EdgeError> {
        self.ask(|reply| EdgeRequest::Bindings(subscriber, reply))
            .await
    }
}
