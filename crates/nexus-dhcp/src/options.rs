//! A bounded walk over DHCP options as type, length, value (RFC 2132 2), wherever they stand.

use nexus_abi::Outcome;

use crate::packet::Packet;
use crate::wire::option as code;

/// Most options, PADs included, that are walked; a message with more is [`Outcome::Unsupported`].
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

/// What an option has to be like.
enum Shape {
    Skip,
    Fixed(u8),
    Echoed,
}

#[inline(always)]
fn shape(option: u8) -> Shape {
    match option {
        code::MESSAGE_TYPE | code::OVERLOAD => Shape::Fixed(1),
        code::REQUESTED_ADDRESS | code::SERVER_ID => Shape::Fixed(4),
        code::MAX_MESSAGE_SIZE => Shape::Fixed(2),
        code::CLIENT_ID | code::RELAY_AGENT => Shape::Echoed,
        _ => Shape::Skip,
    }
}

// Bits of the options that have been met.
const SEEN_MESSAGE: usize = 1 << 0;
const SEEN_REQUESTED: usize = 1 << 1;
const SEEN_SERVER: usize = 1 << 2;
const SEEN_MAX_SIZE: usize = 1 << 3;
const SEEN_CLIENT_ID: usize = 1 << 4;
const SEEN_RELAY: usize = 1 << 5;

/// No option yet. The zeros are opaque: were they plain, a verifier would follow each combination
/// of options that are there and options that are not.
#[inline(always)]
fn nothing<P: Packet>(packet: &P) -> Options {
    let zero = packet.opaque(0);
    let span = Span { offset: zero, len: zero };
    Options {
        message: zero as u8,
        requested: zero as u32,
        server: zero as u32,
        max_size: zero as u16,
        client_id: span,
        relay: span,
    }
}

/// Walks the options from `start` to END, which has to come before `end`.
///
/// Errors: [`Outcome::Malformed`] for an option that leaves the message, has a wrong length, or a
/// walk that meets no END; [`Outcome::Unsupported`] for an option that comes twice (RFC 3396),
/// options that go on in `file` or `sname` (52), or more than [`OPTION_LIMIT`] options.
#[inline(always)]
pub(crate) fn walk<P: Packet>(packet: &P, start: usize, end: usize) -> Result<Options, Outcome> {
    let mut found = nothing(packet);
    let mut seen = packet.opaque(0);
    let mut offset = start;
    let mut step = 0;
    while step < OPTION_LIMIT {
        step += 1;
        offset = packet.opaque(offset);
        if offset >= end {
            return Err(Outcome::Malformed);
        }
        let option: u8 = packet.at(offset).ok_or(Outcome::Malformed)?;
        if option == code::PAD {
            offset += 1;
            continue;
        }
        if option == code::END {
            return Ok(found);
        }
        let len: u8 = packet.at(offset + 1).ok_or(Outcome::Malformed)?;
        let value = packet.opaque(offset + 2);
        offset = value + usize::from(len);
        if offset >= end {
            return Err(Outcome::Malformed);
        }
        match shape(option) {
            Shape::Skip => continue,
            Shape::Fixed(expected) if len != expected => return Err(Outcome::Malformed),
            Shape::Echoed if len == 0 => return Err(Outcome::Malformed),
            Shape::Fixed(_) | Shape::Echoed => {}
        }
        let bit = take(packet, &mut found, option, Span { offset: value, len: usize::from(len) })?;
        if seen & bit != 0 {
            return Err(Outcome::Unsupported);
        }
        seen = packet.opaque(seen | bit);
    }
    Err(Outcome::Unsupported)
}

/// Notes one option whose length is right; returns its bit. An address of zero, which stands for an
/// absent one, is malformed.
#[inline(always)]
fn take<P: Packet>(
    packet: &P,
    found: &mut Options,
    option: u8,
    span: Span,
) -> Result<usize, Outcome> {
    Ok(match option {
        code::MESSAGE_TYPE => {
            found.message = packet.at(span.offset).ok_or(Outcome::Malformed)?;
            SEEN_MESSAGE
        }
        code::REQUESTED_ADDRESS => {
            found.requested = address(packet, span.offset)?;
            SEEN_REQUESTED
        }
        code::SERVER_ID => {
            found.server = address(packet, span.offset)?;
            SEEN_SERVER
        }
        code::MAX_MESSAGE_SIZE => {
            let bytes: [u8; 2] = packet.at(span.offset).ok_or(Outcome::Malformed)?;
            found.max_size = u16::from_be_bytes(bytes);
            SEEN_MAX_SIZE
        }
        code::CLIENT_ID => {
            found.client_id = span;
            SEEN_CLIENT_ID
        }
        code::RELAY_AGENT => {
            found.relay = span;
            SEEN_RELAY
        }
        _ => return Err(Outcome::Unsupported),
    })
}

#[inline(always)]
fn address<P: Packet>(packet: &P, offset: usize) -> Result<u32, Outcome> {
    let bytes: [u8; 4] = packet.at(offset).ok_or(Outcome::Malformed)?;
    match u32::from_ne_bytes(bytes) {
        0 => Err(Outcome::Malformed),
        address => Ok(address),
    }
}

#[cfg(test)]
mod tests;
