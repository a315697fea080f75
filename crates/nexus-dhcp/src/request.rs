//! A client's message, read once and whole, and the keys that it can be known by.

use nexus_abi::{BindingKey, Outcome};
use zerocopy::transmute;

use crate::ipv4::{Bootp, Datagram, parse_datagram};
use crate::link::Link;
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
}

impl Request {
    /// Address the client already uses (`ciaddr`).
    #[inline(always)]
    #[must_use]
    pub fn client_address(&self) -> u32 {
        self.bootp.ciaddr
    }

    /// Address of the relay it came through (`giaddr`).
    #[inline(always)]
    #[must_use]
    pub fn relay_address(&self) -> u32 {
        self.bootp.giaddr
    }

    /// The client asks for replies by broadcast.
    #[inline(always)]
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
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

    /// `chaddr`: the MAC address of the client.
    #[inline(always)]
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, ..] = self.bootp.chaddr;
        let words: [u16; 3] = [a, b, c];
        transmute!(words)
    }

    /// The client as its line and MAC, for a message that arrived on interface `ifindex`.
    #[inline(always)]
    #[must_use]
    pub fn line_key(&self, ifindex: u32) -> BindingKey {
        BindingKey::line(
            ifindex,
            self.link.outer_vid(),
            self.link.inner_vid(),
            self.mac(),
        )
    }

    /// The client as its MAC alone, for a message that arrived on interface `ifindex`.
    #[inline(always)]
    #[must_use]
    pub fn mac_key(&self, ifindex: u32) -> BindingKey {
        BindingKey::mac(ifindex, self.mac())
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
    let [a, b, c, ..] = datagram.bootp.chaddr;
    if datagram.bootp.giaddr == 0 && [a, b, c] != link.source {
        return Err(Outcome::Malformed);
    }
    Ok(Message { link, datagram })
}

impl Message {
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
            bootp,
            options,
            end,
        } = self.datagram;
        let options = parse_options(packet, options, end, table)?;
        Ok(Request {
            link: self.link,
            options,
            bootp,
            destination,
        })
    }
}

#[cfg(test)]
mod tests;
