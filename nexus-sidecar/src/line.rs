//! The key under which DHCP will see a subscriber, out of what is known of it.

use nexus_core::edge::{At, Circuit, LineKey, Vlans};

use crate::binding_map::{Access, Interface};
use crate::config::Identity;
use crate::edge_handle::AuthorizedSubscriber;

impl Access {
    /// The interface of a subscriber and its key there: of the interface's identities the first one for
    /// which the data are known.
    ///
    /// # Errors
    /// Which part of the configuration or of the request does not allow it.
    pub fn key_of(
        &self,
        subscriber: &AuthorizedSubscriber,
    ) -> Result<(&Interface, LineKey), String> {
        let interface = self.interface_of(subscriber)?;
        let at = interface
            .identity
            .iter()
            .find_map(|identity| at(*identity, subscriber))
            .ok_or_else(|| unknown(interface))?;
        let key = LineKey {
            interface: interface.name.clone(),
            at,
            mac: subscriber.mac,
        };
        Ok((interface, key))
    }

    fn interface_of(&self, subscriber: &AuthorizedSubscriber) -> Result<&Interface, String> {
        if let Some(name) = &subscriber.interface {
            return self.interface(name).ok_or_else(|| {
                format!("the subscriber is said to be on {name}, which is not among the interfaces")
            });
        }
        let mut all = self.interfaces();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(
                "this host has several interfaces and nothing says on which one the subscriber is: name it under radius.clients[].interface or radius.interfaces"
                    .to_owned(),
            ),
        }
    }
}

/// Where a subscriber is by one identity, if it is known.
fn at(identity: Identity, subscriber: &AuthorizedSubscriber) -> Option<At> {
    let vlans = || {
        let (outer, inner) = subscriber.vlans?;
        Some(Vlans { outer, inner })
    };
    let not_empty = |id: &Option<Vec<u8>>| id.clone().filter(|id| !id.is_empty());
    let circuit_id = || not_empty(&subscriber.circuit_id);
    Some(match identity {
        Identity::Line => At::Line(vlans()?),
        Identity::Vlan => At::Vlan(vlans()?),
        Identity::CircuitId => At::Circuit(Circuit {
            circuit_id: circuit_id()?,
            remote_id: Vec::new(),
        }),
        Identity::CircuitIdAndRemoteId => At::Circuit(Circuit {
            circuit_id: circuit_id()?,
            remote_id: not_empty(&subscriber.remote_id)?,
        }),
        Identity::Mac => At::Mac,
    })
}

fn unknown(interface: &Interface) -> String {
    let sources = interface.identity.iter().map(|identity| match identity {
        Identity::Line | Identity::Vlan => "its VLANs (NAS-Port-Id)",
        Identity::CircuitId => "its circuit-id (Agent-Circuit-Id)",
        Identity::CircuitIdAndRemoteId => {
            "its circuit-id and remote-id (Agent-Circuit-Id, Agent-Remote-Id)"
        }
        Identity::Mac => "its MAC address",
    });
    format!(
        "the request does not say where the subscriber is: {} knows subscribers by {} only; let the request carry it, or add `mac` to the interface's identity",
        interface.name,
        sources.collect::<Vec<_>>().join(" or "),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nexus_core::edge::Policies;
    use nexus_core::id::SubscriberId;

    use super::*;
    use crate::config::XdpMode;

    fn interface(name: &str, identity: &[Identity]) -> Interface {
        Interface {
            name: name.to_owned(),
            ifindex: 3,
            number: 0,
            mac: [2, 0, 0, 0, 0, 9],
            mode: XdpMode::Native,
            identity: identity.to_vec(),
            policies: Policies::default(),
            server_id: None,
            pool: None,
        }
    }

    /// Known by VLANs, circuit-id and remote-id, if the letter is there.
    fn key(identity: &[Identity], known: &str) -> Result<String, String> {
        let subscriber = AuthorizedSubscriber {
            subscriber: SubscriberId::new("s").unwrap(),
            interface: None,
            mac: [2, 0, 0, 0, 0, 1],
            vlans: known.contains('v').then_some((100, 7)),
            circuit_id: known.contains('c').then(|| b"0/1".to_vec()),
            remote_id: known.contains('r').then(|| vec![0]),
            pool: None,
            default_pool: None,
            pools: Vec::new(),
            elsewhere: Vec::new(),
            metadata: BTreeMap::new(),
        };
        let access = Access::new([interface("eth1", identity)]);
        let (_, key) = access.key_of(&subscriber)?;
        let text = key.to_string();
        let at = text.strip_prefix("eth1 ").unwrap();
        Ok(at.strip_suffix(" 02:00:00:00:00:01").unwrap().to_owned())
    }

    #[test]
    fn the_first_identity_whose_data_are_known_makes_the_key() {
        use Identity::{CircuitId, CircuitIdAndRemoteId, Line, Mac, Vlan};
        for (identity, known, expected) in [
            (&[Line, Mac][..], "vcr", "100.7"),
            (&[Line, Mac], "cr", "any"),
            (&[Mac, Line], "vcr", "any"),
            (&[Vlan], "v", "vlan 100.7"),
            (&[CircuitId, Vlan], "vcr", "circuit 302f31"),
            (&[CircuitId, Vlan], "vr", "vlan 100.7"),
            (&[CircuitIdAndRemoteId, Line], "vcr", "circuit 302f31+00"),
            (&[CircuitIdAndRemoteId, Line], "vc", "100.7"),
        ] {
            assert_eq!(key(identity, known).unwrap(), expected, "{identity:?}");
        }
        let error = key(&[CircuitIdAndRemoteId, Vlan], "c").unwrap_err();
        assert!(
            error.contains("Agent-Remote-Id") && error.contains("NAS-Port-Id"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_circuit_id_is_none() {
        let mut subscriber = AuthorizedSubscriber {
            subscriber: SubscriberId::new("s").unwrap(),
            interface: Some("eth1".to_owned()),
            mac: [2, 0, 0, 0, 0, 1],
            vlans: None,
            circuit_id: Some(Vec::new()),
            remote_id: None,
            pool: None,
            default_pool: None,
            pools: Vec::new(),
            elsewhere: Vec::new(),
            metadata: BTreeMap::new(),
        };
        let access = Access::new([interface("eth1", &[Identity::CircuitId])]);
        assert!(access.key_of(&subscriber).is_err());
        subscriber.circuit_id = Some(vec![0]);
        assert!(access.key_of(&subscriber).is_ok());
    }

    #[test]
    fn with_several_interfaces_the_subscribers_must_be_known() {
        let access = Access::new(["eth1", "eth2"].map(|name| interface(name, &[Identity::Mac])));
        let mut subscriber = AuthorizedSubscriber {
            subscriber: SubscriberId::new("s").unwrap(),
            interface: None,
            mac: [2, 0, 0, 0, 0, 1],
            vlans: None,
            circuit_id: None,
            remote_id: None,
            pool: None,
            default_pool: None,
            pools: Vec::new(),
            elsewhere: Vec::new(),
            metadata: BTreeMap::new(),
        };
        let error = access.key_of(&subscriber).unwrap_err();
        assert!(error.contains("radius.clients[].interface"), "{error}");
        subscriber.interface = Some("eth2".to_owned());
        let (interface, key) = access.key_of(&subscriber).unwrap();
        assert_eq!(
            (interface.name.as_str(), key.interface.as_str()),
            ("eth2", "eth2")
        );
        subscriber.interface = Some("eth3".to_owned());
        let error = access.key_of(&subscriber).unwrap_err();
        assert!(error.contains("eth3"), "{error}");
    }
}
