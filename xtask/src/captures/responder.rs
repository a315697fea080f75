//! A DHCP server that leads clients through all they can say: it offers, acknowledges, and keeps silent
//! where they shall go on to the next state.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use nexus_testkit::access_node::{AccessNetwork, OLT_INTERFACE};
use nexus_testkit::capture::{Capture, Seen};
use nexus_testkit::link;
use nexus_testkit::packet::{Arp, Bootp, Frame, MAC_BROADCAST, Mac};
use nexus_testkit::pcap::Captured;
use nexus_testkit::wire::Wire;

/// Its address, and the gateway.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Seconds of a lease, until renewing, and until rebinding. `udhcpc` looks at the first alone.
const TIMES: [u32; 3] = [24, 6, 10];

const OFFER: u8 = 2;
const ACK: u8 = 5;

/// The address that a client at `mac` is given.
pub fn address_of(mac: Mac) -> Ipv4Addr {
    let [.., group, last] = mac;
    Ipv4Addr::new(10, 88, 1 + group, last)
}

/// Who defends its address against whoever asks for it, so that the client declines.
pub type Taken = Vec<Ipv4Addr>;

/// The server, while it runs.
pub struct Responder {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Responder {
    /// Starts it on the OLT's interface. The addresses in `taken` are in use already.
    pub fn start(network: &AccessNetwork, directory: &Path, taken: Taken) -> Result<Self> {
        let capture = Capture::start(&network.olt, OLT_INTERFACE, directory)?;
        let wire = Wire::open(&network.olt, OLT_INTERFACE)?;
        let mac = link::mac(&network.olt, OLT_INTERFACE)?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let work = move || -> Result<()> {
            let mut done = 0;
            while !flag.load(Ordering::Relaxed) {
                let frames = capture.frames()?;
                for captured in frames.iter().skip(done) {
                    if let Some(reply) = reply(mac, &taken, captured) {
                        wire.send(&reply)?;
                    }
                }
                done = frames.len();
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        Ok(Self {
            ended,
            thread: Some(std::thread::spawn(work)),
        })
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map_or(Ok(()), |thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the DHCP server panicked")))
        })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn reply(own: Mac, taken: &Taken, captured: &Captured) -> Option<Vec<u8>> {
    if captured.bytes.get(6..12) == Some(&own[..]) {
        return None;
    }
    if let Ok(arp) = Arp::parse(&captured.bytes) {
        let defended = arp.target == SERVER || taken.contains(&arp.target);
        return (arp.operation == 1 && defended).then(|| arp_reply(own, &arp).build());
    }
    let seen = Seen::of(captured)?;
    let asked = &seen.message;
    let kind = match asked.message_type()? {
        1 => OFFER,
        // Renewing is not answered, so that the client rebinds.
        3 if seen.frame.destination == MAC_BROADCAST || asked.giaddr != Ipv4Addr::UNSPECIFIED => {
            ACK
        }
        8 => ACK,
        _ => return None,
    };
    Some(dhcp_reply(own, &seen.frame, asked, kind).build())
}

fn arp_reply(own: Mac, arp: &Arp) -> Arp {
    Arp {
        destination: arp.source,
        source: own,
        operation: 2,
        sender_mac: own,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
        tags: arp.tags.clone(),
    }
}

fn dhcp_reply(own: Mac, request: &Frame, asked: &Bootp, kind: u8) -> Frame {
    let informs = asked.message_type() == Some(8);
    let mut message = Bootp {
        op: 2,
        options: Vec::new(),
        ..asked.clone()
    };
    message = message
        .option(53, &[kind])
        .option(54, &SERVER.octets())
        .option(1, &[255, 255, 0, 0])
        .option(3, &SERVER.octets())
        .option(6, &[9, 9, 9, 9]);
    if !informs {
        message.yiaddr = address_of(asked.mac());
        for (code, seconds) in [51, 58, 59].into_iter().zip(TIMES) {
            message = message.option(code, &seconds.to_be_bytes());
        }
    }
    if let Some(relay) = asked.get(82) {
        message = message.option(82, relay);
    }
    let relayed = asked.giaddr != Ipv4Addr::UNSPECIFIED;
    let wants_broadcast = asked.flags & 0x8000 != 0 && asked.ciaddr == Ipv4Addr::UNSPECIFIED;
    let (to, address) = if relayed {
        (request.source, asked.giaddr)
    } else if wants_broadcast {
        (MAC_BROADCAST, Ipv4Addr::BROADCAST)
    } else if asked.ciaddr != Ipv4Addr::UNSPECIFIED {
        (asked.mac(), asked.ciaddr)
    } else {
        (asked.mac(), message.yiaddr)
    };
    let mut frame = Frame::from_client(&message).unicast(to, address);
    frame.source = own;
    frame.source_ip = SERVER;
    frame.source_port = 67;
    frame.destination_port = if relayed { 67 } else { 68 };
    frame.tags.clone_from(&request.tags);
    frame
}
