//! What real DHCP clients send: their options in their order, their padding, their IP headers.
//!
//! busybox, ISC and dhcpcd as captured from the programs in Debian 12; systemd-networkd, Windows
//! and the home gateway as their vendors' traces show them.

use std::net::Ipv4Addr;

use super::{Bootp, Frame, Mac};

/// What a client wants to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// DISCOVER.
    Discover,
    /// REQUEST of an offer: the address and the server (SELECTING).
    Select(Ipv4Addr, Ipv4Addr),
    /// REQUEST after a reboot (INIT-REBOOT).
    Reboot(Ipv4Addr),
    /// REQUEST to the server alone (RENEWING): the address.
    Renew(Ipv4Addr),
    /// REQUEST to all servers (REBINDING).
    Rebind(Ipv4Addr),
}

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// busybox `udhcpc`: padded to 300 bytes, client identifier last.
    Udhcpc,
    /// ISC `dhclient`: padded to 300 bytes, no client identifier, low-delay service.
    Dhclient,
    /// `dhcpcd`: no client identifier in this configuration, a long vendor class, no padding.
    Dhcpcd,
    /// systemd-networkd: a 19-byte client identifier, ends with END below 300 bytes.
    Networkd,
    /// Windows: the client identifier right behind the message type.
    Windows,
    /// A home gateway that fills 548 bytes, and whose access node adds option 82 at the end.
    HomeGateway,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Udhcpc,
        Self::Dhclient,
        Self::Dhcpcd,
        Self::Networkd,
        Self::Windows,
        Self::HomeGateway,
    ];

    /// The frame with which this client at `mac` says so, untagged.
    #[must_use]
    pub fn frame(self, mac: Mac, xid: u32, says: Says) -> Frame {
        let mut frame = Frame::from_client(&self.message(mac, xid, says));
        match self {
            Self::Dhclient => (frame.tos, frame.ttl) = (0x10, 128),
            Self::Dhcpcd => frame.id = 20504,
            Self::Windows => (frame.id, frame.ttl) = (7117, 128),
            Self::Udhcpc | Self::Networkd | Self::HomeGateway => {}
        }
        frame
    }

    /// The message alone.
    #[must_use]
    pub fn message(self, mac: Mac, xid: u32, says: Says) -> Bootp {
        let mut message = Bootp::request(mac, xid);
        let kind: u8 = if says == Says::Discover { 1 } else { 3 };
        let mut requested = None;
        let mut server = None;
        match says {
            Says::Discover => {}
            Says::Select(address, from) => (requested, server) = (Some(address), Some(from)),
            Says::Reboot(address) => requested = Some(address),
            Says::Renew(address) | Says::Rebind(address) => message.ciaddr = address,
        }
        let requested = requested.map(|address| (50, address.octets().to_vec()));
        let server = server.map(|address| (54, address.octets().to_vec()));
        let ethernet_id = (61, [&[1][..], &mac].concat());
        message.options.push((53, vec![kind]));
        match self {
            Self::Udhcpc => {
                message.options.extend(requested);
                message.options.extend(server);
                message.options.extend([
                    (57, 576_u16.to_be_bytes().to_vec()),
                    (55, vec![1, 3, 6, 12, 15, 28, 42]),
                    (12, b"cpe1".to_vec()),
                    (60, b"udhcp 1.35.0".to_vec()),
                    ethernet_id,
                ]);
            }
            Self::Dhclient => {
                message.options.extend(server);
                message.options.extend(requested);
                message.options.extend([
                    (12, b"debian".to_vec()),
                    (55, vec![1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42]),
                ]);
            }
            Self::Dhcpcd => {
                message.options.extend(requested);
                message.options.extend(server);
                message.options.extend([
                    (55, vec![1, 3, 28, 33, 51, 58, 59]),
                    (57, 1472_u16.to_be_bytes().to_vec()),
                    (
                        60,
                        b"dhcpcd-9.4.1:Linux-6.18.44-fc-v669:x86_64:AuthenticAMD".to_vec(),
                    ),
                    (145, vec![1]),
                ]);
                message.min_len = 0;
            }
            Self::Networkd => {
                let mut duid = vec![0xff, 0xe2, 0x34, 0x3f, 0x3e, 0, 2, 0, 0, 0xab, 0x11];
                duid.extend([0x5c, 0x0d, 0x7a, 0x91, 0xc8, 0x33, 0x20, 0x6f]);
                message.options.extend([
                    (61, duid),
                    (55, vec![1, 3, 12, 15, 6, 33, 121, 119, 42]),
                    (57, 1472_u16.to_be_bytes().to_vec()),
                ]);
                message.options.extend(server);
                message.options.extend(requested);
                message.options.push((12, b"gw".to_vec()));
                message.min_len = 0;
            }
            Self::Windows => {
                message.options.push(ethernet_id);
                message.options.extend(requested);
                message.options.extend(server);
                message.options.push((12, b"DESKTOP-4F2K1".to_vec()));
                if kind == 3 {
                    let name = [&[0; 3][..], b"DESKTOP-4F2K1"].concat();
                    message.options.push((81, name));
                }
                let wanted = vec![1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252];
                message
                    .options
                    .extend([(60, b"MSFT 5.0".to_vec()), (55, wanted)]);
            }
            Self::HomeGateway => {
                message.flags = 0x8000;
                message.options.extend(requested);
                message.options.extend(server);
                let vendor = [&[0, 0, 0x0d, 0xe9, 21][..], &[1, 6], b"00256D", &[2, 11]].concat();
                message.options.extend([
                    (60, b"dslforum.org".to_vec()),
                    ethernet_id,
                    (55, vec![1, 3, 6, 15, 42, 43, 120, 121, 125]),
                    (57, 576_u16.to_be_bytes().to_vec()),
                    (125, [&vendor[..], b"S1234567890"].concat()),
                    (
                        82,
                        relay_information(b"olt1 eth 0/1/5/32:200.30", b"onu-77"),
                    ),
                ]);
                message.min_len = 548;
            }
        }
        message
    }
}

/// Option 82 with a circuit-id and a remote-id (RFC 3046 2.0); both together at most 251 bytes.
#[must_use]
pub fn relay_information(circuit: &[u8], remote: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    for (code, part) in [(1, circuit), (2, remote)] {
        value.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        value.extend(part);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_says_what_it_is_told_to_in_a_frame_that_reads_back() {
        let (address, server) = (Ipv4Addr::new(100, 64, 3, 7), Ipv4Addr::new(100, 64, 0, 1));
        for client in Client::ALL {
            let frame = client.frame([2, 0, 0, 0, 0, 1], 9, Says::Select(address, server));
            let read = Frame::parse(&frame.build()).unwrap();
            let message = read.bootp().unwrap();
            assert_eq!(message.message_type(), Some(3), "{client:?}");
            assert_eq!(message.address(50), Some(address), "{client:?}");
            assert_eq!(message.address(54), Some(server), "{client:?}");
            let renew = client.message([2, 0, 0, 0, 0, 1], 9, Says::Renew(address));
            assert_eq!((renew.ciaddr, renew.address(50)), (address, None));
        }
    }

    #[test]
    fn option_82_is_sub_options_of_code_length_and_value() {
        assert_eq!(relay_information(b"a", b"bc"), b"\x01\x01a\x02\x02bc");
    }
}
