//! TCP with Noise (its prologue is made of the cluster's key) and Yamux, and QUIC, both metered.

mod meter;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport as _, noise, quic, tcp, yamux};

use crate::limits::{
    HANDSHAKE_PATIENCE, MOST_MUXED_STREAMS, PING_EVERY, PING_PATIENCE, QUIC_WINDOW,
};
use crate::{ClusterKey, P2pError};
pub(crate) use meter::{Traffic, TrafficTable};

/// The transport of a node.
pub(crate) fn build(
    key: &Keypair,
    cluster: &ClusterKey,
    traffic: TrafficTable,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, P2pError> {
    let noise = noise::Config::new(key)
        .map_err(|error| P2pError::Stack(format!("noise: {error}")))?
        .with_prologue(cluster.prologue());
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MOST_MUXED_STREAMS);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(key);
    config.handshake_timeout = HANDSHAKE_PATIENCE;
    config.keep_alive_interval = PING_EVERY;
    config.max_idle_timeout = u32::try_from(2 * PING_PATIENCE.as_millis()).unwrap_or(u32::MAX);
    config.max_concurrent_stream_limit = u32::try_from(MOST_MUXED_STREAMS).unwrap_or(u32::MAX);
    // What a peer may send unread: half of it on one stream.
    config.max_connection_data = QUIC_WINDOW;
    config.max_stream_data = QUIC_WINDOW / 2;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let either = tcp.or_transport(quic).map(move |either, _| {
        let (peer, muxer) = either.into_inner();
        let metered = meter::Metered::new(muxer, traffic.of(peer));
        (peer, StreamMuxerBox::new(metered))
    });
    Ok(TransportTimeout::new(either, HANDSHAKE_PATIENCE).boxed())
}
