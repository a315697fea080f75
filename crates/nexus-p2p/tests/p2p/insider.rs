//! A bare libp2p peer that says what it likes: with the cluster's key or without it.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, yamux};
use nexus_p2p::ClusterKey;

use crate::support::DEADLINE;

/// Writes bytes as they are; reads a length of four bytes and as many more.
#[derive(Debug, Clone, Default)]
pub struct Raw;

async fn read_framed(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_framed(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_framed(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

type Streams = request_response::Behaviour<Raw>;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub struct Protocols {
    hello: Streams,
    questions: Streams,
    gossip: gossipsub::Behaviour,
}

/// See the module.
pub struct Insider {
    swarm: Swarm<Protocols>,
    topic: IdentTopic,
    fingerprint: String,
}

/// A length of four bytes, and the bytes.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

impl Insider {
    /// `key`: the cluster's, or none of it. `suits`: whether a peer id will do.
    pub fn new(key: Option<&ClusterKey>, topic: &str, suits: impl Fn(&PeerId) -> bool) -> Self {
        let fingerprint = key.map_or_else(|| "none".to_owned(), ClusterKey::fingerprint);
        let prologue = key.map_or_else(Vec::new, |key| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(key.to_hex(), &mut bytes).unwrap();
            blake3::derive_key("nexus 2026-11-22 prologue of the noise handshake", &bytes).to_vec()
        });
        let keypair = loop {
            let keypair = Keypair::generate_ed25519();
            if suits(&keypair.public().to_peer_id()) {
                break keypair;
            }
        };
        let topic = IdentTopic::new(format!("nexus/{fingerprint}/{topic}"));
        let streams = |name: &str| {
            let protocol = format!("/nexus/{fingerprint}/{name}");
            let protocol = StreamProtocol::try_from_owned(protocol).unwrap();
            let config = request_response::Config::default();
            Streams::new([(protocol, ProtocolSupport::Full)], config)
        };
        let gossip_config = gossipsub::ConfigBuilder::default()
            .protocol_id_prefix(format!("/nexus/{fingerprint}/gossip"))
            .heartbeat_initial_delay(Duration::from_millis(50))
            .heartbeat_interval(Duration::from_millis(100))
            .build()
            .unwrap();
        let signed = MessageAuthenticity::Signed(keypair.clone());
        let mut gossip = gossipsub::Behaviour::new(signed, gossip_config).unwrap();
        gossip.subscribe(&topic).unwrap();
        let protocols = Protocols {
            hello: streams("hello/1"),
            questions: streams("questions/1"),
            gossip,
        };
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                libp2p::tcp::Config::default(),
                |keypair: &Keypair| {
                    noise::Config::new(keypair).map(|noise| noise.with_prologue(prologue))
                },
                yamux::Config::default,
            )
            .unwrap()
            .with_quic()
            .with_behaviour(|_| protocols)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
            .build();
        Self {
            swarm,
            topic,
            fingerprint,
        }
    }

    /// Dials, and says how it went; the peer that was met.
    pub async fn dial(&mut self, address: &str) -> Result<PeerId, String> {
        let address: Multiaddr = address.parse().unwrap();
        self.swarm.dial(address).unwrap();
        let met = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, .. } => return Ok(peer_id),
                    SwarmEvent::OutgoingConnectionError { error, .. } => {
                        return Err(format!("{error:?}"));
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, met).await.unwrap()
    }

    pub fn say_hello(&mut self, to: PeerId, bytes: Vec<u8>) {
        self.swarm.behaviour_mut().hello.send_request(&to, bytes);
    }

    pub fn ask(&mut self, to: PeerId, bytes: Vec<u8>) {
        self.swarm
            .behaviour_mut()
            .questions
            .send_request(&to, bytes);
    }

    /// Whether it knows of a listener.
    pub fn publish(&mut self, bytes: &[u8]) -> bool {
        let topic = self.topic.clone();
        self.swarm
            .behaviour_mut()
            .gossip
            .publish(topic, bytes)
            .is_ok()
    }

    /// A Hello that is right, framed.
    pub fn good_hello(&self, number: u32) -> Vec<u8> {
        let hello = format!(
            "{{\"cluster\":\"{}\",\"boot\":1,\"number\":{number},\"name\":\"insider\",\
             \"role\":\"core\",\"versions\":[1,1],\"addresses\":[]}}",
            self.fingerprint
        );
        framed(hello.as_bytes())
    }

    /// Accepts every Hello, until `is_done`; counts what is heard.
    pub async fn run_until(&mut self, mut is_done: impl FnMut(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        let run = async {
            while !is_done(&heard) {
                let wait = Duration::from_millis(50);
                let Ok(event) = tokio::time::timeout(wait, self.swarm.select_next_some()).await
                else {
                    continue;
                };
                self.on_event(event, &mut heard);
            }
        };
        assert!(
            tokio::time::timeout(DEADLINE, run).await.is_ok(),
            "{heard:?}"
        );
        heard
    }

    fn on_event(&mut self, event: SwarmEvent<ProtocolsEvent>, heard: &mut Heard) {
        use request_response::Event as Of;
        match event {
            SwarmEvent::Behaviour(ProtocolsEvent::Hello(Of::Message { message, .. })) => {
                match message {
                    Message::Request { channel, .. } => {
                        heard.hellos += 1;
                        let accept = framed(b"{\"accepted\":true}");
                        let _ = self
                            .swarm
                            .behaviour_mut()
                            .hello
                            .send_response(channel, accept);
                    }
                    Message::Response { response, .. } => {
                        heard
                            .verdicts
                            .push(String::from_utf8_lossy(&response).into_owned());
                    }
                }
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Questions(Of::OutboundFailure {
                error, ..
            })) => heard.unanswered.push(error.to_string()),
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(event)) => match event {
                gossipsub::Event::Message { message, .. } => heard.gossip.push(message.data),
                gossipsub::Event::Subscribed { .. } => heard.listeners += 1,
                _ => {}
            },
            SwarmEvent::ConnectionClosed { .. } => heard.closed += 1,
            _ => {}
        }
    }
}

/// What an insider heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub hellos: usize,
    pub verdicts: Vec<String>,
    pub unanswered: Vec<String>,
    pub gossip: Vec<Vec<u8>>,
    pub listeners: usize,
    pub closed: usize,
}
