//! Single calls and what their answers mean.

use std::time::Duration;

use nexus_core::edge::{ClockReading, Heartbeat, Outgoing, Refusal};
use nexus_core::id::{OltId, Seq};
use nexus_core::lease::Terms;
use nexus_core::time::{BootTime, ClusterTime};
use nexus_proto::v1;
use nexus_proto::v1::nexus_client::NexusClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{CALL, convert};
use crate::clock::boot_now;
use crate::edge_task::PinnedQuestion;

pub(super) type Client = NexusClient<Channel>;

/// What became of a call that ran beside others.
pub(super) enum Done {
    Heartbeat(HeartbeatEnd),
    Command(Seq, CommandEnd),
    /// A question about a pinned pool; the answer itself comes with the records.
    Asked(PinnedQuestion, Result<(), Status>),
}

/// What a heartbeat has brought.
pub(super) enum HeartbeatEnd {
    Renewed {
        sent_at: BootTime,
        terms: Terms,
        revision: u64,
        /// What is said of another host that tries to be this one.
        other_host: String,
        /// The centre's clocks.
        clocks: Option<ClockReading>,
    },
    /// The session is not (any more) this host's.
    Register(Status),
    /// No answer, or none that says anything.
    Failed(Status),
}

/// What became of a command.
pub(super) enum CommandEnd {
    Recorded,
    /// Refused by what it says, whoever says it.
    Refused(Refusal, Status),
    /// Refused, unless the reason is that the session is over: to be found out.
    Doubtful(Status),
    Unknown(Status),
}

/// Sends a heartbeat. The lease counts from the moment before it is sent.
pub(super) async fn heartbeat(
    mut client: Client,
    report: Heartbeat,
    instance: String,
    limit: Duration,
) -> HeartbeatEnd {
    let sent_at = match boot_now() {
        Ok(now) => now,
        Err(error) => return HeartbeatEnd::Failed(Status::internal(error.to_string())),
    };
    match within(
        limit,
        client.heartbeat(convert::heartbeat(report, instance)),
    )
    .await
    {
        Ok(answer) => HeartbeatEnd::Renewed {
            clocks: answer.clock.and_then(|clock| reading(sent_at, clock)),
            sent_at,
            terms: convert::terms(answer.lease_ms, answer.keeping),
            revision: answer.config_revision,
            other_host: answer.other_host,
        },
        Err(status) if is_over(&status) => HeartbeatEnd::Register(status),
        Err(status) => HeartbeatEnd::Failed(status),
    }
}

/// Sends a command.
pub(super) async fn command(
    mut client: Client,
    olt: OltId,
    session: String,
    outgoing: Outgoing,
) -> CommandEnd {
    let answer = match convert::command(&olt, &session, outgoing) {
        convert::Request::Allocate(request) => {
            within(CALL, client.allocate(request)).await.map(drop)
        }
        convert::Request::Deallocate(request) => {
            within(CALL, client.deallocate(request)).await.map(drop)
        }
    };
    match answer {
        Ok(()) => CommandEnd::Recorded,
        Err(status) => match status.code() {
            Code::AlreadyExists => CommandEnd::Refused(Refusal::Taken, status),
            Code::InvalidArgument | Code::OutOfRange => {
                CommandEnd::Refused(Refusal::Invalid, status)
            }
            Code::FailedPrecondition | Code::NotFound => CommandEnd::Doubtful(status),
            _ => CommandEnd::Unknown(status),
        },
    }
}

/// Asks for what a subscriber has of a pinned pool.
pub(super) async fn ask(
    mut client: Client,
    report: Heartbeat,
    question: PinnedQuestion,
) -> (PinnedQuestion, Result<(), Status>) {
    let request = convert::question(&report, &question);
    let answer = within(CALL, client.allocate(request)).await.map(drop);
    (question, answer)
}

/// Registers; also says when the request was sent, and what the centre's clocks show.
pub(super) async fn register(
    client: &mut Client,
    request: v1::RegisterRequest,
) -> Result<(BootTime, Option<ClockReading>, v1::RegisterResponse), Status> {
    let sent_at = boot_now().map_err(|error| Status::internal(error.to_string()))?;
    let mut answer = within(CALL, client.register(request)).await?;
    let clock = answer.clock.take();
    let clocks = clock.and_then(|clock| reading(sent_at, clock));
    Ok((sent_at, clocks, answer))
}

/// What an answer that has just come says of the centre's clocks; an older server says nothing.
fn reading(sent_at: BootTime, clock: v1::ServerClock) -> Option<ClockReading> {
    Some(ClockReading {
        sent_at,
        received_at: boot_now().ok()?,
        server: clock.server,
        mark: clock.mark,
        boot: BootTime::from_nanos(clock.boot_ns),
        cluster: ClusterTime::from_nanos(clock.cluster_ns),
    })
}

/// An answer within `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        ))),
    }
}

/// Whether the centre says that this session is over.
pub(super) fn is_over(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::NotFound)
}
