//! Which of a pool's options a reply carries: those that the client asks for (option 55, RFC 2132 9.8).

use core::marker::PhantomData;

use nexus_abi::{Outcome, Profile, VARIANTS};

use crate::packet::Packet;
use crate::request::Request;
use crate::words::{Sink, words};

/// Words of the longest list.
const LIST_WORDS: usize = 32;
/// The bit of options that the pool does not have.
const FOREIGN: u32 = 1 << 31;

/// The set of the pool's options that `request` asks for; all of them if it has no list.
///
/// Errors: [`Outcome::Malformed`] if the list leaves the frame.
#[inline(always)]
pub fn wanted<P: Packet>(packet: &P, request: &Request, profile: &Profile) -> Result<u32, Outcome> {
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

/// The number of the template with `set`.
///
/// Errors: [`Outcome::NoTemplate`] if there is none yet.
#[inline(always)]
pub fn variant(profile: &Profile, set: u32) -> Result<u32, Outcome> {
    let mut number = 0;
    while number < VARIANTS as u32 {
        if number >= profile.variants {
            break;
        }
        if profile.sets.get(number as usize & (VARIANTS - 1)).copied() == Some(set) {
            return Ok(number);
        }
        number += 1;
    }
    Err(Outcome::NoTemplate)
}

#[cfg(test)]
mod tests;
