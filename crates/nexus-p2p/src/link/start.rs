//! From options to a running task.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, gossipsub};
use tokio::sync::{mpsc, watch};

use super::{Link, Shared};
use crate::address::listening;
use crate::admission::rules::Rules;
use crate::limits::{COMMAND_QUEUE, EVENT_QUEUE, PUBLISH_QUEUE};
use crate::network::Network;
use crate::node::{Inputs, Membership, Node};
use crate::transport::{self, TrafficTable};
use crate::{Event, Options, P2pError, keys};

/// How often another free port is tried when the first is free on TCP only.
const PORT_TRIES: usize = 16;

/// How long the sockets may take to report their addresses.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn start(options: Options) -> Result<(Link, mpsc::Receiver<Event>), P2pError> {
    let checked = options.checked()?;
    let key = keys::node_key(&options.key_file)?;
    let own = key.public().to_peer_id();
    let fingerprint = options.cluster_key.fingerprint();
    let topic = gossipsub::IdentTopic::new(format!("nexus/{fingerprint}/{}", options.topic));
    let named = checked
        .bootstrap
        .iter()
        .filter_map(|place| place.peer)
        .collect();
    let rules = Rules::new(checked.allowed, named);
    let network = Network::new(&key, &fingerprint, &topic, rules)?;
    let traffic = TrafficTable::default();
    let transport = transport::build(&key, &options.cluster_key, traffic.clone())?;
    let config = libp2p::swarm::Config::with_tokio_executor()
        // The greeting keeps connections alive; this is for none.
        .with_idle_connection_timeout(Duration::from_secs(60));
    let mut swarm = Swarm::new(transport, network, own, config);

    let shared = Arc::new(Shared::new(own, traffic, checked.advertise));
    listen(&mut swarm, options.listen, &shared).await?;

    let (commands, commands_in) = mpsc::channel(COMMAND_QUEUE);
    let (gossip, gossip_in) = mpsc::channel(PUBLISH_QUEUE);
    let (members, members_in) = watch::channel(Membership::default());
    let (hello, hello_in) = watch::channel(options.hello.clone());
    let (events, events_out) = mpsc::channel(EVENT_QUEUE);
    let node = Node::new(
        swarm,
        topic,
        &options,
        checked.bootstrap,
        shared.clone(),
        events,
    );
    let inputs = Inputs {
        commands: commands_in,
        gossip: gossip_in,
        members: members_in,
        hello: hello_in,
    };
    tokio::spawn(node.run(inputs));
    tracing::info!(
        peer_id = %own,
        cluster = fingerprint,
        addresses = ?shared.addresses(),
        "listening for peers"
    );
    Ok((
        Link {
            shared,
            commands,
            gossip,
            members,
            hello,
        },
        events_out,
    ))
}

/// Listens on TCP and QUIC at the same port and waits until both have an address.
async fn listen(
    swarm: &mut Swarm<Network>,
    at: SocketAddr,
    shared: &Shared,
) -> Result<(), P2pError> {
    let port = free_port(at)?;
    let mut ips = vec![at.ip()];
    if at.ip().is_unspecified() && at.is_ipv6() {
        // libp2p's sockets take one family each.
        ips.push(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    let mut waiting = Vec::new();
    for ip in ips {
        for (quic, transport) in [(false, "TCP"), (true, "UDP")] {
            let listener = swarm
                .listen_on(listening(ip, port, quic))
                .map_err(|error| P2pError::Listen {
                    address: SocketAddr::new(ip, port),
                    transport,
                    source: std::io::Error::other(error),
                })?;
            waiting.push(listener);
        }
    }
    let reported = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr {
                    listener_id,
                    address,
                } => {
                    shared.listens_at(&address, true);
                    waiting.retain(|listener| *listener != listener_id);
                }
                SwarmEvent::ListenerClosed {
                    reason: Err(source),
                    ..
                } => {
                    return Err(P2pError::Listen {
                        address: at,
                        transport: "TCP, UDP",
                        source,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    };
    // A host without any address yet gets them later, as events.
    tokio::time::timeout(LISTEN_PATIENCE, reported)
        .await
        .unwrap_or(Ok(()))
}

/// The port to use. libp2p shares TCP ports (`SO_REUSEPORT`), so two servers on one port would both
/// start; binding without sharing finds out.
fn free_port(at: SocketAddr) -> Result<u16, P2pError> {
    let fail = |transport| {
        move |source| P2pError::Listen {
            address: at,
            transport,
            source,
        }
    };
    for _ in 0..PORT_TRIES {
        let tcp = TcpListener::bind(at).map_err(fail("TCP"))?;
        let bound = tcp.local_addr().map_err(fail("TCP"))?;
        match UdpSocket::bind(bound) {
            Ok(_) => return Ok(bound.port()),
            Err(error) if at.port() != 0 => return Err(fail("UDP")(error)),
            Err(_) => {}
        }
    }
    Err(P2pError::Listen {
        address: at,
        transport: "TCP and UDP",
        source: std::io::ErrorKind::AddrInUse.into(),
    })
}
