//! Requests to the edge and their answers, which are given only when everything is durable and in the map.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv6Net;
use nexus_core::edge::{Authorized, Denied, Effects, Granted, Grants, Heartbeat, LineKey, Place};
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::resource::{Resource, ResourceType};
use nexus_core::time::BootTime;
use tokio::sync::oneshot;

use super::EdgeTask;
use crate::binding_map::BindingMap;
use crate::clock::wall_now;
use crate::edge_handle::{
    AuthorizedSubscriber, Delivered, EdgeError, EdgeRequest, Elsewhere, Grant, Reply,
};
use crate::status::{BindingReport, StatusReport};

/// Label of a pool whose prefixes are those of links.
const FRAMED_LABEL: &str = "framed";
/// Label in the centre's record: the line of a subscriber.
const LINE_LABEL: &str = "line";
/// Most labels that the centre takes, and their longest key or value in bytes. It refuses an allocation
/// with more, and the subscriber would lose what it was given.
const MAX_LABELS: usize = 64;
const MAX_LABEL_LEN: usize = 256;

/// An answer that waits for the disk.
#[derive(Debug)]
pub(super) enum Answer {
    Authorize(
        Reply<Result<Grant, EdgeError>>,
        Option<(LineKey, SubscriberId)>,
        Result<Grants, EdgeError>,
    ),
    EndSession(Reply<Result<bool, EdgeError>>, bool),
    DhcpRelease(Reply<Result<bool, EdgeError>>, Option<Place>, bool),
    DhcpDecline(
        Reply<Result<Option<Ipv4Addr>, EdgeError>>,
        Option<Place>,
        Option<Result<Granted, EdgeError>>,
    ),
    Switched(Reply<Result<(), EdgeError>>, Result<(), EdgeError>),
    Status(Reply<StatusReport>),
    Bindings(Option<SubscriberId>, Reply<Vec<BindingReport>>),
    Report(oneshot::Sender<Heartbeat>),
}

impl<M: BindingMap> EdgeTask<M> {
    /// Lets the machine work on a request.
    pub(super) fn request(
        &mut self,
        now: BootTime,
        request: EdgeRequest,
        fx: &mut Effects,
    ) -> Answer {
        match request {
            EdgeRequest::Authorize(subscriber, reply) => {
                self.authorize(now, *subscriber, reply, fx)
            }
            EdgeRequest::EndSession(subscriber, reason, reply) => {
                let ended = self.edge.end_session(now, &subscriber, &reason, fx);
                Answer::EndSession(reply, ended)
            }
            EdgeRequest::DhcpRelease(key, address, reply) => {
                let place = self.access.from_kernel(&key);
                let released = place.as_ref().is_some_and(|place| {
                    self.edge
                        .dhcp_release(now, place, Resource::Ipv4(address), fx)
                });
                Answer::DhcpRelease(reply, place, released)
            }
            EdgeRequest::DhcpDecline(key, address, reply) => {
                let place = self.access.from_kernel(&key);
                let instead = place.as_ref().and_then(|place| {
                    self.edge
                        .dhcp_decline(now, place, Resource::Ipv4(address), wall_now(), fx)
                });
                Answer::DhcpDecline(reply, place, instead.map(|result| result.map_err(refusal)))
            }
            EdgeRequest::Status(reply) => Answer::Status(reply),
            EdgeRequest::SwitchPacketEvents(switches, reply) => {
                Answer::Switched(reply, self.switch_packet_events(&switches))
            }
            EdgeRequest::Bindings(subscriber, reply) => Answer::Bindings(subscriber, reply),
        }
    }

    fn authorize(
        &mut self,
        now: BootTime,
        subscriber: AuthorizedSubscriber,
        reply: Reply<Result<Grant, EdgeError>>,
        fx: &mut Effects,
    ) -> Answer {
        let (interface, key) = match self.access.key_of(&subscriber) {
            Ok(found) => found,
            Err(why) => return Answer::Authorize(reply, None, Err(EdgeError::BadKey(why))),
        };
        if let Some((prefix, pool)) = self.in_a_pool(&subscriber.elsewhere) {
            return Answer::Authorize(reply, None, Err(EdgeError::InPool(prefix, pool)));
        }
        let metadata = labels(subscriber.metadata, &key);
        let without = subscriber.elsewhere.iter().map(|one| one.kind);
        let on = (key.clone(), subscriber.subscriber.clone());
        let request = Authorized {
            subscriber: subscriber.subscriber,
            pool: subscriber
                .pool
                .or_else(|| interface.pool.clone())
                .or(subscriber.default_pool),
            named: subscriber.pools,
            without: without.collect(),
            key,
            metadata,
            timestamp: wall_now(),
            policies: interface.policies,
        };
        let mut grants = self.edge.authorize(now, &request, fx).map_err(refusal);
        if let Err(EdgeError::Asked(pool)) = &grants {
            let pool = pool.clone();
            grants = Err(self.ask_centre(now, pool, &request));
        }
        if let Ok(grants) = &grants {
            self.note_missing(&request.subscriber, &grants.missing);
        }
        Answer::Authorize(reply, Some(on), grants)
    }

    /// The first prefix that an AAA server gives by itself out of what a pool of this host holds.
    fn in_a_pool(&self, elsewhere: &[Elsewhere]) -> Option<(Ipv6Net, PoolId)> {
        let prefixes = elsewhere.iter().filter_map(|one| one.prefix);
        let of_pool = |prefix: Ipv6Net| {
            self.edge.pools().find_map(|pool| {
                let space: Ipv6Net = pool.space().parse().ok()?;
                (pool.kind() == ResourceType::Ipv6
                    && (space.contains(&prefix) || prefix.contains(&space)))
                .then(|| (prefix, pool.id().clone()))
            })
        };
        let mut found = prefixes.filter_map(of_pool);
        found.next()
    }

    /// Gives an answer. Somebody who does not wait any more does not get it.
    pub(super) fn answer(&mut self, now: BootTime, answer: Answer) {
        match answer {
            Answer::Authorize(reply, on, grants) => {
                let place = on.as_ref().map(|(key, _)| key.place());
                let grant = grants.and_then(|grants| self.grants(now, place.as_ref(), &grants));
                self.metrics.allocation(match &grant {
                    Ok(grant) if grant.known => "known",
                    Ok(_) => "new",
                    Err(error) => error.label(),
                });
                let _ = reply.send(grant);
            }
            Answer::EndSession(reply, ended) => {
                let _ = reply.send(Ok(ended));
            }
            Answer::DhcpRelease(reply, place, released) => {
                let _ = reply.send(self.written(place.as_ref()).map(|()| released));
            }
            Answer::DhcpDecline(reply, place, instead) => {
                let address = match instead {
                    None => Ok(None),
                    Some(granted) => granted
                        .and_then(|granted| self.grant(now, place.as_ref(), &granted))
                        .map(|grant| Some(grant.address)),
                };
                let _ = reply.send(address);
            }
            Answer::Switched(reply, switched) => {
                let _ = reply.send(switched);
            }
            Answer::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
            Answer::Bindings(subscriber, reply) => {
                let _ = reply.send(self.binding_reports(now, subscriber.as_ref()));
            }
            Answer::Report(reply) => {
                let _ = reply.send(self.edge.heartbeat(now));
            }
        }
    }

    /// What the subscriber is told of everything that it has.
    fn grants(
        &self,
        now: BootTime,
        place: Option<&Place>,
        grants: &Grants,
    ) -> Result<Grant, EdgeError> {
        let mut grant = self.grant(now, place, &grants.ipv4)?;
        let framed = |pool: &PoolId| {
            let labels = self.edge.pool(pool).map(|pool| &pool.spec().metadata);
            labels.and_then(|labels| labels.get(FRAMED_LABEL)) == Some(&"true".to_owned())
        };
        let further = grants.further.iter().map(|one| Delivered {
            pool: one.pool.clone(),
            resource: one.resource,
            framed: framed(&one.pool),
        });
        grant.further = further.collect();
        Ok(grant)
    }

    /// What the subscriber is told, if its entry is in the map.
    fn grant(
        &self,
        now: BootTime,
        place: Option<&Place>,
        granted: &Granted,
    ) -> Result<Grant, EdgeError> {
        self.written(place)?;
        if place.is_some_and(|place| self.is_leaving(place)) {
            return Err(EdgeError::Ended);
        }
        let Resource::Ipv4(address) = granted.resource else {
            return Err(EdgeError::NotIpv4(granted.pool.clone()));
        };
        // The process may have stood still since it was given.
        if granted.valid_until.is_some_and(|end| end <= now) {
            return Err(EdgeError::LeaseEnded);
        }
        let no_profile = || EdgeError::Map(format!("pool {} has no DHCP profile", granted.pool));
        let profile_id = place
            .and_then(|place| self.profiles.id(&granted.pool, &place.interface))
            .ok_or_else(no_profile)?;
        let profile = self.profiles.get(profile_id).ok_or_else(no_profile)?;
        let mask = self
            .edge
            .pool(&granted.pool)
            .and_then(|pool| pool.dhcp())
            .ok_or_else(no_profile)?
            .netmask();
        let left = granted.valid_until.map_or(u32::MAX, |end| {
            u32::try_from(end.since(now).as_secs()).unwrap_or(u32::MAX)
        });
        Ok(Grant {
            pool: granted.pool.clone(),
            address,
            mask,
            lease_secs: profile.lease_secs.min(left),
            profile_id,
            known: granted.known,
            further: Vec::new(),
        })
    }

    fn written(&self, place: Option<&Place>) -> Result<(), EdgeError> {
        match place.and_then(|place| self.map_errors.get(place)) {
            Some(error) => Err(EdgeError::Map(error.clone())),
            None => Ok(()),
        }
    }
}

/// What the record shall say, cut to what the centre takes; the line is always there.
fn labels(metadata: BTreeMap<String, String>, key: &LineKey) -> BTreeMap<String, String> {
    let line = metadata.get(LINE_LABEL).cloned();
    let fits = |name: &String| (1..=MAX_LABEL_LEN).contains(&name.len()) && name != LINE_LABEL;
    let others = metadata.into_iter().filter(|(name, _)| fits(name));
    let mut labels: BTreeMap<_, _> = others.take(MAX_LABELS.saturating_sub(1)).collect();
    labels.insert(
        LINE_LABEL.to_owned(),
        line.unwrap_or_else(|| key.to_string()),
    );
    for value in labels.values_mut() {
        value.truncate(value.floor_char_boundary(MAX_LABEL_LEN));
    }
    labels
}

fn refusal(denied: Denied) -> EdgeError {
    match denied {
        Denied::NotReady(why) => EdgeError::NotReady(why.to_owned()),
        Denied::SecondHost(why) => EdgeError::SecondHost(why),
        Denied::AskCentre(pool) => EdgeError::Asked(pool),
        Denied::LeaseEnded => EdgeError::LeaseEnded,
        Denied::UnknownPool(pool) => EdgeError::UnknownPool(pool),
        Denied::WrongType(pool) | Denied::SecondOfKind(pool, _) => EdgeError::NotIpv4(pool),
        Denied::NoPool => EdgeError::NoPool,
        Denied::Exhausted(pool) => EdgeError::Exhausted(pool),
        Denied::Key(problem) => EdgeError::BadKey(problem.to_string()),
        Denied::Conflict(conflict) => EdgeError::Conflict(conflict),
        Denied::KeptAway(left) => EdgeError::KeptAway(left),
    }
}
