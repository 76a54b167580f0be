//! Chunked transfer coding (RFC 9112 section 7.1), decoded in place. The decoder keeps what it needs
//! between calls, so that no byte has to be shown to it twice.

use super::connection::is_hop_by_hop;
use crate::http::{HeaderField, KnownHeader};
use crate::limits::{
    BODY_EXTENSION_BYTES_MAX, CHUNK_EXTENSION_BYTES_MAX, HEADERS_MAX, TRAILER_BYTES_MAX,
};

/// Most hex digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The chunk size is not 1 to 16 hex digits.
    Size,
    /// A line end other than CR LF.
    LineEnd,
    /// Extensions over a limit, or with control bytes.
    Extension,
    /// Malformed or too large trailers.
    Trailer,
}

/// What one call decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Payload bytes, moved together at the start of the buffer.
    pub payload: usize,
    /// Bytes of the buffer that belonged to the body.
    pub consumed: usize,
    /// The body is complete.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size {
        digits: u8,
    },
    /// In an extension.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// In the data; `remaining` bytes are left.
    Data,
    /// The CR after the data.
    DataCr,
    /// The LF after the data.
    DataLf,
    /// At the start of a trailer line, or of the final empty line.
    TrailerStart,
    /// In a trailer line.
    TrailerLine,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the final line.
    EndLf,
    Done,
}

/// Decodes one body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the size being read, then of the data.
    remaining: u64,
    extension: usize,
    extensions: usize,
    /// Trailer lines as received; allocated only when there are some.
    received: Vec<u8>,
    /// Where the trailer line being read begins in it.
    line_start: usize,
    /// Those that may be forwarded, serialised.
    trailers: Vec<u8>,
}

impl ChunkedDecoder {
    /// At the start of a body.
    pub fn new() -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size { digits: 0 },
            remaining: 0,
            extension: 0,
            extensions: 0,
            received: Vec::new(),
            line_start: 0,
            trailers: Vec::new(),
        }
    }

    /// The trailers that may be forwarded, as `name: value` lines with their ends; empty for none.
    /// Framing, routing, authentication and hop-by-hop names are not among them (RFC 9110 section
    /// 6.5.1).
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Decode the next bytes of the body, in place.
    ///
    /// # Errors
    /// The body is malformed: nothing after this can be trusted.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut read = 0;
        let mut write = 0;
        while read < buffer.len() && self.state != State::Done {
            if self.state == State::Data {
                let here =
                    usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len() - read);
                if read != write {
                    buffer.copy_within(read..read + here, write);
                }
                read += here;
                write += here;
                self.remaining -= here as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = buffer[read];
            read += 1;
            self.framing_byte(byte)?;
        }
        Ok(Decoded { payload: write, consumed: read, done: self.state == State::Done })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError::Size);
                }
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 0 }, _) => return Err(ChunkError::Size),
            (State::Size { .. }, b'\r') => State::SizeLf,
            (State::Size { .. }, b';') => {
                self.extension = 0;
                State::Extension
            }
            (State::Size { .. }, b'\n') => return Err(ChunkError::LineEnd),
            (State::Size { .. }, _) => return Err(ChunkError::Size),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\n') => return Err(ChunkError::LineEnd),
            (State::Extension, _) => {
                let control = byte < 0x20 && byte != b'\t' || byte == 0x7f;
                self.extension += 1;
                self.extensions += 1;
                if control
                    || self.extension > CHUNK_EXTENSION_BYTES_MAX
                    || self.extensions > BODY_EXTENSION_BYTES_MAX
                {
                    return Err(ChunkError::Extension);
                }
                State::Extension
            }
            (State::SizeLf, b'\n') if self.remaining == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerLine, b'\n') => return Err(ChunkError::LineEnd),
            (State::TrailerStart | State::TrailerLine, _) => {
                if self.received.len() >= TRAILER_BYTES_MAX {
                    return Err(ChunkError::Trailer);
                }
                if byte == b'\r' {
                    State::TrailerLf
                } else {
                    self.received.push(byte);
                    State::TrailerLine
                }
            }
            (State::TrailerLf, b'\n') => {
                self.trailer()?;
                State::TrailerStart
            }
            (State::EndLf, b'\n') => State::Done,
            (
                State::SizeLf
                | State::DataCr
                | State::DataLf
                | State::TrailerLf
                | State::EndLf
                | State::Data
                | State::Done,
                _,
            ) => return Err(ChunkError::LineEnd),
        };
        Ok(())
    }

    /// A trailer line is complete: check it, and keep it if it may be forwarded.
    fn trailer(&mut self) -> Result<(), ChunkError> {
        let line = &self.received[self.line_start..];
        let Some(colon) = memchr::memchr(b':', line) else { return Err(ChunkError::Trailer) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let valid = !name.is_empty()
            && name.iter().all(|byte| is_token(*byte))
            && !value.iter().any(|byte| *byte < 0x20 && *byte != b'\t' || *byte == 0x7f);
        if !valid {
            return Err(ChunkError::Trailer);
        }
        let field = HeaderField { name, value, known: KnownHeader::from_name(name) };
        if may_be_trailer(&field) {
            self.trailers.extend_from_slice(name);
            self.trailers.extend_from_slice(b": ");
            self.trailers.extend_from_slice(value);
            self.trailers.extend_from_slice(b"\r\n");
        }
        self.line_start = self.received.len();
        // A count of lines follows from the bytes: at least two each.
        if self.trailers.len() > TRAILER_BYTES_MAX + HEADERS_MAX * 4 {
            return Err(ChunkError::Trailer);
        }
        Ok(())
    }
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder::new()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// May this field stand behind a body? Not when it frames, routes, authenticates, modifies the
/// request, or concerns one hop (RFC 9110 section 6.5.1).
fn may_be_trailer(field: &HeaderField<'_>) -> bool {
    const FORBIDDEN: &[&[u8]] = &[
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"expires",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"vary",
        b"warning",
        b"www-authenticate",
        b"forwarded",
        b"x-real-ip",
    ];
    if is_hop_by_hop(field) {
        return false;
    }
    match field.known {
        KnownHeader::GrpcStatus => true,
        KnownHeader::Other => {
            !FORBIDDEN.iter().any(|name| field.name.eq_ignore_ascii_case(name))
                && !super::connection::starts_with_ignore_case(field.name, b"x-forwarded-")
        }
        _ => false,
    }
}

/// Write `length` in hex with its line end at the end of `line`, so that it can be put directly
/// before the payload. Returns where in `line` it begins.
pub fn write_chunk_head(line: &mut [u8; 18], length: usize) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    line[16] = b'\r';
    line[17] = b'\n';
    let mut at = 16;
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = HEX[rest & 15];
        rest >>= 4;
        if rest == 0 || at == 0 {
            return at;
        }
    }
}

/// Write the last chunk, `trailers` (lines with their ends, possibly none) and the final line.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}
