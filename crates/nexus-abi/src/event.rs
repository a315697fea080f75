//! What the program tells about single packets, through a ring buffer: rare things, and traced clients.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the ring buffer. When it is full, events are lost, and counted as [`Event::lost`] says.
pub const EVENTS_BYTES: u32 = 256 * 1024;

/// Most bytes of a frame in an event.
pub const EVENT_FRAME: usize = 704;

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// Code of an [`EventKind`].
    pub kind: u32,
    /// Code of the [`Outcome`](crate::Outcome) of the frame; of kind [`EventKind::Request`]: 0, not known yet.
    pub outcome: u32,
    /// Number of the interface.
    pub interface: u32,
    /// Bytes of the whole frame.
    pub frame_len: u32,
    /// Bytes of `frame` in use.
    pub captured: u32,
    /// Events of this processor that were lost so far, because the ring buffer was full.
    pub lost: u32,
    /// The beginning of the frame: as it came, or, of kind [`EventKind::Verdict`], as it goes.
    pub frame: [u8; EVENT_FRAME],
}

/// What an event tells.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A client or line that nobody is bound to was seen, and passed on to the slow path.
    UnknownClient = 1,
    /// A client's MAC is not the one that is allowed on its line.
    MacMismatch = 2,
    /// A client was refused an address.
    Nak = 3,
    /// A traced client's frame, as it came.
    Request = 4,
    /// What became of the traced frame of the event before.
    Verdict = 5,
}

impl EventKind {
    /// The kind of a code.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::UnknownClient,
            2 => Self::MacMismatch,
            3 => Self::Nak,
            4 => Self::Request,
            5 => Self::Verdict,
            _ => return None,
        })
    }
}

const _: () = assert!(size_of::<Event>() == 32 + EVENT_FRAME);
