//! The subscriber id out of a request's attributes: `{User-Name}`, `{NAS-Identifier}.{NAS-Port-Id}`.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::braces::{self, Piece};
use crate::attribute_id::AttributeId;
use crate::attributes::Attributes;

/// Text with attributes in braces.
///
/// Octets of a value that a subscriber id cannot hold (space, `/`, `?`, `#`, `%`, `"`, `\` and all
/// outside visible ASCII), and `=` itself, become `=` and two hexadecimal digits, as in RFC 2045
/// section 6.7: two different values never give the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Attribute(AttributeId, &'static str),
}

/// A template that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No attribute: all subscribers would be one.
    #[error("the template {0:?} has no attribute in it: write for example {{User-Name}}")]
    NoAttribute(String),
    /// A name that is not in the table.
    #[error("{{{name}}} is no attribute known here; known are {known}")]
    UnknownAttribute {
        /// Between the braces.
        name: String,
        /// All that may stand there.
        known: String,
    },
    /// Braces do not pair.
    #[error("the braces of the template {0:?} do not pair")]
    Braces(String),
    /// Text between attributes that a subscriber id cannot hold.
    #[error("{0:?} cannot be part of a subscriber id: use letters, digits, and . : - _ @ only")]
    Text(String),
}

/// A request without an attribute of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has no {0}, which the subscriber id is made of")]
pub struct MissingAttribute(pub &'static str);

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        let pieces = braces::split(template);
        let pieces = pieces.ok_or_else(|| TemplateError::Braces(template.to_owned()))?;
        let parts = pieces.into_iter().map(|piece| match piece {
            Piece::Placeholder(name) => attribute(name),
            Piece::Text(text) if text.bytes().any(needs_escape) => {
                Err(TemplateError::Text(text.to_owned()))
            }
            Piece::Text(text) => Ok(Part::Text(text.to_owned())),
        });
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        if parts.iter().any(|part| matches!(part, Part::Attribute(..))) {
            Ok(Self { parts })
        } else {
            Err(TemplateError::NoAttribute(template.to_owned()))
        }
    }
}

fn attribute(name: &str) -> Result<Part, TemplateError> {
    let secret = [AttributeId::USER_PASSWORD, AttributeId::CHAP_PASSWORD];
    AttributeId::by_name(name)
        .filter(|id| !secret.contains(id))
        .and_then(|id| Some(Part::Attribute(id, id.name()?)))
        .ok_or_else(|| TemplateError::UnknownAttribute {
            name: name.to_owned(),
            known: AttributeId::names()
                .filter(|known| !secret.iter().any(|id| id.name() == Some(known)))
                .collect::<Vec<_>>()
                .join(", "),
        })
}

impl Template {
    /// The text for a request.
    ///
    /// # Errors
    /// If the request lacks an attribute of the template, or it is empty.
    pub fn render(&self, attributes: &Attributes) -> Result<String, MissingAttribute> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Attribute(id, name) => {
                    let value = attributes.get(*id).filter(|value| !value.is_empty());
                    write_value(&mut out, *id, value.ok_or(MissingAttribute(name))?);
                }
            }
        }
        Ok(out)
    }
}

fn write_value(out: &mut String, id: AttributeId, value: &[u8]) {
    // Writing to a String does not fail.
    let _ = match (id, <[u8; 4]>::try_from(value)) {
        (AttributeId::NAS_IP_ADDRESS | AttributeId::FRAMED_IP_ADDRESS, Ok(octets)) => {
            write!(out, "{}", Ipv4Addr::from(octets))
        }
        (AttributeId::NAS_PORT | AttributeId::NAS_PORT_TYPE, Ok(octets)) => {
            write!(out, "{}", u32::from_be_bytes(octets))
        }
        _ => value.iter().try_for_each(|&octet| {
            if octet == b'=' || needs_escape(octet) {
                write!(out, "={octet:02X}")
            } else {
                out.write_char(char::from(octet))
            }
        }),
    };
}

/// Whether a subscriber id cannot hold this octet.
fn needs_escape(octet: u8) -> bool {
    !octet.is_ascii_graphic() || b"/?#%\"\\".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Attributes {
        let mut attributes = Attributes::new();
        attributes
            .push(AttributeId::USER_NAME, b"alice@example.net")
            .unwrap();
        attributes
            .push(AttributeId::NAS_IP_ADDRESS, &[192, 0, 2, 7])
            .unwrap();
        attributes
            .push(AttributeId::NAS_PORT, &[0, 0, 1, 2])
            .unwrap();
        attributes
            .push(AttributeId::AGENT_CIRCUIT_ID, b"0/1/5 a=b")
            .unwrap();
        attributes.push(AttributeId::NAS_IDENTIFIER, b"").unwrap();
        attributes
    }

    fn render(template: &str) -> Result<String, MissingAttribute> {
        template.parse::<Template>().unwrap().render(&request())
    }

    #[test]
    fn attributes_are_put_in_by_name_and_type() {
        assert_eq!(render("{User-Name}").unwrap(), "alice@example.net");
        assert_eq!(
            render("nas.{nas-ip-address}:{NAS-Port}").unwrap(),
            "nas.192.0.2.7:258"
        );
    }

    #[test]
    fn octets_that_an_id_cannot_hold_are_escaped_without_collision() {
        assert_eq!(render("{Agent-Circuit-Id}").unwrap(), "0=2F1=2F5=20a=3Db");
    }

    #[test]
    fn a_missing_or_empty_attribute_is_named() {
        assert_eq!(
            render("{Agent-Remote-Id}"),
            Err(MissingAttribute("Agent-Remote-Id"))
        );
        assert_eq!(
            render("{NAS-Identifier}"),
            Err(MissingAttribute("NAS-Identifier"))
        );
    }

    #[test]
    fn templates_that_mean_nothing_are_refused() {
        let refused = |text: &str| text.parse::<Template>().unwrap_err();
        assert!(matches!(refused(""), TemplateError::NoAttribute(_)));
        assert!(matches!(
            refused("everybody"),
            TemplateError::NoAttribute(_)
        ));
        assert!(matches!(
            refused("{User-Nam}"),
            TemplateError::UnknownAttribute { .. }
        ));
        assert!(matches!(
            refused("{User-Password}"),
            TemplateError::UnknownAttribute { .. }
        ));
        assert!(!refused("{x}").to_string().contains("Password"));
        for text in ["{User-Name", "User-Name}", "{User-Name}}", "{{User-Name}"] {
            let error = refused(text);
            let named = matches!(
                error,
                TemplateError::Braces(_) | TemplateError::UnknownAttribute { .. }
            );
            assert!(named, "{text}: {error}");
        }
        assert!(matches!(refused("a b{User-Name}"), TemplateError::Text(_)));
    }
}
