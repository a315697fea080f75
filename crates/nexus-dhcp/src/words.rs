//! Runs of bytes in a frame, taken as words: the way options are copied.

use crate::packet::Packet;

/// What becomes of the words of a run. Not a closure, because those cannot be told to be inlined.
pub trait Sink {
    /// Takes word number `index`.
    fn take(&mut self, index: usize, word: u64);
}

/// Gives `sink` the `len` bytes at `offset`, eight at a time, the last ones filled up with zeros. `LIMIT`
/// whole words are the most. `None`: they do not lie within the frame.
///
/// At least eight bytes of the frame have to stand before the end of the run, as they do before
/// every option.
#[inline(always)]
pub fn words<P: Packet, const LIMIT: usize>(
    packet: &P,
    offset: usize,
    len: usize,
    sink: &mut impl Sink,
) -> Option<()> {
    let start = packet.opaque(offset);
    let whole = len / 8;
    let mut index = 0;
    while index < LIMIT {
        if index >= whole {
            break;
        }
        sink.take(index, packet.u64_at(start + index * 8)?);
        index += 1;
    }
    let rest = len % 8;
    if rest != 0 {
        // The eight bytes that end with the run: what follows it may be the frame's end.
        let word = packet.u64_at(packet.opaque(offset + len - 8))?;
        sink.take(packet.opaque(whole), word >> (64 - 8 * rest));
    }
    Some(())
}

#[cfg(test)]
mod tests;
