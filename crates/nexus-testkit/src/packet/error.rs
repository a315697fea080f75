//! What can be wrong with a frame that a test reads back.

/// Why a frame could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// The frame ends inside the named part.
    Short(&'static str),
    /// The named checksum does not match; the value that stands there and the right one.
    Checksum(&'static str, u16, u16),
    /// The frame is not what it was read as.
    Not(&'static str),
}

impl std::fmt::Display for PacketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(part) => write!(f, "the frame ends inside {part}"),
            Self::Checksum(part, is, should) => {
                write!(
                    f,
                    "the {part} checksum is {is:#06x}, it should be {should:#06x}"
                )
            }
            Self::Not(what) => write!(f, "the frame is not {what}"),
        }
    }
}

impl std::error::Error for PacketError {}
