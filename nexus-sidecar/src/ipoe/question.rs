//! The Access-Request about a client, as a BNG writes it for DHCP subscribers.

use std::net::IpAddr;

use nexus_radius::identity::mac_text;
use nexus_radius::{AttributeError, AttributeId, Attributes};

use super::contact::Contact;

/// Service-Type Framed (RFC 2865 5.6).
const FRAMED: u32 = 2;
/// NAS-Port-Type Ethernet (RFC 2865 5.41).
const ETHERNET: u32 = 15;

/// Who asks, and where the client is.
pub(super) struct Asker<'a> {
    /// NAS-Identifier: the id of this OLT.
    pub(super) nas_identifier: &'a str,
    /// NAS-IP-Address or NAS-IPv6-Address.
    pub(super) nas_address: Option<IpAddr>,
    /// Interface that the client is on.
    pub(super) interface: &'a str,
}

/// All attributes but User-Password and Message-Authenticator, which belong to one server each.
///
/// NAS-Port-Id is `eth1:100.7`, `eth1:100` or `eth1`: what the patterns of `radius.nas_port_id` read by
/// default. Circuit id and remote id are octet for octet those of option 82. There is no standard
/// attribute for the vendor class of DHCP; it goes as the one that Nokia's routers use, and FreeRADIUS's
/// dictionaries know.
pub(super) fn attributes(
    user_name: &str,
    asker: &Asker<'_>,
    contact: &Contact,
) -> Result<Attributes, AttributeError> {
    let client = &contact.client;
    let mut attributes = Attributes::new();
    attributes.push(AttributeId::USER_NAME, user_name.as_bytes())?;
    attributes.push_text(AttributeId::NAS_IDENTIFIER, asker.nas_identifier)?;
    match asker.nas_address {
        Some(IpAddr::V4(address)) => {
            attributes.push_ipv4(AttributeId::NAS_IP_ADDRESS, address)?;
        }
        Some(IpAddr::V6(address)) => {
            attributes.push(AttributeId::NAS_IPV6_ADDRESS, &address.octets())?;
        }
        None => {}
    }
    attributes.push_u32(AttributeId::SERVICE_TYPE, FRAMED)?;
    attributes.push_u32(AttributeId::NAS_PORT_TYPE, ETHERNET)?;
    let port = match client.vlans {
        (0, 0) => asker.interface.to_owned(),
        (outer, 0) => format!("{}:{outer}", asker.interface),
        (outer, inner) => format!("{}:{outer}.{inner}", asker.interface),
    };
    attributes.push_text(AttributeId::NAS_PORT_ID, &port)?;
    attributes.push_text(AttributeId::CALLING_STATION_ID, &mac_text(client.mac))?;
    for (id, value) in [
        (AttributeId::AGENT_CIRCUIT_ID, &client.circuit_id),
        (AttributeId::AGENT_REMOTE_ID, &client.remote_id),
        (AttributeId::ALC_DHCP_VENDOR_CLASS_ID, &contact.vendor_class),
    ] {
        if let Some(value) = value {
            attributes.push(id, value)?;
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::super::contact::Client;
    use super::*;

    fn asked(contact: &Contact, nas_address: Option<IpAddr>) -> Attributes {
        let asker = Asker {
            nas_identifier: "olt-east-01",
            nas_address,
            interface: "eth1",
        };
        attributes("someone", &asker, contact).unwrap()
    }

    #[test]
    fn a_request_says_who_where_and_over_what() {
        let contact = Contact {
            client: Client {
                mac: [2, 0, 0, 0, 0, 1],
                vlans: (100, 7),
                circuit_id: Some(vec![0, 4, 0, 1]),
                remote_id: Some(b"cpe-1".to_vec()),
            },
            relay: None,
            vendor_class: Some(b"udhcp 1.35.0".to_vec()),
        };
        let asked = asked(&contact, Some("192.0.2.9".parse().unwrap()));
        let expected: [(AttributeId, &[u8]); 10] = [
            (AttributeId::USER_NAME, b"someone"),
            (AttributeId::NAS_IDENTIFIER, b"olt-east-01"),
            (AttributeId::NAS_IP_ADDRESS, &[192, 0, 2, 9]),
            (AttributeId::SERVICE_TYPE, &[0, 0, 0, 2]),
            (AttributeId::NAS_PORT_TYPE, &[0, 0, 0, 15]),
            (AttributeId::NAS_PORT_ID, b"eth1:100.7"),
            (AttributeId::CALLING_STATION_ID, b"02:00:00:00:00:01"),
            (AttributeId::AGENT_CIRCUIT_ID, &[0, 4, 0, 1]),
            (AttributeId::AGENT_REMOTE_ID, b"cpe-1"),
            (AttributeId::ALC_DHCP_VENDOR_CLASS_ID, b"udhcp 1.35.0"),
        ];
        for (id, value) in expected {
            assert_eq!(asked.get(id), Some(value), "{id:?}");
        }
    }

    #[test]
    fn the_port_id_is_what_the_default_patterns_read() {
        for (vlans, port) in [((0, 0), "eth1"), ((9, 0), "eth1:9"), ((9, 8), "eth1:9.8")] {
            let mut contact = Contact::default();
            contact.client.vlans = vlans;
            let asked = asked(&contact, Some("2001:db8::1".parse().unwrap()));
            assert_eq!(asked.text(AttributeId::NAS_PORT_ID), Some(port));
            assert_eq!(asked.get(AttributeId::NAS_IPV6_ADDRESS).unwrap().len(), 16);
            assert!(!asked.contains(AttributeId::NAS_IP_ADDRESS));
            assert!(!asked.contains(AttributeId::AGENT_CIRCUIT_ID));
        }
    }
}
