//! Bytes of what is published, asked and answered: a format byte, a kind, and what follows.

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::hlc::UnixMillis;
use crate::message::{Delta, Digest, PullAnswer, PullRequest};
use crate::ranges::{Expand, Expanded, Fetch, Fetched};

/// First byte of all that travels.
const FORMAT: u8 = 1;

/// What one replica says of itself to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// What it has, durably.
    pub(super) digest: Digest,
    /// Its wall clock when it said so.
    pub(super) wall: UnixMillis,
    /// Which list of members it goes by.
    pub(super) epoch: u64,
    /// When it was admitted, as far as it knows; 0 if it was never told.
    pub(super) admitted: u64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Who are you, this is me. If a number is given, the answer may wait a little until that write of the
    /// asking origin is on the other's disk.
    Greeting(Greeting, u64),
    /// Give me what I lack.
    Pull(PullRequest),
    /// What stands in these ranges?
    Expand(Expand),
    /// Give me these entries.
    Fetch(Fetch),
    /// Take these entries, you lack them.
    Store(Delta),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// This is me.
    Greeting(Greeting),
    /// A part of what you lack.
    Pull(PullAnswer),
    /// What stands in (some of) the ranges.
    Expanded(Expanded),
    /// (Some of) the entries.
    Fetched(Fetched),
    /// They are merged.
    Stored,
    /// Not to you, or not now.
    Refused(Refusal),
}

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Who asks is no member, as far as is known here.
    NotAMember,
    /// This replica must start over, or is too busy.
    NotNow,
    /// Who asks has less than it said in an earlier boot that it had for good.
    RolledBack,
}

impl Greeting {
    fn write(&self, out: &mut Writer) {
        self.digest.write(out);
        out.u64(self.wall.0);
        out.u64(self.epoch);
        out.u64(self.admitted);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            digest: Digest::read(bytes)?,
            wall: UnixMillis(bytes.u64()?),
            epoch: bytes.u64()?,
            admitted: bytes.u64()?,
        })
    }
}

fn started(kind: u8) -> Writer {
    let mut out = Writer::new();
    out.u8(FORMAT);
    out.u8(kind);
    out
}

fn whole(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = started(kind);
    out.raw(body);
    out.finish()
}

fn read<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(u8, &mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut bytes = Reader::new(what, bytes);
    bytes.format(FORMAT)?;
    let [kind] = bytes.array()?;
    let message = read(kind, &mut bytes)?;
    bytes.end()?;
    Ok(message)
}

/// A batch of entries for all.
pub(super) fn publication(delta: &Delta) -> Vec<u8> {
    whole(b'g', &delta.encode())
}

/// A batch of entries from somebody.
pub(super) fn read_publication(bytes: &[u8]) -> Result<Delta, Malformed> {
    read("publication", bytes, |kind, bytes| match kind {
        b'g' => Delta::decode(bytes.rest()),
        other => Err(bytes.wrong(format!("kind {other}"))),
    })
}

impl Question {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Greeting(greeting, wait_for) => {
                let mut out = started(b'd');
                greeting.write(&mut out);
                out.u64(*wait_for);
                out.finish()
            }
            Self::Pull(request) => whole(b'p', &request.encode()),
            Self::Expand(expand) => {
                let mut out = started(b'e');
                expand.write(&mut out);
                out.finish()
            }
            Self::Fetch(fetch) => {
                let mut out = started(b'f');
                fetch.write(&mut out);
                out.finish()
            }
            Self::Store(delta) => whole(b's', &delta.encode()),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        read("question", bytes, |kind, bytes| match kind {
            b'd' => Ok(Self::Greeting(Greeting::read(bytes)?, bytes.u64()?)),
            b'p' => Ok(Self::Pull(PullRequest::decode(bytes.rest())?)),
            b'e' => Ok(Self::Expand(Expand::read(bytes)?)),
            b'f' => Ok(Self::Fetch(Fetch::read(bytes)?)),
            b's' => Ok(Self::Store(Delta::decode(bytes.rest())?)),
            other => Err(bytes.wrong(format!("kind {other}"))),
        })
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Greeting(greeting) => {
                let mut out = started(b'd');
                greeting.write(&mut out);
                out.finish()
            }
            Self::Pull(answer) => whole(b'p', &answer.encode()),
            Self::Expanded(expanded) => {
                let mut out = started(b'e');
                expanded.write(&mut out);
                out.finish()
            }
            Self::Fetched(fetched) => {
                let mut out = started(b'f');
                fetched.write(&mut out);
                out.finish()
            }
            Self::Stored => whole(b's', &[]),
            Self::Refused(Refusal::NotAMember) => whole(b'r', &[1]),
            Self::Refused(Refusal::NotNow) => whole(b'r', &[2]),
            Self::Refused(Refusal::RolledBack) => whole(b'r', &[3]),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        read("answer", bytes, |kind, bytes| match kind {
            b'd' => Ok(Self::Greeting(Greeting::read(bytes)?)),
            b'p' => Ok(Self::Pull(PullAnswer::decode(bytes.rest())?)),
            b'e' => Ok(Self::Expanded(Expanded::read(bytes)?)),
            b'f' => Ok(Self::Fetched(Fetched::read(bytes)?)),
            b's' => Ok(Self::Stored),
            b'r' => match bytes.array()? {
                [1] => Ok(Self::Refused(Refusal::NotAMember)),
                [2] => Ok(Self::Refused(Refusal::NotNow)),
                [3] => Ok(Self::Refused(Refusal::RolledBack)),
                [other] => Err(bytes.wrong(format!("refusal {other}"))),
            },
            other => Err(bytes.wrong(format!("kind {other}"))),
        })
    }
}
