//! Frames as tests write them down and read them back: Ethernet, VLAN tags, IPv4, UDP, BOOTP.
//!
//! ```
//! use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Tag};
//!
//! let discover = Bootp::request([2, 0, 0, 0, 0, 1], 0x1234)
//!     .option(53, &[1])
//!     .option(55, &[1, 3, 6, 51]);
//! let bytes = Frame::from_client(&discover).tag(Tag::s_vlan(200)).tag(Tag::c_vlan(30)).build();
//! let read = Frame::parse(&bytes)?;
//! assert_eq!(read.destination, MAC_BROADCAST);
//! assert_eq!(read.tags.len(), 2);
//! assert_eq!(read.bootp()?.message_type(), Some(1));
//! # Ok::<(), nexus_testkit::packet::PacketError>(())
//! ```

mod arp;
mod bootp;
mod checksum;
pub mod clients;
mod error;
mod frame;
mod reader;

pub use arp::Arp;
pub use bootp::{BOOTP_MIN_LEN, Bootp};
pub use checksum::{fold, internet_checksum};
pub use error::PacketError;
pub use frame::{
    ETH_P_8021AD, ETH_P_8021Q, ETH_P_ARP, ETH_P_IPV4, ETH_P_QINQ1, Frame, MAC_BROADCAST, Tag,
};

/// A MAC address.
pub type Mac = [u8; 6];

/// A MAC address as people write it, `02:00:00:00:00:01`.
#[must_use]
pub fn mac_text(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
