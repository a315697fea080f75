//! The form of netlink messages: a header, what belongs to the type, attributes; numbers in host order.

use std::io;

const HEADER: usize = 16;
const SEQUENCE: u32 = 1;
const NESTED: u16 = 0x8000;
const TYPE: u16 = 0x3fff;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const MULTI: u16 = 2;
const ACK: u16 = 4;

/// A request.
#[derive(Clone, Debug)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// Of a type, without a body.
    pub const fn new(kind: u16, flags: u16) -> Self {
        let body = Vec::new();
        Self { kind, flags, body }
    }

    /// Adds what the type wants before its attributes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.body.extend(len.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute whose value is attributes.
    pub fn nested(self, kind: u16, within: impl FnOnce(Self) -> Self) -> Self {
        let value = within(Self::new(0, 0)).body;
        self.attribute(kind | NESTED, &value)
    }

    /// The message as it is sent.
    pub fn finish(&self) -> Vec<u8> {
        let len = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(SEQUENCE.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A message of the kernel, without its header.
#[derive(Clone, Debug)]
pub struct Reply(Vec<u8>);

impl Reply {
    /// Its attributes, after so many bytes of what belongs to the type.
    pub fn attributes(&self, after: usize) -> Attributes<'_> {
        Attributes::of(self.0.get(after..).unwrap_or_default())
    }

    /// The number at an offset.
    pub fn number(&self, at: usize) -> Option<u32> {
        u32_at(&self.0, at)
    }
}

/// Reads a packet of messages. `true`: that was all of the answer to `request`.
pub fn read(packet: &[u8], replies: &mut Vec<Reply>, request: &Message) -> io::Result<bool> {
    let mut rest = packet;
    while let (Some(len), Some(kind), Some(flags)) =
        (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6))
    {
        let len = len as usize;
        let body = rest.get(HEADER..len).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            ERROR => {
                let code = u32_at(body, 0).unwrap_or(0).cast_signed();
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                };
            }
            DONE => return Ok(true),
            _ => replies.push(Reply(body.to_vec())),
        }
        if flags & MULTI == 0 && request.flags & ACK == 0 {
            return Ok(true);
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Attributes, one behind the other: type and value.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// In these bytes.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first of a type.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written_and_broken_ones_end_the_list() {
        let message = Message::new(7, 1)
            .attribute(3, b"abcde")
            .nested(4, |inner| inner.attribute(1, &[9]).attribute(2, b""));
        assert_eq!(message.finish().len(), HEADER + 12 + 4 + 8 + 4);
        let attributes = Attributes::of(&message.body);
        assert_eq!(attributes.get(3), Some(&b"abcde"[..]));
        let inner = Attributes::of(attributes.get(4).unwrap());
        assert_eq!(inner.get(1), Some(&[9][..]));
        assert_eq!(inner.get(2), Some(&[][..]));
        assert_eq!(inner.get(5), None);
        for len in 0..message.body.len() {
            // Whatever is cut off: no loop, no panic.
            let _ = Attributes::of(&message.body[..len]).count();
        }
        assert_eq!(Attributes::of(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes::of(&[0; 8]).count(), 0);
    }

    #[test]
    fn an_answer_ends_with_its_only_message_or_with_done_or_with_an_error() {
        let plain = Message::new(20, 1).bytes(b"abcd");
        let mut replies = Vec::new();
        assert!(read(&plain.finish(), &mut replies, &plain).unwrap());
        assert_eq!(replies.len(), 1);
        let part = Message::new(20, MULTI).bytes(b"abcd").finish();
        assert!(!read(&part, &mut replies, &plain).unwrap());
        let done = Message::new(DONE, MULTI).bytes(&[0; 4]).finish();
        assert!(read(&[part, done].concat(), &mut replies, &plain).unwrap());
        assert_eq!(replies.len(), 3);
        let refused = Message::new(ERROR, 0)
            .bytes(&(-19_i32).to_ne_bytes())
            .finish();
        let error = read(&refused, &mut replies, &plain).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
        let accepted = Message::new(ERROR, 0).bytes(&[0; 4]).finish();
        assert!(read(&accepted, &mut replies, &plain).unwrap());
        assert!(read(&[200, 0, 0, 0, 1, 0, 0, 0], &mut replies, &plain).is_err());
    }
}
