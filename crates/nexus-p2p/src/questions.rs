//! Questions and answers on their way: bytes with a length, each pair on a stream of its own.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, ProtocolSupport};

use tokio::sync::Semaphore;

use crate::MOST_QUESTION_BYTES;
use crate::limits::{MOST_BYTES_BEING_READ, MOST_STREAMS, QUESTION_PATIENCE};

/// What is read at once of a frame.
const CHUNK: usize = 64 * 1024;

/// A channel and what is asked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) channel: u8,
    pub(crate) bytes: Vec<u8>,
}

/// A question that was not read. libp2p tells nothing of one that fails to be read, so this counts as
/// one that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It announced this length.
    TooLong(usize),
    /// Too much is being read.
    NoRoom,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returned {
    Answer(Vec<u8>),
    Busy,
    Nothing,
    UnknownChannel,
    /// A code of a later version.
    Unknown(u8),
}

/// One byte (channel, or kind of answer), a length of four bytes, the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Codec {
    /// What all connections together may have read of frames that are not whole yet.
    room: Arc<Semaphore>,
}

pub(crate) type Behaviour = request_response::Behaviour<Codec>;
pub(crate) type Event = request_response::Event<Result<Question, Unread>, Returned>;
pub(crate) type Channel = request_response::ResponseChannel<Returned>;

pub(crate) fn behaviour(protocol: StreamProtocol) -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(QUESTION_PATIENCE)
        .with_max_concurrent_streams(MOST_STREAMS);
    request_response::Behaviour::with_codec(
        Codec::new(),
        [(protocol, ProtocolSupport::Full)],
        config,
    )
}

type Frame = Result<(u8, Vec<u8>), Unread>;

impl Codec {
    fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MOST_BYTES_BEING_READ)),
        }
    }

    async fn read<T: AsyncRead + Unpin + Send>(&self, from: &mut T) -> io::Result<Frame> {
        let mut head = [0; 5];
        from.read_exact(&mut head).await?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MOST_QUESTION_BYTES {
            return Ok(Err(Unread::TooLong(length)));
        }
        // The buffer grows with what comes, not with what was announced.
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        while bytes.len() < length {
            let chunk = CHUNK.min(length - bytes.len());
            match self
                .room
                .try_acquire_many(u32::try_from(chunk).unwrap_or(u32::MAX))
            {
                Ok(place) => places.push(place),
                Err(_) => return Ok(Err(Unread::NoRoom)),
            }
            let before = bytes.len();
            bytes.resize(before + chunk, 0);
            if let Some(to) = bytes.get_mut(before..) {
                from.read_exact(to).await?;
            }
        }
        Ok(Ok((kind, bytes)))
    }
}

async fn write<T: AsyncWrite + Unpin + Send>(to: &mut T, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let [a, b, c, d] = length.to_be_bytes();
    to.write_all(&[kind, a, b, c, d]).await?;
    to.write_all(bytes).await?;
    to.flush().await
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Result<Question, Unread>;
    type Response = Returned;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let frame = self.read(io).await?;
        Ok(frame.map(|(channel, bytes)| Question { channel, bytes }))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Returned>
    where
        T: AsyncRead + Unpin + Send,
    {
        let (kind, bytes) = self.read(io).await?.map_err(|unread| match unread {
            Unread::TooLong(length) => {
                let what =
                    format!("an answer of {length} bytes; {MOST_QUESTION_BYTES} is the most");
                io::Error::new(io::ErrorKind::InvalidData, what)
            }
            Unread::NoRoom => io::ErrorKind::OutOfMemory.into(),
        })?;
        Ok(match kind {
            0 => Returned::Answer(bytes),
            1 => Returned::Busy,
            2 => Returned::Nothing,
            3 => Returned::UnknownChannel,
            other => Returned::Unknown(other),
        })
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let question = question.map_err(|_| io::ErrorKind::InvalidInput)?;
        write(io, question.channel, &question.bytes).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        returned: Returned,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match returned {
            Returned::Answer(bytes) => write(io, 0, &bytes).await,
            Returned::Busy => write(io, 1, &[]).await,
            Returned::Nothing => write(io, 2, &[]).await,
            Returned::UnknownChannel => write(io, 3, &[]).await,
            Returned::Unknown(kind) => write(io, kind, &[]).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;
    use proptest::prelude::*;

    use super::*;

    static PROTOCOL: StreamProtocol = StreamProtocol::new("/test");

    fn written(question: Question) -> Vec<u8> {
        let mut io = Cursor::new(Vec::new());
        futures::executor::block_on(Codec::new().write_request(&PROTOCOL, &mut io, Ok(question)))
            .unwrap();
        io.into_inner()
    }

    fn read_back(bytes: &[u8]) -> io::Result<Result<Question, Unread>> {
        futures::executor::block_on(Codec::new().read_request(&PROTOCOL, &mut Cursor::new(bytes)))
    }

    #[test]
    fn the_longest_question_passes_and_one_byte_more_does_not() {
        let question = Question {
            channel: 3,
            bytes: vec![7; MOST_QUESTION_BYTES],
        };
        assert_eq!(read_back(&written(question.clone())).unwrap(), Ok(question));
        let length = u32::try_from(MOST_QUESTION_BYTES + 1)
            .unwrap()
            .to_be_bytes();
        let read = read_back(&[&[3][..], &length[..]].concat()).unwrap();
        assert_eq!(read, Err(Unread::TooLong(MOST_QUESTION_BYTES + 1)));
    }

    #[test]
    fn a_question_that_was_cut_short_is_none() {
        let bytes = written(Question {
            channel: 1,
            bytes: vec![1; 100],
        });
        for end in 0..bytes.len() {
            assert!(read_back(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn each_answer_comes_back_as_it_was() {
        for returned in [
            Returned::Answer(b"yes".to_vec()),
            Returned::Busy,
            Returned::Nothing,
            Returned::UnknownChannel,
            Returned::Unknown(9),
        ] {
            let mut io = Cursor::new(Vec::new());
            let mut codec = Codec::new();
            let sent = returned.clone();
            let write = codec.write_response(&PROTOCOL, &mut io, sent);
            futures::executor::block_on(write).unwrap();
            let bytes = io.into_inner();
            let read = futures::executor::block_on(
                Codec::new().read_response(&PROTOCOL, &mut Cursor::new(bytes)),
            );
            assert_eq!(read.unwrap(), returned);
        }
    }

    #[test]
    fn what_is_being_read_is_bounded_and_its_room_comes_back() {
        let bytes = written(Question {
            channel: 1,
            bytes: vec![1; 3 * CHUNK],
        });
        let mut codec = Codec {
            room: Arc::new(Semaphore::new(3 * CHUNK)),
        };
        let mut read = |bytes: &[u8]| {
            futures::executor::block_on(codec.read_request(&PROTOCOL, &mut Cursor::new(bytes)))
        };
        assert!(read(&bytes[..2 * CHUNK]).is_err());
        assert!(read(&bytes).unwrap().is_ok());
        assert!(read(&bytes).unwrap().is_ok());
        let longer = written(Question {
            channel: 1,
            bytes: vec![1; 3 * CHUNK + 1],
        });
        assert_eq!(read(&longer).unwrap(), Err(Unread::NoRoom));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            let _ = read_back(&bytes);
        }
    }
}
