//! gossipsub, set up for three to fifteen nodes.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MessageAuthenticity, MessageId, ValidationMode,
    WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;

use crate::P2pError;
use crate::limits::{GOSSIP_QUEUE_PER_PEER, MOST_GOSSIP_BYTES};

pub(crate) type Behaviour = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// What gossipsub adds to a message: author, signature, sequence number, topic, framing.
const OVERHEAD: usize = 1024;

/// A behaviour that is subscribed to `topic` and takes no other.
///
/// The first message does not wait for a mesh: it floods to every peer that is up. Messages are
/// signed by their author and are the same if their bytes are. What is received waits for the node's
/// word before it is forwarded.
pub(crate) fn behaviour(
    key: &Keypair,
    protocol: String,
    topic: &IdentTopic,
) -> Result<Behaviour, P2pError> {
    let stack = |what: &dyn std::fmt::Display| P2pError::Stack(format!("gossipsub: {what}"));
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(protocol)
        .mesh_n(4)
        .mesh_n_low(2)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .heartbeat_interval(Duration::from_millis(500))
        .heartbeat_initial_delay(Duration::from_millis(100))
        .flood_publish(true)
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(|message| MessageId::from(blake3::hash(&message.data).as_bytes().to_vec()))
        .max_transmit_size(MOST_GOSSIP_BYTES + OVERHEAD)
        .connection_handler_queue_len(GOSSIP_QUEUE_PER_PEER)
        // A peer that was pruned, or that came back, is taken up again soon.
        .prune_backoff(Duration::from_secs(5))
        .unsubscribe_backoff(Duration::from_secs(1))
        .build()
        .map_err(|error| stack(&error))?;
    let filter = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let mut behaviour = gossipsub::Behaviour::new_with_subscription_filter(
        MessageAuthenticity::Signed(key.clone()),
        config,
        filter,
    )
    .map_err(|error| stack(&error))?;
    behaviour.subscribe(topic).map_err(|error| stack(&error))?;
    Ok(behaviour)
}
