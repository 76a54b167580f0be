//! Requests of a client: found one after the other in what it sends, those of gRPC-Web turned into gRPC.

use super::response::Expected;
use super::text::Decoder;
use crate::http::{BodyLength, HeaderField, KnownHeader, Scheme, Version};
use crate::http1::chunked::{CHUNK_HEAD_BYTES_MAX, write_chunk_head};
use crate::http1::{ChunkedDecoder, HeadScanner, HeaderStorage, ParsedRequest, parse_request};
use crate::http2;

/// The most of a body that is looked at at once.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// What no reader of chunks takes for the size of one: a body that is no base64 goes on as a body that is
/// malformed in HTTP/1.1 too, and is answered like that.
const MALFORMED: &[u8] = b"malformed\r\n";

/// What to do with what was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Pass so many bytes on as they are.
    Pass(usize),
    /// Drop so many bytes: what was written stands for them.
    Written(usize),
    /// More must be received.
    More,
}

/// The requests of a connection.
#[derive(Default)]
pub(super) struct Requests {
    state: State,
    /// Bytes of a head that are to be passed on before the body.
    head_left: usize,
    /// Was a beginning of the connection seen that is not HTTP/2's?
    is_http1: bool,
    begun: Option<Expected>,
    /// Where chunks are read without changing them.
    scratch: Vec<u8>,
}

enum State {
    /// At the start of a request, or in its head.
    Head {
        scanner: HeadScanner,
        /// Was something passed on that shows that a request has begun?
        told: bool,
    },
    /// In a body that passes as it is.
    Passing(Body),
    /// In a body of base64.
    Text(Body, Decoder),
    /// Everything passes.
    Opaque,
}

impl Default for State {
    fn default() -> Self {
        State::Head { scanner: HeadScanner::new(), told: false }
    }
}

/// What is to come of a body.
enum Body {
    Fixed(u64),
    Chunked(Box<ChunkedDecoder>),
}

impl Body {
    fn new(length: BodyLength) -> Option<Body> {
        match length {
            BodyLength::Empty | BodyLength::UntilClose | BodyLength::Fixed(0) => None,
            BodyLength::Fixed(length) => Some(Body::Fixed(length)),
            BodyLength::Chunked => Some(Body::Chunked(Box::default())),
        }
    }
}

impl Requests {
    /// Is no request under way, as far as is known?
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Head { .. }) && self.head_left == 0
    }

    /// What is to be expected of the response to a request that has just begun.
    pub(super) fn begun(&mut self) -> Option<Expected> {
        self.begun.take()
    }

    /// Look at nothing that comes from now on.
    pub(super) fn pass_all(&mut self) {
        self.state = State::Opaque;
    }

    /// Go on with `received`, of which at most `room` bytes can be passed on. What is written instead is
    /// appended to `out`.
    pub(super) fn step(&mut self, received: &[u8], room: usize, out: &mut Vec<u8>) -> Step {
        if received.is_empty() {
            return Step::More;
        }
        if self.head_left > 0 {
            let count = self.head_left.min(room).min(received.len());
            self.head_left -= count;
            return Step::Pass(count);
        }
        let piece = &received[..received.len().min(PIECE_BYTES_MAX)];
        match &mut self.state {
            State::Head { .. } => self.head(received, out),
            State::Opaque => Step::Pass(received.len().min(room)),
            State::Passing(_) => self.pass_body(&piece[..piece.len().min(room)]),
            State::Text(..) => self.decode_body(piece, out),
        }
    }

    fn head(&mut self, received: &[u8], out: &mut Vec<u8>) -> Step {
        if !self.is_http1 {
            if http2::may_be_preface(received) {
                // No method of HTTP/1 begins with these three letters.
                if received.len() < 3 {
                    return Step::More;
                }
                self.state = State::Opaque;
                return Step::Written(0);
            }
            self.is_http1 = true;
        }
        let State::Head { scanner, told } = &mut self.state else { return Step::More };
        let mut storage = HeaderStorage::new();
        let parsed = match scanner.may_be_complete(received) {
            false => Ok(None),
            true => parse_request(received, &mut storage, Scheme::Http),
        };
        match parsed {
            Ok(Some(parsed)) => {
                let told = *told;
                self.begin(received, &parsed, told, out)
            }
            // The empty line that may stand before a request (RFC 9112 section 2.2): whoever waits for the
            // request must see that it has begun, to bound the time that its head takes.
            Ok(None) if !*told => {
                *told = true;
                out.extend_from_slice(b"\r\n");
                Step::Written(0)
            }
            Ok(None) => Step::More,
            Err(_) => {
                // It is refused where it is read.
                self.state = State::Opaque;
                Step::Written(0)
            }
        }
    }

    fn begin(
        &mut self,
        received: &[u8],
        parsed: &ParsedRequest<'_>,
        told: bool,
        out: &mut Vec<u8>,
    ) -> Step {
        let head_bytes = parsed.head_bytes;
        let head = &received[..head_bytes];
        let empty_line = if head.starts_with(b"\r\n") { 2 } else { 0 };
        let body = Body::new(parsed.body);
        let web = web_request(parsed);
        self.begun = Some(match &web {
            Some(web) => Expected::Web { text: web.text_response },
            None => Expected::Other { may_switch: parsed.upgrade.is_some() },
        });
        let Some(web) = web else {
            self.state = body.map_or_else(State::default, State::Passing);
            // One empty line may come before a request, not two.
            let dropped = if told { empty_line } else { 0 };
            self.head_left = head_bytes - dropped;
            return Step::Written(dropped);
        };
        let decoded = web.text && body.is_some();
        write_head(&head[empty_line..], &web, decoded, out);
        self.state = match body {
            None => State::default(),
            Some(body) if decoded => State::Text(body, Decoder::default()),
            Some(body) => State::Passing(body),
        };
        Step::Written(head_bytes)
    }

    fn pass_body(&mut self, piece: &[u8]) -> Step {
        let State::Passing(body) = &mut self.state else { return Step::More };
        let (count, ended) = match body {
            Body::Fixed(left) => take_fixed(left, piece),
            Body::Chunked(decoder) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(piece);
                match decoder.decode(&mut self.scratch) {
                    Ok(decoded) => (decoded.consumed, decoded.done),
                    Err(_) => {
                        self.state = State::Opaque;
                        return Step::Pass(piece.len());
                    }
                }
            }
        };
        if ended {
            self.ended();
        }
        Step::Pass(count)
    }

    fn decode_body(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Step {
        let State::Text(body, base64) = &mut self.state else { return Step::More };
        let mut decoded = Vec::with_capacity(piece.len());
        let taken = match body {
            Body::Fixed(left) => {
                let (count, ended) = take_fixed(left, piece);
                base64.decode(&piece[..count], &mut decoded).ok().map(|()| (count, ended))
            }
            Body::Chunked(decoder) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(piece);
                match decoder.decode(&mut self.scratch) {
                    Ok(chunks) => base64
                        .decode(&self.scratch[..chunks.payload], &mut decoded)
                        .ok()
                        .map(|()| (chunks.consumed, chunks.done)),
                    Err(_) => None,
                }
            }
        };
        let whole = base64.is_complete();
        let Some((count, ended)) = taken.filter(|(_, ended)| whole || !ended) else {
            out.extend_from_slice(MALFORMED);
            self.state = State::Opaque;
            return Step::Written(piece.len());
        };
        write_chunk(&decoded, out);
        if ended {
            out.extend_from_slice(b"0\r\n\r\n");
            self.ended();
        }
        Step::Written(count)
    }

    fn ended(&mut self) {
        self.state = State::default();
        self.scratch = Vec::new();
    }
}

/// How many bytes of `piece` belong to a body of which `left` are to come, and whether it ends there.
fn take_fixed(left: &mut u64, piece: &[u8]) -> (usize, bool) {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
    *left -= count as u64;
    (count, *left == 0)
}

/// Append `payload` as a chunk, if there is any.
pub(super) fn write_chunk(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    let mut line = [0; CHUNK_HEAD_BYTES_MAX];
    let from = write_chunk_head(&mut line, payload.len());
    out.extend_from_slice(&line[from..]);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A request of gRPC-Web.
#[derive(Debug, PartialEq, Eq)]
struct WebRequest<'r> {
    /// Is its body base64?
    text: bool,
    /// Is that of its response to be?
    text_response: bool,
    /// What follows in the content-type, such as `+proto`.
    suffix: &'r [u8],
}

fn web_request<'r>(parsed: &ParsedRequest<'r>) -> Option<WebRequest<'r>> {
    let head = &parsed.head;
    if head.method != b"POST" || head.version != Version::Http11 {
        return None;
    }
    let of_type = |field: &&HeaderField<'_>| field.known == KnownHeader::ContentType;
    let (text, suffix) = web_type(head.headers.iter().rfind(of_type)?.value)?;
    let accepted = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(b"accept"));
    // The first that is of gRPC-Web. Without one a client gets what it sends.
    let text_response = accepted
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .find_map(|kind| web_type(kind.trim_ascii()))
        .map_or(text, |(text, _)| text);
    Some(WebRequest { text, text_response, suffix })
}

/// Is this media type one of gRPC-Web? Whether it is in text, and what follows.
fn web_type(value: &[u8]) -> Option<(bool, &[u8])> {
    const WEB: &[u8] = b"application/grpc-web";
    const TEXT: &[u8] = b"-text";
    let (start, rest) = value.split_at_checked(WEB.len())?;
    if !start.eq_ignore_ascii_case(WEB) {
        return None;
    }
    let text = rest.get(..TEXT.len()).is_some_and(|start| start.eq_ignore_ascii_case(TEXT));
    let suffix = if text { &rest[TEXT.len()..] } else { rest };
    matches!(suffix, [] | [b'+' | b';' | b' ', ..]).then_some((text, suffix))
}

/// Write the head as gRPC's. `decoded`: the body gets another length.
fn write_head(head: &[u8], web: &WebRequest<'_>, decoded: bool, out: &mut Vec<u8>) {
    for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        let replaced = match KnownHeader::from_name(name) {
            KnownHeader::ContentType | KnownHeader::Te => true,
            KnownHeader::ContentLength | KnownHeader::TransferEncoding => decoded,
            _ => line == b"\r\n",
        };
        if index == 0 || !replaced {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"content-type: application/grpc");
    out.extend_from_slice(web.suffix);
    out.extend_from_slice(b"\r\nte: trailers\r\n");
    if decoded {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
