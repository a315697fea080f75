//! Which of a pool's options a reply carries: those that the client asks for (option 55, RFC 2132 9.8).

use core::marker::PhantomData;

use nexus_abi::{OPTION_BITS, Outcome, Profile};

use crate::decision::Answer;
use crate::packet::Packet;
use crate::request::Request;
use crate::words::{Sink, words};

/// Words of the longest list.
const LIST_WORDS: usize = 32;
/// The bit of options that the pool does not have.
const FOREIGN: u32 = 1 << 31;

/// The set of the pool's options that `answer` to `request` carries: those that it asks for, all of them if
/// it has no list, none in a NAK (RFC 2131 4.3.1, table 3).
///
/// Errors: [`Outcome::Malformed`] if the list leaves the frame.
#[inline(always)]
pub fn wanted<P: Packet>(
    packet: &P,
    request: &Request,
    answer: &Answer,
    profile: &Profile,
) -> Result<u32, Outcome> {
    if answer.outcome as u32 == Outcome::Nak as u32 {
        return Ok(0);
    }
    let list = request.options.parameters;
    if list.len == 0 {
        return Ok(profile.all);
    }
    let mut codes = Codes::<P> {
        bits: &profile.bits,
        set: 0,
        packet: PhantomData,
    };
    words::<P, LIST_WORDS>(packet, list.offset, list.len, &mut codes).ok_or(Outcome::Malformed)?;
    Ok(codes.set & !FOREIGN)
}

/// Puts the bits of option codes together.
struct Codes<'a, P> {
    bits: &'a [u8; 256],
    set: u32,
    packet: PhantomData<P>,
}

impl<P: Packet> Sink for Codes<'_, P> {
    /// The zeros that fill up the last word name PAD, which no pool has.
    #[inline(always)]
    fn take(&mut self, _: usize, mut word: u64) {
        let mut index = 0;
        while index < 8 {
            let bit = self.bits.get(P::low_byte(word)).copied().unwrap_or(31);
            self.set |= 1 << (bit & 31);
            word >>= 8;
            index += 1;
        }
    }
}

/// Bytes of the options of `set`, which are some of the pool's.
#[inline(always)]
#[must_use]
pub fn encoded_len(profile: &Profile, set: u32) -> usize {
    let (mut len, mut bit) = (0, 0);
    while bit < OPTION_BITS {
        if bit >= profile.count as usize {
            break;
        }
        let one = profile.encoded.get(bit).copied().unwrap_or_default();
        // All ones if the option is wanted: no branch, or there were two ways on from each option.
        let wanted = 0_usize.wrapping_sub(set as usize >> bit & 1);
        len += usize::from(one.len) & wanted;
        bit += 1;
    }
    len
}

#[cfg(test)]
mod tests;
