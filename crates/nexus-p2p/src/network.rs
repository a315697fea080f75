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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use libp2p::PeerId;
    use libp2p::core::transport::PortUse;
    use libp2p::core::{ConnectedPoint, Endpoint};
    use libp2p::swarm::behaviour::ConnectionEstablished;
    use libp2p::swarm::{ConnectionId, FromSwarm, ToSwarm};

    use super::*;
    use crate::greeting::Say;

    #[test]
    fn gates_are_installed_before_the_verdict_leaves() {
        let key = Keypair::generate_ed25519();
        let topic = gossipsub::IdentTopic::new("topic");
        let mut network = Network::new(&key, "fingerprint", &topic, Rules::default()).unwrap();
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
        let endpoint = ConnectedPoint::Dialer {
            address: "/ip4/192.0.2.1/tcp/4001".parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        network.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        // Said first, and yet last to leave.
        network.greeting.tell(peer, id, Say::Verdict(Vec::new()));
        network.gossip.install(peer, id);
        network.questions.install(peer, id);
        let mut context = Context::from_waker(futures::task::noop_waker_ref());
        let mut told = Vec::new();
        while let Poll::Ready(event) = network.poll(&mut context) {
            if let ToSwarm::NotifyHandler { event, .. } = event {
                told.push(format!("{event:?}"));
            }
        }
        let [first, second, third] = &told[..] else {
            panic!("{told:?}");
        };
        assert!(
            first.contains("Install") && second.contains("Install"),
            "{told:?}"
        );
        assert!(third.contains("Verdict"), "{told:?}");
    }
}
