//! A map's memory, seen from here: the pages of a `BPF_F_MMAPABLE` array.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::table::Memory;

/// The values of an array, one behind the other, as 64-bit words. They stay mapped while this lives,
/// whatever becomes of the pin.
#[derive(Debug)]
pub struct Mapping {
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory is of no thread; it is looked at through atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the array behind `fd`, whose values have `bytes` bytes together: not less than one word, and
    /// a multiple of words.
    pub fn new(fd: impl AsFd, bytes: usize) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of this process.
        let address = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self {
            words: address.cast(),
            count: bytes / size_of::<AtomicU64>(),
        })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `new` has mapped at least so many words, readable and writable, beginning on a page and
        // so aligned; they are unmapped when `self` goes. Arrays are never resized. The kernel changes
        // them meanwhile, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let bytes = self.count * size_of::<AtomicU64>();
        // SAFETY: exactly what `new` has mapped, and nothing borrows it any more.
        let _ = unsafe { munmap(self.words.cast(), bytes) };
    }
}

impl Memory for Mapping {
    fn words(&self) -> usize {
        Memory::words(self.words())
    }

    fn load(&self, at: usize) -> u64 {
        self.words().load(at)
    }

    fn store(&self, at: usize, word: u64) {
        Memory::store(self.words(), at, word);
    }

    fn update(&self, at: usize, change: impl Fn(u64) -> u64) {
        self.words().update(at, change);
    }
}
