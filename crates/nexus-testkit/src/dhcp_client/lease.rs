//! What a client wrote down about its lease: a script's environment, or networkd's own lease file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A lease as a client understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its address.
    pub address: Ipv4Addr,
    /// Option 1.
    pub mask: Ipv4Addr,
    /// Option 3, the first.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 51.
    pub seconds: u32,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
}

/// One call of a client's script.
#[derive(Clone, Debug)]
pub struct Event {
    /// What the client said: `bound`, `renew`, `deconfig`; `BOUND`, `RENEW`, `PREINIT`.
    pub reason: String,
    variables: Variables,
}

type Variables = BTreeMap<String, String>;

/// Names of address, mask, routers, name servers, lease time, server.
const UDHCPC: [&str; 6] = ["ip", "subnet", "router", "dns", "lease", "serverid"];
const ISC_AND_DHCPCD: [&str; 6] = [
    "new_ip_address",
    "new_subnet_mask",
    "new_routers",
    "new_domain_name_servers",
    "new_dhcp_lease_time",
    "new_dhcp_server_identifier",
];
const NETWORKD: [&str; 6] = [
    "ADDRESS",
    "NETMASK",
    "ROUTER",
    "DNS",
    "LIFETIME",
    "SERVER_ADDRESS",
];

impl Event {
    /// A variable of the client.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether the client has a lease now.
    #[must_use]
    pub fn has_lease(&self) -> bool {
        ["bound", "renew", "BOUND", "RENEW", "REBIND", "REBOOT"].contains(&self.reason.as_str())
    }

    /// The lease, if the event is about one.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        [UDHCPC, ISC_AND_DHCPCD]
            .iter()
            .find_map(|names| lease(&self.variables, names))
    }
}

fn lease(variables: &Variables, names: &[&str; 6]) -> Option<Lease> {
    let [address, mask, routers, dns, seconds, server] =
        names.map(|name| variables.get(name).map_or("", String::as_str));
    let addresses = |text: &str| -> Vec<Ipv4Addr> {
        text.split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect()
    };
    Some(Lease {
        address: address.parse().ok()?,
        mask: mask.parse().ok()?,
        router: addresses(routers).first().copied(),
        dns: addresses(dns),
        seconds: seconds.parse().ok()?,
        server: server.parse().ok(),
    })
}

/// Stands behind each event.
pub(super) const END: &str = "--- end of event";

/// Reads what the script has appended; an event that is not whole yet is left out.
pub(super) fn parse_events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut variables = Variables::new();
    for line in text.lines() {
        if line == END {
            let mut variables = std::mem::take(&mut variables);
            let reason = variables.remove("event").unwrap_or_default();
            events.push(Event { reason, variables });
        } else if let Some((name, value)) = line.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    events
}

/// Reads networkd's file of one lease, `/run/systemd/netif/leases/{ifindex}`.
pub(super) fn parse_networkd(text: &str) -> Option<Lease> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let variables = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    lease(&variables, &NETWORKD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_leases_read_the_same() {
        let events = parse_events(&format!(
            "event=deconfig\ninterface=eth0\n{END}\n\
             event=bound\nip=100.64.1.2\nsubnet=255.192.0.0\nrouter=100.64.0.1\n\
             dns=9.9.9.9 1.1.1.1\nlease=3600\nserverid=100.64.0.1\n{END}\n\
             event=BOUND\nnew_ip_address=100.64.1.2\nnew_subnet_mask=255.192.0.0\n\
             new_routers=100.64.0.1\nnew_domain_name_servers=9.9.9.9 1.1.1.1\n\
             new_dhcp_lease_time=3600\nnew_dhcp_server_identifier=100.64.0.1\n{END}\n\
             event=half written\n"
        ));
        assert_eq!(events.len(), 3);
        assert!(!events[0].has_lease() && events[1].has_lease() && events[2].has_lease());
        let lease = events[1].lease().unwrap();
        assert_eq!(lease.seconds, 3600);
        assert_eq!(lease.dns.len(), 2);
        assert_eq!(Some(lease.clone()), events[2].lease());
        let networkd = "# private\nADDRESS=100.64.1.2\nNETMASK=255.192.0.0\nROUTER=100.64.0.1\n\
                        SERVER_ADDRESS=100.64.0.1\nT1=1800\nLIFETIME=3600\nDNS=9.9.9.9 1.1.1.1\n";
        assert_eq!(Some(lease), parse_networkd(networkd));
        assert_eq!(parse_networkd("ADDRESS=100.64.1.2\n"), None);
    }
}
