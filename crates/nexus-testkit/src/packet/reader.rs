//! A cursor that cannot run over the end.

use super::PacketError;

/// Reads fields one after the other.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    part: &'static str,
}

impl<'a> Reader<'a> {
    /// `part` names what is being read, for the error.
    pub(super) fn new(bytes: &'a [u8], part: &'static str) -> Self {
        Self { rest: bytes, part }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], PacketError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(PacketError::Short(self.part))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| PacketError::Short(self.part))
    }

    pub(super) fn u8(&mut self) -> Result<u8, PacketError> {
        let [value] = self.array()?;
        Ok(value)
    }

    pub(super) fn u16(&mut self) -> Result<u16, PacketError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, PacketError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
