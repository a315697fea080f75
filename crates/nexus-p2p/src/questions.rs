//! Questions and answers on their way: bytes with a length, each pair on a stream of its own.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, ProtocolSupport};

use crate::MOST_QUESTION_BYTES;
use crate::limits::{MOST_STREAMS, QUESTION_PATIENCE};

/// A channel and what is asked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) channel: u8,
    pub(crate) bytes: Vec<u8>,
}

/// The length that was announced for a question that is too long. libp2p tells nothing of a question
/// that could not be read, so this one counts as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Codec;

pub(crate) type Behaviour = request_response::Behaviour<Codec>;
pub(crate) type Event = request_response::Event<Result<Question, TooLong>, Returned>;
pub(crate) type Channel = request_response::ResponseChannel<Returned>;

pub(crate) fn behaviour(protocol: StreamProtocol) -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(QUESTION_PATIENCE)
        .with_max_concurrent_streams(MOST_STREAMS);
    request_response::Behaviour::with_codec(Codec, [(protocol, ProtocolSupport::Full)], config)
}

type Frame = Result<(u8, Vec<u8>), TooLong>;

async fn read<T: AsyncRead + Unpin + Send>(from: &mut T) -> io::Result<Frame> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let [kind, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > MOST_QUESTION_BYTES {
        return Ok(Err(TooLong(length)));
    }
    // The buffer grows with what comes, not with what was announced.
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Ok((kind, bytes)))
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
    type Request = Result<Question, TooLong>;
    type Response = Returned;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let frame = read(io).await?;
        Ok(frame.map(|(channel, bytes)| Question { channel, bytes }))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Returned>
    where
        T: AsyncRead + Unpin + Send,
    {
        let (kind, bytes) = read(io).await?.map_err(|TooLong(length)| {
            let what = format!("an answer of {length} bytes; {MOST_QUESTION_BYTES} is the most");
            io::Error::new(io::ErrorKind::InvalidData, what)
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
        futures::executor::block_on(Codec.write_request(&PROTOCOL, &mut io, Ok(question))).unwrap();
        io.into_inner()
    }

    fn read_back(bytes: &[u8]) -> io::Result<Result<Question, TooLong>> {
        futures::executor::block_on(Codec.read_request(&PROTOCOL, &mut Cursor::new(bytes)))
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
        assert_eq!(read, Err(TooLong(MOST_QUESTION_BYTES + 1)));
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
            let mut codec = Codec;
            let sent = returned.clone();
            let write = codec.write_response(&PROTOCOL, &mut io, sent);
            futures::executor::block_on(write).unwrap();
            let bytes = io.into_inner();
            let read = futures::executor::block_on(
                Codec.read_response(&PROTOCOL, &mut Cursor::new(bytes)),
            );
            assert_eq!(read.unwrap(), returned);
        }
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
