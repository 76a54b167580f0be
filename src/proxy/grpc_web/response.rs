//! Responses to a client: those to requests of gRPC-Web are turned into its form.

use std::io;

use super::request::write_chunk;
use super::text;
use crate::http::grpc::is_grpc;
use crate::http::{BodyLength, KnownHeader};
use crate::http1::{ChunkedDecoder, HeaderStorage, ParsedResponse, parse_response};

/// The first byte of the frame that holds trailers.
const TRAILERS_FRAME: u8 = 0x80;

/// What the response to a request is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// As it comes. `may_switch`: it may turn the connection into a tunnel.
    Other { may_switch: bool },
    /// That of gRPC-Web; `text`: in base64.
    Web { text: bool },
}

/// The responses of a connection.
#[derive(Default)]
pub(super) struct Responses {
    state: State,
    switched: bool,
    /// Where chunks are read.
    scratch: Vec<u8>,
}

#[derive(Default)]
enum State {
    /// What comes passes as it is.
    #[default]
    Passing,
    /// The head of a response that may be 101.
    MaySwitch,
    /// In the head, of which a part may be held.
    Head { text: bool, held: Vec<u8> },
    /// In a body in chunks.
    Chunked { text: bool, decoder: Box<ChunkedDecoder> },
    /// In a body of known length that becomes text.
    Fixed { left: u64 },
}

impl Responses {
    /// The next response is to be this.
    pub(super) fn expect(&mut self, expected: Expected) {
        self.state = match expected {
            Expected::Other { may_switch: false } => State::Passing,
            Expected::Other { may_switch: true } => State::MaySwitch,
            Expected::Web { text } => State::Head { text, held: Vec::new() },
        };
    }

    /// Is the connection a tunnel since the last call?
    pub(super) fn switched(&mut self) -> bool {
        std::mem::take(&mut self.switched)
    }

    /// Append what stands for `bytes` to `out`. All of them are taken, of bodies and heads alike.
    ///
    /// # Errors
    /// What comes is no response: the side above is broken.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.take_some(rest, out)?;
            rest = &rest[taken..];
        }
        Ok(bytes.len())
    }

    fn take_some(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.state {
            State::Passing => {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            State::MaySwitch => {
                self.switched = bytes.starts_with(b"HTTP/1.1 101 ");
                self.state = State::Passing;
                Ok(0)
            }
            State::Head { text, held } => {
                let text = *text;
                let before = held.len();
                let mut whole = std::mem::take(held);
                whole.extend_from_slice(bytes);
                let mut storage = HeaderStorage::new();
                let parsed = parse_response(&whole, &mut storage, false).map_err(invalid)?;
                let Some(parsed) = parsed else {
                    self.state = State::Head { text, held: whole };
                    return Ok(bytes.len());
                };
                self.state = begin(&whole, &parsed, text, out);
                // What was held could not be a whole head.
                Ok(parsed.head_bytes.saturating_sub(before))
            }
            State::Fixed { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                let ended = *left == 0;
                self.scratch.clear();
                text::encode(&bytes[..count], &mut self.scratch);
                write_chunk(&self.scratch, out);
                if ended {
                    out.extend_from_slice(b"0\r\n\r\n");
                    self.ended();
                }
                Ok(count)
            }
            State::Chunked { text, decoder } => {
                self.scratch.clear();
                self.scratch.extend_from_slice(bytes);
                let decoded = decoder.decode(&mut self.scratch).map_err(invalid)?;
                write_piece(&self.scratch[..decoded.payload], *text, out);
                if decoded.done {
                    write_trailers(decoder.trailers(), *text, out);
                    out.extend_from_slice(b"0\r\n\r\n");
                    self.ended();
                }
                Ok(decoded.consumed)
            }
        }
    }

    fn ended(&mut self) {
        self.state = State::Passing;
        self.scratch = Vec::new();
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Write the head at the start of `bytes`; what follows it?
fn begin(bytes: &[u8], parsed: &ParsedResponse<'_>, text: bool, out: &mut Vec<u8>) -> State {
    let head = &bytes[..parsed.head_bytes];
    let kind = parsed.head.headers.iter().rfind(|field| field.known == KnownHeader::ContentType);
    let kind = kind.map(|field| field.value).filter(|kind| is_grpc(kind));
    let interim = parsed.head.status < 200;
    let Some(kind) = kind.filter(|_| !interim) else {
        out.extend_from_slice(head);
        return if interim { State::Head { text, held: Vec::new() } } else { State::Passing };
    };
    let state = match parsed.body {
        BodyLength::Chunked => State::Chunked { text, decoder: Box::default() },
        BodyLength::Fixed(left) if text && left > 0 => State::Fixed { left },
        _ => State::Passing,
    };
    let in_chunks = matches!(state, State::Fixed { .. });
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        let replaced = match KnownHeader::from_name(name) {
            KnownHeader::ContentType => true,
            KnownHeader::ContentLength => in_chunks,
            _ => line == b"\r\n",
        };
        if !replaced {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"content-type: application/grpc-web");
    out.extend_from_slice(if text { b"-text" } else { b"" });
    // As Envoy tells it where the upstream does not.
    let suffix = kind.get(b"application/grpc".len()..).unwrap_or_default();
    out.extend_from_slice(if suffix.starts_with(b"+") { suffix } else { b"+proto" });
    out.extend_from_slice(b"\r\n");
    if in_chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    state
}

/// Append a piece of a body as a chunk: it is with the client at once, in base64 with its own padding.
fn write_piece(piece: &[u8], text: bool, out: &mut Vec<u8>) {
    if !text {
        return write_chunk(piece, out);
    }
    let mut encoded = Vec::with_capacity(piece.len() / 3 * 4 + 4);
    text::encode(piece, &mut encoded);
    write_chunk(&encoded, out);
}

/// Append the frame that holds the trailers, if there are any.
fn write_trailers(trailers: &[u8], text: bool, out: &mut Vec<u8>) {
    if trailers.is_empty() {
        return;
    }
    let mut frame = Vec::with_capacity(5 + trailers.len());
    frame.push(TRAILERS_FRAME);
    // The codec bounds trailers far below this.
    frame.extend_from_slice(&u32::try_from(trailers.len()).unwrap_or(u32::MAX).to_be_bytes());
    for line in trailers.split_inclusive(|byte| *byte == b'\n') {
        let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(0));
        frame.extend(name.iter().map(u8::to_ascii_lowercase));
        frame.extend_from_slice(value);
    }
    write_piece(&frame, text, out);
}

#[cfg(test)]
mod tests;
