//! Reading what the program tells about single packets.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use aya::maps::{Map, MapData, RingBuf};
use nexus_abi::{Event, map};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes as _;

use super::FastPathError;

/// The reading end of `EVENTS`. There is one ring: of two readers each gets what the other does not.
/// Its descriptor is readable when there is something to read.
pub struct EventReader(RingBuf<MapData>);

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EventReader")
            .field(&self.as_raw_fd())
            .finish()
    }
}

impl EventReader {
    pub(super) fn open(pins: &Path) -> Result<Self, FastPathError> {
        let failed = |source| FastPathError::map(map::EVENTS, source);
        let data = MapData::from_pin(pins.join(map::EVENTS)).map_err(failed)?;
        RingBuf::try_from(Map::RingBuf(data))
            .map(Self)
            .map_err(failed)
    }

    /// In a form that tasks can wait for.
    ///
    /// # Errors
    /// If the runtime cannot wait for it.
    #[expect(
        unsafe_code,
        reason = "tokio has to be told that the descriptor stays open"
    )]
    pub fn watched(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor is the map's, which this owns, so it stays open and the same as long as this
        // lives.
        unsafe { AsyncFd::register(self) }.map_err(|error| error.into_parts().1)
    }

    /// The oldest event that nobody has read; `None`: there is none at the moment.
    pub fn next_event(&mut self) -> Option<Event> {
        // What is shorter than an event cannot come from our program.
        let item = self.0.next()?;
        Event::read_from_prefix(&item).ok().map(|(event, _)| event)
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
