//! A client as one DHCP packet shows it: all that a question about it can be made of.

use std::net::Ipv4Addr;

/// What a packet says of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Who and where.
    pub client: Client,
    /// The relay that the packet came through (`giaddr`).
    pub relay: Option<Ipv4Addr>,
    /// Vendor class identifier (option 60), octets as they came; never empty.
    pub vendor_class: Option<Vec<u8>>,
}

/// A client on an interface: what two packets have in common if they are of the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// `chaddr`.
    pub mac: [u8; 6],
    /// Outer and inner VLAN id, 0 for a tag that is not there.
    pub vlans: (u16, u16),
    /// Agent circuit id (RFC 3046 3.1), octets as they came; never empty.
    pub circuit_id: Option<Vec<u8>>,
    /// Agent remote id (RFC 3046 3.2), octets as they came; never empty.
    pub remote_id: Option<Vec<u8>>,
}
