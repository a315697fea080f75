//! On which interface the subscribers of a NAS are: by the NAS itself, or by where its requests say they are.

use std::net::IpAddr;

use ipnet::IpNet;
use nexus_radius::{AttributeId, Attributes};
use serde::Deserialize;

use super::config::{ClientConfig, RadiusConfigError, network, wrong};

/// Most rules.
const MAX_RULES: usize = 1024;

/// One entry of `radius.interfaces:`; what is not given fits everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceRule {
    /// NAS-Identifier of the request, whole.
    pub nas_identifier: Option<String>,
    /// What NAS-Port-Id begins with.
    pub nas_port_id: Option<String>,
    /// The interface.
    pub interface: String,
}

impl InterfaceRule {
    fn fits(&self, request: &Attributes) -> bool {
        let value = |id| request.get(id);
        let named = self.nas_identifier.as_ref().is_none_or(|name| {
            value(AttributeId::NAS_IDENTIFIER).is_some_and(|value| value == name.as_bytes())
        });
        let on_port = self.nas_port_id.as_ref().is_none_or(|prefix| {
            value(AttributeId::NAS_PORT_ID)
                .is_some_and(|value| value.starts_with(prefix.as_bytes()))
        });
        named && on_port
    }
}

/// How the interface of a request is found.
#[derive(Debug, Default)]
pub(super) struct InterfaceChoice {
    rules: Vec<InterfaceRule>,
    /// The longest prefix first.
    clients: Vec<(IpNet, Option<String>)>,
}

impl InterfaceChoice {
    pub(super) fn new(
        rules: &[InterfaceRule],
        clients: &[ClientConfig],
    ) -> Result<Self, RadiusConfigError> {
        if rules.len() > MAX_RULES {
            let problem = format!("{} rules; at most {MAX_RULES}", rules.len());
            return Err(wrong("radius.interfaces", problem));
        }
        for (index, rule) in rules.iter().enumerate() {
            if rule.nas_identifier.is_none() && rule.nas_port_id.is_none() {
                let problem = "fits every request: give nas_identifier or nas_port_id, or name the interface at the client";
                return Err(wrong(format!("radius.interfaces[{index}]"), problem));
            }
        }
        let mut table = Vec::new();
        for (index, client) in clients.iter().enumerate() {
            let network = network(&format!("radius.clients[{index}]"), &client.address)?;
            table.push((network, client.interface.clone()));
        }
        table.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Ok(Self {
            rules: rules.to_vec(),
            clients: table,
        })
    }

    /// The interface of the first rule that fits, else that of the client; `None`: neither says.
    pub(super) fn choose(&self, from: IpAddr, request: &Attributes) -> Option<&str> {
        let rule = self.rules.iter().find(|rule| rule.fits(request));
        if let Some(rule) = rule {
            return Some(&rule.interface);
        }
        // As the server compares them.
        let from = from.to_canonical();
        let client = self
            .clients
            .iter()
            .find(|(network, _)| network.contains(&from));
        client.and_then(|(_, interface)| interface.as_deref())
    }
}

/// Whether all interfaces that RADIUS names are there, and every subscriber's will be known.
pub(super) fn check(
    rules: &[InterfaceRule],
    clients: &[ClientConfig],
    interfaces: &[&str],
) -> Result<(), RadiusConfigError> {
    let there = |field: String, name: &str| {
        if interfaces.contains(&name) {
            return Ok(());
        }
        let problem = format!(
            "`{}` is not among the interfaces of this host: {}",
            name.escape_default(),
            interfaces.join(", ")
        );
        Err(wrong(field, problem))
    };
    for (index, rule) in rules.iter().enumerate() {
        there(
            format!("radius.interfaces[{index}].interface"),
            &rule.interface,
        )?;
    }
    for (index, client) in clients.iter().enumerate() {
        let field = format!("radius.clients[{index}].interface");
        match &client.interface {
            Some(name) => there(field, name)?,
            None if interfaces.len() > 1 && rules.is_empty() => {
                let problem = "this host has several interfaces: name the one that this NAS's subscribers are on, or give rules under radius.interfaces";
                return Err(wrong(field, problem));
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(text: &str) -> Vec<ClientConfig> {
        serde_saphyr::from_str(text).unwrap()
    }

    fn rules(text: &str) -> Vec<InterfaceRule> {
        serde_saphyr::from_str(text).unwrap()
    }

    const CLIENTS: &str = "
- {address: 192.0.2.0/24, secret: s, interface: eth1}
- {address: 192.0.2.7, secret: s}
- {address: 2001:db8::/32, secret: s, interface: eth2}
- {address: 192.0.2.8, secret: s, interface: eth3}
";

    fn chosen(rules_text: &str, from: &str, attributes: &[(AttributeId, &str)]) -> Option<String> {
        let choice = InterfaceChoice::new(&rules(rules_text), &clients(CLIENTS)).unwrap();
        let mut request = Attributes::new();
        for (id, value) in attributes {
            request.push(*id, value.as_bytes()).unwrap();
        }
        let interface = choice.choose(from.parse().unwrap(), &request);
        interface.map(str::to_owned)
    }

    #[test]
    fn the_longest_prefix_of_the_client_says_the_interface() {
        for (from, expected) in [
            ("192.0.2.9", Some("eth1")),
            ("192.0.2.8", Some("eth3")),
            ("192.0.2.7", None),
            ("::ffff:192.0.2.8", Some("eth3")),
            ("2001:db8::1", Some("eth2")),
            ("203.0.113.1", None),
        ] {
            assert_eq!(chosen("[]", from, &[]).as_deref(), expected, "{from}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_goes_before_the_client() {
        let rules = "
- {nas_identifier: bng-1, nas_port_id: pon-1/1/, interface: a}
- {nas_identifier: bng-1, nas_port_id: pon-1/, interface: b}
- {nas_port_id: 'pon-9:', interface: c}
";
        let on = |nas, port| {
            let attributes = [
                (AttributeId::NAS_IDENTIFIER, nas),
                (AttributeId::NAS_PORT_ID, port),
            ];
            chosen(rules, "192.0.2.9", &attributes).unwrap()
        };
        assert_eq!(on("bng-1", "pon-1/1/3:100.7"), "a");
        assert_eq!(on("bng-1", "pon-1/2/3:100.7"), "b");
        assert_eq!(on("bng-10", "pon-1/2/3:100.7"), "eth1");
        assert_eq!(on("bng-10", "pon-9:5"), "c");
        assert_eq!(chosen(rules, "192.0.2.9", &[]).as_deref(), Some("eth1"));
    }

    #[test]
    fn what_is_not_there_or_says_nothing_is_refused() {
        let checked = |rules_text: &str, interfaces: &[&str]| {
            check(&rules(rules_text), &clients(CLIENTS), interfaces).map_err(|e| e.to_string())
        };
        let all = ["eth1", "eth2", "eth3"];
        let rule = "[{nas_port_id: a, interface: eth1}]";
        assert_eq!(checked(rule, &all), Ok(()));
        let error = checked("[]", &all).unwrap_err();
        assert!(error.contains("radius.clients[1].interface"), "{error}");
        let error = checked("[{nas_port_id: a, interface: eth9}]", &all).unwrap_err();
        assert!(error.contains("`eth9`") && error.contains("radius.interfaces[0]"));
        let error = checked(rule, &["eth1", "eth2"]).unwrap_err();
        assert!(
            error.contains("`eth3`") && error.contains("eth1, eth2"),
            "{error}"
        );
        let one = clients("[{address: 192.0.2.7, secret: s}]");
        assert!(check(&[], &one, &["eth1"]).is_ok());
        let error = InterfaceChoice::new(&rules("[{interface: eth1}]"), &one).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("radius.interfaces[0]: fits every")
        );
    }
}
