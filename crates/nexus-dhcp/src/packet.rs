//! The one way to reach the bytes of a frame: by value, checked against the frame's end.
//!
//! In the kernel a frame is packet memory, elsewhere a slice. Words are read and written in memory
//! order at any alignment; both sides are little-endian.

#[cfg(target_endian = "big")]
compile_error!("MAC addresses are taken out of words as on a little-endian machine");

/// A received frame.
pub trait Packet {
    /// Bytes of the frame.
    fn frame_len(&self) -> usize;

    /// The byte at `offset`; `None` behind the end.
    fn u8_at(&self, offset: usize) -> Option<u8>;

    /// Two bytes at `offset`; `None` if they do not lie within the frame.
    fn u16_at(&self, offset: usize) -> Option<u16>;

    /// Eight bytes at `offset`; `None` if they do not lie within the frame.
    fn u64_at(&self, offset: usize) -> Option<u64>;

    /// `N` bytes at `offset`, checked once; `None` if they do not lie within the frame.
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;

    /// Four bytes at `AT` of a window.
    fn u32_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u32;

    /// Eight bytes at `AT` of a window.
    fn u64_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u64;

    /// Eight bytes at byte `at` of `words`; 0 if they do not lie within them.
    fn peek<const N: usize>(words: &[u64; N], at: usize) -> u64;

    /// Writes eight bytes at byte `at` of `words`; does nothing if they do not lie within them.
    fn poke<const N: usize>(words: &mut [u64; N], at: usize, word: u64);

    /// The lowest byte of `word`, in a form whose range a verifier can see.
    fn low_byte(word: u64) -> usize;

    /// `offset` itself, in a form whose range a verifier can see: less than 2048.
    ///
    /// The kernel's verifier follows each value of a variable offset on its own unless the value is
    /// hidden from it; outside the kernel this does nothing.
    fn opaque(&self, offset: usize) -> usize;
}

/// A frame that is being made into its reply.
pub trait PacketMut: Packet {
    /// Writes one byte; `None` if it does not lie within the frame.
    fn put_u8(&mut self, offset: usize, value: u8) -> Option<()>;

    /// Writes two bytes; `None` if they do not lie within the frame.
    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()>;

    /// Writes four bytes; `None` if they do not lie within the frame.
    fn put_u32(&mut self, offset: usize, value: u32) -> Option<()>;

    /// Writes eight bytes; `None` if they do not lie within the frame.
    fn put_u64(&mut self, offset: usize, value: u64) -> Option<()>;

    /// `N` bytes at `offset`, checked once; `None` if they do not lie within the frame.
    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// Writes four bytes at `AT` of a window.
    fn set_u32<const N: usize, const AT: usize>(window: &mut [u8; N], value: u32);

    /// Writes eight bytes at `AT` of a window.
    fn set_u64<const N: usize, const AT: usize>(window: &mut [u8; N], value: u64);
}

/// A frame in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<T>(pub T);

#[inline]
fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

impl<T: AsRef<[u8]>> Packet for Bytes<T> {
    fn frame_len(&self) -> usize {
        self.0.as_ref().len()
    }

    fn u8_at(&self, offset: usize) -> Option<u8> {
        self.0.as_ref().get(offset).copied()
    }

    fn u16_at(&self, offset: usize) -> Option<u16> {
        get(self.0.as_ref(), offset).map(u16::from_ne_bytes)
    }

    fn u64_at(&self, offset: usize) -> Option<u64> {
        get(self.0.as_ref(), offset).map(u64::from_ne_bytes)
    }

    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.0.as_ref().get(offset..)?.first_chunk()
    }

    fn u32_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u32 {
        get(window, AT).map_or(0, u32::from_ne_bytes)
    }

    fn u64_in<const N: usize, const AT: usize>(window: &[u8; N]) -> u64 {
        get(window, AT).map_or(0, u64::from_ne_bytes)
    }

    fn peek<const N: usize>(words: &[u64; N], at: usize) -> u64 {
        get(zerocopy::IntoBytes::as_bytes(words), at).map_or(0, u64::from_ne_bytes)
    }

    fn poke<const N: usize>(words: &mut [u64; N], at: usize, word: u64) {
        put(
            zerocopy::IntoBytes::as_mut_bytes(words),
            at,
            word.to_ne_bytes(),
        );
    }

    fn low_byte(word: u64) -> usize {
        usize::from(word as u8)
    }

    fn opaque(&self, offset: usize) -> usize {
        offset
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> PacketMut for Bytes<T> {
    fn put_u8(&mut self, offset: usize, value: u8) -> Option<()> {
        put(self.0.as_mut(), offset, [value])
    }

    fn put_u16(&mut self, offset: usize, value: u16) -> Option<()> {
        put(self.0.as_mut(), offset, value.to_ne_bytes())
    }

    fn put_u32(&mut self, offset: usize, value: u32) -> Option<()> {
        put(self.0.as_mut(), offset, value.to_ne_bytes())
    }

    fn put_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        put(self.0.as_mut(), offset, value.to_ne_bytes())
    }

    fn window_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.0.as_mut().get_mut(offset..)?.first_chunk_mut()
    }

    fn set_u32<const N: usize, const AT: usize>(window: &mut [u8; N], value: u32) {
        put(window, AT, value.to_ne_bytes());
    }

    fn set_u64<const N: usize, const AT: usize>(window: &mut [u8; N], value: u64) {
        put(window, AT, value.to_ne_bytes());
    }
}
