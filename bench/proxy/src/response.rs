//! Counts HTTP/1.1 responses in a stream of bytes: status line, `content-length`, nothing more.
//!
//! Written for the load generator and shared with nothing of the proxy, so that a framing error of
//! the proxy cannot hide here.

use crate::sys::find;

/// A response whose last byte has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The three digits of the status line.
    pub(crate) status: u16,
    /// The response said `connection: close`.
    pub(crate) close: bool,
}

/// Why the bytes are not a response that we can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadResponse {
    /// No `HTTP/1.x NNN` at the start.
    StatusLine,
    /// Neither `content-length` nor a status without body: chunked and until-close are not counted.
    Length,
    /// The head does not end within [`HEAD_LIMIT`] bytes.
    HeadTooLong,
}

/// Longest head, bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// The state between two reads of one connection.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    /// The head so far, when it came in more than one piece.
    partial: Vec<u8>,
    /// The head that has been read and the bytes of its body still to come.
    body: Option<(Finished, u64)>,
}

impl ResponseReader {
    /// Takes bytes up to the end of one response: how many were used, and the response if it ended.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Finished>), BadResponse> {
        let mut used = 0;
        loop {
            if let Some((response, left)) = self.body {
                let taken = left.min((bytes.len() - used) as u64);
                used += taken as usize;
                if taken == left {
                    self.body = None;
                    return Ok((used, Some(response)));
                }
                self.body = Some((response, left - taken));
                return Ok((used, None));
            }
            let Some(taken) = self.feed_head(&bytes[used..])? else {
                return Ok((bytes.len(), None));
            };
            used += taken;
        }
    }

    /// Bytes of body that are still to come; 0 between responses and within a head.
    pub(crate) fn body_left(&self) -> u64 {
        self.body.map_or(0, |(_, left)| left)
    }

    /// Takes note of body bytes that were discarded unread; fewer than [`Self::body_left`].
    pub(crate) fn skip_body(&mut self, bytes: u64) {
        if let Some((_, left)) = &mut self.body {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Takes bytes up to the end of a head: how many, or `None` when the head goes on.
    fn feed_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadResponse> {
        if self.partial.is_empty() {
            if let Some(end) = find(bytes, b"\r\n\r\n") {
                self.body = parse_head(&bytes[..end + 2])?;
                return Ok(Some(end + 4));
            }
            self.partial.extend_from_slice(bytes);
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(bytes);
            // The blank line may straddle the two pieces by up to three bytes.
            let from = before.saturating_sub(3);
            if let Some(at) = find(&self.partial[from..], b"\r\n\r\n") {
                let end = from + at;
                self.body = parse_head(&self.partial[..end + 2])?;
                self.partial.clear();
                return Ok(Some(end + 4 - before));
            }
        }
        if self.partial.len() > HEAD_LIMIT { Err(BadResponse::HeadTooLong) } else { Ok(None) }
    }
}

/// Reads a head (with the CRLF of its last line, without the blank one). `None`: an interim 1xx.
fn parse_head(head: &[u8]) -> Result<Option<(Finished, u64)>, BadResponse> {
    let status = match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', a, b, c, b' ' | b'\r', ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => return Err(BadResponse::StatusLine),
    };
    let mut length = None;
    let mut close = false;
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        // Only two names matter and both begin with the same letter.
        if !matches!(line.first(), Some(b'c' | b'C')) {
            continue;
        }
        if let Some(value) = value_of(line, b"content-length:") {
            length = Some(decimal(value).ok_or(BadResponse::Length)?);
        } else if let Some(value) = value_of(line, b"connection:") {
            close |= value.eq_ignore_ascii_case(b"close");
        }
    }
    let response = Finished { status, close };
    match (status, length) {
        (100..=199, _) => Ok(None),
        (204 | 304, _) => Ok(Some((response, 0))),
        (_, Some(length)) => Ok(Some((response, length))),
        (_, None) => Err(BadResponse::Length),
    }
}

/// The value of a header line if its name (in lower case, with the colon) is the one asked for.
pub(crate) fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 503 Busy\r\ncontent-length:0\r\nconnection: Close\r\n\r\n";

    fn count(mut bytes: &[u8], reader: &mut ResponseReader) -> Result<Vec<Finished>, BadResponse> {
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let (used, finished) = reader.feed(bytes)?;
            seen.extend(finished);
            bytes = &bytes[used..];
        }
        Ok(seen)
    }

    #[test]
    fn counts_the_same_however_the_bytes_are_cut() {
        let expected =
            vec![Finished { status: 200, close: false }, Finished { status: 503, close: true }];
        for first in 0..TWO.len() {
            for second in first..TWO.len() {
                let mut reader = ResponseReader::default();
                let mut seen = Vec::new();
                for piece in [&TWO[..first], &TWO[first..second], &TWO[second..]] {
                    seen.extend(count(piece, &mut reader).expect("two good responses"));
                }
                assert_eq!(seen, expected, "cut at {first} and {second}");
                assert_eq!(reader.body_left(), 0);
            }
        }
    }

    #[test]
    fn an_interim_response_is_not_counted() {
        let bytes = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let seen = count(bytes, &mut ResponseReader::default()).expect("good");
        assert_eq!(seen, vec![Finished { status: 204, close: false }]);
    }

    #[test]
    fn body_bytes_may_be_skipped_unread() {
        let mut reader = ResponseReader::default();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789";
        assert_eq!(reader.feed(head), Ok((head.len(), None)));
        assert_eq!(reader.body_left(), 990);
        reader.skip_body(980);
        assert_eq!(
            reader.feed(b"0123456789"),
            Ok((10, Some(Finished { status: 200, close: false })))
        );
    }

    #[test]
    fn what_is_no_countable_response_is_refused() {
        for (bytes, error) in [
            (&b"HTP/1.1 200 OK\r\n\r\n"[..], BadResponse::StatusLine),
            (b"HTTP/1.1 2x0 OK\r\n\r\n", BadResponse::StatusLine),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", BadResponse::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", BadResponse::Length),
            (b"HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", BadResponse::Length),
        ] {
            assert_eq!(count(bytes, &mut ResponseReader::default()), Err(error));
        }
        let endless = vec![b'a'; HEAD_LIMIT + 1];
        assert_eq!(count(&endless, &mut ResponseReader::default()), Err(BadResponse::HeadTooLong));
    }
}
