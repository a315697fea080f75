//! Tests across modules: the packets of RFC 2865 section 7, properties, and both state machines.

mod codec;
mod rfc2865;
mod server;
mod upstream;

use crate::{AttributeId, Attributes, Secret};

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

fn attributes(rows: &[(AttributeId, &[u8])]) -> Attributes {
    let mut attributes = Attributes::new();
    rows.iter()
        .for_each(|(id, value)| attributes.push(*id, value).unwrap());
    attributes
}
