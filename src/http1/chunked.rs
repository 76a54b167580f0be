//! Chunked transfer coding (RFC 9112 section 7.1): decoded in place, and the lines to write it.

use std::fmt;

use crate::http::KnownHeader;
use crate::limits::{
    BODY_EXTENSION_BYTES_MAX, CHUNK_EXTENSION_BYTES_MAX, HEADERS_MAX, TRAILER_BYTES_MAX,
};

use super::connection::starts_with_ignore_case;

/// Hexadecimal digits of a chunk size, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;
/// Room for the trailers of a message that has some: those of gRPC are two short lines.
const TRAILER_BYTES_USUAL: usize = 64;

/// Why a chunked body is refused. The message can not be completed: close both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkError {
    /// A chunk size that is no hexadecimal number of up to 16 digits, directly followed by `;` or
    /// CR.
    Size,
    /// An extension with control bytes, without a name, or with white space before the line end.
    Extension,
    /// Extensions over [`CHUNK_EXTENSION_BYTES_MAX`] or [`BODY_EXTENSION_BYTES_MAX`].
    ExtensionTooLong,
    /// A line or a chunk that does not end in CR LF.
    LineEnd,
    /// A trailer field with an invalid name or value, or a folded line.
    Trailer,
    /// Trailers over [`TRAILER_BYTES_MAX`] or [`HEADERS_MAX`] fields.
    TrailersTooLarge,
}

impl ChunkError {
    /// Status of the reply to a request with such a body, if none was sent yet.
    pub fn status(self) -> u16 {
        match self {
            ChunkError::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// One word for the access log, in the manner of Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub fn details(self) -> &'static str {
        match self {
            ChunkError::Size => "http1.invalid_chunk_size",
            ChunkError::Extension => "http1.invalid_chunk_extension",
            ChunkError::ExtensionTooLong => "http1.chunk_extension_too_long",
            ChunkError::LineEnd => "http1.invalid_chunk_line_end",
            ChunkError::Trailer => "http1.invalid_trailer",
            ChunkError::TrailersTooLarge => "http1.trailers_too_large",
        }
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChunkError::Size => "chunk size is not a hexadecimal number of up to 16 digits",
            ChunkError::Extension => "malformed chunk extension",
            ChunkError::ExtensionTooLong => "chunk extensions are too long",
            ChunkError::LineEnd => "a chunk or a line between chunks does not end in CR LF",
            ChunkError::Trailer => "malformed trailer field",
            ChunkError::TrailersTooLarge => "the trailer section is too large",
        })
    }
}

impl std::error::Error for ChunkError {}

/// Result of one [`ChunkedDecoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of payload, now at `buffer[..payload]`.
    pub payload: usize,
    /// Bytes of the buffer that belong to this body: all of them, unless it is done. What lies
    /// behind belongs to the next message and is untouched.
    pub consumed: usize,
    /// The body and its trailer section are complete.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a chunk size.
    Size {
        digits: u8,
    },
    /// Directly behind the `;` of an extension.
    ExtensionName,
    /// In an extension; was the last byte white space?
    Extension {
        space: bool,
    },
    /// Behind the CR of a size line.
    SizeLf,
    /// In the data, of which `size` bytes are still to come.
    Data,
    /// Behind the data of a chunk.
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    TrailerLine,
    TrailerLf,
    /// Behind the CR of the final empty line.
    EndLf,
    Done,
}

/// Decodes one chunked body, whatever the pieces that it arrives in. Every byte is presented once.
///
/// No allocation, unless there are trailers.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// The size being read, then the bytes of data still to come.
    size: u64,
    chunk_extension_bytes: usize,
    body_extension_bytes: usize,
    trailer_bytes: usize,
    trailer_count: usize,
    /// Accepted trailers as `name: value\r\n`, followed by the raw line being read.
    trailers: Vec<u8>,
    /// Start of the raw line in `trailers`.
    line_start: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder::new()
    }
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> ChunkedDecoder {
        ChunkedDecoder {
            state: State::Size { digits: 0 },
            size: 0,
            chunk_extension_bytes: 0,
            body_extension_bytes: 0,
            trailer_bytes: 0,
            trailer_count: 0,
            trailers: Vec::new(),
            line_start: 0,
        }
    }

    /// The body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that may be forwarded, as `name: value\r\n…` without the final empty line;
    /// empty if there are none, or before the body is done. Left out are framing, routing,
    /// authentication and hop-by-hop fields and those that the gateway acts on (RFC 9110 section
    /// 6.5.1); `grpc-status` stays.
    pub fn trailers(&self) -> &[u8] {
        if self.is_done() { &self.trailers } else { &[] }
    }

    /// Decode the next `buffer` of the body: its payload is moved together at the start of the
    /// buffer. After an error the decoder must not be used again.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut read = 0;
        let mut payload = 0;
        while self.state != State::Done {
            if self.state == State::Data {
                let left = buffer.len() - read;
                // A `usize` fits into `u64` and the smaller of the two into `usize`.
                let count = self.size.min(left as u64) as usize;
                if payload != read {
                    buffer.copy_within(read..read + count, payload);
                }
                read += count;
                payload += count;
                self.size -= count as u64;
                if self.size > 0 {
                    break;
                }
                self.state = State::DataCr;
            }
            read += match self.state {
                State::TrailerStart | State::TrailerLine => self.trailer_text(&buffer[read..])?,
                State::DataCr if buffer[read..].starts_with(b"\r\n") => {
                    self.state = State::Size { digits: 0 };
                    2
                }
                _ => 0,
            };
            if self.state == (State::Size { digits: 0 })
                && let Some((size, bytes)) = usual_size_line(&buffer[read..])
            {
                self.size = size;
                self.chunk_extension_bytes = 0;
                self.state = if size == 0 { State::TrailerStart } else { State::Data };
                read += bytes;
                continue;
            }
            let Some(byte) = buffer.get(read) else {
                break;
            };
            self.state = self.step(*byte)?;
            read += 1;
        }
        Ok(Decoded { payload, consumed: read, done: self.state == State::Done })
    }

    /// The state behind `byte`, which is not data.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size { digits } => self.size_digit(digits, byte),
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.chunk_extension_bytes = 0;
                Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
            }
            State::DataCr => expect(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => {
                expect(byte, b'\n')?;
                self.size = 0;
                Ok(State::Size { digits: 0 })
            }
            State::ExtensionName => match byte {
                // The name may follow white space, but there must be one.
                b' ' | b'\t' => self.extension(State::ExtensionName),
                b'\r' | b'\n' | b';' | b'=' => Err(ChunkError::Extension),
                _ if is_text(byte) => self.extension(State::Extension { space: false }),
                _ => Err(ChunkError::Extension),
            },
            State::Extension { space } => match byte {
                b'\r' if !space => Ok(State::SizeLf),
                b';' => self.extension(State::ExtensionName),
                b' ' | b'\t' => self.extension(State::Extension { space: true }),
                _ if is_text(byte) => self.extension(State::Extension { space: false }),
                _ => Err(ChunkError::Extension),
            },
            State::TrailerStart if byte == b'\r' => Ok(State::EndLf),
            State::TrailerStart | State::TrailerLine if byte == b'\r' => Ok(State::TrailerLf),
            // All text before it was taken at once.
            State::TrailerStart | State::TrailerLine if byte == b'\n' => Err(ChunkError::LineEnd),
            State::TrailerStart | State::TrailerLine => Err(ChunkError::Trailer),
            State::TrailerLf => {
                expect(byte, b'\n')?;
                self.trailer_bytes += 2;
                self.end_trailer_line()?;
                Ok(State::TrailerStart)
            }
            State::EndLf => expect(byte, b'\n').map(|()| State::Done),
            State::Data | State::Done => Ok(self.state),
        }
    }

    #[inline]
    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeLf),
            b';' if digits > 0 => return self.extension(State::ExtensionName),
            b'\n' if digits > 0 => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Size),
        };
        if digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// Count one byte of an extension and go on in `next`.
    fn extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.chunk_extension_bytes += 1;
        self.body_extension_bytes += 1;
        if self.chunk_extension_bytes > CHUNK_EXTENSION_BYTES_MAX
            || self.body_extension_bytes > BODY_EXTENSION_BYTES_MAX
        {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(next)
    }

    /// Take what of a trailer line is at the start of `bytes`. What is no text, a line end or something that
    /// is wrong, is the next byte: every byte is looked at once. Returns how much was taken.
    fn trailer_text(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let count = bytes.iter().position(|byte| !is_text(*byte)).unwrap_or(bytes.len());
        let text = &bytes[..count];
        if count == 0 {
            return Ok(0);
        }
        self.trailer_bytes += count;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailers.reserve(count.max(TRAILER_BYTES_USUAL));
        self.trailers.extend_from_slice(text);
        self.state = State::TrailerLine;
        Ok(count)
    }

    /// Turn the raw line into a serialised field, or drop it.
    fn end_trailer_line(&mut self) -> Result<(), ChunkError> {
        self.trailer_count += 1;
        if self.trailer_count > HEADERS_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        let line = &self.trailers[self.line_start..];
        let colon = memchr::memchr(b':', line).ok_or(ChunkError::Trailer)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(ChunkError::Trailer);
        }
        if !is_forwarded_trailer(name) {
            self.trailers.truncate(self.line_start);
            return Ok(());
        }
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let leading = value.iter().take_while(blank).count();
        let trailing = value[leading..].iter().rev().take_while(blank).count();
        let value_start = self.line_start + colon + 1;
        let length = self.trailers.len();
        self.trailers.truncate(length - trailing);
        if leading != 1 || self.trailers[value_start] != b' ' {
            self.trailers.splice(value_start..value_start + leading, [b' ']);
        }
        self.trailers.extend_from_slice(b"\r\n");
        self.line_start = self.trailers.len();
        Ok(())
    }
}

/// A size line of up to seven digits without an extension, and its length: what nearly every one is. All
/// others are read byte by byte.
#[inline]
fn usual_size_line(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (digits, byte) in bytes.iter().take(8).enumerate() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 && bytes.get(digits + 1) == Some(&b'\n') => {
                return Some((size, digits + 2));
            }
            _ => return None,
        };
        size = size << 4 | u64::from(digit);
    }
    None
}

#[inline]
fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(ChunkError::LineEnd) }
}

/// Tab, space, visible characters and obs-text.
#[inline]
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// May a trailer of this name go on (RFC 9110 section 6.5.1)?
fn is_forwarded_trailer(name: &[u8]) -> bool {
    const DROPPED: &[&[u8]] = &[
        b"age",
        b"cache-control",
        b"expires",
        b"forwarded",
        b"location",
        b"max-forwards",
        b"pragma",
        b"proxy",
        b"range",
        b"retry-after",
        b"vary",
        b"warning",
        b"www-authenticate",
        b"x-real-ip",
    ];
    const DROPPED_PREFIXES: &[&[u8]] =
        &[b"content-", b"if-", b"proxy-", b"x-envoy-", b"x-forwarded-", b"x-istio-"];
    match KnownHeader::from_name(name) {
        KnownHeader::GrpcStatus => true,
        KnownHeader::Other if starts_with_ignore_case(name, b"grpc-") => true,
        KnownHeader::Other => {
            !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
                && !DROPPED_PREFIXES.iter().any(|prefix| starts_with_ignore_case(name, prefix))
        }
        _ => false,
    }
}

/// Bytes of the longest chunk head: 16 hexadecimal digits and CR LF.
pub const CHUNK_HEAD_BYTES_MAX: usize = 18;

/// Write the size line of a chunk of `payload_bytes` at the *end* of `out`, so that it lies
/// directly before the payload. Returns where in `out` it begins. `payload_bytes` must not be 0:
/// that would end the body.
#[inline]
pub fn write_chunk_head(out: &mut [u8; CHUNK_HEAD_BYTES_MAX], payload_bytes: usize) -> usize {
    debug_assert!(payload_bytes > 0);
    let mut start = CHUNK_HEAD_BYTES_MAX - 2;
    out[start..].copy_from_slice(b"\r\n");
    let mut rest = payload_bytes;
    loop {
        start -= 1;
        out[start] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return start;
        }
    }
}

/// Write the last chunk, the `trailers` (`name: value\r\n…`, possibly none, as [`ChunkedDecoder::trailers`] gives them) and the final empty
/// line.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.reserve(5 + trailers.len());
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
