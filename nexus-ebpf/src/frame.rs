//! The bytes of the frame in packet memory, as the verifier wants them reached.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use nexus_dhcp::Packet;
use zerocopy::FromBytes;

const OFFSET_MASK: usize = 0x7ff;

/// The received frame. Not valid any more once the length of the packet has been changed.
pub struct Frame {
    ctx: *mut c_void,
    start: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self {
            ctx: ctx.as_ptr(),
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
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

impl Packet for Frame {
    #[inline(always)]
    fn at<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let start = self.start + offset;
        let mut behind = start;
        // SAFETY: plain addition. It is written out because the compiler would make a comparison
        // with the start out of it for a single byte, and that proves nothing to the verifier.
        unsafe {
            asm!("{0} += {1}", inout(reg) behind, const size_of::<T>(), options(pure, nomem, nostack))
        };
        if behind > self.end {
            return None;
        }
        // SAFETY: the bytes lie within the packet, and any bytes make a `T`. Callers read values
        // wider than a byte at even offsets only, and packets start on an even address.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn copy(&self, offset: usize, len: usize, to: &mut [u8], at: usize) -> Option<()> {
        if len == 0 || at + len > to.len() {
            return None;
        }
        // Linux 6.1 does not conclude from `len != 0` that it is at least 1, so that is computed.
        let less = hidden(len - 1);
        let len = (less & 0xff) + 1;
        // SAFETY: `at + len` bytes lie within `to`; the helper checks the packet's end.
        let loaded = unsafe {
            let to = to.as_mut_ptr().add(at).cast();
            bpf_xdp_load_bytes(self.ctx.cast(), offset as u32, to, len as u32)
        };
        (loaded == 0).then_some(())
    }

    #[inline(always)]
    fn opaque(&self, offset: usize) -> usize {
        // An XDP frame without fragments is smaller than a page, so this is 0; but the verifier
        // knows nothing of a difference of pointers, and so nothing of what it is combined with.
        let zero = self.len() >> 16;
        // Added, because Linux 6.1 gives up on a combination by XOR or OR with an unknown.
        (offset + zero) & OFFSET_MASK
    }
}
