//! The reply writer: makes a request into its reply, in place.
//!
//! Three steps, so that a frame is changed only when nothing can fail any more: [`Shape::of`] says how long
//! the reply will be, [`Sums::save`] saves what has to outlive the request, and [`Draft::write`]
//! writes. Between the last two the frame is given its new length.

use nexus_abi::{OPTION_BITS, OPTION_WORDS, Outcome, Profile};

use crate::checksum::{fold, halves};
use crate::decision::Answer;
use crate::echo::{ECHO_WORDS, Echo, Saved, encoded_len};
use crate::ipv4::HEADERS;
use crate::link::MAC_MASK;
use crate::packet::{Packet, PacketMut};
use crate::request::Request;
use crate::selection;
use crate::wire::{
    BOOTP_LEN, BOOTP_MIN_LEN, BOOTREPLY, CLIENT_PORT, FLAG_BROADCAST, HTYPE_ETHERNET, IPV4_LEN,
    IPV4_UDP_LEN, MAGIC_COOKIE, MIN_MESSAGE_SIZE, SERVER_PORT, message, option,
};

const TTL: u64 = 64;
const PROTOCOL_UDP: u64 = 17;
const BROADCAST: u32 = u32::MAX;
/// END and zeros: what stands behind the last option at least, so that it is written as one word.
const END_LEN: usize = 8;
/// Words behind the last option of the longest frame.
const REST_WORDS: usize = 192;

/// Bytes of message type (53) and server identifier (54), which every reply begins with.
const SERVER_HEAD: usize = 9;
/// The same with lease time (51), renewal time (58) and rebinding time (59).
const LEASE_HEAD: usize = SERVER_HEAD + 18;
/// Words of the longest option of a pool.
const ONE_OPTION_WORDS: usize = 33;

/// How long a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the frame.
    pub len: usize,
    /// Bytes of the IP datagram.
    total: usize,
}

impl Shape {
    /// The shape of `answer` to `request` with the pool's options of `set`. A reply is as long as its request if that is longer and the client takes it,
    /// because giving a packet another length costs as much as writing half of it.
    ///
    /// Errors: [`Outcome::Unsupported`] if the reply is larger than the client takes (option 57,
    /// RFC 2132 9.10).
    #[inline(always)]
    pub fn of<P: Packet>(
        packet: &P,
        request: &Request,
        answer: &Answer,
        profile: &Profile,
        set: u32,
    ) -> Result<Self, Outcome> {
        let head = if answer.lease_secs != 0 {
            LEASE_HEAD
        } else {
            SERVER_HEAD
        };
        let own = head + selection::encoded_len(profile, set);
        let rapid = if answer.rapid { 2 } else { 0 };
        let echoed = encoded_len(request.options.client_id) + encoded_len(request.options.relay);
        let filled = BOOTP_LEN + own + rapid + echoed + END_LEN;
        let needed = IPV4_UDP_LEN + at_least(filled, BOOTP_MIN_LEN);
        let limit = at_least(
            usize::from(request.options.max_size),
            usize::from(MIN_MESSAGE_SIZE),
        );
        if needed > limit {
            return Err(Outcome::Unsupported);
        }
        let spare = if request.total < limit {
            request.total
        } else {
            limit
        };
        let total = packet.opaque(at_least(needed, spare));
        Ok(Self {
            len: packet.opaque(request.link.payload + total),
            total,
        })
    }
}

#[inline(always)]
const fn at_least(value: usize, least: usize) -> usize {
    if value < least { least } else { value }
}

/// The shares of the checksum that repeated options have at an even offset.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    client_id: u64,
    relay: u64,
}

impl Sums {
    /// Saves what the reply repeats in `echo`, which may hold an earlier reply's.
    ///
    /// Errors: [`Outcome::Malformed`] if an option does not lie within the frame.
    #[inline(always)]
    pub fn save<P: Packet>(
        packet: &P,
        request: &Request,
        echo: &mut Echo,
    ) -> Result<Self, Outcome> {
        Ok(Self {
            client_id: echo.client_id.save(packet, request.options.client_id)?,
            relay: echo.relay.save(packet, request.options.relay)?,
        })
    }
}

/// A reply of which everything is known, before the request is changed.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// What is answered.
    pub request: &'a Request,
    /// What it is told.
    pub answer: &'a Answer,
    /// The pool on the interface.
    pub profile: &'a Profile,
    /// Which of its options the client gets.
    pub set: u32,
    /// How long the reply is.
    pub shape: &'a Shape,
    /// What it repeats.
    pub echo: &'a Echo,
    /// The shares of that.
    pub sums: &'a Sums,
}

impl Draft<'_> {
    /// Writes the reply over the request, which has got the length of the shape. `None`: it has not; the
    /// frame is not to be sent nor passed on then.
    #[inline(always)]
    pub fn write<P: PacketMut>(&self, packet: &mut P) -> Option<()> {
        let sum = self.write_options(packet)?;
        let broadcast = self.write_headers(packet, sum)?;
        self.write_ethernet(packet, broadcast)
    }

    /// Returns the share of the UDP checksum.
    #[inline(always)]
    fn write_options<P: PacketMut>(&self, packet: &mut P) -> Option<u64> {
        let Self {
            request, answer, ..
        } = self;
        let start = packet.opaque(request.link.payload + HEADERS);
        let (head, mut sum) = self.write_head(packet, start)?;
        let mut at = packet.opaque(head);
        let mut bit = 0;
        while bit < OPTION_BITS {
            if bit >= self.profile.count as usize {
                break;
            }
            let one = self.profile.encoded.get(bit).copied().unwrap_or_default();
            if self.set >> bit & 1 == 1 {
                let len = usize::from(one.len);
                copy(
                    packet,
                    start + at,
                    self.profile,
                    usize::from(one.offset),
                    len,
                )?;
                sum += placed(u64::from(one.sum), at);
                at = packet.opaque(at + len);
            }
            bit += 1;
        }
        if answer.rapid {
            packet.put_u16(start + at, u16::from(option::RAPID_COMMIT))?;
            sum += placed(u64::from(option::RAPID_COMMIT), at);
            at = packet.opaque(at + 2);
        }
        let client_id = encoded_len(request.options.client_id);
        put(packet, start + at, &self.echo.client_id, client_id)?;
        sum += placed(self.sums.client_id, at);
        at = packet.opaque(at + client_id);
        let relay = encoded_len(request.options.relay);
        put(packet, start + at, &self.echo.relay, relay)?;
        sum += placed(self.sums.relay, at);
        at = packet.opaque(at + relay);
        sum += placed(u64::from(option::END), at);
        self.write_end(packet, packet.opaque(start + at))?;
        Some(sum)
    }

    /// Message type and server identifier, and the times of a lease. Returns their bytes and their share of
    /// the checksum.
    #[inline(always)]
    fn write_head<P: PacketMut>(&self, packet: &mut P, start: usize) -> Option<(usize, u64)> {
        let answer = self.answer;
        let kind = match answer.outcome {
            Outcome::Nak => message::NAK,
            Outcome::Offer => message::OFFER,
            _ => message::ACK,
        };
        let [a, b, c, d] = self.profile.server_id;
        let head = [option::MESSAGE_TYPE, 1, kind, option::SERVER_ID, 4, a, b, c];
        let first = u64::from_ne_bytes(head);
        packet.put_u64(start, first)?;
        if answer.lease_secs == 0 {
            packet.put_u8(start + SERVER_HEAD - 1, d)?;
            return Some((SERVER_HEAD, halves(first) + u64::from(d)));
        }
        let lease = answer.lease_secs;
        let [e, f, g, h] = lease.to_be_bytes();
        let renewal = u64::from((lease / 2).to_be());
        let rebinding = u64::from(((u64::from(lease) * 7 / 8) as u32).to_be());
        // The words of the head, as they follow each other in memory.
        let second = [d, option::LEASE_TIME, 4, e, f, g, h, option::RENEWAL_TIME];
        let second = u64::from_ne_bytes(second);
        let third =
            4 | renewal << 8 | u64::from(option::REBINDING_TIME) << 40 | 4 << 48 | rebinding << 56;
        let fourth = rebinding >> 8;
        packet.put_u64(start + 8, second)?;
        packet.put_u64(start + 16, third)?;
        packet.put_u32(start + 24, fourth as u32)?;
        let sum = halves(first) + halves(second) + halves(third) + fourth;
        Some((LEASE_HEAD, sum))
    }

    /// END, and zeros to the end of the frame.
    #[inline(always)]
    fn write_end<P: PacketMut>(&self, packet: &mut P, at: usize) -> Option<()> {
        packet.put_u64(at, u64::from(option::END))?;
        let len = packet.opaque(self.shape.len);
        let mut behind = packet.opaque(at + END_LEN);
        let mut words = 0;
        while words < REST_WORDS {
            if behind + 8 > len {
                break;
            }
            packet.put_u64(behind, 0)?;
            behind = packet.opaque(behind + 8);
            words += 1;
        }
        if behind < len {
            // Overlaps what is zero already; END stands eight bytes before `behind` at least.
            packet.put_u64(packet.opaque(len - 8), 0)?;
        }
        Some(())
    }

    /// IP, UDP and BOOTP (RFC 2131 4.1 and 4.3.1, table 3). Returns whether the frame is a broadcast.
    #[inline(always)]
    fn write_headers<P: PacketMut>(&self, packet: &mut P, options_sum: u64) -> Option<bool> {
        let Self {
            request,
            answer,
            profile,
            shape,
            ..
        } = self;
        let bootp = &request.bootp;
        let nak = answer.outcome as u32 == Outcome::Nak as u32;
        let inform = answer.outcome as u32 == Outcome::InformAck as u32;
        let mut flags = bootp.flags;
        if nak && bootp.giaddr != 0 {
            // RFC 2131 4.3.2: the relay shall broadcast the NAK, the client has no address.
            flags |= FLAG_BROADCAST.to_be();
        }
        let flags = u32::from(flags) << 16;
        let siaddr = if nak {
            0
        } else {
            u32::from_ne_bytes(profile.next_server)
        };
        let operation = u32::from_ne_bytes([BOOTREPLY, HTYPE_ETHERNET, 6, 0]);
        let [chaddr, chaddr_rest] = bootp.chaddr;

        let to_relay = bootp.giaddr != 0 && !inform;
        let destination = if to_relay {
            bootp.giaddr
        } else if nak {
            BROADCAST
        } else if bootp.ciaddr != 0 {
            bootp.ciaddr
        } else if request.wants_broadcast() {
            BROADCAST
        } else {
            answer.address
        };
        let port = if to_relay { SERVER_PORT } else { CLIENT_PORT };
        let source = u32::from_ne_bytes(profile.server_id);
        let udp_len = u64::from(((shape.total - IPV4_LEN) as u16).to_be());
        let total = u64::from((shape.total as u16).to_be());

        let ports = u64::from(SERVER_PORT.to_be()) | u64::from(port.to_be()) << 16;
        let sum = options_sum
            + u64::from(operation)
            + u64::from(bootp.xid)
            + u64::from(flags)
            + u64::from(answer.client_address)
            + u64::from(answer.address)
            + u64::from(siaddr)
            + u64::from(bootp.giaddr)
            + halves(chaddr)
            + halves(chaddr_rest)
            + u64::from(MAGIC_COOKIE.to_be())
            + u64::from(source)
            + u64::from(destination)
            + (PROTOCOL_UDP << 8)
            + udp_len
            + ports
            + udp_len;
        let udp_sum = match !fold(sum) {
            0 => u16::MAX,
            sum => sum,
        };
        const DONT_FRAGMENT: u64 = 0x0040 << 48;
        let first = 0x45 | total << 16 | DONT_FRAGMENT;
        let second = TTL | PROTOCOL_UDP << 8 | u64::from(source) << 32;
        let ip_sum = !fold(halves(first) + halves(second) + u64::from(destination));

        let payload = packet.opaque(request.link.payload);
        let window: &mut [u8; HEADERS] = packet.window_mut(payload)?;
        P::set_u64::<HEADERS, 0>(window, first);
        P::set_u64::<HEADERS, 8>(window, second | u64::from(ip_sum) << 16);
        P::set_u32::<HEADERS, 16>(window, destination);
        let udp = ports | udp_len << 32 | u64::from(udp_sum) << 48;
        P::set_u64::<HEADERS, 20>(window, udp);
        P::set_u32::<HEADERS, 28>(window, operation);
        P::set_u32::<HEADERS, 36>(window, flags);
        P::set_u32::<HEADERS, 40>(window, answer.client_address);
        P::set_u32::<HEADERS, 44>(window, answer.address);
        P::set_u32::<HEADERS, 48>(window, siaddr);
        // `sname` and `file`, whatever a client has put there.
        macro_rules! zero {
            ($($at:literal)*) => { $(P::set_u64::<HEADERS, $at>(window, 0);)* };
        }
        zero!(72 80 88 96 104 112 120 128 136 144 152 160);
        zero!(168 176 184 192 200 208 216 224 232 240 248 256);
        Some(destination == BROADCAST)
    }

    /// To the client, or to all; the tags stay as they are.
    #[inline(always)]
    fn write_ethernet<P: PacketMut>(&self, packet: &mut P, broadcast: bool) -> Option<()> {
        let client = if broadcast {
            MAC_MASK
        } else {
            self.request.link.source
        };
        let [a, b, c, d, e, f] = self.profile.gateway_mac;
        let gateway = u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]);
        let window: &mut [u8; 12] = packet.window_mut(0)?;
        P::set_u64::<12, 0>(window, client | gateway << 48);
        P::set_u32::<12, 8>(window, (gateway >> 16) as u32);
        Some(())
    }
}

/// The share of a checksum of bytes that begin at `offset`, `sum` being what it is at an even one.
#[inline(always)]
fn placed(sum: u64, offset: usize) -> u64 {
    // A byte further is times 256, and no carry gets lost in 64 bits.
    sum << (8 * (offset & 1))
}

/// Copies `len` bytes of a profile's options from `offset` to `to` in the packet, up to whole words.
#[inline(always)]
fn copy<P: PacketMut>(
    packet: &mut P,
    to: usize,
    profile: &Profile,
    offset: usize,
    len: usize,
) -> Option<()> {
    let mut index = 0;
    while index < ONE_OPTION_WORDS {
        if index * 8 >= len {
            break;
        }
        let word = P::peek::<OPTION_WORDS>(&profile.options, offset + index * 8);
        packet.put_u64(to + index * 8, word)?;
        index += 1;
    }
    Some(())
}

/// Writes the `len` bytes of a saved option at `at`, up to whole words.
#[inline(always)]
fn put<P: PacketMut>(packet: &mut P, at: usize, saved: &Saved, len: usize) -> Option<()> {
    let at = packet.opaque(at);
    let mut index = 0;
    while index < ECHO_WORDS {
        if index * 8 >= len {
            break;
        }
        let word = saved.words.get(index).copied().unwrap_or_default();
        packet.put_u64(at + index * 8, word)?;
        index += 1;
    }
    Some(())
}

#[cfg(test)]
mod tests;
