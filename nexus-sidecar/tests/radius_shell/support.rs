//! A running RADIUS shell with an edge that the test plays, and ways to talk to it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_core::id::PoolId;
use nexus_radius::authenticator::sign_request;
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};
use nexus_sidecar::edge_handle::{AuthorizedSubscriber, Delivered, EdgeError};
use nexus_sidecar::metrics::Metrics;
use nexus_sidecar::radius::{Authorizer, FramedAddress, RadiusConfig, RadiusServer};
use nexus_sidecar::shutdown::{self, Stopper};
use nexus_testkit::{command, interrupt};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Secret of every NAS in these tests.
pub const SECRET: &str = "nas-secret";
/// Address that the played edge gives.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 50);

/// The edge as the test plays it: remembers what it was asked, and answers when it may.
#[derive(Clone)]
pub struct PlayedEdge {
    asked: Arc<Mutex<Vec<AuthorizedSubscriber>>>,
    refusal: Arc<Mutex<Option<EdgeError>>>,
    ends_in_secs: Arc<Mutex<Option<u32>>>,
    further: Arc<Mutex<Vec<Delivered>>>,
    may_answer: Arc<Semaphore>,
}

impl Authorizer for PlayedEdge {
    async fn authorize(
        &self,
        subscriber: AuthorizedSubscriber,
    ) -> Result<FramedAddress, EdgeError> {
        self.asked.lock().unwrap().push(subscriber.clone());
        self.may_answer.acquire().await.unwrap().forget();
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        Ok(FramedAddress {
            pool: subscriber
                .pool
                .or(subscriber.default_pool)
                .unwrap_or(PoolId::new("residential-ipv4").unwrap()),
            address: ADDRESS,
            mask: Ipv4Addr::new(255, 192, 0, 0),
            ends_in_secs: *self.ends_in_secs.lock().unwrap(),
            further: self.further.lock().unwrap().clone(),
        })
    }
}

/// RADIUS on a port of its own, until this is dropped.
pub struct Radius {
    pub address: SocketAddr,
    pub edge: PlayedEdge,
    metrics: Metrics,
    stopper: Stopper,
    serving: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Radius {
    /// Starts it with this `radius:` section, whose `listen` is set here, and an edge that answers at once.
    pub fn start(yaml: &str) -> Self {
        let mut config: RadiusConfig = serde_saphyr::from_str(yaml).unwrap();
        config.listen = "127.0.0.1:0".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let edge = PlayedEdge {
            asked: Arc::default(),
            refusal: Arc::default(),
            ends_in_secs: Arc::default(),
            further: Arc::default(),
            may_answer: Arc::new(Semaphore::new(1000)),
        };
        let metrics = Metrics::new().unwrap();
        let (stopper, shutdown) = shutdown::channel();
        let server = runtime
            .block_on(RadiusServer::bind(config.check().unwrap()))
            .unwrap();
        let address = server.local_address().unwrap();
        let serving = runtime.spawn(server.serve(edge.clone(), metrics.clone(), shutdown));
        Self {
            address,
            edge,
            metrics,
            stopper,
            serving: Some(serving),
            runtime,
        }
    }

    /// From now on the edge answers nothing, until [`Radius::release`].
    pub fn hold(&self) {
        let free = u32::try_from(self.edge.may_answer.available_permits()).unwrap();
        let held = self
            .runtime
            .block_on(self.edge.may_answer.acquire_many(free))
            .unwrap();
        held.forget();
    }

    /// The edge answers.
    pub fn release(&self) {
        self.edge.may_answer.add_permits(1000);
    }

    /// From now on the edge refuses.
    pub fn refuse(&self, error: EdgeError) {
        *self.edge.refusal.lock().unwrap() = Some(error);
    }

    /// From now on the bindings of the edge end.
    pub fn end_bindings_in(&self, secs: u32) {
        *self.edge.ends_in_secs.lock().unwrap() = Some(secs);
    }

    /// From now on the edge gives this besides the address.
    pub fn deliver(&self, further: Vec<Delivered>) {
        *self.edge.further.lock().unwrap() = further;
    }

    /// What the edge was asked so far.
    pub fn asked(&self) -> Vec<AuthorizedSubscriber> {
        self.edge.asked.lock().unwrap().clone()
    }

    /// RADIUS packets counted so far, by outcome.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let text = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        let rows = text.lines().filter_map(|line| {
            let row = line.strip_prefix("nexus_sidecar_radius_packets_total{outcome=\"")?;
            let (outcome, count) = row.split_once("\"} ")?;
            Some((outcome.to_owned(), count.parse().unwrap()))
        });
        rows.collect()
    }

    /// Waits until an outcome has been counted so often.
    #[track_caller]
    pub fn wait_for(&self, outcome: &str, count: u64) {
        let seen = interrupt::wait_until(outcome, command::SHORT, || {
            Ok((self.counters().get(outcome) == Some(&count)).then_some(()))
        });
        assert!(
            seen.is_ok(),
            "no {count} of {outcome}: {:?}",
            self.counters()
        );
    }

    /// Says stop and waits for the end.
    pub fn stop(&mut self) {
        self.stopper.stop();
        let serving = self.serving.take().unwrap();
        self.runtime.block_on(async {
            tokio::time::timeout(command::SHORT, serving)
                .await
                .unwrap()
                .unwrap();
        });
    }

    /// Runs `radclient` with these lines, one try of `seconds`, and returns what it printed.
    pub fn radclient(&self, secret: &str, seconds: &str, lines: &str) -> String {
        let mut radclient = Command::new("radclient");
        let address = self.address.to_string();
        radclient.args(["-x", "-r", "1", "-t", seconds, &address, "auth", secret]);
        let done = command::run_with_input(&mut radclient, lines, command::SHORT).unwrap();
        let output = done.stdout + &done.stderr;
        assert!(output.contains("Sent Access-Request"), "{output}");
        output
    }

    /// A socket of a NAS, connected to the server.
    pub fn nas(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(command::SHORT)).unwrap();
        socket
    }
}

impl Drop for Radius {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// An Access-Request of alice with PAP.
pub fn access_request(identifier: u8) -> Vec<u8> {
    let secret = Secret::new(SECRET).unwrap();
    let authenticator = [identifier; 16];
    let hidden = nexus_radius::password::hide(b"wonderland", &authenticator, &secret).unwrap();
    let mut attributes = Attributes::new();
    attributes.push(AttributeId::USER_NAME, b"alice").unwrap();
    attributes
        .push(AttributeId::USER_PASSWORD, &hidden)
        .unwrap();
    attributes
        .push(AttributeId::CALLING_STATION_ID, b"02:00:00:00:00:01")
        .unwrap();
    attributes
        .push(AttributeId::NAS_PORT_ID, b"pon-1:100.200")
        .unwrap();
    sign_request(
        Code::ACCESS_REQUEST,
        identifier,
        authenticator,
        &attributes,
        &secret,
    )
    .unwrap()
}

/// The next packet that a socket receives.
#[track_caller]
pub fn receive(socket: &UdpSocket) -> Packet {
    let mut buffer = [0; 5000];
    let len = socket.recv(&mut buffer).unwrap();
    Packet::decode(&buffer[..len]).unwrap()
}

/// Asserts that nothing has come and nothing is on its way: a Status-Server sent now is answered first.
#[track_caller]
pub fn assert_silence(socket: &UdpSocket) {
    let secret = Secret::new(SECRET).unwrap();
    let ask = sign_request(
        Code::STATUS_SERVER,
        255,
        [255; 16],
        &Attributes::new(),
        &secret,
    );
    socket.send(&ask.unwrap()).unwrap();
    let reply = receive(socket);
    assert_eq!(
        reply.identifier, 255,
        "an answer where there should be none: {reply:?}"
    );
}

/// How long a program may take before a test gives up on it.
pub const PATIENCE: Duration = command::SHORT;
