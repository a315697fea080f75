//! The little of netlink that aya does not bring: in which mode XDP works, and features of an interface.
//!
//! The crates for it cannot change features (`ethtool` 0.3 gives up there), so the few messages are made
//! here: [`message`] knows their form, this file what is asked.

mod message;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::AttachMode;
use message::{Attributes, Message, Reply};

/// Longest that an answer of the kernel takes.
const PATIENCE: TimeVal = TimeVal::new(5, 0);
/// Longer than any answer's packet: the kernel sends at most 32 KiB at once.
const PACKET: usize = 64 * 1024;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;

const RTM_GETLINK: u16 = 18;
const IFINFOMSG: usize = 16;
const IFLA_MASTER: u16 = 10;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const ATTACHED_IN_DRIVER: u8 = 1;
const ATTACHED_GENERIC: u8 = 2;

const GENERIC_CONTROL: u16 = 16;
const GENERIC_HEADER: usize = 4;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_CHANGEABLE: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_INDEX: u16 = 1;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// The mode in which an XDP program works on an interface; `None`: there is none, or it is in hardware.
pub fn xdp_mode(ifindex: u32) -> io::Result<Option<AttachMode>> {
    let replies = ask(
        SockProtocol::NetlinkRoute,
        &Message::new(RTM_GETLINK, REQUEST).bytes(&link_header(ifindex)),
    )?;
    let attached = replies
        .iter()
        .filter_map(|reply| reply.attributes(IFINFOMSG).get(IFLA_XDP))
        .find_map(|xdp| Attributes::of(xdp).get(IFLA_XDP_ATTACHED)?.first().copied());
    Ok(match attached {
        Some(ATTACHED_IN_DRIVER) => Some(AttachMode::Native),
        Some(ATTACHED_GENERIC) => Some(AttachMode::Generic),
        _ => None,
    })
}

/// The interfaces that belong to a bond (or bridge, or team): their indices.
pub fn ports_of(master: u32) -> io::Result<Vec<u32>> {
    let replies = ask(
        SockProtocol::NetlinkRoute,
        &Message::new(RTM_GETLINK, REQUEST | DUMP).bytes(&link_header(0)),
    )?;
    let of_master = |reply: &&Reply| {
        let found = reply.attributes(IFINFOMSG).get(IFLA_MASTER);
        found == Some(&master.to_ne_bytes()[..])
    };
    Ok(replies
        .iter()
        .filter(of_master)
        .filter_map(|reply| reply.number(4))
        .collect())
}

fn link_header(ifindex: u32) -> [u8; IFINFOMSG] {
    let mut header = [0; IFINFOMSG];
    for (to, from) in header.iter_mut().skip(4).zip(ifindex.to_ne_bytes()) {
        *to = from;
    }
    header
}

/// A feature of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub active: bool,
    /// The driver lets it be changed.
    pub changeable: bool,
}

/// Features of interfaces, through the kernel's `ethtool` family.
pub struct Ethtool {
    family: u16,
}

impl Ethtool {
    /// Finds the family. Errors: the kernel has none (`CONFIG_ETHTOOL_NETLINK`).
    pub fn open() -> io::Result<Self> {
        let request = Message::new(GENERIC_CONTROL, REQUEST)
            .bytes(&generic(GET_FAMILY))
            .attribute(FAMILY_NAME, b"ethtool\0");
        let none = || {
            let why = "the kernel has no netlink family `ethtool` (CONFIG_ETHTOOL_NETLINK)";
            io::Error::new(io::ErrorKind::NotFound, why)
        };
        let replies =
            ask(SockProtocol::NetlinkGeneric, &request).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => none(),
                _ => error,
            })?;
        let family = replies.iter().find_map(|reply| {
            let id = reply.attributes(GENERIC_HEADER).get(FAMILY_ID)?;
            Some(u16::from_ne_bytes(id.try_into().ok()?))
        });
        family.map(|family| Self { family }).ok_or_else(none)
    }

    /// How a feature of an interface stands.
    pub fn feature(&self, ifindex: u32, name: &str) -> io::Result<Feature> {
        let request = Message::new(self.family, REQUEST)
            .bytes(&generic(FEATURES_GET))
            .nested(FEATURES_HEADER, |header| {
                header.attribute(HEADER_INDEX, &ifindex.to_ne_bytes())
            });
        let replies = ask(SockProtocol::NetlinkGeneric, &request)?;
        let has = |set: u16| {
            replies.iter().any(|reply| {
                let bits = reply.attributes(GENERIC_HEADER).get(set);
                bits.is_some_and(|bits| has_bit(bits, name))
            })
        };
        Ok(Feature {
            active: has(FEATURES_ACTIVE),
            changeable: has(FEATURES_CHANGEABLE),
        })
    }

    /// Asks for a feature to be off. Whether it is then, the driver decides.
    pub fn switch_off(&self, ifindex: u32, name: &str) -> io::Result<()> {
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        let request = Message::new(self.family, REQUEST | ACK)
            .bytes(&generic(FEATURES_SET))
            .nested(FEATURES_HEADER, |header| {
                header.attribute(HEADER_INDEX, &ifindex.to_ne_bytes())
            })
            .nested(FEATURES_WANTED, |set| {
                set.nested(BITSET_BITS, |bits| {
                    // Named, and without a value: off.
                    bits.nested(BITS_BIT, |bit| bit.attribute(BIT_NAME, &name))
                })
            });
        ask(SockProtocol::NetlinkGeneric, &request).map(|_| ())
    }
}

/// Whether a bitset says that a feature is on: it is in the list, and, in a list with a mask, with a value.
fn has_bit(bitset: &[u8], name: &str) -> bool {
    const BITSET_NOMASK: u16 = 1;
    let bitset = Attributes::of(bitset);
    let all_on = bitset.get(BITSET_NOMASK).is_some();
    let bits = bitset.get(BITSET_BITS).unwrap_or_default();
    Attributes::of(bits).any(|(_, bit)| {
        let bit = Attributes::of(bit);
        let named = bit.get(BIT_NAME).and_then(|text| text.strip_suffix(b"\0"));
        named == Some(name.as_bytes()) && (all_on || bit.get(BIT_VALUE).is_some())
    })
}

const fn generic(command: u8) -> [u8; GENERIC_HEADER] {
    [command, 1, 0, 0]
}

/// Sends a request and reads what comes back until the kernel has said all.
fn ask(protocol: SockProtocol, request: &Message) -> io::Result<Vec<Reply>> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
    let fd = socket.as_raw_fd();
    let kernel = NetlinkAddr::new(0, 0);
    sendto(fd, &request.finish(), &kernel, MsgFlags::empty())?;
    let mut replies = Vec::new();
    let mut packet = vec![0; PACKET];
    loop {
        let len = recv(fd, &mut packet, MsgFlags::empty())?;
        let packet = packet.get(..len).unwrap_or_default();
        if message::read(packet, &mut replies, request)? {
            return Ok(replies);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::net::if_::if_nametoindex;

    use super::*;

    #[test]
    fn the_loopback_interface_can_be_asked_about() {
        let lo = if_nametoindex("lo").unwrap();
        assert_eq!(xdp_mode(lo).unwrap(), None);
        assert_eq!(ports_of(lo).unwrap(), Vec::<u32>::new());
        let ethtool = Ethtool::open().unwrap();
        // Loopback devices always take checksums as right, and never take tags off.
        let fixed = ethtool.feature(lo, "loopback").unwrap();
        assert_eq!((fixed.active, fixed.changeable), (true, false));
        let tags = ethtool.feature(lo, "rx-vlan-hw-parse").unwrap();
        assert_eq!((tags.active, tags.changeable), (false, false));
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = xdp_mode(u32::MAX / 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
        let error = Ethtool::open()
            .unwrap()
            .feature(u32::MAX / 2, "x")
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
    }
}
