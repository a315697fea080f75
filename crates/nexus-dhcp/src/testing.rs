//! What the tests of this crate share: a pool, a binding, and the whole way from a frame to its reply.

use std::net::Ipv4Addr;
use std::vec::Vec;

use nexus_abi::{Binding, NEVER_EXPIRES, Outcome, Profile};
use nexus_testkit::packet::{Bootp, Frame, Mac};

pub use crate::exchange::read;
use crate::exchange::reply;
use crate::profile::{ProfileParts, encode};
use crate::{Answer, Request, decide};

pub const CLIENT: Mac = [2, 0, 0, 0, 0, 0x21];
pub const GATEWAY_MAC: Mac = [2, 0, 0x5e, 0, 0, 1];
pub const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 7);
pub const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 8);
pub const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
/// The boot-time clock of these tests, in seconds.
pub const NOW: u32 = 5000;
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
        rapid_commit: false,
        custom: &[],
    }
}

pub fn profile() -> Profile {
    encode(&parts()).unwrap()
}

pub fn bound_to(address: Ipv4Addr) -> Binding {
    Binding {
        address: address.octets(),
        valid_until_secs: NEVER_EXPIRES,
        mac: CLIENT,
        profile: 0,
        last_seen_jiffies: 0,
    }
}

pub fn binding() -> Binding {
    bound_to(ADDRESS)
}

pub fn request_of(message: &Bootp) -> Request {
    read(&Frame::from_client(message).build()).unwrap()
}

pub fn decided(message: &Bootp, binding: &Binding, profile: &Profile) -> Result<Answer, Outcome> {
    decide(&request_of(message), binding, profile, NOW)
}

/// From the frame of a client that holds `binding` of `profile` to its reply.
pub fn exchange_of(
    frame: &[u8],
    binding: &Binding,
    profile: &Profile,
) -> Result<(Outcome, Vec<u8>), Outcome> {
    reply(frame, &read(frame)?, binding, profile, NOW)
}

/// From the frame of a client that holds [`binding`] of [`profile`] to its reply.
pub fn exchange(frame: &[u8]) -> Result<(Outcome, Vec<u8>), Outcome> {
    exchange_of(frame, &binding(), &profile())
}

/// The reply to `frame` out of `profile`, read by the test bench, which also checks lengths and checksums.
pub fn reply_from(profile: &Profile, frame: &Frame) -> (Outcome, Frame, Bootp) {
    let (outcome, bytes) = exchange_of(&frame.build(), &binding(), profile).unwrap();
    assert_checksums(&bytes, frame.tags.len());
    let reply = Frame::parse(&bytes).unwrap();
    let message = reply.bootp().unwrap();
    (outcome, reply, message)
}

/// The reply to `frame` out of [`profile`].
pub fn reply_to(frame: &Frame) -> (Outcome, Frame, Bootp) {
    reply_from(&profile(), frame)
}

/// What becomes of `message`, sent by broadcast and untagged.
pub fn outcome_of(message: &Bootp) -> Outcome {
    match exchange(&Frame::from_client(message).build()) {
        Ok((outcome, _)) | Err(outcome) => outcome,
    }
}

/// The codes of a message's options, in their order.
pub fn codes(message: &Bootp) -> Vec<u8> {
    message.options.iter().map(|(code, _)| *code).collect()
}

pub fn reboot(address: Ipv4Addr) -> Bootp {
    Bootp::request(CLIENT, 0x1234)
        .option(53, &[3])
        .option(50, &address.octets())
}

/// `message` as the relay forwards it.
pub fn relayed(message: &Bootp) -> Frame {
    let mut frame = Frame::from_client(&message.clone().relay(RELAY)).unicast(GATEWAY_MAC, SERVER);
    frame.source = RELAY_MAC;
    frame.source_ip = RELAY;
    frame.source_port = 67;
    frame
}

/// The one's complement sum over big-endian words, as RFC 1071 1 defines it: slow and plain.
pub fn plain_sum(bytes: &[u8]) -> u32 {
    let mut sum = 0_u32;
    for (at, byte) in bytes.iter().enumerate() {
        sum += u32::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Both checksums of a reply are there and right.
pub fn assert_checksums(reply: &[u8], tags: usize) {
    let ip = &reply[14 + 4 * tags..];
    assert_eq!(plain_sum(&ip[..20]), 0xffff, "IP");
    assert_ne!(ip[26..28], [0, 0], "a UDP checksum of zero means none");
    let mut covered = ip[12..20].to_vec();
    covered.extend([0, 17]);
    covered.extend(&ip[24..26]);
    covered.extend(&ip[20..]);
    assert_eq!(plain_sum(&covered), 0xffff, "UDP");
}
