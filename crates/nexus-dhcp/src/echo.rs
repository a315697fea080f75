//! What a reply repeats of its request: client identifier (61, RFC 6842) and relay agent information
//! (82, RFC 3046), saved before the request is written over.

use nexus_abi::Outcome;

use crate::checksum::halves;
use crate::options::Span;
use crate::packet::Packet;
use crate::words::{Sink, words};

/// Words of the longest option, its code and length included.
pub(crate) const ECHO_WORDS: usize = 33;

/// One option as the client sent it: code, length, value, zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    pub(crate) words: [u64; ECHO_WORDS],
}

impl Default for Saved {
    fn default() -> Self {
        Self {
            words: [0; ECHO_WORDS],
        }
    }
}

/// Both options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo {
    pub(crate) client_id: Saved,
    pub(crate) relay: Saved,
}

/// Bytes of an option in a reply, 0 if it is not there.
#[inline(always)]
pub(crate) fn encoded_len(span: Span) -> usize {
    if span.len == 0 { 0 } else { span.len + 2 }
}

impl Saved {
    /// Saves an option with its code and length and returns its share of a checksum at an even offset.
    ///
    /// Errors: [`Outcome::Malformed`] if it does not lie within the frame.
    #[inline(always)]
    pub(crate) fn save<P: Packet>(&mut self, packet: &P, span: Span) -> Result<u64, Outcome> {
        if span.len == 0 {
            return Ok(0);
        }
        let mut copy = Copy {
            words: &mut self.words,
            sum: 0,
        };
        words::<P, ECHO_WORDS>(packet, span.offset - 2, span.len + 2, &mut copy)
            .ok_or(Outcome::Malformed)?;
        Ok(copy.sum)
    }
}

/// Copies words and adds them up.
struct Copy<'a> {
    words: &'a mut [u64; ECHO_WORDS],
    sum: u64,
}

impl Sink for Copy<'_> {
    #[inline(always)]
    fn take(&mut self, index: usize, word: u64) {
        if let Some(place) = self.words.get_mut(index) {
            *place = word;
        }
        self.sum += halves(word);
    }
}
