//! A client's message, read once and whole, and the keys that it can be known by.

use nexus_abi::{BindingKey, Circuit, Outcome};

use crate::ipv4::{Bootp, Datagram, HEADERS, parse_datagram};
use crate::link::{Link, MAC_MASK};
use crate::options::{OptionTable, Options, parse_options};
use crate::packet::Packet;
use crate::wire::{ETHERTYPE_IPV4, FLAG_BROADCAST};

/// A DHCP message from a client, headers checked, options not yet read.
pub struct Message {
    link: Link,
    datagram: Datagram,
}

/// A well-formed DHCP message from a client. Addresses are in memory order, 0 for an absent one.
#[derive(Clone, Copy)]
pub struct Request {
    /// The link layer it came in.
    pub link: Link,
    /// Its options.
    pub options: Options,
    pub(crate) bootp: Bootp,
    pub(crate) destination: u32,
    /// Bytes of its IP datagram.
    pub(crate) total: usize,
}

impl Request {
    /// Address the client already uses (`ciaddr`).
    #[inline(always)]
    #[must_use]
    pub const fn client_address(&self) -> u32 {
        self.bootp.ciaddr
    }

    /// Address of the relay it came through (`giaddr`).
    #[inline(always)]
    #[must_use]
    pub const fn relay_address(&self) -> u32 {
        self.bootp.giaddr
    }

    /// Number of the transaction, in memory order.
    #[inline(always)]
    #[must_use]
    pub const fn xid(&self) -> u32 {
        self.bootp.xid
    }

    /// The client asks for replies by broadcast.
    #[inline(always)]
    #[must_use]
    pub const fn wants_broadcast(&self) -> bool {
        self.bootp.flags & FLAG_BROADCAST.to_be() != 0
    }

    /// The message is on its way to `server` (four bytes in network order), or to all.
    ///
    /// A relay is trusted to know where it sends to: its packets are always for us.
    #[inline(always)]
    #[must_use]
    pub fn is_for(&self, server: [u8; 4]) -> bool {
        self.destination == u32::MAX
            || self.destination == u32::from_ne_bytes(server)
            || self.bootp.giaddr != 0
    }

    /// The message was sent to `server` (four bytes in network order) and nobody else.
    #[must_use]
    pub fn is_to(&self, server: [u8; 4]) -> bool {
        self.destination == u32::from_ne_bytes(server)
    }

    /// `chaddr`, the MAC address of the client, in the six low bytes, in memory order.
    #[inline(always)]
    #[must_use]
    pub const fn mac_word(&self) -> u64 {
        let [first, _] = self.bootp.chaddr;
        first & MAC_MASK
    }

    /// `chaddr`: the MAC address of the client.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.mac_word().to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// The client under the key of one kind (a `KIND_` code of [`BindingKey`]), for a message that
    /// arrived on interface number `interface`. `None`: there is no such kind, or no circuit.
    #[must_use]
    pub fn key(&self, kind: u8, interface: u8, circuit: Option<Circuit>) -> Option<BindingKey> {
        let (outer_vid, inner_vid) = (self.link.outer_vid(), self.link.inner_vid());
        let mac = self.mac();
        Some(match kind {
            BindingKey::KIND_LINE => BindingKey::Line {
                interface,
                outer_vid,
                inner_vid,
                mac,
            },
            BindingKey::KIND_MAC => BindingKey::Mac { interface, mac },
            BindingKey::KIND_VLAN => BindingKey::Vlan {
                interface,
                outer_vid,
                inner_vid,
            },
            BindingKey::KIND_CIRCUIT => BindingKey::Circuit {
                interface,
                circuit: circuit?,
            },
            _ => return None,
        })
    }
}

/// Reads the headers behind `link`.
///
/// Errors: see [`Outcome`]; [`Outcome::NotDhcp`] for all that is not from a DHCP client. A message
/// that no relay has touched and whose frame comes from another MAC than its `chaddr` is
/// [`Outcome::Malformed`]: it would be answered to a host that did not ask.
#[inline(always)]
pub fn parse_message<P: Packet>(packet: &P, link: Link) -> Result<Message, Outcome> {
    if link.ethertype != ETHERTYPE_IPV4 {
        return Err(Outcome::NotDhcp);
    }
    let datagram = parse_datagram(packet, link.payload)?;
    let [first, _] = datagram.bootp.chaddr;
    if datagram.bootp.giaddr == 0 && first & MAC_MASK != link.source {
        return Err(Outcome::Malformed);
    }
    Ok(Message { link, datagram })
}

impl Message {
    /// `chaddr`, the MAC address of the client, in the six low bytes, in memory order.
    #[inline(always)]
    #[must_use]
    pub const fn mac_word(&self) -> u64 {
        let [first, _] = self.datagram.bootp.chaddr;
        first & MAC_MASK
    }

    /// VLAN ids of its line, as in [`Link::vids`].
    #[inline(always)]
    #[must_use]
    pub const fn vids(&self) -> u32 {
        self.link.vids
    }

    /// The message as if it had no options.
    #[must_use]
    pub fn into_request_without_options(self) -> Request {
        Request {
            link: self.link,
            options: Options::default(),
            bootp: self.datagram.bootp,
            destination: self.datagram.destination,
            total: self.datagram.total,
        }
    }

    /// Reads the options; `table` is scratch.
    ///
    /// Errors: [`Outcome::Malformed`] and [`Outcome::Unsupported`].
    #[inline(always)]
    pub fn into_request<P: Packet>(
        self,
        packet: &P,
        table: &mut OptionTable,
    ) -> Result<Request, Outcome> {
        let Datagram {
            destination,
            total,
            bootp,
        } = self.datagram;
        let start = self.link.payload + HEADERS;
        let end = self.link.payload + total;
        let options = parse_options(packet, start, end, table)?;
        Ok(Request {
            link: self.link,
            options,
            bootp,
            destination,
            total,
        })
    }
}

#[cfg(test)]
mod tests;
