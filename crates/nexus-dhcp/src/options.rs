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
    /// Option overload (52) is there: options go on in `file` or `sname`.
    pub overload: bool,
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

/// Walks the options from `start` to END, which has to come before `end`.
///
/// Errors: [`Outcome::Malformed`] for an option that leaves the message, has a wrong length, or a
/// walk that meets no END; [`Outcome::Unsupported`] for an option that comes twice (RFC 3396) or
/// more than [`OPTION_LIMIT`] options.
#[inline(always)]
pub(crate) fn walk<P: Packet>(packet: &P, start: usize, end: usize) -> Result<Options, Outcome> {
    let mut found = Options::default();
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
        let value = offset + 2;
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
        take(packet, &mut found, option, Span { offset: value, len: usize::from(len) })?;
    }
    Err(Outcome::Unsupported)
}

/// Notes one option whose length is right. A value of zero that is there counts as malformed where
/// zero stands for absence: no message type, address or size of zero means anything.
#[inline(always)]
fn take<P: Packet>(
    packet: &P,
    found: &mut Options,
    option: u8,
    span: Span,
) -> Result<(), Outcome> {
    let again = match option {
        code::MESSAGE_TYPE => {
            let again = found.message != 0;
            found.message = packet.at(span.offset).ok_or(Outcome::Malformed)?;
            again
        }
        code::REQUESTED_ADDRESS => {
            let again = found.requested != 0;
            found.requested = address(packet, span.offset)?;
            again
        }
        code::SERVER_ID => {
            let again = found.server != 0;
            found.server = address(packet, span.offset)?;
            again
        }
        code::MAX_MESSAGE_SIZE => {
            let again = found.max_size != 0;
            let bytes: [u8; 2] = packet.at(span.offset).ok_or(Outcome::Malformed)?;
            found.max_size = u16::from_be_bytes(bytes);
            again
        }
        code::CLIENT_ID => {
            let again = found.client_id.len != 0;
            found.client_id = span;
            again
        }
        code::RELAY_AGENT => {
            let again = found.relay.len != 0;
            found.relay = span;
            again
        }
        _ => {
            found.overload = true;
            false
        }
    };
    if again { Err(Outcome::Unsupported) } else { Ok(()) }
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
