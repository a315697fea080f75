//! The generator's door to the wire: a packet socket, many frames in each system call.
//!
//! `sendmmsg` and `recvmmsg` instead of rings (packet_mmap): rings are shared memory, which takes `unsafe`, and
//! docs/PERFORMANCE.md says what they would bring.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{LinkAddr, MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, Socket};

use crate::packet_socket;

/// Most frames of one system call.
pub const BATCH: usize = 64;
/// Most bytes of a received frame; what is behind is cut off.
const FRAME_MAX: usize = 1024;
/// Memory for received frames: enough for a burst of all clients' replies.
const RECEIVE_BUFFER: usize = 64 << 20;

// Classic BPF (Documentation/networking/filter.rst of Linux).
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// A packet socket on one interface, which receives the transactions of one thread.
pub struct Port {
    socket: Socket,
    addresses: Vec<Option<LinkAddr>>,
    send: MultiHeaders<LinkAddr>,
    receive: MultiHeaders<LinkAddr>,
    buffers: Vec<[u8; FRAME_MAX]>,
    lengths: Vec<usize>,
}

impl Port {
    /// Opens `interface` in this thread's namespace, for transaction ids whose lowest bits are `thread` of
    /// `threads`, in replies with so many `tags`.
    ///
    /// # Errors
    /// If there is no such interface, or the caller is not root.
    pub fn open(interface: &str, threads: u32, thread: u32, tags: u8) -> Result<Self> {
        let filter = own_transactions(threads, thread, tags);
        let socket = packet_socket::open(interface, RECEIVE_BUFFER, &filter)?;
        Ok(Self {
            socket,
            addresses: vec![None; BATCH],
            send: MultiHeaders::preallocate(BATCH, None),
            receive: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; FRAME_MAX]; BATCH],
            lengths: Vec::with_capacity(BATCH),
        })
    }

    /// Sends the first frames, at most [`BATCH`], and returns how many the kernel took and whether it refused the
    /// next one for good (the interface's ring was full).
    ///
    /// # Errors
    /// If the interface is gone.
    pub fn send(&mut self, frames: &[Vec<u8>]) -> Result<(usize, bool)> {
        let slices: Vec<[IoSlice<'_>; 1]> = frames
            .iter()
            .take(BATCH)
            .map(|frame| [IoSlice::new(frame)])
            .collect();
        let addresses = self.addresses.get(..slices.len()).unwrap_or_default();
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.send,
            &slices,
            addresses,
            [],
            MsgFlags::empty(),
        )
        .map(Iterator::count);
        match sent {
            Ok(count) => Ok((count, false)),
            Err(Errno::ENOBUFS) => Ok((0, true)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok((0, false)),
            Err(error) => Err(error).context("cannot send frames"),
        }
    }

    /// Takes what has come, at most [`BATCH`] frames, and calls `each` for every one. Returns how many.
    ///
    /// # Errors
    /// If the interface is gone.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> Result<usize> {
        self.lengths.clear();
        {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
                .buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let received = recvmmsg(
                self.socket.as_raw_fd(),
                &mut self.receive,
                slices.iter_mut(),
                MsgFlags::MSG_DONTWAIT,
                None,
            );
            match received {
                Ok(messages) => self.lengths.extend(messages.map(|message| message.bytes)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot receive frames"),
            }
        }
        for (length, buffer) in self.lengths.iter().zip(&self.buffers) {
            each(buffer.get(..*length).unwrap_or_default());
        }
        Ok(self.lengths.len())
    }

    /// Sleeps until something has come, at most so long.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wait(&self, most: Duration) -> Result<()> {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut polled, Some(TimeSpec::from_duration(most)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for frames"),
        }
    }
}

/// What has arrived (the other threads' own frames pass by here, too) with such a transaction id. The kernel has taken
/// the outer tag out of the frame.
fn own_transactions(threads: u32, thread: u32, tags: u8) -> [SockFilter; 8] {
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    let xid = 14 + 20 + 8 + 4 + 4 * u32::from(tags.saturating_sub(1));
    [
        SockFilter::new(LOAD_WORD, 0, 0, packet_type),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, outgoing),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(LOAD_WORD, 0, 0, xid),
        SockFilter::new(AND, 0, 0, threads - 1),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, thread),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
