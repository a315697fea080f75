//! The gRPC interface `nexus.v1.Nexus`, over the same operations as REST.

mod convert;
mod status;

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{Stream, TryFutureExt as _, TryStreamExt as _};
use nexus_proto::v1;
use nexus_proto::v1::nexus_server::{Nexus, NexusServer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Code, Request, Response, Status};

use crate::grpc::status::to_status;
use crate::listen::{Connection, Listener};
use crate::refused::Refused;
use crate::service::Service;
use crate::watch::{End, Feed};

/// How often an idle connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A stream of allocations that this server cannot tell the beginning of within this time is open all the same.
const OPENED_AT_ONCE: Duration = Duration::from_secs(1);
/// Longest request message, in bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Requests that one connection may have open.
const MAX_STREAMS: u32 = 1024;

/// The service.
struct Grpc {
    service: Service,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves until `stop` resolves, then lets the requests in flight finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let nexus = NexusServer::new(Grpc { service }).max_decoding_message_size(MAX_MESSAGE);
    let incoming = futures::stream::unfold(Listener::new(listener), |mut listener| async move {
        let (connection, _) = listener.accept().await;
        Some((Ok::<_, std::io::Error>(connection), listener))
    });
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(nexus)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: None,
            remote_addr: self.peer(),
        }
    }
}

impl Grpc {
    /// Counts a request by its method and status.
    async fn counted<T>(
        &self,
        path: &'static str,
        work: impl Future<Output = Result<T, Refused>> + Send,
    ) -> Result<Response<T>, Status> {
        let started = Instant::now();
        let answer = work.await.map_err(|refused| to_status(&refused));
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        let now = Instant::now();
        self.service.metrics().request(
            "GRPC",
            path,
            status::name(code),
            now.saturating_duration_since(started),
            now,
        );
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl Nexus for Grpc {
    type WatchConfigStream = Streamed<v1::ConfigUpdate>;
    type WatchAllocationsStream = Streamed<v1::AllocationUpdate>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        self.counted("/nexus.v1.Nexus/Register", async {
            let registration = convert::registration(request.into_inner())?;
            let registered = self.service.register(registration).await?;
            convert::registered(registered)
        })
        .await
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.counted("/nexus.v1.Nexus/Heartbeat", async {
            let heartbeat = convert::heartbeat(request.into_inner())?;
            let answer = self
                .service
                .heartbeat(heartbeat)
                .await
                .map_err(status::unknown_session)?;
            Ok(convert::heartbeat_answer(answer))
        })
        .await
    }

    async fn get_config(
        &self,
        request: Request<v1::ConfigRequest>,
    ) -> Result<Response<v1::ConfigResponse>, Status> {
        self.counted("/nexus.v1.Nexus/GetConfig", async {
            let request = request.into_inner();
            let olt = convert::olt("olt_id", request.olt_id)?;
            let session = convert::optional_session(request.session)?;
            let config = self.service.config(olt, session).await?;
            Ok(v1::ConfigResponse {
                config: Some(convert::config(&config)?),
            })
        })
        .await
    }

    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateResponse>, Status> {
        self.counted("/nexus.v1.Nexus/Allocate", async {
            let request = request.into_inner();
            let (allocation, _) = if request.resource.is_empty() {
                let request = convert::central(request)?;
                self.service.allocate_central(request).await?
            } else {
                let claim = convert::claim(request)?;
                self.service.record_claim(claim).await?
            };
            Ok(v1::AllocateResponse {
                allocation: Some(convert::allocation(&allocation)),
            })
        })
        .await
    }

    async fn deallocate(
        &self,
        request: Request<v1::DeallocateRequest>,
    ) -> Result<Response<v1::DeallocateResponse>, Status> {
        self.counted("/nexus.v1.Nexus/Deallocate", async {
            let release = convert::release(request.into_inner())?;
            self.service.record_release(release).await?;
            Ok(v1::DeallocateResponse {})
        })
        .await
    }

    async fn get_allocation(
        &self,
        request: Request<v1::GetAllocationRequest>,
    ) -> Result<Response<v1::Allocation>, Status> {
        self.counted("/nexus.v1.Nexus/GetAllocation", async {
            let (subscriber, pool) = convert::get_allocation(request.into_inner())?;
            let held = self
                .service
                .centre()
                .run(move |centre, _| centre.held_by(&subscriber, pool.as_ref()))
                .await?;
            Ok(held
                .first()
                .map(|first| convert::allocation(first))
                .unwrap_or_default())
        })
        .await
    }

    async fn watch_config(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        self.counted("/nexus.v1.Nexus/WatchConfig", async {
            let request = request.into_inner();
            let olt = convert::olt("olt_id", request.olt_id)?;
            let session = convert::optional_session(request.session)?;
            let feed = self
                .service
                .watch_config(olt, session)
                .await
                .map_err(status::unknown_session)?;
            let updates = stream(feed, |config| {
                let update = v1::ConfigUpdate {
                    revision: config.revision,
                    config: Some(convert::config(&config).map_err(|error| to_status(&error))?),
                };
                Ok(update)
            });
            Ok(Box::pin(updates) as Self::WatchConfigStream)
        })
        .await
    }

    async fn watch_allocations(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchAllocationsStream>, Status> {
        self.counted("/nexus.v1.Nexus/WatchAllocations", async {
            let request = request.into_inner();
            let olt = convert::olt("olt_id", request.olt_id)?;
            let session = convert::optional_session(request.session)?;
            let service = self.service.clone();
            let (revision, known) = (request.revision, request.config_revision);
            let mut opening = Box::pin(async move {
                let feed = service.watch_allocations(olt, session, revision, known);
                let feed = feed.await.map_err(status::unknown_session)?;
                let updates = stream(feed, |change| Ok(convert::change(&change)));
                Ok(Box::pin(updates) as Self::WatchAllocationsStream)
            });
            match timeout(OPENED_AT_ONCE, &mut opening).await {
                Ok(opened) => opened,
                // The stream is open, and its first row comes when it comes: the OLT goes on with its heartbeats.
                Err(_) => {
                    let opening = opening.map_err(|refused| to_status(&refused));
                    let updates = futures::stream::once(opening).try_flatten();
                    Ok(Box::pin(updates) as Self::WatchAllocationsStream)
                }
            }
        })
        .await
    }
}

/// A feed as a stream of messages; its end is the status of the stream.
fn stream<T: Send + 'static, M: Send + 'static>(
    feed: Feed<T>,
    convert: impl Fn(T) -> Result<M, Status> + Send + 'static,
) -> impl Stream<Item = Result<M, Status>> + Send {
    futures::stream::unfold(Some((feed, convert)), |open| async move {
        let (mut feed, convert) = open?;
        match feed.next().await {
            Ok(item) => {
                let message = convert(item);
                Some((message, Some((feed, convert))))
            }
            Err(end) => Some((Err(ended(end)), None)),
        }
    })
}

fn ended(end: End) -> Status {
    let code = match end {
        End::TooSlow | End::Superseded | End::StartOver => Code::Aborted,
        End::SessionOver => Code::FailedPrecondition,
        End::Stopping => Code::Unavailable,
    };
    Status::new(code, end.to_string())
}
