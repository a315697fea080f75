//! DHCPv4: frames, options, the decision function and the reply writer, the same code in the kernel and in the slow path.
//!
//! Nothing here reads a clock, a map or a socket. The kernel program and the slow path differ in
//! two things only: how bytes of a frame are reached ([`Packet`]) and how a binding is looked up.
#![no_std]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod checksum;
pub mod circuit;
mod decision;
mod echo;
#[cfg(any(test, feature = "std"))]
pub mod exchange;
mod ipv4;
mod link;
mod options;
mod packet;
pub mod profile;
mod reply;
mod request;
pub mod selection;
#[cfg(test)]
mod testing;
pub mod wire;
mod words;

pub use decision::{Answer, decide};
pub use echo::Echo;
pub use link::{Link, parse_link};
pub use options::{OPTION_LIMIT, OptionTable, Options, Span};
pub use packet::{Bytes, Packet, PacketMut};
pub use reply::{Draft, Shape, Sums};
pub use request::{Message, Request, parse_message};

/// What a frame ends as when it is not answered: the outcome that is counted.
pub use nexus_abi::Outcome;
