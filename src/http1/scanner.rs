//! Heads that arrive in pieces.

use memchr::memchr;

use crate::limits::{HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

/// Remembers how far an incomplete head has been looked at, so that a head sent byte by byte costs
/// one look per byte and not one parse per read.
///
/// Use: parse the first bytes at once (that refuses most nonsense early); if the head is
/// incomplete, ask [`may_be_complete`](HeadScanner::may_be_complete) after each further read with
/// *all* bytes of the head so far, and parse when it says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Line ends before this offset are followed by more of the head.
    looked: usize,
    /// The end of the first line that is not empty was seen.
    first_line: bool,
}

impl HeadScanner {
    /// A scanner for the next head.
    pub fn new() -> HeadScanner {
        HeadScanner::default()
    }

    /// Is parsing `bytes` (the head from its first byte on) worth it? True when there is an empty
    /// line, ended by CR LF or by a bare LF (which the parser refuses), and when the head or its
    /// first line is over its limit while incomplete: the parser then answers with 431 or 414.
    pub fn may_be_complete(&mut self, bytes: &[u8]) -> bool {
        let mut from = self.looked.min(bytes.len());
        while let Some(at) = memchr(b'\n', &bytes[from..]) {
            let line_end = from + at;
            self.first_line |= line_end > 1;
            match bytes[line_end + 1..] {
                [b'\n', ..] | [b'\r', b'\n', ..] => {
                    self.looked = line_end;
                    return true;
                }
                // What follows decides: look at this line end again.
                [] | [b'\r'] => {
                    self.looked = line_end;
                    return self.over_limit(bytes);
                }
                _ => from = line_end + 1,
            }
        }
        self.looked = bytes.len();
        self.over_limit(bytes)
    }

    fn over_limit(&self, bytes: &[u8]) -> bool {
        bytes.len() >= HEAD_BYTES_MAX || (!self.first_line && bytes.len() > REQUEST_LINE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Option<usize> {
        let mut scanner = HeadScanner::new();
        (0..=bytes.len()).find(|end| scanner.may_be_complete(&bytes[..*end]))
    }

    #[test]
    fn true_exactly_at_the_empty_line() {
        for head in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n"] {
            assert_eq!(pieces(head.as_bytes()), Some(head.len()));
            let longer = format!("{head}more");
            assert!(HeadScanner::new().may_be_complete(longer.as_bytes()));
            // Asked again, it says so again.
            let mut scanner = HeadScanner::new();
            assert!(scanner.may_be_complete(head.as_bytes()));
            assert!(scanner.may_be_complete(longer.as_bytes()));
        }
    }

    #[test]
    fn bare_line_feeds_end_a_head_too() {
        for head in ["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "\n\n"] {
            assert_eq!(pieces(head.as_bytes()), Some(head.len()), "{head:?}");
        }
        assert_eq!(pieces(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), None);
    }

    #[test]
    fn limits_count_while_incomplete() {
        let line = vec![b'a'; REQUEST_LINE_BYTES_MAX + 1];
        assert_eq!(pieces(&line), Some(REQUEST_LINE_BYTES_MAX + 1));
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        head.resize(HEAD_BYTES_MAX, b'a');
        let mut scanner = HeadScanner::new();
        assert!(!scanner.may_be_complete(&head[..HEAD_BYTES_MAX - 1]));
        assert!(scanner.may_be_complete(&head));
    }
}
