//! What the tests of this crate share: a pool, a binding, and the whole way from a frame to its reply.

use std::net::Ipv4Addr;
use std::vec::Vec;

use nexus_abi::{Binding, NEVER_EXPIRES, Outcome, Profile};
use nexus_testkit::packet::{Bootp, Frame, Mac};

use crate::profile::{ProfileParts, encode};
use crate::{Bytes, OptionTable, Reply, Request, decide, parse_link, parse_message};

pub const CLIENT: Mac = [2, 0, 0, 0, 0, 0x21];
pub const GATEWAY_MAC: Mac = [2, 0, 0x5e, 0, 0, 1];
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 7);
pub const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 8);
pub const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
pub const SECOND: u64 = 1_000_000_000;
/// The boot-time clock of these tests.
pub const NOW: u64 = 5000 * SECOND;
pub const LEASE: u32 = 3600;

pub fn parts() -> ProfileParts<'static> {
    ProfileParts {
        server_id: SERVER.octets(),
        next_server: [0; 4],
        gateway_mac: GATEWAY_MAC,
        lease_secs: LEASE,
        subnet_mask: [255, 192, 0, 0],
        routers: &[[100, 64, 0, 1]],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: None,
        mtu: None,
        ntp: &[],
        custom: &[],
    }
}

pub fn profile() -> Profile {
    encode(&parts()).unwrap()
}

pub fn binding() -> Binding {
    Binding {
        valid_until_ns: NEVER_EXPIRES,
        last_seen_ns: 0,
        address: ADDRESS.octets(),
        profile: 0,
    }
}

/// Reads a frame as far as a request, as the kernel program does.
pub fn read(frame: &[u8]) -> Result<Request, Outcome> {
    let packet = Bytes(frame);
    let link = parse_link(&packet)?;
    parse_message(&packet, link)?.into_request(&packet, &mut OptionTable::default())
}

/// From the frame of a client that holds `binding` to its reply, written into `reply`.
pub fn exchange_into(
    reply: &mut Reply,
    frame: &[u8],
    binding: &Binding,
    profile: &Profile,
) -> Result<(Outcome, Vec<u8>), Outcome> {
    let request = read(frame)?;
    let answer = decide(&request, binding, profile, NOW)?;
    let span = reply.write(&Bytes(frame), &request, &answer, profile)?;
    Ok((answer.outcome, reply.frame(span).to_vec()))
}

/// From the frame of a client that holds [`binding`] of [`profile`] to its reply.
pub fn exchange(frame: &[u8]) -> Result<(Outcome, Vec<u8>), Outcome> {
    exchange_into(&mut Reply::default(), frame, &binding(), &profile())
}

/// The reply to `frame`, read by the test bench, which also checks lengths and checksums.
pub fn reply_to(frame: &Frame) -> (Outcome, Frame, Bootp) {
    let (outcome, bytes) = exchange(&frame.build()).unwrap();
    let reply = Frame::parse(&bytes).unwrap();
    let message = reply.bootp().unwrap();
    (outcome, reply, message)
}

/// What becomes of `message`, sent by broadcast and untagged.
pub fn outcome_of(message: &Bootp) -> Outcome {
    match exchange(&Frame::from_client(message).build()) {
        Ok((outcome, _)) | Err(outcome) => outcome,
    }
}

pub fn reboot(address: Ipv4Addr) -> Bootp {
    Bootp::request(CLIENT, 0x1234)
        .option(53, &[3])
        .option(50, &address.octets())
}
