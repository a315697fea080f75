//! The replicated map: versions, merge, summaries and the tombstone rule, without any I/O.
//!
//! A [`Replica`] holds a map from keys to values, of which every nexus-server has a copy. It reads
//! its rows through [`Rows`], and writes nothing by itself: each change comes back as a [`Change`],
//! rows to be written in one atomic batch, and a [`Delta`] to be told to the other replicas *after*
//! that batch is durable. Replicas that have exchanged what they know hold the same entries, byte
//! for byte, whatever the order.
//!
//! ```
//! use nexus_clset::{Fence, MemoryRows, NodeId, Replica, UnixMillis, Write};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rows = MemoryRows::default();
//! let now = UnixMillis(1_800_000_000_000);
//! let (mut replica, boot) = Replica::open(rows.clone(), NodeId(1), now)?;
//! rows.apply(&boot.rows); // durable before anything else: nobody has used this incarnation
//! replica.settle(boot.ticket);
//!
//! let change = replica.put(b"pools/residential-ipv4", b"{}", Fence::NONE, now)?;
//! rows.apply(&change.rows); // one store batch, with whatever rows of the caller belong to it
//! replica.settle(change.ticket); // and now answer success, and publish change.delta
//!
//! assert_eq!(replica.get(b"pools/residential-ipv4")?.as_deref(), Some(&b"{}"[..]));
//! let both = [Write::put(b"a", b"1", Fence::NONE), Write::delete(b"b", Fence::NONE)];
//! let change = replica.write(&both, now)?;
//! # rows.apply(&change.rows);
//! # Ok(())
//! # }
//! ```

mod codec;
mod entry;
mod error;
mod hlc;
mod message;
mod overlay;
mod ranges;
mod replica;
mod retired;
mod rows;
mod summary;
mod sync;
mod vector;
mod version;
mod watch;

pub use entry::{Entry, EntryKind, MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use error::{Error, Malformed};
pub use hlc::{Clock, Hlc, MAX_LEAD, Observed, UnixMillis};
pub use message::{Delta, Digest, KeyedEntry, PullAnswer, PullRequest, Range};
pub use replica::{
    Altered, Change, MAX_WRITES, Page, Received, Replica, TOMBSTONE_AGE, Ticket, Write, wipe,
};
pub use retired::Retired;
pub use rows::{KeyValue, MAX_CHANGE_ROWS, MemoryRows, RowKind, RowWrite, Rows};
pub use summary::{Fingerprint, Summary};
pub use sync::{
    Bootstrap, ClockNotice, ClockReport, Input, Member, Notice, Now, Options, Output, PeerReport,
    Report, Sync, Traffic, WritesRefused,
};
pub use vector::VersionVector;
pub use version::{Dot, Fence, Incarnation, NodeId, Origin, Version};
pub use watch::{Changes, Event, Revision, Stand, StartOver};
