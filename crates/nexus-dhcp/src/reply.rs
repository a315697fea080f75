//! The reply writer: a whole frame, from Ethernet to the zeros behind END, in a buffer of its own.
//!
//! The received frame is only read here, so it can still be passed on untouched after any error.

use nexus_abi::{OPTIONS_CAPACITY, OPTIONS_HEAD, Outcome, Profile};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::checksum::fold;
use crate::decision::Answer;
use crate::options::Span as OptionSpan;
use crate::packet::Packet;
use crate::request::Request;
use crate::wire::{
    BOOTP_LEN, BOOTP_MIN_LEN, BOOTREPLY, CLIENT_PORT, FLAG_BROADCAST, HTYPE_ETHERNET, IPV4_UDP_LEN,
    MAGIC_COOKIE, MIN_MESSAGE_SIZE, SERVER_PORT, message, option,
};

/// The options of a reply end below this offset plus one: 288 of the profile, twice 257 of echoed
/// ones, END.
const OPTION_MASK: usize = 1023;
/// Room for an echoed option at any masked offset.
const OPTION_BUFFER_WORDS: usize = (OPTION_MASK + 1 + 256) / 8;
const LINK_WORDS: usize = 14;
const TTL: u32 = 64;
const PROTOCOL_UDP: u32 = 17;
const DONT_FRAGMENT: u32 = 0x4000;
const BROADCAST: u32 = u32::MAX;

// Where the parts of a reply stand behind the head of its options (RFC 2132 9).
const AT_MESSAGE_TYPE: usize = 2;
const AT_LEASE_TIME: usize = 11;
const AT_RENEWAL_TIME: usize = 17;
const AT_REBINDING_TIME: usize = 23;

/// Bytes of the largest frame that a [`Reply`] can hold.
pub const FRAME_CAPACITY: usize = size_of::<Reply>();

/// Where the frame stands in the bytes of a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte: 6, 10 or 14.
    pub offset: usize,
    /// Bytes of the frame.
    pub len: usize,
}

/// A buffer for one reply, laid out so that every header stands on a word boundary: the link layer
/// is written towards its end, everything behind it has a fixed place. Words are in memory order.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reply {
    link: [u16; LINK_WORDS],
    ip: [u32; 5],
    udp: [u32; 2],
    bootp: [u32; 11],
    names: [u32; 48],
    cookie: u32,
    options: [u64; OPTION_BUFFER_WORDS],
}

const LINK_END: usize = LINK_WORDS * 2;
const _: () = assert!(core::mem::offset_of!(Reply, ip) == LINK_END);
const _: () = assert!(core::mem::offset_of!(Reply, options) == LINK_END + IPV4_UDP_LEN + BOOTP_LEN);
// The zeros behind END come out of the profile.
const _: () = assert!(OPTIONS_CAPACITY >= BOOTP_MIN_LEN - BOOTP_LEN);

impl Default for Reply {
    fn default() -> Self {
        Self {
            link: [0; LINK_WORDS],
            ip: [0; 5],
            udp: [0; 2],
            bootp: [0; 11],
            names: [0; 48],
            cookie: 0,
            options: [0; OPTION_BUFFER_WORDS],
        }
    }
}

#[inline(always)]
fn pair(high: u16, low: u16) -> u32 {
    ((high as u32) << 16 | low as u32).to_be()
}

impl Reply {
    /// Writes the frame that gives `answer` to `request`. `self` may hold an earlier reply.
    ///
    /// Errors: [`Outcome::Unsupported`] if the reply is larger than the client takes (option 57,
    /// RFC 2132 9.10); nothing has been sent or changed then.
    #[inline(always)]
    pub fn write<P: Packet>(
        &mut self,
        packet: &P,
        request: &Request,
        answer: &Answer,
        profile: &Profile,
    ) -> Result<Span, Outcome> {
        let (options_len, options_sum) = self.write_options(packet, request, answer, profile)?;
        let filled = BOOTP_LEN + options_len;
        let bootp_len = if filled < BOOTP_MIN_LEN {
            BOOTP_MIN_LEN
        } else {
            filled
        };
        let total = IPV4_UDP_LEN + bootp_len;
        let limit = request.options.max_size;
        let limit = if limit < MIN_MESSAGE_SIZE {
            MIN_MESSAGE_SIZE
        } else {
            limit
        };
        if total > usize::from(limit) {
            return Err(Outcome::Unsupported);
        }
        let bootp_sum = self.write_bootp(request, answer, profile);
        let broadcast = self.write_ip(
            request,
            answer,
            u32::from_ne_bytes(profile.server_id),
            total,
            bootp_sum + options_sum,
        );
        let link_len = self.write_link(request, profile.gateway_mac, broadcast);
        Ok(Span {
            offset: LINK_END - link_len,
            len: link_len + total,
        })
    }

    /// The bytes that [`Reply::write`] has written at `span`.
    #[must_use]
    pub fn frame(&self, span: Span) -> &[u8] {
        self.as_bytes()
            .get(span.offset..span.offset + span.len)
            .unwrap_or_default()
    }

    /// Returns the bytes of the options, END included, and their share of the UDP checksum.
    #[inline(always)]
    fn write_options<P: Packet>(
        &mut self,
        packet: &P,
        request: &Request,
        answer: &Answer,
        profile: &Profile,
    ) -> Result<(usize, u64), Outcome> {
        let leased = answer.lease_secs != 0;
        // All words, whatever is used: a loop that ends early costs the verifier more than this
        // costs. It leaves zeros behind END. Opaque, or the compiler makes two loops of it, of which
        // one counts bytes.
        let mask = 0_u64.wrapping_sub(packet.opaque(usize::from(leased)) as u64);
        for (to, from) in self.options.iter_mut().zip(&profile.options) {
            *to = *from & mask;
        }
        let used = if leased {
            usize::from(profile.options_len)
        } else {
            0
        };
        let mut writer = Writer {
            packet,
            bytes: self.options.as_mut_bytes(),
            at: packet.opaque(used),
        };
        if leased {
            let kind = if answer.outcome as u32 == Outcome::Offer as u32 {
                message::OFFER
            } else {
                message::ACK
            };
            writer.set(AT_MESSAGE_TYPE, kind);
            writer.set_seconds(AT_LEASE_TIME, answer.lease_secs);
            writer.set_seconds(AT_RENEWAL_TIME, answer.lease_secs / 2);
            writer.set_seconds(
                AT_REBINDING_TIME,
                (u64::from(answer.lease_secs) * 7 / 8) as u32,
            );
        } else {
            writer.put_without_lease(answer, profile);
        }
        writer.put_echo(option::CLIENT_ID, request.options.client_id)?;
        writer.put_echo(option::RELAY_AGENT, request.options.relay)?;
        writer.put_end();
        let len = writer.at;

        // The zeros behind END fill the last word.
        let words = packet.opaque(len.div_ceil(8));
        let mut sum = 0;
        for (index, word) in self.options.iter().take(OPTION_MASK / 8).enumerate() {
            if index >= words {
                break;
            }
            sum += (*word & 0xffff_ffff) + (*word >> 32);
        }
        Ok((len, sum))
    }

    /// Returns the share of the UDP checksum (RFC 2131 4.3.1, table 3).
    #[inline(always)]
    fn write_bootp(&mut self, request: &Request, answer: &Answer, profile: &Profile) -> u64 {
        let bootp = request.bootp;
        let nak = answer.outcome as u32 == Outcome::Nak as u32;
        let mut flags = u16::from_be(bootp.flags);
        if nak && bootp.giaddr != 0 {
            // RFC 2131 4.3.2: the relay shall broadcast the NAK, the client has no address.
            flags |= FLAG_BROADCAST;
        }
        let chaddr: [u32; 4] = transmute!({
            let words: [u16; 8] = bootp.chaddr;
            words
        });
        self.bootp = [
            pair(u16::from_be_bytes([BOOTREPLY, HTYPE_ETHERNET]), 6 << 8),
            bootp.xid,
            pair(0, flags),
            answer.client_address,
            answer.address,
            if nak {
                0
            } else {
                u32::from_ne_bytes(profile.next_server)
            },
            bootp.giaddr,
            chaddr[0],
            chaddr[1],
            chaddr[2],
            chaddr[3],
        ];
        self.cookie = MAGIC_COOKIE.to_be();
        let mut sum = u64::from(self.cookie);
        for word in self.bootp {
            sum += u64::from(word);
        }
        sum
    }

    /// Addresses the reply (RFC 2131 4.1) and completes both checksums. `total`: bytes of the IP
    /// datagram; `sum`: the share of the BOOTP message. Returns whether the frame is a broadcast.
    #[inline(always)]
    fn write_ip(
        &mut self,
        request: &Request,
        answer: &Answer,
        source: u32,
        total: usize,
        sum: u64,
    ) -> bool {
        let outcome = answer.outcome as u32;
        let inform = outcome == Outcome::InformAck as u32;
        let giaddr = request.bootp.giaddr;
        let client = request.bootp.ciaddr;
        let to_relay = giaddr != 0 && !inform;
        let destination = if to_relay {
            giaddr
        } else if outcome == Outcome::Nak as u32 {
            BROADCAST
        } else if client != 0 {
            client
        } else if request.wants_broadcast() {
            BROADCAST
        } else {
            answer.address
        };
        let port = if to_relay { SERVER_PORT } else { CLIENT_PORT };
        let udp_len = (total - 20) as u16;

        let ip = [
            pair(0x4500, total as u16),
            DONT_FRAGMENT.to_be(),
            (TTL << 24 | PROTOCOL_UDP << 16).to_be(),
            source,
            destination,
        ];
        let mut ip_sum = 0;
        for word in ip {
            ip_sum += u64::from(word);
        }
        self.ip = ip;
        // The checksum is the low half of its word; both halves fold alike.
        self.ip[2] = pair(
            (TTL << 8 | PROTOCOL_UDP) as u16,
            !u16::from_be(fold(ip_sum)),
        );

        let ports = pair(SERVER_PORT, port);
        let sum = sum
            + u64::from(source)
            + u64::from(destination)
            + u64::from(pair(PROTOCOL_UDP as u16, udp_len))
            + u64::from(ports)
            + u64::from(pair(udp_len, 0));
        let checksum = match !u16::from_be(fold(sum)) {
            0 => 0xffff,
            checksum => checksum,
        };
        self.udp = [ports, pair(udp_len, checksum)];
        destination == BROADCAST
    }

    /// Writes Ethernet and the tags of the request; returns their bytes.
    #[inline(always)]
    fn write_link(&mut self, request: &Request, gateway_mac: [u8; 6], broadcast: bool) -> usize {
        let link = &request.link;
        let [a, b, c] = if broadcast {
            [u16::MAX; 3]
        } else {
            link.source
        };
        let source: [u16; 3] = transmute!(gateway_mac);
        let [d, e, f] = source;
        let [g, h] = link.outer;
        let [i, j] = link.inner;
        let ethertype = crate::wire::ETHERTYPE_IPV4.to_be();
        match link.tags {
            0 => {
                self.link = [0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, ethertype];
                14
            }
            1 => {
                self.link = [0, 0, 0, 0, 0, a, b, c, d, e, f, g, h, ethertype];
                18
            }
            _ => {
                self.link = [0, 0, 0, a, b, c, d, e, f, g, h, i, j, ethertype];
                22
            }
        }
    }
}

/// Appends to the options.
struct Writer<'a, P> {
    packet: &'a P,
    bytes: &'a mut [u8],
    at: usize,
}

impl<P: Packet> Writer<'_, P> {
    #[inline(always)]
    fn set(&mut self, at: usize, value: u8) {
        if let Some(slot) = self.bytes.get_mut(at & OPTION_MASK) {
            *slot = value;
        }
    }

    #[inline(always)]
    fn set_seconds(&mut self, at: usize, seconds: u32) {
        let [a, b, c, d] = seconds.to_be_bytes();
        self.set(at, a);
        self.set(at + 1, b);
        self.set(at + 2, c);
        self.set(at + 3, d);
    }

    #[inline(always)]
    fn put(&mut self, value: u8) {
        self.set(self.at, value);
        self.at = self.packet.opaque(self.at + 1);
    }

    /// The options of a reply without a lease: a NAK carries no more than who sent it, the answer
    /// to an INFORM all of the pool's options.
    #[inline(always)]
    fn put_without_lease(&mut self, answer: &Answer, profile: &Profile) {
        let inform = answer.outcome as u32 == Outcome::InformAck as u32;
        self.put(option::MESSAGE_TYPE);
        self.put(1);
        self.put(if inform { message::ACK } else { message::NAK });
        self.put(option::SERVER_ID);
        self.put(4);
        for value in profile.server_id {
            self.put(value);
        }
        if inform {
            let own = profile.options.as_bytes();
            for value in own
                .get(OPTIONS_HEAD..usize::from(profile.options_len))
                .unwrap_or_default()
            {
                self.put(*value);
            }
        }
    }

    /// An option as the client sent it, if it did.
    #[inline(always)]
    fn put_echo(&mut self, option: u8, span: OptionSpan) -> Result<(), Outcome> {
        if span.len == 0 {
            return Ok(());
        }
        self.put(option);
        self.put(span.len as u8);
        let at = self.at & OPTION_MASK;
        self.packet
            .copy(span.offset, span.len, self.bytes, at)
            .ok_or(Outcome::Malformed)?;
        self.at = self.packet.opaque(self.at + span.len);
        Ok(())
    }

    /// END, and zeros in place of what an earlier reply may have left in the last word.
    #[inline(always)]
    fn put_end(&mut self) {
        self.put(option::END);
        for behind in 0..7 {
            self.set(self.at + behind, 0);
        }
    }
}

#[cfg(test)]
mod tests;
