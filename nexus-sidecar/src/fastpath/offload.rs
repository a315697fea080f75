//! VLAN tags stay in the frame: a card that takes them off hides them from XDP.
//!
//! A driver with RX VLAN offload moves the outer tag from the frame into a field of its own. XDP would see
//! the frame without it and take a subscriber for somebody on another line. So the offload is switched off
//! on every interface that the program is attached to, and on all that belong to it (a bond's): XDP works
//! on those.

use nix::net::if_::if_indextoname;

use super::FastPathError;
use super::attach::index;
use super::netlink::{Ethtool, ports_of};

/// The features that take off customer tags and service tags.
const FEATURES: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// Switches the features off where they are on.
///
/// # Errors
/// If the driver does not let one be switched off.
pub fn switch_off(interface: &str) -> Result<(), FastPathError> {
    let failed = |source| FastPathError::Features {
        interface: interface.to_owned(),
        source,
    };
    let ifindex = index(interface)?;
    let ethtool = Ethtool::open().map_err(failed)?;
    let mut all = vec![ifindex];
    all.extend(ports_of(ifindex).map_err(failed)?);
    for port in all {
        for feature in FEATURES {
            if !ethtool.feature(port, feature).map_err(failed)?.active {
                continue;
            }
            ethtool.switch_off(port, feature).map_err(failed)?;
            let name = if_indextoname(port).map_or_else(
                |_| port.to_string(),
                |name| name.to_string_lossy().into_owned(),
            );
            let now = ethtool.feature(port, feature).map_err(failed)?;
            if now.active {
                return Err(FastPathError::TagsTakenOff {
                    interface: name,
                    feature,
                    fixed: !now.changeable,
                });
            }
            tracing::info!(
                interface = %name, feature,
                "switched off, so that XDP sees the VLAN tags of frames"
            );
        }
    }
    Ok(())
}
