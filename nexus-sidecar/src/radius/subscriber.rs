//! From an Access-Request to the subscriber: id, MAC, line, and what the record shall say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nexus_core::id::{IdError, PoolId, SubscriberId};
use nexus_radius::identity::{
    MissingAttribute, Template, VlanOutOfRange, VlanPattern, mac_text, parse_mac,
};
use nexus_radius::{AttributeId, Attributes};

use super::delivery;
use super::interface::InterfaceChoice;
use super::users::User;
use crate::edge_handle::{AuthorizedSubscriber, MAX_NAMED_POOLS};

/// A request that does not say who or where the subscriber is; answered with Access-Reject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error(transparent)]
    MissingAttribute(#[from] MissingAttribute),
    #[error("the subscriber id of this request cannot be used: {0}")]
    SubscriberId(#[from] IdError),
    #[error("Framed-Pool of the upstream server cannot be used: {0}")]
    Pool(IdError),
    #[error("{0} of the upstream server cannot be used: {1}")]
    NamedPool(&'static str, IdError),
    #[error("Framed-Pool of the upstream server is not text")]
    PoolNotText,
    #[error("the request has no Calling-Station-Id, which must carry the MAC address")]
    NoMac,
    #[error("Calling-Station-Id {0:?} is no MAC address of a subscriber")]
    BadMac(String),
    #[error("NAS-Port-Id is not text")]
    PortNotText,
    #[error(transparent)]
    Vlan(#[from] VlanOutOfRange),
}

/// Where a subscriber is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Interface that it is on; `None`: the only one there is.
    pub interface: Option<String>,
    /// Hardware address of the client.
    pub mac: [u8; 6],
    /// Outer and inner VLAN id, 0 for a tag that is not there; `None`: not known.
    pub vlans: Option<(u16, u16)>,
}

/// How subscribers are recognised.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) subscriber_id: Template,
    pub(super) nas_port_id: Vec<VlanPattern>,
    pub(super) interfaces: InterfaceChoice,
    pub(super) default_pool: Option<PoolId>,
}

impl Identity {
    /// The subscriber of a request that came `from` a client. `user` is its entry in the users file, `theirs`
    /// what the upstream server said of it.
    pub(super) fn subscriber(
        &self,
        from: IpAddr,
        request: &Attributes,
        user: Option<&User>,
        theirs: Option<&Attributes>,
    ) -> Result<AuthorizedSubscriber, SubscriberError> {
        let line = Line {
            interface: self.interfaces.choose(from, request).map(str::to_owned),
            mac: mac(request)?,
            vlans: self.vlans(request)?,
        };
        self.on_line(&line, &self.subscriber_id, request, user, theirs)
    }

    /// The subscriber on a line that is known already; `subscriber_id` makes its id, unless the users
    /// file has one.
    pub(super) fn on_line(
        &self,
        line: &Line,
        subscriber_id: &Template,
        request: &Attributes,
        user: Option<&User>,
        theirs: Option<&Attributes>,
    ) -> Result<AuthorizedSubscriber, SubscriberError> {
        let subscriber = match user.and_then(|user| user.subscriber_id.clone()) {
            Some(id) => id,
            None => SubscriberId::new(subscriber_id.render(request)?)?,
        };
        let none = Attributes::new();
        let theirs = theirs.unwrap_or(&none);
        let framed_pool = theirs.get(AttributeId::FRAMED_POOL).map(|name| {
            let name = std::str::from_utf8(name).map_err(|_| SubscriberError::PoolNotText)?;
            PoolId::new(name).map_err(SubscriberError::Pool)
        });
        let pool = framed_pool
            .transpose()?
            .or_else(|| user.and_then(|user| user.pool.clone()));
        let mut pools = delivery::named_pools(theirs)
            .map_err(|(name, error)| SubscriberError::NamedPool(name, error))?;
        pools.extend(user.iter().flat_map(|user| user.pools.clone()));
        pools.truncate(MAX_NAMED_POOLS);
        let octets = |id| request.get(id).map(<[u8]>::to_vec);
        Ok(AuthorizedSubscriber {
            subscriber,
            interface: line.interface.clone(),
            mac: line.mac,
            vlans: line.vlans,
            circuit_id: octets(AttributeId::AGENT_CIRCUIT_ID),
            remote_id: octets(AttributeId::AGENT_REMOTE_ID),
            pool,
            default_pool: self.default_pool.clone(),
            pools,
            elsewhere: delivery::elsewhere(theirs),
            metadata: metadata(request, line.mac, user),
        })
    }

    /// The VLANs of the first pattern that NAS-Port-Id matches.
    fn vlans(&self, request: &Attributes) -> Result<Option<(u16, u16)>, SubscriberError> {
        let Some(port) = request.get(AttributeId::NAS_PORT_ID) else {
            return Ok(None);
        };
        let port = std::str::from_utf8(port).map_err(|_| SubscriberError::PortNotText)?;
        for pattern in &self.nas_port_id {
            if let Some(vlans) = pattern.find(port)? {
                return Ok(Some((vlans.outer, vlans.inner)));
            }
        }
        Ok(None)
    }
}

fn mac(request: &Attributes) -> Result<[u8; 6], SubscriberError> {
    let value = request
        .get(AttributeId::CALLING_STATION_ID)
        .ok_or(SubscriberError::NoMac)?;
    let text = String::from_utf8_lossy(value);
    parse_mac(&text).ok_or_else(|| SubscriberError::BadMac(text.into_owned()))
}

/// What the request tells of the line, under the record's names; the users file has the last word.
fn metadata(request: &Attributes, mac: [u8; 6], user: Option<&User>) -> BTreeMap<String, String> {
    let named = [
        ("user_name", AttributeId::USER_NAME),
        ("nas_identifier", AttributeId::NAS_IDENTIFIER),
        ("nas_port_id", AttributeId::NAS_PORT_ID),
        ("circuit_id", AttributeId::AGENT_CIRCUIT_ID),
        ("remote_id", AttributeId::AGENT_REMOTE_ID),
    ];
    let found = named.into_iter().filter_map(|(name, id)| {
        let value = request.get(id)?;
        Some((name.to_owned(), readable(value)))
    });
    let mac = ("mac".to_owned(), mac_text(mac));
    let mut metadata: BTreeMap<_, _> = found.chain([mac]).collect();
    if let Some(user) = user {
        metadata.extend(user.metadata.clone());
    }
    metadata
}

/// Text as it is, other octets as hexadecimal digits.
fn readable(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex::encode(value)),
    }
}

#[cfg(test)]
mod tests;
