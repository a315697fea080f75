//! What the sidecar needs of the host before it starts: capabilities, and the interface with its addresses.

use std::net::SocketAddr;

use caps::{CapSet, Capability};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

/// Why this host or this process will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Capabilities are missing.
    #[error(
        "this process lacks {missing}: run it as the systemd unit deploy/systemd/nexus-sidecar.service does (AmbientCapabilities={missing}), as root, or with `setpriv --ambient-caps`"
    )]
    Capabilities {
        /// Their names, separated by spaces.
        missing: String,
    },
    /// The interface is not there.
    #[error(
        "there is no network interface {0}: correct the name in the configuration (`ip link` lists them), or create it before the sidecar starts"
    )]
    NoInterface(String),
    /// The interface has no MAC address.
    #[error(
        "interface {0} has no Ethernet address: subscribers are served on Ethernet interfaces only"
    )]
    NoMac(String),
}

/// Checks that this process may do its work. `radius`: where RADIUS listens, if it does.
///
/// # Errors
/// Which capabilities are missing.
pub fn check_capabilities(radius: Option<SocketAddr>) -> Result<(), HostError> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    missing(radius, |capability| held.contains(&capability))
}

fn missing(
    radius: Option<SocketAddr>,
    holds: impl Fn(Capability) -> bool,
) -> Result<(), HostError> {
    let mut needed = vec![
        Capability::CAP_BPF,
        Capability::CAP_NET_ADMIN,
        Capability::CAP_PERFMON,
        Capability::CAP_NET_RAW,
    ];
    if radius.is_some_and(|address| (1..1024).contains(&address.port())) {
        needed.push(Capability::CAP_NET_BIND_SERVICE);
    }
    let missing: Vec<String> = needed
        .into_iter()
        .filter(|capability| !holds(*capability))
        .map(|capability| capability.to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(HostError::Capabilities {
        missing: missing.join(" "),
    })
}

/// Index and MAC address of an interface.
///
/// # Errors
/// If it is not there or not Ethernet.
pub fn interface(name: &str) -> Result<(u32, [u8; 6]), HostError> {
    let ifindex = if_nametoindex(name).map_err(|_| HostError::NoInterface(name.to_owned()))?;
    let mac = getifaddrs()
        .ok()
        .and_then(|mut addresses| {
            addresses.find_map(|address| {
                (address.interface_name == name)
                    .then(|| address.address?.as_link_addr()?.addr())
                    .flatten()
            })
        })
        .filter(|mac| *mac != [0; 6])
        .ok_or_else(|| HostError::NoMac(name.to_owned()))?;
    Ok((ifindex, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_how_to_give_it() {
        let some = |capability| capability != Capability::CAP_BPF;
        let error = missing(None, some).unwrap_err().to_string();
        assert!(error.contains("lacks CAP_BPF:"), "{error}");
        assert!(error.contains("AmbientCapabilities=CAP_BPF"), "{error}");
        let nothing = |_| false;
        let error = missing(Some(([127, 0, 0, 1], 1812).into()), nothing).unwrap_err();
        assert!(!error.to_string().contains("BIND_SERVICE"));
        let error = missing(Some(([127, 0, 0, 1], 812).into()), nothing).unwrap_err();
        assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"));
        assert!(missing(None, |_| true).is_ok());
    }

    #[test]
    fn an_interface_that_is_not_there_or_not_ethernet_is_said() {
        let error = interface("nosuch0").unwrap_err();
        assert_eq!(error, HostError::NoInterface("nosuch0".to_owned()));
        assert_eq!(
            interface("lo").unwrap_err(),
            HostError::NoMac("lo".to_owned())
        );
    }
}
