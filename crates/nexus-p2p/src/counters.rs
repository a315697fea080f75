//! One counter per outcome, read without a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Reason;

macro_rules! counters {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// What happened since the start. All but `refused` only grow by what their name says.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            /// Connections and peers that were not let in, or that did not let this node in.
            pub refused: BTreeMap<Reason, u64>,
            $($(#[$about])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counting {
            refused: [AtomicU64; Reason::ALL.len()],
            $(pub(crate) $name: Count,)*
        }

        impl Counting {
            pub(crate) fn read(&self) -> Counters {
                Counters {
                    refused: Reason::ALL
                        .iter()
                        .zip(&self.refused)
                        .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
                        .collect(),
                    $($name: self.$name.0.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Connections tried.
    dials,
    /// Connections tried in vain: nobody there, no handshake, another peer than expected.
    dials_failed,
    /// Names that could not be resolved.
    names_unresolved,
    /// Dials that met this node itself, as the name of a headless Service makes them.
    dials_to_self,
    /// Connections made, either way.
    connections,
    /// Connections that ended.
    disconnections,
    /// Second connections to a peer that were closed again.
    duplicate_connections,
    /// Peers that did not answer pings in time and were cut off.
    unresponsive,
    /// Gossip given to libp2p.
    gossip_published,
    /// Gossip not taken by [`crate::Link::publish`]: queue full or message too long.
    gossip_refused,
    /// Gossip that libp2p dropped because the queues of all peers were full.
    gossip_overflowed,
    /// Gossip published while no peer listened.
    gossip_unheard,
    /// Gossip with the same bytes as one of the last minute: not sent again.
    gossip_repeated,
    /// Gossip given to the owner.
    gossip_received,
    /// Gossip for the owner that was dropped because its queue was full.
    gossip_dropped,
    /// Gossip, by way of others, whose author is neither up nor a member, or is out.
    gossip_of_strangers,
    /// Gossip that a slow peer did not take in time.
    gossip_undelivered,
    /// Questions sent.
    questions_asked,
    /// Questions not sent, or not answered: see [`crate::AskError`].
    questions_failed,
    /// Questions given to the owner.
    questions_received,
    /// Questions answered with "busy", because too many were under way or the owner's queue was full.
    questions_busy,
    /// Questions on a channel that this node does not know.
    questions_unknown_channel,
    /// Questions that the owner let drop.
    questions_unanswered,
    /// Hellos and frames that could not be read or were too long.
    garbage,
    /// Peers reported by [`crate::Link::misbehaved`].
    misbehaved,
    /// Bans set.
    bans,
    /// Events of refusals that the owner's queue had no room for.
    events_dropped,
    /// Addresses of members and peers that are none.
    addresses_ignored,
}

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_many(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }
}

impl Counting {
    pub(crate) fn refused(&self, reason: Reason) {
        let at = Reason::ALL.iter().position(|one| *one == reason);
        if let Some(count) = at.and_then(|at| self.refused.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
