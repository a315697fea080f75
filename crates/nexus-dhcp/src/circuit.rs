//! The circuit that option 82 names (RFC 3046), in the one form that keys have.

use nexus_abi::{CIRCUIT_CAPACITY, CIRCUIT_WORDS, Circuit, Outcome};

use crate::options::Span;
use crate::packet::Packet;
use crate::wire::relay;
use crate::words::{Sink, words};

/// Most sub-options that are walked.
const SUB_OPTION_LIMIT: u32 = 16;
/// Words of the buffer: a circuit, and room behind it for a whole word at its last byte.
const BUFFER_WORDS: usize = 2 * CIRCUIT_WORDS;

/// A circuit that is being put together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CircuitBuffer {
    words: [u64; BUFFER_WORDS],
}

impl CircuitBuffer {
    /// Reads the circuit out of option 82, its sub-options in any order. `remote_id`: whether that one
    /// counts.
    ///
    /// Errors: [`Outcome::UnknownClient`] without a circuit-id; [`Outcome::Malformed`] for sub-options that leave
    /// the option; [`Outcome::Unsupported`] for one that comes twice, for more than
    /// [`SUB_OPTION_LIMIT`], and for more bytes than a key holds.
    #[inline(always)]
    pub fn read<P: Packet>(
        &mut self,
        packet: &P,
        option: Span,
        remote_id: bool,
    ) -> Result<&Circuit, Outcome> {
        let (circuit, remote) = walk(packet, option)?;
        if circuit.len == 0 {
            return Err(Outcome::UnknownClient);
        }
        let remote_len = if remote_id { remote.len } else { 0 };
        if circuit.len + remote_len > CIRCUIT_CAPACITY {
            return Err(Outcome::Unsupported);
        }
        self.words = [0; BUFFER_WORDS];
        // A sub-option's length stands before its value, as it does in a key.
        let mut bytes = Unaligned {
            words: &mut self.words,
            at: 0,
            packet,
        };
        words::<P, CIRCUIT_WORDS>(packet, circuit.offset - 1, circuit.len + 1, &mut bytes)
            .ok_or(Outcome::Malformed)?;
        if remote_len != 0 {
            bytes.at = 1 + circuit.len;
            words::<P, CIRCUIT_WORDS>(packet, remote.offset - 1, remote.len + 1, &mut bytes)
                .ok_or(Outcome::Malformed)?;
        }
        self.words
            .first_chunk()
            .map(|words: &[u64; CIRCUIT_WORDS]| zerocopy::transmute_ref!(words))
            .ok_or(Outcome::Internal)
    }
}

/// Writes words at any byte.
struct Unaligned<'a, P> {
    words: &'a mut [u64; BUFFER_WORDS],
    at: usize,
    packet: &'a P,
}

impl<P: Packet> Sink for Unaligned<'_, P> {
    #[inline(always)]
    fn take(&mut self, index: usize, word: u64) {
        P::poke(self.words, self.packet.opaque(self.at + index * 8), word);
    }
}

/// Circuit-id and remote-id.
#[inline(always)]
fn walk<P: Packet>(packet: &P, option: Span) -> Result<(Span, Span), Outcome> {
    let end = option.offset + option.len;
    let mut offset = packet.opaque(option.offset);
    let (mut circuit, mut remote) = (Span::default(), Span::default());
    let mut step = 0;
    // One step more than sub-options: that of the end.
    while step <= SUB_OPTION_LIMIT {
        step += 1;
        if offset >= end {
            return if offset == end {
                Ok((circuit, remote))
            } else {
                Err(Outcome::Malformed)
            };
        }
        let head = packet.u16_at(offset).ok_or(Outcome::Malformed)?;
        let len = usize::from(head >> 8);
        let code = head as u8;
        if code == relay::CIRCUIT_ID || code == relay::REMOTE_ID {
            let met = if code == relay::CIRCUIT_ID {
                &mut circuit
            } else {
                &mut remote
            };
            if met.offset != 0 {
                return Err(Outcome::Unsupported);
            }
            *met = Span {
                offset: packet.opaque(offset + 2),
                len,
            };
        }
        offset = packet.opaque(offset + 2 + len);
    }
    Err(Outcome::Unsupported)
}

#[cfg(test)]
mod tests;
