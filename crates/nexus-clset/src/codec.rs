//! Reading and writing bytes with every length checked: what is malformed is an error, never a panic.

use crate::entry::MAX_KEY_BYTES;
use crate::error::Malformed;
use crate::version::{Incarnation, NodeId, Origin};

/// Collects big-endian fields.
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { out: Vec::new() }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn origin(&mut self, origin: Origin) {
        self.u32(origin.node.0);
        self.u32(origin.incarnation.0);
    }

    /// A number of things that follow.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Seven bits a byte, the lowest first.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(0x80 | u8::try_from(value & 0x7f).unwrap_or(0));
            value >>= 7;
        }
        self.u8(u8::try_from(value).unwrap_or(0));
    }

    /// A key behind another one, of which only what differs is written.
    pub(crate) fn key_behind(&mut self, before: &[u8], key: &[u8]) {
        let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
        let own = key.get(shared..).unwrap_or_default();
        self.varint(u64::try_from(shared).unwrap_or(u64::MAX));
        self.varint(u64::try_from(own.len()).unwrap_or(u64::MAX));
        self.raw(own);
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Bytes with their number in front.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Takes fields off the front of some bytes.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            what,
            rest: bytes,
            at: 0,
        }
    }

    pub(crate) fn wrong(&self, detail: impl Into<String>) -> Malformed {
        Malformed {
            what: self.what,
            at: self.at,
            detail: detail.into(),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.wrong(format!("{N} bytes needed, {} left", self.rest.len())));
        };
        self.rest = rest;
        self.at = self.at.saturating_add(N);
        Ok(*head)
    }

    pub(crate) fn format(&mut self, ours: u8) -> Result<(), Malformed> {
        let [format] = self.array()?;
        if format == ours {
            Ok(())
        } else {
            Err(self.wrong(format!("format {format}, this program reads {ours}")))
        }
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.wrong(format!("a flag of {other}"))),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn origin(&mut self) -> Result<Origin, Malformed> {
        Ok(Origin {
            node: NodeId(self.u32()?),
            incarnation: Incarnation(self.u32()?),
        })
    }

    /// A number of things of at least `each` bytes that follow: no more than there can be.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count.saturating_mul(each) > self.rest.len() {
            return Err(self.wrong(format!(
                "{count} things cannot follow in {} bytes",
                self.rest.len()
            )));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count(1)?;
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.wrong("bytes are missing"));
        };
        self.rest = rest;
        self.at = self.at.saturating_add(count);
        Ok(head)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number of more than 64 bits"))
    }

    /// What [`Writer::key_behind`] wrote. May be empty.
    pub(crate) fn key_behind(&mut self, before: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (shared, own) = (self.varint()?, self.varint()?);
        let shared = usize::try_from(shared).unwrap_or(usize::MAX);
        let own = usize::try_from(own).unwrap_or(usize::MAX);
        if shared.saturating_add(own) > MAX_KEY_BYTES {
            return Err(self.wrong(format!("a key of more than {MAX_KEY_BYTES} bytes")));
        }
        let (Some(shared), Some((own, rest))) =
            (before.get(..shared), self.rest.split_at_checked(own))
        else {
            return Err(self.wrong("bytes of a key are missing"));
        };
        self.rest = rest;
        self.at = self.at.saturating_add(own.len());
        Ok([shared, own].concat())
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.at = self.at.saturating_add(self.rest.len());
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong(format!("{} bytes too many", self.rest.len())))
        }
    }
}
