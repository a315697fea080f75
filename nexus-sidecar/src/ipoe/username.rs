//! The User-Name of a client that nobody has introduced: a template over what its packet says.

use std::str::FromStr;

use nexus_radius::identity::braces::{self, Piece};
use nexus_radius::identity::mac_text;

use super::contact::{Client, Contact};

/// Most octets of User-Name (RFC 2865 section 5).
const USER_NAME_MAX: usize = 253;

/// Text with placeholders in braces, such as `{circuit-id}` or `{interface}.{outer-vid}.{inner-vid}`.
///
/// A circuit id or remote id stands there as it came if it is plain text; octets that are not, and text
/// that begins with `0x`, become `0x` and hexadecimal digits, so that two ids never give the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

macro_rules! placeholders {
    ($($variant:ident = $name:literal;)*) => {
        /// What may stand in braces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Placeholder {
            $($variant,)*
        }

        impl Placeholder {
            const TABLE: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

placeholders! {
    Mac = "mac";
    Interface = "interface";
    OuterVid = "outer-vid";
    InnerVid = "inner-vid";
    CircuitId = "circuit-id";
    RemoteId = "remote-id";
    Relay = "relay";
}

/// A template that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Something else in braces.
    #[error("{{{name}}} is no placeholder; known are {known}")]
    Unknown {
        /// Between the braces.
        name: String,
        /// All that may stand there.
        known: String,
    },
    /// Braces do not pair.
    #[error("the braces of {0:?} do not pair")]
    Braces(String),
}

/// A packet that no User-Name can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUserName {
    /// It lacks what a placeholder stands for.
    #[error("the packet has no {0}, which the username is made of")]
    Missing(&'static str),
    /// User-Name cannot be so long.
    #[error("the username has {0} octets, the most is {USER_NAME_MAX}")]
    TooLong(usize),
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(template: &str) -> Result<Self, UserNameError> {
        let pieces = braces::split(template);
        let pieces = pieces.ok_or_else(|| UserNameError::Braces(template.to_owned()))?;
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.to_owned())),
            Piece::Placeholder(name) => placeholder(name).map(Part::Value),
        });
        Ok(Self {
            parts: parts.collect::<Result<_, _>>()?,
        })
    }
}

fn placeholder(name: &str) -> Result<Placeholder, UserNameError> {
    let row = Placeholder::TABLE.iter().find(|(_, known)| *known == name);
    row.map(|(value, _)| *value).ok_or_else(|| {
        let known = Placeholder::TABLE
            .iter()
            .map(|(_, known)| format!("{{{known}}}"));
        UserNameError::Unknown {
            name: name.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    })
}

impl UserName {
    /// Whether two clients of one interface can have different names.
    #[must_use]
    pub fn tells_clients_apart(&self) -> bool {
        let of_a_client = |part: &Part| matches!(part, Part::Value(value) if *value != Placeholder::Interface && *value != Placeholder::Relay);
        self.parts.iter().any(of_a_client)
    }

    /// The User-Name of the client on this interface: 1..=253 octets.
    ///
    /// # Errors
    /// What the packet lacks.
    pub fn render(&self, interface: &str, contact: &Contact) -> Result<String, NoUserName> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Value(placeholder) => {
                    let value = value(*placeholder, interface, contact);
                    let missing = || NoUserName::Missing(placeholder.name());
                    name.push_str(&value.ok_or_else(missing)?);
                }
            }
        }
        if name.len() > USER_NAME_MAX {
            return Err(NoUserName::TooLong(name.len()));
        }
        Ok(name)
    }
}

impl Placeholder {
    fn name(self) -> &'static str {
        let row = Self::TABLE.iter().find(|(value, _)| *value == self);
        row.map_or("value", |(_, name)| name)
    }
}

fn value(placeholder: Placeholder, interface: &str, contact: &Contact) -> Option<String> {
    let Client {
        vlans: (outer, inner),
        circuit_id,
        remote_id,
        ..
    } = &contact.client;
    let vid = |vid: u16| (vid != 0).then(|| vid.to_string());
    match placeholder {
        Placeholder::Mac => Some(mac_text(contact.client.mac)),
        Placeholder::Interface => Some(interface.to_owned()),
        Placeholder::OuterVid => vid(*outer),
        Placeholder::InnerVid => vid(*inner),
        Placeholder::CircuitId => circuit_id.as_deref().map(readable),
        Placeholder::RemoteId => remote_id.as_deref().map(readable),
        Placeholder::Relay => contact.relay.map(|relay| relay.to_string()),
    }
}

/// Plain text as it is, all else as hexadecimal digits.
fn readable(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with("0x") => {
            text.to_owned()
        }
        _ => format!("0x{}", hex::encode(octets)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn contact() -> Contact {
        Contact {
            client: Client {
                mac: [2, 0, 0, 0xab, 0, 1],
                vlans: (100, 7),
                circuit_id: Some(b"0/1/5:32 a".to_vec()),
                remote_id: Some(vec![0, 0xff]),
            },
            relay: Some(Ipv4Addr::new(192, 0, 2, 1)),
            vendor_class: None,
        }
    }

    fn render(template: &str, contact: &Contact) -> Result<String, NoUserName> {
        let template: UserName = template.parse().unwrap();
        template.render("eth1", contact)
    }

    #[test]
    fn placeholders_become_what_the_packet_says() {
        for (template, name) in [
            ("{mac}", "02:00:00:ab:00:01"),
            ("{interface}.{outer-vid}.{inner-vid}", "eth1.100.7"),
            ("{circuit-id}@example.net", "0/1/5:32 a@example.net"),
            ("{remote-id}", "0x00ff"),
            ("{relay}/{mac}", "192.0.2.1/02:00:00:ab:00:01"),
        ] {
            assert_eq!(render(template, &contact()).unwrap(), name);
        }
    }

    #[test]
    fn what_the_packet_lacks_is_named() {
        let bare = Contact::default();
        for name in ["outer-vid", "inner-vid", "circuit-id", "remote-id"] {
            let error = render(&format!("{{{name}}}"), &bare).unwrap_err();
            assert_eq!(error, NoUserName::Missing(name));
        }
        assert_eq!(
            render("{mac}{relay}", &bare).unwrap_err(),
            NoUserName::Missing("relay")
        );
        let mut long = contact();
        long.client.circuit_id = Some(vec![1; 127]);
        assert_eq!(
            render("{circuit-id}", &long).unwrap_err(),
            NoUserName::TooLong(256)
        );
    }

    #[test]
    fn an_id_that_looks_like_hexadecimal_digits_is_not_taken_for_another() {
        let mut text = contact();
        text.client.remote_id = Some(b"0x00ff".to_vec());
        let (text, octets) = (
            render("{remote-id}", &text).unwrap(),
            render("{remote-id}", &contact()).unwrap(),
        );
        assert_ne!(text, octets);
        assert_eq!(text, "0x307830306666");
    }

    #[test]
    fn templates_that_mean_nothing_are_refused() {
        let refused = |text: &str| text.parse::<UserName>().unwrap_err().to_string();
        assert!(refused("{vlan}").contains("{vlan} is no placeholder; known are {mac}"));
        assert!(refused("{mac").contains("do not pair"));
    }

    #[test]
    fn only_a_name_with_something_of_the_client_tells_clients_apart() {
        let tells = |text: &str| text.parse::<UserName>().unwrap().tells_clients_apart();
        for constant in ["guest", "{interface}", "{relay}@x"] {
            assert!(!tells(constant), "{constant}");
        }
        assert!(tells("{mac}") && tells("{interface}.{outer-vid}"));
    }
}
