//! An OLT as its sidecar would talk: numbered commands from shards of its own, each repeated, at any node, until there
//! is an answer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nexus_proto::v1;
use nexus_proto::v1::nexus_client::NexusClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::config::GRPC_PORT;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Pause after a round in which no node gave an answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a command is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every attempt was refused: it is not done.
    Refused(String),
    /// At least one attempt may have been done.
    Unknown(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unknown(why) => write!(f, "nobody knows: {why}"),
        }
    }
}

/// A resource of the OLT's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub resource: String,
    /// The shard that it lies in.
    pub shard: u32,
    /// The epoch under which the OLT owns the shard.
    pub epoch: u64,
}

/// The OLT. Its connections belong to the thread, and so to the namespace, in which it was made.
pub struct OltClient {
    id: String,
    session: String,
    pool: String,
    nodes: Vec<(usize, NexusClient<Channel>)>,
    at: usize,
    seq: u64,
    /// The lowest number whose outcome is not known; commands below are acknowledged.
    open: Option<u64>,
    places: Vec<Place>,
    patience: Duration,
}

impl OltClient {
    /// An OLT that talks to these nodes, `(place, address)`, and begins with the first. It is not registered yet.
    ///
    /// # Errors
    /// If there is no node.
    pub fn new(
        id: &str,
        pool: &str,
        nodes: &[(usize, Ipv4Addr)],
        patience: Duration,
    ) -> Result<Self> {
        let nodes = nodes
            .iter()
            .map(|(place, address)| Ok((*place, NexusClient::new(channel(*address)?))))
            .collect::<Result<Vec<_>>>()?;
        if nodes.is_empty() {
            bail!("an OLT needs a node to talk to");
        }
        Ok(Self {
            id: id.to_owned(),
            session: format!("{id}-session"),
            pool: pool.to_owned(),
            nodes,
            at: 0,
            seq: 0,
            open: None,
            places: Vec::new(),
            patience,
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Place of the node that it talks to now.
    #[must_use]
    pub fn node(&self) -> usize {
        self.nodes.get(self.at).map_or(0, |(place, _)| *place)
    }

    /// The client of the node that it talks to now, for calls that are not numbered.
    ///
    /// # Errors
    /// Never, as long as there is a node.
    pub fn client(&self) -> Result<NexusClient<Channel>> {
        let (_, client) = self.nodes.get(self.at).context("an OLT without nodes")?;
        Ok(client.clone())
    }

    /// Its resources, at most `most`, from the tenth of its first shard on.
    #[must_use]
    pub fn places(&self, most: usize) -> Vec<Place> {
        self.places.iter().take(most).cloned().collect()
    }

    /// Enrols, or says again who it is; takes its first shard.
    ///
    /// # Errors
    /// If no node takes it, or none gives it a shard of the pool.
    pub async fn register(&mut self) -> Result<()> {
        let request = v1::RegisterRequest {
            id: self.id.clone(),
            name: self.id.to_uppercase(),
            region: "east".into(),
            address: "10.98.0.1:9000".into(),
            capacity: 2000,
            session: self.session.clone(),
            last_seq: self.seq,
            ..v1::RegisterRequest::default()
        };
        let answer = self
            .persist(async |mut client| client.register(request.clone()).await)
            .await
            .map_err(|why| anyhow::anyhow!("{} cannot enrol: {why}", self.id))?;
        let config = answer.config.context("an answer without configuration")?;
        let pool = config.pools.iter().find(|part| part.id == self.pool);
        let grant = pool.and_then(|part| part.shards.first());
        let grant = grant.with_context(|| format!("{} got no shard of {}", self.id, self.pool))?;
        let first: Ipv4Addr = grant
            .range
            .split('/')
            .next()
            .unwrap_or_default()
            .parse()
            .with_context(|| format!("{} is not an IPv4 prefix", grant.range))?;
        let bits: u32 = grant
            .range
            .split('/')
            .nth(1)
            .and_then(|bits| bits.parse().ok())
            .unwrap_or(32);
        let last = first.to_bits() | u32::MAX.checked_shr(bits).unwrap_or(0);
        // The first addresses are a pool's own: network and router.
        self.places = (first.to_bits().saturating_add(10)..last)
            .map(|bits| Place {
                resource: Ipv4Addr::from_bits(bits).to_string(),
                shard: grant.shard,
                epoch: grant.epoch,
            })
            .collect();
        Ok(())
    }

    /// Renews its lease.
    ///
    /// # Errors
    /// Why not.
    pub async fn heartbeat(&mut self) -> Result<(), Refusal> {
        let request = v1::HeartbeatRequest {
            olt_id: self.id.clone(),
            session: self.session.clone(),
            active_subscribers: 7,
            last_seq: self.seq,
            ..v1::HeartbeatRequest::default()
        };
        self.persist(async |mut client| client.heartbeat(request.clone()).await)
            .await
            .map(drop)
    }

    /// The next command, to be sent by whoever wants many on their way at once.
    pub fn claim(&mut self, subscriber: &str, place: &Place) -> v1::AllocateRequest {
        self.seq += 1;
        v1::AllocateRequest {
            pool_id: self.pool.clone(),
            subscriber_id: subscriber.to_owned(),
            olt_id: self.id.clone(),
            metadata: [("circuit_id".to_owned(), "0/1/5/32".to_owned())].into(),
            resource: place.resource.clone(),
            shard: place.shard,
            epoch: place.epoch,
            session: self.session.clone(),
            seq: self.seq,
            acked_below: 0,
            timestamp: "2026-11-22T10:30:00Z".into(),
        }
    }

    /// Records an allocation.
    ///
    /// # Errors
    /// Why it is not known to be recorded.
    pub async fn allocate(&mut self, subscriber: &str, place: &Place) -> Result<(), Refusal> {
        let mut request = self.claim(subscriber, place);
        request.acked_below = self.acknowledged_below();
        let done = self
            .persist(async |mut client| client.allocate(request.clone()).await)
            .await
            .map(drop);
        self.note(&done);
        done
    }

    /// Records the end of one.
    ///
    /// # Errors
    /// Why it is not known to be recorded.
    pub async fn release(&mut self, subscriber: &str, place: &Place) -> Result<(), Refusal> {
        self.seq += 1;
        let request = v1::DeallocateRequest {
            subscriber_id: subscriber.to_owned(),
            pool_id: self.pool.clone(),
            olt_id: self.id.clone(),
            resource: place.resource.clone(),
            shard: place.shard,
            epoch: place.epoch,
            session: self.session.clone(),
            seq: self.seq,
            acked_below: self.acknowledged_below(),
            reason: "session-stop".into(),
        };
        let done = self
            .persist(async |mut client| client.deallocate(request.clone()).await)
            .await
            .map(drop);
        self.note(&done);
        done
    }

    fn acknowledged_below(&self) -> u64 {
        self.open.unwrap_or(self.seq)
    }

    fn note<T>(&mut self, done: &Result<T, Refusal>) {
        if matches!(done, Err(Refusal::Unknown(_))) && self.open.is_none() {
            self.open = Some(self.seq);
        }
    }

    /// Tries one node after the other until one gives an answer that settles it, as long as there is patience.
    async fn persist<T>(
        &mut self,
        attempt: impl AsyncFn(NexusClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Refusal> {
        let deadline = Instant::now() + self.patience;
        let mut unsure: Option<String> = None;
        loop {
            for _ in 0..self.nodes.len() {
                let Some((place, client)) = self.nodes.get(self.at) else {
                    break;
                };
                let answer = match tokio::time::timeout(ATTEMPT, attempt(client.clone())).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Status::deadline_exceeded("no answer")),
                };
                let status = match answer {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) => status,
                };
                let why = format!("node {place}: {:?} {}", status.code(), status.message());
                if settles(status.code()) {
                    return Err(match unsure {
                        None => Refusal::Refused(why),
                        Some(before) => Refusal::Unknown(format!("{before}, then {why}")),
                    });
                }
                unsure.get_or_insert(why);
                self.at = (self.at + 1) % self.nodes.len();
            }
            if Instant::now() >= deadline {
                return Err(Refusal::Unknown(unsure.unwrap_or_default()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether such an answer says for certain that the command is not done.
fn settles(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
            | Code::ResourceExhausted
    )
}

/// A connection that is made when it is needed, and made again when it broke.
pub(super) fn channel(address: Ipv4Addr) -> Result<Channel> {
    let url = format!("http://{address}:{GRPC_PORT}");
    let endpoint = Endpoint::from_shared(url.clone()).with_context(|| url.clone())?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(1))
        // A node that hangs or was cut off is noticed, not waited for.
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .connect_lazy())
}
