//! The bytes of the frame in packet memory, as the verifier wants them reached.
//!
//! Words are read and written by instructions of our own: the compiler would make single bytes of an
//! access that may not be aligned, which BPF programs may do where the machine can.

use core::arch::asm;

use aya_ebpf::programs::XdpContext;
use nexus_dhcp::{Packet, PacketMut};

const OFFSET_MASK: usize = 0x7ff;

/// The received frame. Not valid any more once the length of the packet has been changed.
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// The address of `LEN` bytes at `offset`, if they lie within the packet.
    #[inline(always)]
    fn place<const LEN: usize>(&self, offset: usize) -> Option<usize> {
        let place = self.start + offset;
        let mut behind = place;
        // SAFETY: plain addition. It is written out because the compiler would make a comparison
        // with the start out of it for a single byte, and that proves nothing to the verifier.
        unsafe {
            asm!("{0} += {1}", inout(reg) behind, const LEN, options(pure, nomem, nostack));
        }
        if behind > self.end { None } else { Some(place) }
    }
}

/// `value`, of which the compiler knows nothing any more. It would otherwise replace a comparison
/// by one that amounts to the same on another register, where the verifier does not look.
#[inline(always)]
pub fn hidden(mut value: usize) -> usize {
    // SAFETY: plain addition of nothing; an empty line of assembly has no valid line information.
    unsafe { asm!("{0} += 0", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// Defines a read of one width: `(name, type, how the instruction calls it)`.
macro_rules! load {
    ($name:ident, $type:ty, $width:literal) => {
        /// Reads at `AT` behind `place`.
        ///
        /// # Safety
        /// The bytes are ones that the verifier knows to be readable.
        #[inline(always)]
        unsafe fn $name<const AT: usize>(place: usize) -> $type {
            let value: u64;
            // SAFETY: upheld by the caller.
            unsafe {
                asm!(
                    concat!("{0} = *(", $width, " *)({1} + {2})"),
                    out(reg) value, in(reg) place, const AT,
                    options(readonly, nostack)
                );
            }
            value as $type
        }
    };
}

/// Defines a write of one width.
macro_rules! store {
    ($name:ident, $type:ty, $width:literal) => {
        /// Writes at `AT` behind `place`.
        ///
        /// # Safety
        /// The bytes are ones that the verifier knows to be writable.
        #[inline(always)]
        unsafe fn $name<const AT: usize>(place: usize, value: $type) {
            let value = u64::from(value);
            // SAFETY: upheld by the caller.
            unsafe {
                asm!(
                    concat!("*(", $width, " *)({0} + {1}) = {2}"),
                    in(reg) place, const AT, in(reg) value,
                    options(nostack)
                );
            }
        }
    };
}

load!(load_u8, u8, "u8");
load!(load_u16, u16, "u16");
load!(load_u32, u32, "u32");
load!(load_u64, u64, "u64");
store!(store_u8, u8, "u8");
store!(store_u16, u16, "u16");
store!(store_u32, u32, "u32");
store!(store_u64, u64, "u64");

impl Packet for Frame {
    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn u8_at(&self, offset: usize) -> Option<u8> {
        let place = self.place::<1>(offset)?;
        // SAFETY: within the packet.
        Some(unsafe { load_u8::<0>(place) })
    }

    #[inline(always)]
    fn u16_at(&self, offset: usize) -> Option<u16> {
        let place = self.place::<2>(offset)?;
        // SAFETY: within the packet.
        Some(unsafe { load_u16::<0>(place) })
    }

    #[inline(always)]
    fn u64_at(&self, offset: usize) -> Option<u64> {
        let place = self.place::<8>(offset)?;
        // SAFETY: within the packet.
        Some(unsafe { load_u64::<0>(place) })
    }

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let place = self.place::<N>(offset)?;
        // SAFETY: within the packet, and any bytes make an array of them.
        Some(unsafe { &*(place as *const [u8; N]) })
    }

    #[inline(always)]
    fn u32_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u32 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: within the window.
        unsafe { load_u32::<AT>(window.as_ptr() as usize) }
    }

    #[inline(always)]
    fn u64_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u64 {
        const { assert!(AT + 8 <= N) };
        // SAFETY: within the window.
        unsafe { load_u64::<AT>(window.as_ptr() as usize) }
    }

    #[inline(always)]
    fn peek<const N: usize>(words: &[u64; N], at: usize) -> u64 {
        let at = hidden(at);
        if at > N * 8 - 8 {
            return 0;
        }
        // SAFETY: within the words.
        unsafe { load_u64::<0>(words.as_ptr() as usize + at) }
    }

    #[inline(always)]
    fn poke<const N: usize>(words: &mut [u64; N], at: usize, word: u64) {
        let at = hidden(at);
        if at > N * 8 - 8 {
            return;
        }
        // SAFETY: within the words.
        unsafe { store_u64::<0>(words.as_mut_ptr() as usize + at, word) }
    }

    #[inline(always)]
    fn low_byte(mut word: u64) -> usize {
        // SAFETY: plain arithmetic; the compiler would know a way around it that the verifier does not.
        unsafe { asm!("{0} &= 255", inout(reg) word, options(pure, nomem, nostack)) };
        word as usize
    }

    #[inline(always)]
    fn opaque(&self, offset: usize) -> usize {
        // An XDP frame without fragments is smaller than a page, so this is 0; but the verifier
        // knows nothing of a difference of pointers, and so nothing of what it is combined with.
        let zero = self.frame_len() >> 16;
        // Added, because Linux 6.1 gives up on a combination by XOR or OR with an unknown.
        (offset + zero) & OFFSET_MASK
    }
}

impl PacketMut for Frame {
    #[inline(always)]
    fn put_u8(&mut self, offset: usize, value: u8) -> Option<()> {
        let place = self.place::<1>(offset)?;
        // SAFETY: within the packet.
        unsafe { store_u8::<0>(place, value) };
        Some(())
    }

    #[inline(always)]
    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()> {
        let place = self.place::<2>(offset)?;
        // SAFETY: within the packet.
        unsafe { store_u16::<0>(place, value) };
        Some(())
    }

    #[inline(always)]
    fn put_u32(&mut self, offset: usize, value: u32) -> Option<()> {
        let place = self.place::<4>(offset)?;
        // SAFETY: within the packet.
        unsafe { store_u32::<0>(place, value) };
        Some(())
    }

    #[inline(always)]
    fn put_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        let place = self.place::<8>(offset)?;
        // SAFETY: within the packet.
        unsafe { store_u64::<0>(place, value) };
        Some(())
    }

    #[inline(always)]
    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let place = self.place::<N>(offset)?;
        // SAFETY: within the packet, and any bytes make an array of them.
        Some(unsafe { &mut *(place as *mut [u8; N]) })
    }

    #[inline(always)]
    fn set_u32<const N: usize, const AT: usize>(window: &mut [u8; N], value: u32) {
        const { assert!(AT + 4 <= N) };
        // SAFETY: within the window.
        unsafe { store_u32::<AT>(window.as_mut_ptr() as usize, value) }
    }

    #[inline(always)]
    fn set_u64<const N: usize, const AT: usize>(window: &mut [u8; N], value: u64) {
        const { assert!(AT + 8 <= N) };
        // SAFETY: within the window.
        unsafe { store_u64::<AT>(window.as_mut_ptr() as usize, value) }
    }
}
