//! The one way to reach the bytes of a frame: by value, checked against the frame's end.

use zerocopy::FromBytes;

/// A received frame. In the kernel its bytes are packet memory, elsewhere a slice.
pub trait Packet {
    /// The `T` that starts `offset` bytes into the frame; `None` if it does not fit.
    fn at<T: FromBytes>(&self, offset: usize) -> Option<T>;

    /// Copies `len` bytes, 1 to 255, that start `offset` bytes into the frame to `to[at..]`. `None`
    /// if either end does not hold them.
    fn copy(&self, offset: usize, len: usize, to: &mut [u8], at: usize) -> Option<()>;

    /// `offset` itself, in a form whose range a verifier can see: less than 2048.
    ///
    /// The kernel's verifier follows each value of a variable offset on its own unless the value is
    /// hidden from it; outside the kernel this does nothing.
    fn opaque(&self, offset: usize) -> usize;
}

/// A frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Packet for Bytes<'_> {
    fn at<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let (value, _) = T::read_from_prefix(self.0.get(offset..)?).ok()?;
        Some(value)
    }

    fn copy(&self, offset: usize, len: usize, to: &mut [u8], at: usize) -> Option<()> {
        let from = self.0.get(offset..offset + len)?;
        to.get_mut(at..at + len)?.copy_from_slice(from);
        Some(())
    }

    fn opaque(&self, offset: usize) -> usize {
        offset
    }
}
