//! A bounded walk over DHCP options as type, length, value (RFC 2132 2), wherever they stand.
//!
//! The walk itself only notes where options stand, in a table; what they say is read afterwards.
//! That keeps its loop short and lets the kernel's verifier see one state per step.

use nexus_abi::Outcome;

use crate::packet::Packet;
use crate::wire::option as code;

/// Most options, PADs included but not END, that are walked; a message with more is
/// [`Outcome::Unsupported`].
pub const OPTION_LIMIT: u32 = 64;

/// An option's value in the frame. `len` 0: the option is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the value.
    pub offset: usize,
    /// Bytes of the value.
    pub len: usize,
}

/// The options that a server acts on. Addresses are in memory order; 0 stands for an absent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Message type (53); 0 if absent.
    pub message: u8,
    /// Requested address (50).
    pub requested: u32,
    /// Server identifier (54).
    pub server: u32,
    /// Maximum message size (57) in bytes, IP and UDP headers included; 0 if absent.
    pub max_size: u16,
    /// Client identifier (61).
    pub client_id: Span,
    /// Relay agent information (82).
    pub relay: Span,
}

// Slots of the table. Slot 0 takes all options that nobody acts on.
const SLOTS: usize = 8;
const MESSAGE: u8 = 1;
const REQUESTED: u8 = 2;
const SERVER: u8 = 3;
const MAX_SIZE: u8 = 4;
const CLIENT_ID: u8 = 5;
const RELAY: u8 = 6;
const OVERLOAD: u8 = 7;

/// The slot of each option code.
static SLOT_OF: [u8; 256] = {
    let mut slots = [0; 256];
    let mut at = 0;
    let mut rest: &mut [u8] = &mut slots;
    while let Some((slot, others)) = rest.split_first_mut() {
        *slot = match at {
            code::MESSAGE_TYPE => MESSAGE,
            code::REQUESTED_ADDRESS => REQUESTED,
            code::SERVER_ID => SERVER,
            code::MAX_MESSAGE_SIZE => MAX_SIZE,
            code::CLIENT_ID => CLIENT_ID,
            code::RELAY_AGENT => RELAY,
            code::OVERLOAD => OVERLOAD,
            _ => 0,
        };
        at = u8::wrapping_add(at, 1);
        rest = others;
    }
    slots
};

/// What a walk has met, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionTable {
    slots: [Met; SLOTS],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    offset: u16,
    len: u16,
    times: u32,
}

impl OptionTable {
    #[inline(always)]
    fn note(&mut self, option: u8, offset: usize, len: u8) {
        let slot = SLOT_OF.get(usize::from(option)).copied().unwrap_or(0);
        if let Some(met) = self.slots.get_mut(usize::from(slot) & (SLOTS - 1)) {
            met.offset = offset as u16;
            met.len = u16::from(len);
            met.times += 1;
        }
    }

    /// The option in `slot`. An option that comes twice (RFC 3396) is [`Outcome::Unsupported`].
    #[inline(always)]
    fn get<P: Packet>(&self, packet: &P, slot: u8) -> Result<Option<Span>, Outcome> {
        let met = self
            .slots
            .get(usize::from(slot))
            .copied()
            .unwrap_or_default();
        match met.times {
            0 => Ok(None),
            1 => Ok(Some(Span {
                offset: packet.opaque(usize::from(met.offset)),
                len: usize::from(met.len & 0xff),
            })),
            _ => Err(Outcome::Unsupported),
        }
    }

    /// The value of the option in `slot`, which has to have as many bytes as a `T`.
    #[inline(always)]
    fn value<T: zerocopy::FromBytes, P: Packet>(
        &self,
        packet: &P,
        slot: u8,
    ) -> Result<Option<T>, Outcome> {
        match self.get(packet, slot)? {
            None => Ok(None),
            Some(span) if span.len == size_of::<T>() => {
                packet.at(span.offset).ok_or(Outcome::Malformed).map(Some)
            }
            Some(_) => Err(Outcome::Malformed),
        }
    }

    #[inline(always)]
    fn address<P: Packet>(&self, packet: &P, slot: u8) -> Result<u32, Outcome> {
        // Some clients send 0.0.0.0 where they mean that they have none.
        let address: [u8; 4] = self.value(packet, slot)?.unwrap_or_default();
        Ok(u32::from_ne_bytes(address))
    }

    #[inline(always)]
    fn echoed<P: Packet>(&self, packet: &P, slot: u8) -> Result<Span, Outcome> {
        match self.get(packet, slot)? {
            None => Ok(Span::default()),
            Some(Span { len: 0, .. }) => Err(Outcome::Malformed),
            Some(span) => Ok(span),
        }
    }
}

/// Reads the options from `start` to END, which has to come before `end`; `table` is scratch.
///
/// Errors: [`Outcome::Malformed`] for an option that leaves the message, has a wrong length, or a
/// walk that meets no END; [`Outcome::Unsupported`] for an option that comes twice (RFC 3396),
/// options that go on in `file` or `sname` (52), or more than [`OPTION_LIMIT`] options.
#[inline(always)]
pub(crate) fn parse_options<P: Packet>(
    packet: &P,
    start: usize,
    end: usize,
    table: &mut OptionTable,
) -> Result<Options, Outcome> {
    table.slots = [Met::default(); SLOTS];
    walk(packet, start, end, table)?;
    if table.get(packet, OVERLOAD)?.is_some() {
        return Err(Outcome::Unsupported);
    }
    Ok(Options {
        message: table.value::<u8, P>(packet, MESSAGE)?.unwrap_or(0),
        requested: table.address(packet, REQUESTED)?,
        server: table.address(packet, SERVER)?,
        max_size: u16::from_be_bytes(table.value(packet, MAX_SIZE)?.unwrap_or_default()),
        client_id: table.echoed(packet, CLIENT_ID)?,
        relay: table.echoed(packet, RELAY)?,
    })
}

#[inline(always)]
fn walk<P: Packet>(
    packet: &P,
    start: usize,
    end: usize,
    table: &mut OptionTable,
) -> Result<(), Outcome> {
    let mut offset = packet.opaque(start);
    let mut step = 0;
    // One step more than options: that of END.
    while step <= OPTION_LIMIT {
        step += 1;
        if offset >= end {
            return Err(Outcome::Malformed);
        }
        let option: u8 = packet.at(offset).ok_or(Outcome::Malformed)?;
        if option == code::PAD {
            offset = packet.opaque(offset + 1);
            continue;
        }
        if option == code::END {
            return Ok(());
        }
        let len: u8 = packet.at(offset + 1).ok_or(Outcome::Malformed)?;
        table.note(option, offset + 2, len);
        offset = packet.opaque(offset + 2 + usize::from(len));
    }
    Err(Outcome::Unsupported)
}

#[cfg(test)]
mod tests;
