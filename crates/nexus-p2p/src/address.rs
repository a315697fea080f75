//! Where a node is reached: the multiaddresses that Nexus takes, and their names resolved.
//!
//! Names are resolved here, anew before each try, and not by libp2p's own DNS transport: that one
//! stops at the first address that answers, and the name of a headless Service has all nodes behind
//! it, this one too.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};

use crate::P2pError;

/// Most addresses that one name may have; more are ignored.
const MOST_RESOLVED: usize = 16;

/// How long a name may take.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

/// What is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    /// Both families.
    Name(String),
    Name4(String),
    Name6(String),
}

/// A host, a port, a transport, and who is expected there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    host: Host,
    port: u16,
    pub(crate) quic: bool,
    pub(crate) peer: Option<PeerId>,
}

const FORMS: &str = "write /ip4/A, /ip6/A, /dns/N, /dns4/N or /dns6/N, then /tcp/PORT or \
                     /udp/PORT/quic-v1, then /p2p/ID if the node is known";

impl Place {
    /// Reads an address as an operator or a peer writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let address: Multiaddr = text
            .parse()
            .map_err(|error| format!("not a multiaddress ({error}); {FORMS}"))?;
        let mut parts = address.iter();
        let host = match parts.next() {
            Some(Protocol::Ip4(ip)) => Host::Ip(ip.into()),
            Some(Protocol::Ip6(ip)) => Host::Ip(ip.into()),
            Some(Protocol::Dns(name)) => Host::Name(name.into_owned()),
            Some(Protocol::Dns4(name)) => Host::Name4(name.into_owned()),
            Some(Protocol::Dns6(name)) => Host::Name6(name.into_owned()),
            _ => return Err(format!("no host that can be dialled; {FORMS}")),
        };
        if matches!(host, Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast()) {
            return Err("nobody can be reached at this address".to_owned());
        }
        let (port, quic) = match parts.next() {
            Some(Protocol::Tcp(port)) => (port, false),
            Some(Protocol::Udp(port)) if parts.next() == Some(Protocol::QuicV1) => (port, true),
            _ => return Err(format!("no transport of ours; {FORMS}")),
        };
        if port == 0 {
            return Err("port 0 cannot be dialled".to_owned());
        }
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) => return Err(format!("more than is understood; {FORMS}")),
        };
        if parts.next().is_some() {
            return Err(format!("more than is understood; {FORMS}"));
        }
        Ok(Self {
            host,
            port,
            quic,
            peer,
        })
    }

    /// As [`Place::parse`], naming the option.
    pub(crate) fn of_option(option: &'static str, text: &str) -> Result<Self, P2pError> {
        Self::parse(text).map_err(|what| P2pError::Address {
            option,
            given: text.chars().take(200).collect(),
            what,
        })
    }

    /// The addresses behind it now, without a peer id, in a fixed order, at most 16.
    ///
    /// # Errors
    /// The name is not known, or its resolver does not answer within 5 s.
    pub(crate) async fn resolve(&self) -> Result<Vec<Multiaddr>, String> {
        let (name, four, six) = match &self.host {
            Host::Ip(ip) => return Ok(vec![self.at(*ip)]),
            Host::Name(name) => (name, true, true),
            Host::Name4(name) => (name, true, false),
            Host::Name6(name) => (name, false, true),
        };
        let asked = tokio::net::lookup_host((name.as_str(), self.port));
        let found = match tokio::time::timeout(RESOLVE_PATIENCE, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(format!("cannot resolve {name}: {error}")),
            Err(_) => return Err(format!("cannot resolve {name}: no answer in 5 s")),
        };
        let ips: BTreeSet<IpAddr> = found
            .map(|address| address.ip())
            .filter(|ip| if ip.is_ipv4() { four } else { six })
            .collect();
        if ips.is_empty() {
            return Err(format!("{name} has no address of this family"));
        }
        Ok(ips
            .into_iter()
            .take(MOST_RESOLVED)
            .map(|ip| self.at(ip))
            .collect())
    }

    fn at(&self, ip: IpAddr) -> Multiaddr {
        listening(ip, self.port, self.quic)
    }
}

/// The multiaddress of a socket.
pub(crate) fn listening(ip: IpAddr, port: u16, quic: bool) -> Multiaddr {
    let address = Multiaddr::from(ip);
    if quic {
        address.with(Protocol::Udp(port)).with(Protocol::QuicV1)
    } else {
        address.with(Protocol::Tcp(port))
    }
}

/// The IP address it begins with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

/// Whether it is a QUIC address.
pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

/// Reads a peer id.
pub(crate) fn peer_id(option: &'static str, text: &str) -> Result<PeerId, P2pError> {
    text.trim().parse().map_err(|error| P2pError::Address {
        option,
        given: text.chars().take(200).collect(),
        what: format!("not a peer id ({error}); a node prints its own at start (`12D3Koo...`)"),
    })
}
