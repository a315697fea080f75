//! The protocols of a node, put together.

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, gossipsub, identify, ping};

use crate::admission::Admission;
use crate::admission::rules::Rules;
use crate::gate::Gated;
use crate::greeting::{Greeting, Told};
use crate::limits::{PING_EVERY, PING_PATIENCE};
use crate::{P2pError, gossip, questions};

/// The order counts: the gates are asked for what they have to say before the greeting, so that they
/// are installed on a connection before the verdict leaves that invites the other side to speak.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "NetworkEvent", prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Network {
    pub(crate) admission: Admission,
    pub(crate) gossip: Gated<gossip::Behaviour>,
    pub(crate) questions: Gated<questions::Behaviour>,
    pub(crate) greeting: Greeting,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
}

impl Network {
    /// All names carry the fingerprint of the cluster.
    pub(crate) fn new(
        key: &Keypair,
        fingerprint: &str,
        topic: &gossipsub::IdentTopic,
        rules: Rules,
    ) -> Result<Self, P2pError> {
        let protocol = |name: &str| {
            StreamProtocol::try_from_owned(format!("/nexus/{fingerprint}/{name}"))
                .map_err(|error| P2pError::Stack(error.to_string()))
        };
        let gossip = gossip::behaviour(key, format!("/nexus/{fingerprint}/gossip"), topic)?;
        let about = identify::Config::new(format!("/nexus/{fingerprint}"), key.public())
            .with_agent_version(format!("nexus/{}", env!("CARGO_PKG_VERSION")))
            .with_cache_size(0);
        Ok(Self {
            admission: Admission::new(rules),
            gossip: Gated::new(gossip),
            questions: Gated::new(questions::behaviour(protocol("questions/1")?)),
            greeting: Greeting::new(protocol("hello/1")?),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(PING_EVERY)
                    .with_timeout(PING_PATIENCE),
            ),
            identify: identify::Behaviour::new(about),
        })
    }
}

/// What they report.
#[derive(Debug)]
pub(crate) enum NetworkEvent {
    Gossip(gossipsub::Event),
    Questions(questions::Event),
    Greeting(Told),
    Ping(ping::Event),
    /// It answers other tools that ask what this is; nothing here depends on it.
    Identify,
}

impl From<std::convert::Infallible> for NetworkEvent {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<gossipsub::Event> for NetworkEvent {
    fn from(event: gossipsub::Event) -> Self {
        Self::Gossip(event)
    }
}

impl From<questions::Event> for NetworkEvent {
    fn from(event: questions::Event) -> Self {
        Self::Questions(event)
    }
}

impl From<Told> for NetworkEvent {
    fn from(told: Told) -> Self {
        Self::Greeting(told)
    }
}

impl From<ping::Event> for NetworkEvent {
    fn from(event: ping::Event) -> Self {
        Self::Ping(event)
    }
}

impl From<identify::Event> for NetworkEvent {
    fn from(_: identify::Event) -> Self {
        Self::Identify
    }
}
