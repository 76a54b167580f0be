//! The bytes behind a head: DATA and trailers that arrive as the body of an HTTP/1.1 message, and the
//! other way round. Either way no more is taken than the other side takes.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue};

use super::{fields, stream_error};
use crate::http::{BodyLength, KnownHeader};
use crate::http1::ChunkedDecoder;
use crate::http1::chunked::write_chunk_head;
use crate::http1::encode::write_field;

/// Room that the frame of a chunk needs at most: 16 digits and two line ends.
const CHUNK_FRAME_BYTES: usize = 20;
/// Room that the end of a body usually needs, its trailers included.
const END_BYTES: usize = 128;
/// Payload of a chunk that is made for a reader with less room than a frame.
const SMALL_CHUNK_BYTES: usize = 1024;
/// Bytes of chunks that are taken of a send at once: while the peer does not take them they are held twice.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// How the bytes of a body stand in HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As they are: their number is known, or they are those of a tunnel.
    Plain,
    /// In chunks.
    Chunked,
}

/// A message that arrives: text of ours (a head) first, then the body.
pub(super) struct Arriving {
    stream: Option<RecvStream>,
    framing: Framing,
    /// What goes before the next data: heads, ends of chunked bodies.
    text: Vec<u8>,
    text_at: usize,
    data: Bytes,
    ended: bool,
    failed: Option<io::Error>,
}

impl Arriving {
    /// A message of which `text` is known.
    pub(super) fn new(text: Vec<u8>, framing: Framing, stream: Option<RecvStream>) -> Arriving {
        Arriving {
            stream,
            framing,
            text,
            text_at: 0,
            data: Bytes::new(),
            ended: false,
            failed: None,
        }
    }

    /// Add text, before any data.
    pub(super) fn push_text(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Is there text that was not taken yet?
    pub(super) fn has_text(&self) -> bool {
        self.text_at < self.text.len()
    }

    /// Take some of it; 0 at its end.
    pub(super) fn poll(
        &mut self,
        task: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            filled += self.take_text(&mut into[filled..]);
            filled += self.take_data(&mut into[filled..]);
            if filled == into.len() || self.ended && !self.has_text() && self.data.is_empty() {
                return Poll::Ready(Ok(filled));
            }
            if !self.data.is_empty() {
                if filled > 0 {
                    return Poll::Ready(Ok(filled));
                }
                self.small_chunk();
                continue;
            }
            if self.failed.is_none() {
                match self.poll_more(task) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => self.failed = Some(error),
                    Poll::Pending if filled == 0 => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(Ok(filled)),
                }
            }
            // What came before an error is passed on first.
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
            let kind = self.failed.as_ref().map_or(io::ErrorKind::BrokenPipe, io::Error::kind);
            return Poll::Ready(Err(self.failed.replace(kind.into()).unwrap_or(kind.into())));
        }
    }

    /// Take some of the text only.
    pub(super) fn take_text(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.text[self.text_at..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.text_at += count;
        if self.text_at == self.text.len() {
            self.text.clear();
            self.text_at = 0;
        }
        count
    }

    fn take_data(&mut self, into: &mut [u8]) -> usize {
        if self.data.is_empty() {
            return 0;
        }
        match self.framing {
            Framing::Plain => {
                let count = self.data.len().min(into.len());
                self.data.copy_to_slice(&mut into[..count]);
                self.release(count);
                count
            }
            Framing::Chunked => {
                let room = into.len().saturating_sub(CHUNK_FRAME_BYTES);
                let count = self.data.len().min(room);
                if count == 0 {
                    return 0;
                }
                let mut line = [0; 18];
                let from = write_chunk_head(&mut line, count);
                let line = &line[from..];
                let (head, rest) = into.split_at_mut(line.len());
                head.copy_from_slice(line);
                self.data.copy_to_slice(&mut rest[..count]);
                rest[count..count + 2].copy_from_slice(b"\r\n");
                self.release(count);
                line.len() + count + 2
            }
        }
    }

    /// The reader has room for less than the frame of a chunk: make one that is taken in pieces.
    fn small_chunk(&mut self) {
        let piece = self.data.split_to(self.data.len().min(SMALL_CHUNK_BYTES));
        let mut line = [0; 18];
        let from = write_chunk_head(&mut line, piece.len());
        self.text.extend_from_slice(&line[from..]);
        self.text.extend_from_slice(&piece);
        self.text.extend_from_slice(b"\r\n");
        self.release(piece.len());
    }

    /// The peer may send as much again.
    fn release(&mut self, bytes: usize) {
        if let Some(stream) = &mut self.stream {
            // It fails only when more is released than was received.
            let _ = stream.flow_control().release_capacity(bytes);
        }
    }

    fn poll_more(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            self.ended = true;
            return Poll::Ready(Ok(()));
        };
        match ready!(stream.poll_data(task)) {
            Some(Ok(data)) => self.data = data,
            Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
            None => {
                let trailers = ready!(stream.poll_trailers(task)).map_err(stream_error)?;
                self.ended = true;
                if self.framing == Framing::Chunked {
                    self.text.reserve(END_BYTES);
                    self.text.extend_from_slice(b"0\r\n");
                    write_trailers(&mut self.text, trailers.as_ref());
                    self.text.extend_from_slice(b"\r\n");
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn write_trailers(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    for (name, value) in trailers.into_iter().flatten() {
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Trailers of a chunked body, `name: value\r\n…`, as a map. What is no field in HTTP/2 is left out.
fn read_trailers(text: &[u8]) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (
            fields::name(KnownHeader::from_name(&line[..colon]), &line[..colon]),
            HeaderValue::from_bytes(value),
        ) {
            trailers.append(name, value);
        }
    }
    trailers
}

enum Length {
    Fixed(u64),
    Chunked(ChunkedDecoder),
    /// Until [`Leaving::finish`].
    Open,
}

/// Chunks that were taken apart, and wait for the peer to take them.
struct Held {
    payload: Bytes,
    /// Bytes of the send that they stand for.
    taken: usize,
}

/// The body of a message that leaves.
pub(super) struct Leaving {
    stream: SendStream<Bytes>,
    length: Length,
    held: Option<Held>,
    ended: bool,
}

impl Leaving {
    /// A body of this length; `UntilClose`: until [`Leaving::finish`]. With `Empty` the stream was ended
    /// with its head.
    pub(super) fn new(stream: SendStream<Bytes>, length: BodyLength) -> Leaving {
        let ended = length == BodyLength::Empty;
        let length = match length {
            BodyLength::Empty => Length::Fixed(0),
            BodyLength::Fixed(length) => Length::Fixed(length),
            BodyLength::Chunked => Length::Chunked(ChunkedDecoder::new()),
            BodyLength::UntilClose => Length::Open,
        };
        Leaving { stream, length, held: None, ended }
    }

    /// Has its end been sent?
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The stream, to reset it or to hear of a reset.
    pub(super) fn stream(&mut self) -> &mut SendStream<Bytes> {
        &mut self.stream
    }

    /// End a body whose length nobody knew.
    pub(super) fn finish(&mut self) {
        if !self.ended {
            self.ended = true;
            // It fails when the stream is closed already.
            let _ = self.stream.send_data(Bytes::new(), true);
        }
    }

    /// Send some of these bytes of an HTTP/1.1 body, as far as the peer takes them.
    pub(super) fn poll(&mut self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            // Behind the end of a message there is nothing to be sent.
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let left = match &mut self.length {
            Length::Chunked(_) => return self.poll_chunked(task, bytes),
            Length::Fixed(left) => Some(left),
            Length::Open => None,
        };
        let most =
            left.as_ref().map_or(usize::MAX, |left| usize::try_from(**left).unwrap_or(usize::MAX));
        let wanted = bytes.len().min(most);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        // What the peer does not take stays where it is.
        let room = ready!(poll_room(&mut self.stream, task, wanted))?;
        let payload = &bytes[..wanted.min(room)];
        let last = left.is_some_and(|left| {
            *left -= payload.len() as u64;
            *left == 0
        });
        self.stream.send_data(Bytes::copy_from_slice(payload), last).map_err(stream_error)?;
        self.ended |= last;
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_chunked(&mut self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Length::Chunked(decoder) = &mut self.length else { return Poll::Ready(Ok(0)) };
        let mut held = match self.held.take() {
            Some(held) => held,
            None => {
                let mut piece = bytes[..bytes.len().min(PIECE_BYTES_MAX)].to_vec();
                let decoded = decoder
                    .decode(&mut piece)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                piece.truncate(decoded.payload);
                Held { payload: piece.into(), taken: decoded.consumed }
            }
        };
        while !held.payload.is_empty() {
            let Poll::Ready(room) = poll_room(&mut self.stream, task, held.payload.len())? else {
                self.held = Some(held);
                return Poll::Pending;
            };
            let piece = held.payload.split_to(room.min(held.payload.len()));
            let last =
                held.payload.is_empty() && decoder.is_done() && decoder.trailers().is_empty();
            self.stream.send_data(piece, last).map_err(stream_error)?;
            self.ended |= last;
        }
        if !self.ended && decoder.is_done() {
            let trailers = read_trailers(decoder.trailers());
            self.ended = true;
            if trailers.is_empty() {
                self.stream.send_data(Bytes::new(), true).map_err(stream_error)?;
            } else {
                self.stream.send_trailers(trailers).map_err(stream_error)?;
            }
        }
        Poll::Ready(Ok(held.taken))
    }
}

/// How much of `wanted` bytes, at least one of them, the peer takes now.
fn poll_room(
    stream: &mut SendStream<Bytes>,
    task: &mut Context<'_>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(stream.poll_capacity(task)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(arriving: &mut Arriving, room: usize) -> String {
        let mut task = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        loop {
            let mut into = vec![0; room];
            match arriving.poll(&mut task, &mut into) {
                Poll::Ready(Ok(0)) => return String::from_utf8(all).expect("text"),
                Poll::Ready(Ok(count)) => all.extend_from_slice(&into[..count]),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn data_is_taken_in_any_pieces() {
        for room in [1, 5, 19, 20, 21, 40, 5000] {
            let mut plain = Arriving::new(b"head ".to_vec(), Framing::Plain, None);
            plain.data = Bytes::from_static(b"the data");
            assert_eq!(taken(&mut plain, room), "head the data");
            let mut chunked = Arriving::new(b"head ".to_vec(), Framing::Chunked, None);
            let data = "0123456789".repeat(300);
            chunked.data = Bytes::from(data.clone());
            let text = taken(&mut chunked, room);
            let mut body = text.strip_prefix("head ").expect("the head").as_bytes().to_vec();
            body.extend_from_slice(b"0\r\n\r\n");
            let mut decoder = ChunkedDecoder::new();
            let decoded = decoder.decode(&mut body).expect("well-formed");
            assert!(decoded.done);
            assert!(body[..decoded.payload] == *data.as_bytes(), "room for {room}");
        }
    }

    #[test]
    fn trailers_are_read_and_written() {
        let trailers =
            read_trailers(b"grpc-status: 0\r\nGrpc-Message: all well\r\nx: 1\r\nx: 2\r\n");
        assert_eq!(trailers.len(), 4);
        assert_eq!(trailers["grpc-message"], "all well");
        let mut out = Vec::new();
        write_trailers(&mut out, Some(&trailers));
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("grpc-status: 0\r\n") && text.contains("x: 1\r\nx: 2\r\n"), "{text}");
    }
}
