//! A line that is longer than it looks: frames wait in this process before they go on. (`tc` could do it with netem,
//! which not every kernel has.)

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, Socket};

use crate::link::{self, End};
use crate::netns::Namespace;
use crate::packet_socket::open;

/// Frames that wait at most in one direction; what comes then is lost, as in any full queue.
const MOST_WAITING: usize = 20_000;
/// Longest frame: no offload makes larger ones here.
const FRAME_MAX: usize = 2048;
/// Memory of a packet socket.
const BUFFER: usize = 32 << 20;
/// How soon a thread sees that it shall end.
const PATIENCE: Duration = Duration::from_millis(50);

/// A port of the switch that is joined to its bridge through this process. Dropped, it is joined directly again.
#[derive(Debug)]
pub struct DelayLine {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    switch: std::path::PathBuf,
    port: String,
}

impl DelayLine {
    /// Takes `port` off the bridge and carries its frames, each `one_way` later.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(
        switch: &Namespace,
        host: &Namespace,
        port: &str,
        one_way: Duration,
    ) -> Result<Self> {
        // What the kernel would cut or sum up later is cut and summed up now: it leaves the kernel here.
        link::disable_offloads(host, "eth0")?;
        link::disable_offloads(switch, port)?;
        let (near, far) = names(port);
        link::veth(End::new(switch, &near), End::new(switch, &far))?;
        let mut line = Self {
            stop: Arc::default(),
            threads: Vec::new(),
            switch: switch.path(),
            port: port.to_owned(),
        };
        let sockets = switch.enter(|| -> Result<_> {
            Ok((
                open(port, BUFFER, &arriving())?,
                open(&near, BUFFER, &arriving())?,
            ))
        })?;
        let (outer, inner) = sockets?;
        for (from, to) in [
            (&outer, inner.try_clone().context("a packet socket")?),
            (&inner, outer.try_clone().context("a packet socket")?),
        ] {
            let from = from.try_clone().context("a packet socket")?;
            let stop = Arc::clone(&line.stop);
            let carry = move || carry(&from, &to, one_way, &stop);
            line.threads.push(std::thread::spawn(carry));
        }
        switch.run("ip", &["link", "set", "dev", port, "nomaster"])?;
        switch.run("ip", &["link", "set", "dev", &far, "master", "br0"])?;
        Ok(line)
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Plain commands: cleaning up goes on after Ctrl-C, when `command::run` would refuse.
        let net = format!("--net={}", self.switch.display());
        let (near, _) = names(&self.port);
        for words in [
            vec!["link", "del", "dev", &near],
            vec!["link", "set", "dev", &self.port, "master", "br0"],
        ] {
            let mut ip = std::process::Command::new("nsenter");
            let _ = ip.args([&net, "--", "ip"]).args(words).output();
        }
    }
}

/// The pair between this process and the bridge.
fn names(port: &str) -> (String, String) {
    (format!("{port}near"), format!("{port}far"))
}

/// Everything but what this process has sent itself.
fn arriving() -> [SockFilter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    [
        SockFilter::new(LOAD_WORD, 0, 0, packet_type),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(libc::PACKET_OUTGOING)),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

fn carry(from: &Socket, to: &Socket, one_way: Duration, stop: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, frame)) = waiting.pop_front() {
                // A frame that the interface does not take is lost, as on any line.
                let _ = to.send(&frame);
            }
        }
        let until = waiting.front().map_or(PATIENCE, |(due, _)| {
            due.saturating_duration_since(now).min(PATIENCE)
        });
        let mut polled = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(until)), None);
        while let Ok(length) = nix::sys::socket::recv(
            from.as_raw_fd(),
            &mut buffer,
            nix::sys::socket::MsgFlags::MSG_DONTWAIT,
        ) {
            if waiting.len() < MOST_WAITING
                && let Some(frame) = buffer.get(..length)
            {
                waiting.push_back((Instant::now() + one_way, frame.to_vec()));
            }
        }
    }
}
