//! Refusals as gRPC status codes, as `nexus.proto` promises them.

use tonic::{Code, Status};

use crate::refused::{Class, Refused};

/// Metadata of a read replica's refusal: where writes are taken, `host:port` of gRPC, with commas between.
const WRITERS: &str = "nexus-writers";

/// The status of a refusal.
pub fn to_status(refused: &Refused) -> Status {
    let code = match refused.class() {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::Exists => Code::AlreadyExists,
        Class::Conflict => Code::FailedPrecondition,
        Class::Condition | Class::Moving => Code::Aborted,
        Class::Exhausted => Code::ResourceExhausted,
        // An OLT asks the next endpoint then.
        Class::Elsewhere | Class::Unavailable => Code::Unavailable,
    };
    let mut status = Status::new(code, refused.to_string());
    if let Refused::ReadOnly { writers } = refused
        && let Ok(writers) = writers.join(",").parse()
    {
        status.metadata_mut().insert(WRITERS, writers);
    }
    status
}

/// To an OLT that reports or watches, not being registered is the same as a session that is over: it has to
/// register again.
pub fn unknown_session(refused: Refused) -> Refused {
    match refused {
        Refused::UnknownOlt(olt) => {
            Refused::SessionOver(format!("OLT {olt} is not registered: register it first"))
        }
        other => other,
    }
}

/// Name of a code as it stands in the metrics.
pub const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
