//! Identifiers: 256 for each socket, given out in turn so that one rests as long as possible.

/// Where a question waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    /// Index of the server.
    pub(super) server: usize,
    /// Index of the socket towards it.
    pub(super) socket: u16,
    /// Identifier octet.
    pub(super) identifier: u8,
}

/// The next slot of each server.
pub(super) struct Slots {
    next: Vec<u32>,
    per_server: u32,
}

impl Slots {
    pub(super) fn new(servers: usize, sockets: u16) -> Self {
        Self {
            next: vec![0; servers],
            per_server: u32::from(sockets) << 8,
        }
    }

    /// The next slot of a server that is free.
    pub(super) fn next(&mut self, server: usize, free: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let next = self.next.get_mut(server)?;
        for _ in 0..self.per_server {
            let [_, high, low, identifier] = next.to_be_bytes();
            let socket = u16::from_be_bytes([high, low]);
            *next = (*next + 1) % self.per_server;
            let slot = Slot {
                server,
                socket,
                identifier,
            };
            if free(&slot) {
                return Some(slot);
            }
        }
        None
    }
}
