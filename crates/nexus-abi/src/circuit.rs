//! A line as option 82 names it (RFC 3046): circuit-id, and remote-id where it counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// 64-bit words of a [`Circuit`].
pub const CIRCUIT_WORDS: usize = 16;

/// Most bytes of circuit-id and remote-id together.
pub const CIRCUIT_CAPACITY: usize = CIRCUIT_WORDS * 8 - 2;

/// Both sub-options, whole, in one form: length of the circuit-id (one byte), circuit-id, length of
/// the remote-id (one byte; 0 where it does not count), remote-id, zeros. Two circuits are the same
/// if and only if these bytes are. An entry of `CIRCUITS`; its words are in memory order.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct Circuit {
    /// The bytes.
    pub words: [u64; CIRCUIT_WORDS],
}

/// Why a circuit cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitError {
    /// No circuit-id.
    Empty,
    /// More than [`CIRCUIT_CAPACITY`] bytes: that many.
    TooLong(usize),
}

impl core::fmt::Display for CircuitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => f.write_str("the circuit-id is empty"),
            Self::TooLong(bytes) => write!(
                f,
                "circuit-id and remote-id have {bytes} bytes together, {CIRCUIT_CAPACITY} are the most"
            ),
        }
    }
}

impl core::error::Error for CircuitError {}

impl Circuit {
    /// From the two sub-options' values; `remote_id` is empty where it does not count.
    ///
    /// # Errors
    /// No circuit-id, or too many bytes.
    pub fn new(circuit_id: &[u8], remote_id: &[u8]) -> Result<Self, CircuitError> {
        let total = circuit_id.len() + remote_id.len();
        if circuit_id.is_empty() {
            return Err(CircuitError::Empty);
        }
        if total > CIRCUIT_CAPACITY {
            return Err(CircuitError::TooLong(total));
        }
        let mut circuit = Self {
            words: [0; CIRCUIT_WORDS],
        };
        let parts = [
            &[circuit_id.len() as u8][..],
            circuit_id,
            &[remote_id.len() as u8],
            remote_id,
        ];
        let bytes = parts.into_iter().flatten();
        for (to, from) in circuit.words.as_mut_bytes().iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(circuit)
    }

    /// The circuit-id.
    #[must_use]
    pub fn circuit_id(&self) -> &[u8] {
        let bytes = self.words.as_bytes();
        let len = bytes.first().copied().map_or(0, usize::from);
        bytes.get(1..=len).unwrap_or_default()
    }

    /// The remote-id; empty where it does not count.
    #[must_use]
    pub fn remote_id(&self) -> &[u8] {
        let bytes = self.words.as_bytes();
        let at = self.circuit_id().len() + 1;
        let len = bytes.get(at).copied().map_or(0, usize::from);
        bytes.get(at + 1..=at + len).unwrap_or_default()
    }
}

const _: () = assert!(size_of::<Circuit>() == 128);
