//! HTTP/1.1 responses out of a stream of bytes, framed as RFC 9112 section 6 says.
//!
//! Written for the generator alone: it counts what comes and believes nothing.

use httparse::Status;

/// Longest head that is taken, bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Most header fields in a head.
const FIELDS_MAX: usize = 100;
/// Longest line of a chunk's size or of a trailer, bytes.
const LINE_MAX: usize = 8 * 1024;
/// The most of a body that is kept for a check, bytes.
pub(crate) const KEPT_BODY_MAX: usize = 1024 * 1024;

/// Why the bytes are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadResponse {
    /// `httparse` refused the head.
    #[error("the head of the response is not HTTP/1")]
    Head,
    /// It goes on for too long.
    #[error("the head of the response is longer than {HEAD_MAX} bytes")]
    HeadTooLong,
    /// `content-length` is no number, or two differ.
    #[error("the content-length of the response is not one number")]
    Length,
    /// A transfer coding other than chunked.
    #[error("the transfer-encoding of the response is not chunked")]
    Coding,
    /// A chunk's size or end.
    #[error("a chunk of the response is malformed")]
    Chunk,
    /// Bytes came after the only response that was asked for.
    #[error("more bytes came than the response has")]
    Surplus,
}

/// A response that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// No further request can be sent on the connection.
    pub(crate) close: bool,
    /// Of its body, without framing.
    pub(crate) body_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    /// So many bytes of the body are to come.
    Sized(u64),
    /// The body ends with the connection.
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
}

/// The state between two reads of one connection.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    state: State,
    /// A head or a line that came in more than one piece.
    partial: Vec<u8>,
    response: Response,
    /// The response has no body whatever its head says: the request was HEAD.
    bodiless: bool,
    /// The body, when a check wants to see it.
    pub(crate) kept: Option<Vec<u8>>,
}

impl ResponseReader {
    pub(crate) fn new() -> ResponseReader {
        ResponseReader {
            state: State::Head,
            partial: Vec::new(),
            response: Response { status: 0, close: false, body_bytes: 0 },
            bodiless: false,
            kept: None,
        }
    }

    /// Begins the next response.
    pub(crate) fn begin(&mut self, bodiless: bool, keep_body: bool) {
        self.state = State::Head;
        self.partial.clear();
        self.bodiless = bodiless;
        match (&mut self.kept, keep_body) {
            (Some(kept), true) => kept.clear(),
            (kept, true) => *kept = Some(Vec::new()),
            (kept, false) => *kept = None,
        }
    }

    /// How much of the body's current piece is still to come.
    pub(crate) fn body_left(&self) -> u64 {
        match self.state {
            State::Sized(left) | State::ChunkData(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// Takes what came; the response when it is complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Response>, BadResponse> {
        loop {
            match self.state {
                State::Head => {
                    let Some(used) = self.head(bytes)? else { return Ok(None) };
                    bytes = &bytes[used..];
                    // Interim responses leave the state as it is.
                    match self.state {
                        State::Sized(0) => return self.complete(bytes).map(Some),
                        State::Head if bytes.is_empty() => return Ok(None),
                        _ => {}
                    }
                }
                State::Sized(left) => {
                    let count = self.body(&mut bytes, left);
                    if count == left {
                        return self.complete(bytes).map(Some);
                    }
                    self.state = State::Sized(left - count);
                    return Ok(None);
                }
                State::UntilClose => {
                    self.body(&mut bytes, u64::MAX);
                    return Ok(None);
                }
                State::ChunkSize => {
                    let Some(line) = self.line(&mut bytes)? else { return Ok(None) };
                    let size = chunk_size(&line).ok_or(BadResponse::Chunk)?;
                    self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
                }
                State::ChunkData(left) => {
                    let count = self.body(&mut bytes, left);
                    if count < left {
                        self.state = State::ChunkData(left - count);
                        return Ok(None);
                    }
                    self.state = State::ChunkEnd;
                }
                State::ChunkEnd => {
                    let Some(line) = self.line(&mut bytes)? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(BadResponse::Chunk);
                    }
                    self.state = State::ChunkSize;
                }
                State::Trailer => {
                    let Some(line) = self.line(&mut bytes)? else { return Ok(None) };
                    if line.is_empty() {
                        return self.complete(bytes).map(Some);
                    }
                }
            }
        }
    }

    /// The connection ended: the response, if that is how its body ends.
    pub(crate) fn end(&mut self) -> Option<Response> {
        matches!(self.state, State::UntilClose).then_some(self.response)
    }

    fn complete(&mut self, rest: &[u8]) -> Result<Response, BadResponse> {
        self.state = State::Head;
        // One request is under way at a time: what comes after its response belongs to nothing.
        if rest.is_empty() { Ok(self.response) } else { Err(BadResponse::Surplus) }
    }

    /// Takes up to `left` bytes of body.
    fn body(&mut self, bytes: &mut &[u8], left: u64) -> u64 {
        let count = left.min(bytes.len() as u64);
        let (body, rest) = bytes.split_at(count as usize);
        *bytes = rest;
        self.response.body_bytes += count;
        if let Some(kept) = &mut self.kept {
            let room = KEPT_BODY_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&body[..body.len().min(room)]);
        }
        count
    }

    /// A line without its end; none when it goes on.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, BadResponse> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.partial.extend_from_slice(bytes);
            *bytes = &[];
            let fits = self.partial.len() <= LINE_MAX;
            return if fits { Ok(None) } else { Err(BadResponse::Chunk) };
        };
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(&bytes[..end]);
        *bytes = &bytes[end + 1..];
        if line.pop() != Some(b'\r') {
            return Err(BadResponse::Chunk);
        }
        Ok(Some(line))
    }

    /// Takes a head: how many of `bytes` belong to it, or none when it goes on.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadResponse> {
        if self.partial.is_empty() {
            if let Some(used) = self.parse_head(bytes)? {
                return Ok(Some(used));
            }
            self.partial.extend_from_slice(bytes);
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(bytes);
            let partial = std::mem::take(&mut self.partial);
            if let Some(used) = self.parse_head(&partial)? {
                return Ok(Some(used.saturating_sub(before)));
            }
            self.partial = partial;
        }
        if self.partial.len() > HEAD_MAX { Err(BadResponse::HeadTooLong) } else { Ok(None) }
    }

    fn parse_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadResponse> {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, bytes, &mut fields)
            .map_err(|_| BadResponse::Head)?;
        let Status::Complete(used) = parsed else { return Ok(None) };
        let status = head.code.ok_or(BadResponse::Head)?;
        let mut length = None;
        let mut chunked = None;
        let mut close = head.version != Some(1);
        for field in head.headers.iter() {
            // All three names that matter are told apart from most others by their length.
            match field.name.len() {
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    let has = |word| has_word(field.value, word);
                    close = has(&b"close"[..]) || (close && !has(&b"keep-alive"[..]));
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let value = decimal(field.value).ok_or(BadResponse::Length)?;
                    if length.is_some_and(|before| before != value) {
                        return Err(BadResponse::Length);
                    }
                    length = Some(value);
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    chunked = Some(field.value.eq_ignore_ascii_case(b"chunked"));
                }
                _ => {}
            }
        }
        if status == 101 {
            // Nobody asked for another protocol.
            return Err(BadResponse::Head);
        }
        if (100..200).contains(&status) {
            return Ok(Some(used));
        }
        self.state = match (self.bodiless || matches!(status, 204 | 304), chunked, length) {
            (true, ..) => State::Sized(0),
            (false, Some(true), None) => State::ChunkSize,
            // Both at once is how responses are smuggled.
            (false, Some(true), Some(_)) => return Err(BadResponse::Length),
            (false, Some(false), _) => return Err(BadResponse::Coding),
            (false, None, Some(length)) => State::Sized(length),
            (false, None, None) => State::UntilClose,
        };
        let close = close || matches!(self.state, State::UntilClose);
        self.response = Response { status, close, body_bytes: 0 };
        Ok(Some(used))
    }
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Option<Response>, BadResponse> {
        let mut reader = ResponseReader::new();
        reader.begin(false, false);
        let mut last = None;
        for piece in pieces {
            assert_eq!(last, None, "complete before the last piece");
            last = reader.feed(piece)?;
        }
        Ok(last.or_else(|| reader.end()))
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n6;name=value\r\n world\r\n0\r\ntrailer: x\r\n\r\n";
    const SIZED: &[u8] =
        b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\nConnection: Close\r\n\r\nhello";

    #[test]
    fn responses_are_the_same_however_they_are_cut() {
        for (bytes, expected) in [
            (CHUNKED, Response { status: 200, close: false, body_bytes: 11 }),
            (SIZED, Response { status: 503, close: true, body_bytes: 5 }),
        ] {
            for first in 1..bytes.len() - 1 {
                for second in first + 1..bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(read(&pieces), Ok(Some(expected)), "cut at {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_connection_ends_a_body_without_length() {
        let expected = Response { status: 200, close: true, body_bytes: 3 };
        assert_eq!(read(&[b"HTTP/1.0 200 OK\r\n\r\n", b"abc"]), Ok(Some(expected)));
        assert_eq!(read(&[&SIZED[..SIZED.len() - 1]]), Ok(None), "cut short");
        assert_eq!(read(&[&CHUNKED[..CHUNKED.len() - 2]]), Ok(None), "cut short");
    }

    #[test]
    fn some_responses_have_no_body() {
        let expected = Response { status: 204, close: false, body_bytes: 0 };
        assert_eq!(read(&[b"HTTP/1.1 204 No Content\r\n\r\n"]), Ok(Some(expected)));
        let mut reader = ResponseReader::new();
        reader.begin(true, false);
        let response = reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(response, Ok(Some(Response { status: 200, close: false, body_bytes: 0 })));
    }

    #[test]
    fn a_body_is_kept_for_checks_up_to_a_limit() {
        let mut reader = ResponseReader::new();
        reader.begin(false, true);
        assert!(reader.feed(CHUNKED).is_ok_and(|response| response.is_some()));
        assert_eq!(reader.kept.as_deref(), Some(&b"hello world"[..]));
        reader.begin(false, true);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 3 * KEPT_BODY_MAX);
        assert_eq!(reader.feed(head.as_bytes()), Ok(None));
        let body = vec![b'x'; 3 * KEPT_BODY_MAX];
        assert!(reader.feed(&body).is_ok_and(|response| response.is_some()));
        assert_eq!(reader.kept.as_ref().map(Vec::len), Some(KEPT_BODY_MAX));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let head_too_long = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; HEAD_MAX]].concat();
        for (bytes, error) in [
            (&b"rubbish\r\n\r\n"[..], BadResponse::Head),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", BadResponse::Head),
            (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", BadResponse::Length),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
                BadResponse::Length,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                BadResponse::Length,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                BadResponse::Length,
            ),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", BadResponse::Coding),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", BadResponse::Chunk),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
                BadResponse::Chunk,
            ),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                BadResponse::Chunk,
            ),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", BadResponse::Surplus),
            (&head_too_long, BadResponse::HeadTooLong),
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
            assert_eq!(read(&[bytes]), Err(error), "{shown}");
        }
    }

    #[test]
    fn any_bytes_end_in_a_response_an_error_or_a_wait() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let mut bytes = if random.bool() { CHUNKED.to_vec() } else { SIZED.to_vec() };
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            let cut = random.usize(..bytes.len());
            let mut reader = ResponseReader::new();
            reader.begin(random.bool(), random.bool());
            if let Ok(None) = reader.feed(&bytes[..cut]) {
                let _ = reader.feed(&bytes[cut..]);
            }
        }
    }
}
