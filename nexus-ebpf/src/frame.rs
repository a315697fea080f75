//! The bytes of the frame in packet memory, as the verifier wants them reached.

use core::arch::asm;

use aya_ebpf::programs::XdpContext;
use nexus_dhcp::Packet;
use zerocopy::FromBytes;

const OFFSET_MASK: usize = 0x7ff;

/// The received frame. Not valid any more once the length of the packet has been changed.
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end() }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn at<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let start = self.start + offset;
        let mut behind = start;
        // SAFETY: plain addition. It is written out because the compiler would make a comparison
        // with the start out of it for a single byte, and that proves nothing to the verifier.
        unsafe { asm!("{0} += {1}", inout(reg) behind, const size_of::<T>(), options(pure, nomem, nostack)) };
        if behind > self.end {
            return None;
        }
        // SAFETY: the bytes lie within the packet, and any bytes make a `T`. Callers read values
        // wider than a byte at even offsets only, and packets start on an even address.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn opaque(&self, offset: usize) -> usize {
        // An XDP frame without fragments is smaller than a page, so this is 0; but the verifier
        // knows nothing of a difference of pointers, and so nothing of what it is combined with.
        let zero = self.len() >> 16;
        (offset ^ zero) & OFFSET_MASK
    }
}
