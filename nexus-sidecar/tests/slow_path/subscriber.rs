//! Subscribers as these tests know them: account, line, and the frames that they send.

use std::net::Ipv4Addr;

use nexus_abi::BindingKey;
use nexus_testkit::access_node::Line;
use nexus_testkit::olt_host::User;
use nexus_testkit::packet::{Bootp, Frame, Mac, Tag};

/// Password of everybody.
pub const PASSWORD: &str = "open-sesame";

/// One subscriber.
#[derive(Clone, Debug)]
pub struct Subscriber {
    pub name: String,
    pub mac: Mac,
    pub line: Line,
    pub pool: &'static str,
}

impl Subscriber {
    pub fn new(number: u16, line: Line, pool: &'static str) -> Self {
        let [high, low] = number.to_be_bytes();
        Self {
            name: format!("sub-{number}"),
            mac: [2, 0, 0, 0, high, low],
            line,
            pool,
        }
    }

    pub fn user(&self) -> User {
        User {
            name: self.name.clone(),
            password: PASSWORD.to_owned(),
            subscriber: self.name.clone(),
            pool: self.pool.to_owned(),
        }
    }

    /// What the NAS writes into NAS-Port-Id; an untagged line is not told, so the MAC is the key there.
    pub fn port_id(&self) -> String {
        match self.line {
            Line::Untagged => "olt 1/1".to_owned(),
            Line::Vlan(vid) => format!("olt 1/1:{vid}"),
            Line::QinQ { s_vlan, c_vlan } => format!("olt 1/1:{s_vlan}.{c_vlan}"),
        }
    }

    /// The key in the kernel; there is one interface, number 0.
    pub fn key(&self) -> BindingKey {
        let (interface, mac) = (0, self.mac);
        match self.line.vids() {
            (0, 0) => BindingKey::Mac { interface, mac },
            (outer_vid, inner_vid) => BindingKey::Line {
                interface,
                outer_vid,
                inner_vid,
                mac,
            },
        }
    }

    pub fn tags(&self) -> Vec<Tag> {
        match self.line {
            Line::Untagged => vec![],
            Line::Vlan(vid) => vec![Tag::c_vlan(vid)],
            Line::QinQ { s_vlan, c_vlan } => vec![Tag::s_vlan(s_vlan), Tag::c_vlan(c_vlan)],
        }
    }

    /// The message as a broadcast on its line.
    pub fn frame(&self, message: &Bootp) -> Frame {
        let mut frame = Frame::from_client(message);
        frame.tags = self.tags();
        frame
    }

    pub fn discover(&self, xid: u32) -> Frame {
        self.frame(&Bootp::discover(self.mac, xid))
    }

    /// DHCPRELEASE of `address` to `server` (RFC 2131 table 5).
    pub fn release(&self, xid: u32, address: Ipv4Addr, server: Ipv4Addr) -> Frame {
        let mut message = Bootp::request(self.mac, xid)
            .option(53, &[7])
            .option(54, &server.octets());
        message.ciaddr = address;
        self.frame(&message)
    }

    /// DHCPDECLINE of `address` to `server` (RFC 2131 table 5).
    pub fn decline(&self, xid: u32, address: Ipv4Addr, server: Ipv4Addr) -> Frame {
        let message = Bootp::request(self.mac, xid)
            .option(53, &[4])
            .option(50, &address.octets())
            .option(54, &server.octets());
        self.frame(&message)
    }

    /// DHCPINFORM of a client that uses `address`.
    pub fn inform(&self, xid: u32, address: Ipv4Addr) -> Frame {
        let mut message = Bootp::request(self.mac, xid)
            .option(53, &[8])
            .option(55, &[1, 3, 6, 15, 42, 26]);
        message.ciaddr = address;
        self.frame(&message)
    }
}
