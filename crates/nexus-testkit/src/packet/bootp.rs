//! BOOTP messages with DHCP options (RFC 2131 section 2, RFC 2132).

use std::net::Ipv4Addr;

use super::{Mac, PacketError, reader::Reader};

/// Length that RFC 951 gives a BOOTP message, and that replies are padded to.
pub const BOOTP_MIN_LEN: usize = 300;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const END: u8 = 255;

/// A BOOTP message. Options stand in the order in which they go on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootp {
    /// 1: request, 2: reply.
    pub op: u8,
    /// 1: Ethernet.
    pub htype: u8,
    /// 6 for Ethernet.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// 0x8000: the client wants broadcast replies.
    pub flags: u16,
    /// The client's address, if it has one.
    pub ciaddr: Ipv4Addr,
    /// The address the client is given.
    pub yiaddr: Ipv4Addr,
    /// The next server.
    pub siaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address with its ten bytes of padding.
    pub chaddr: [u8; 16],
    /// Server host name.
    pub sname: [u8; 64],
    /// Boot file.
    pub file: [u8; 128],
    /// The magic cookie; anything else is not DHCP.
    pub cookie: [u8; 4],
    /// (code, value); a value has at most 255 bytes. Code 0 with an empty value is a pad byte.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Whether END stands behind the options.
    pub end: bool,
    /// Zeros are added up to this length.
    pub min_len: usize,
    /// Bytes behind END and before the padding.
    pub trailer: Vec<u8>,
}

impl Bootp {
    /// What a client at `mac` sends, without options: nothing known, no broadcast flag.
    #[must_use]
    pub fn request(mac: Mac, xid: u32) -> Self {
        let mut chaddr = [0; 16];
        for (to, from) in chaddr.iter_mut().zip(mac) {
            *to = from;
        }
        Self {
            op: 1,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: [0; 64],
            file: [0; 128],
            cookie: MAGIC,
            options: Vec::new(),
            end: true,
            min_len: BOOTP_MIN_LEN,
            trailer: Vec::new(),
        }
    }

    /// A DISCOVER with the parameter list that most clients send.
    #[must_use]
    pub fn discover(mac: Mac, xid: u32) -> Self {
        Self::request(mac, xid)
            .option(53, &[1])
            .option(55, &[1, 3, 6, 51, 54])
    }

    /// A REQUEST that accepts the offer of `address` by `server` (SELECTING).
    #[must_use]
    pub fn select(mac: Mac, xid: u32, address: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self::request(mac, xid)
            .option(53, &[3])
            .option(50, &address.octets())
            .option(54, &server.octets())
            .option(55, &[1, 3, 6, 51, 54])
    }

    /// A REQUEST that prolongs `address` (RENEWING).
    #[must_use]
    pub fn renew(mac: Mac, xid: u32, address: Ipv4Addr) -> Self {
        let mut message = Self::request(mac, xid)
            .option(53, &[3])
            .option(55, &[1, 3, 6, 51, 54]);
        message.ciaddr = address;
        message
    }

    /// Adds an option behind the others.
    #[must_use]
    pub fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    /// Asks for broadcast replies.
    #[must_use]
    pub fn broadcast(mut self) -> Self {
        self.flags |= 0x8000;
        self
    }

    /// Sets the relay.
    #[must_use]
    pub fn relay(mut self, giaddr: Ipv4Addr) -> Self {
        self.giaddr = giaddr;
        self.hops = 1;
        self
    }

    /// The value of the first option of that code.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|(at, _)| *at == code)
            .map(|(_, value)| value.as_slice())
    }

    /// The value of an option that holds one address.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    }

    /// The value of an option that holds a 32-bit number.
    #[must_use]
    pub fn number(&self, code: u8) -> Option<u32> {
        let bytes: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// The DHCP message type (option 53).
    #[must_use]
    pub fn message_type(&self) -> Option<u8> {
        match self.get(53)? {
            [kind] => Some(*kind),
            _ => None,
        }
    }

    /// The name of the message type, as RFC 2131 writes it.
    #[must_use]
    pub fn message_name(&self) -> &'static str {
        match self.message_type() {
            Some(1) => "DISCOVER",
            Some(2) => "OFFER",
            Some(3) => "REQUEST",
            Some(4) => "DECLINE",
            Some(5) => "ACK",
            Some(6) => "NAK",
            Some(7) => "RELEASE",
            Some(8) => "INFORM",
            _ => "BOOTP",
        }
    }

    /// The client's MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.chaddr;
        [a, b, c, d, e, f]
    }

    /// The message as it goes on the wire.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut out = vec![self.op, self.htype, self.hlen, self.hops];
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr);
        out.extend(self.sname);
        out.extend(self.file);
        out.extend(self.cookie);
        for (code, value) in &self.options {
            out.push(*code);
            if *code != PAD {
                out.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
                out.extend(value.iter().take(usize::from(u8::MAX)));
            }
        }
        if self.end {
            out.push(END);
        }
        out.extend(&self.trailer);
        if out.len() < self.min_len {
            out.resize(self.min_len, 0);
        }
        out
    }

    /// Reads a message back. What stands behind END must be zeros, else it is the `trailer`.
    ///
    /// # Errors
    /// [`PacketError::Short`] if the fixed part or an option is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let mut at = Reader::new(bytes, "the BOOTP message");
        let mut message = Self::request([0; 6], 0);
        [message.op, message.htype, message.hlen, message.hops] = at.array()?;
        message.xid = at.u32()?;
        message.secs = at.u16()?;
        message.flags = at.u16()?;
        message.ciaddr = Ipv4Addr::from(at.array::<4>()?);
        message.yiaddr = Ipv4Addr::from(at.array::<4>()?);
        message.siaddr = Ipv4Addr::from(at.array::<4>()?);
        message.giaddr = Ipv4Addr::from(at.array::<4>()?);
        message.chaddr = at.array()?;
        message.sname = at.array()?;
        message.file = at.array()?;
        message.cookie = at.array()?;
        message.min_len = bytes.len();
        message.end = false;
        let mut options = Reader::new(at.rest(), "a DHCP option");
        while let Ok(code) = options.u8() {
            match code {
                PAD => message.options.push((PAD, Vec::new())),
                END => {
                    message.end = true;
                    break;
                }
                _ => {
                    let length = options.u8()?;
                    let value = options.take(usize::from(length))?.to_vec();
                    message.options.push((code, value));
                }
            }
        }
        if options.rest().iter().any(|byte| *byte != 0) {
            message.trailer = options.rest().to_vec();
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let written = Bootp::discover([2, 0, 0, 0, 0, 9], 7)
            .broadcast()
            .relay(Ipv4Addr::new(10, 0, 0, 1))
            .option(82, &[1, 2, 0xaa, 0xbb]);
        assert_eq!(Bootp::parse(&written.build()).unwrap(), written);
    }

    #[test]
    fn a_message_is_padded_to_three_hundred_bytes() {
        assert_eq!(Bootp::request([0; 6], 0).build().len(), 300);
    }

    #[test]
    fn a_cut_off_option_is_an_error() {
        let mut bytes = Bootp::request([0; 6], 0).option(12, b"name").build();
        bytes.truncate(243);
        assert_eq!(
            Bootp::parse(&bytes),
            Err(PacketError::Short("a DHCP option"))
        );
    }

    #[test]
    fn stale_bytes_behind_end_are_seen() {
        let mut message = Bootp::request([0; 6], 0).option(53, &[1]);
        message.trailer = vec![0, 0, 9];
        let read = Bootp::parse(&message.build()).unwrap();
        assert!(read.trailer.starts_with(&[0, 0, 9]));
    }
}
