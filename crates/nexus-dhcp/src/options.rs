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
    /// Bytes of the value, at most 255.
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
    /// Parameter request list (55).
    pub parameters: Span,
    /// Client identifier (61).
    pub client_id: Span,
    /// Rapid commit (80) is there.
    pub rapid_commit: bool,
    /// Relay agent information (82).
    pub relay: Span,
}

// Slots of the table. Slot 0 takes all options that nobody acts on.
const SLOTS: usize = 16;
const MESSAGE: u8 = 1;
const REQUESTED: u8 = 2;
const SERVER: u8 = 3;
const MAX_SIZE: u8 = 4;
const CLIENT_ID: u8 = 5;
const RELAY: u8 = 6;
const OVERLOAD: u8 = 7;
const PARAMETERS: u8 = 8;
const RAPID_COMMIT: u8 = 9;

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
            code::PARAMETERS => PARAMETERS,
            code::RAPID_COMMIT => RAPID_COMMIT,
            _ => 0,
        };
        at = u8::wrapping_add(at, 1);
        rest = others;
    }
    slots
};

/// Where a walk has met options, by slot: offset in the high half, length in the low one. Only
/// slots that the walk says it has met are read, so it need not be cleared.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionTable {
    slots: [u32; SLOTS],
}

/// Which slots a walk has met, one bit each.
#[derive(Clone, Copy, Default)]
struct Met {
    once: u32,
    twice: u32,
}

/// A finished walk.
struct Walked<'a> {
    table: &'a OptionTable,
    met: Met,
}

impl Walked<'_> {
    /// The option in `slot`.
    #[inline(always)]
    fn get<P: Packet>(&self, packet: &P, slot: u8) -> Option<Span> {
        if self.met.once >> slot & 1 == 0 {
            return None;
        }
        let at = self.table.slots.get(usize::from(slot)).copied();
        let at = at.unwrap_or_default() as usize;
        Some(Span {
            offset: packet.opaque(at >> 16),
            len: at & 0xff,
        })
    }

    /// The first eight bytes at the value of the option in `slot`, which has to have `len` bytes; 0
    /// if it is not there. They lie within every frame: a header that is longer comes first.
    #[inline(always)]
    fn value<P: Packet>(&self, packet: &P, slot: u8, len: usize) -> Result<u64, Outcome> {
        let Some(span) = self.get(packet, slot) else {
            return Ok(0);
        };
        if span.len != len {
            return Err(Outcome::Malformed);
        }
        // The eight bytes that end with the value: what follows it may be the frame's end.
        let word = packet
            .u64_at(packet.opaque(span.offset + len - 8))
            .ok_or(Outcome::Malformed)?;
        Ok(word >> (64 - 8 * len))
    }

    /// An option of any length but 0.
    #[inline(always)]
    fn span<P: Packet>(&self, packet: &P, slot: u8) -> Result<Span, Outcome> {
        match self.get(packet, slot) {
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
    let met = walk(packet, start, end, table)?;
    // Slot 0 has been met as often as it liked.
    if met.twice >> 1 != 0 || met.once >> OVERLOAD & 1 != 0 {
        return Err(Outcome::Unsupported);
    }
    let walked = Walked { table, met };
    Ok(Options {
        message: walked.value(packet, MESSAGE, 1)? as u8,
        // Some clients send 0.0.0.0 where they mean that they have none.
        requested: walked.value(packet, REQUESTED, 4)? as u32,
        server: walked.value(packet, SERVER, 4)? as u32,
        max_size: u16::from_be(walked.value(packet, MAX_SIZE, 2)? as u16),
        parameters: walked.span(packet, PARAMETERS)?,
        client_id: walked.span(packet, CLIENT_ID)?,
        rapid_commit: match walked.get(packet, RAPID_COMMIT) {
            None => false,
            Some(Span { len: 0, .. }) => true,
            Some(_) => return Err(Outcome::Malformed),
        },
        relay: walked.span(packet, RELAY)?,
    })
}

#[inline(always)]
fn walk<P: Packet>(
    packet: &P,
    start: usize,
    end: usize,
    table: &mut OptionTable,
) -> Result<Met, Outcome> {
    let mut offset = packet.opaque(start);
    let mut met = Met::default();
    let mut step = 0;
    // One step more than options: that of END.
    while step <= OPTION_LIMIT {
        step += 1;
        if offset >= end {
            return Err(Outcome::Malformed);
        }
        let Some(head) = packet.u16_at(offset) else {
            // The last byte of the frame: nothing but END has a place there.
            let last = packet.u8_at(offset).ok_or(Outcome::Malformed)?;
            return if last == code::END {
                Ok(met)
            } else {
                Err(Outcome::Malformed)
            };
        };
        let option = head as u8;
        if option == code::END {
            return Ok(met);
        }
        let len = usize::from(head >> 8);
        let slot = SLOT_OF.get(usize::from(option)).copied().unwrap_or(0);
        if let Some(place) = table.slots.get_mut(usize::from(slot) & (SLOTS - 1)) {
            *place = ((offset + 2) << 16 | len) as u32;
        }
        let bit = 1 << (slot & 31);
        met.twice |= met.once & bit;
        met.once |= bit;
        let behind = if option == code::PAD { 1 } else { 2 + len };
        offset = packet.opaque(offset + behind);
    }
    Err(Outcome::Unsupported)
}

#[cfg(test)]
mod tests;
