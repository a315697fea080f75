//! The socket filter: lets through UDP to port 67 that arrives on one interface, whatever its tags.

use nexus_dhcp::wire::{
    ETHERTYPE_CVLAN, ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_SVLAN, SERVER_PORT,
};
use nix::libc;
use socket2::SockFilter;

// Classic BPF (Documentation/networking/filter.rst of Linux).
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_INDEXED: u16 = 0x48;
const LOAD_IP_HEADER_LEN: u16 = 0xb1;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

const PROTOCOL_UDP: u32 = 17;
const ALL_BYTES: u32 = u32::MAX;

/// Instructions from `check` for one place where IPv4 may start.
const CHECK_LEN: u8 = 6;

/// A filter for the interface `ifindex`. The kernel has taken the outer tag out of the frame, or has
/// left it where its EtherType is not one of the standard's; so up to two tags may stand there.
pub fn dhcp_on(ifindex: u32) -> Vec<SockFilter> {
    let packet_type = ancillary(libc::SKF_AD_PKTTYPE);
    let arrived_on = ancillary(libc::SKF_AD_IFINDEX);
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    let mut filter = vec![
        SockFilter::new(LOAD_WORD, 0, 0, arrived_on),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, ifindex),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(LOAD_WORD, 0, 0, packet_type),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, outgoing),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    for ethertype_at in [12, 16] {
        filter.extend(if_ipv4(ethertype_at));
        // One more tag, or none of ours.
        filter.extend([
            SockFilter::new(JUMP_IF_EQUAL, 3, 0, u32::from(ETHERTYPE_CVLAN)),
            SockFilter::new(JUMP_IF_EQUAL, 2, 0, u32::from(ETHERTYPE_SVLAN)),
            SockFilter::new(JUMP_IF_EQUAL, 1, 0, u32::from(ETHERTYPE_QINQ)),
            SockFilter::new(RETURN, 0, 0, 0),
        ]);
    }
    filter.extend(if_ipv4(20));
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

fn ancillary(field: i32) -> u32 {
    (libc::SKF_AD_OFF + field).cast_unsigned()
}

/// Decides if the EtherType at `ethertype_at` is IPv4, and goes on behind itself if not.
fn if_ipv4(ethertype_at: u32) -> Vec<SockFilter> {
    let header = ethertype_at + 2;
    let mut filter = vec![
        SockFilter::new(LOAD_HALF, 0, 0, ethertype_at),
        SockFilter::new(JUMP_IF_EQUAL, 0, CHECK_LEN + 1, u32::from(ETHERTYPE_IPV4)),
    ];
    filter.extend([
        SockFilter::new(LOAD_BYTE, 0, 0, header + 9),
        SockFilter::new(JUMP_IF_EQUAL, 0, 4, PROTOCOL_UDP),
        SockFilter::new(LOAD_IP_HEADER_LEN, 0, 0, header),
        SockFilter::new(LOAD_HALF_INDEXED, 0, 0, header + 2),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(SERVER_PORT)),
        SockFilter::new(RETURN, 0, 0, ALL_BYTES),
        SockFilter::new(RETURN, 0, 0, 0),
    ]);
    filter
}
