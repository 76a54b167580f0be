//! What of gRPC the gateway looks at: the content-type, the status, and where messages begin.

/// Is this the content-type of gRPC: `application/grpc`, `application/grpc+proto`, …?
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.len() >= GRPC.len()
        && content_type[..GRPC.len()].eq_ignore_ascii_case(GRPC)
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';'))
}

/// The number in a field `grpc-status`; none: it is malformed.
pub fn status(value: &[u8]) -> Option<u8> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `grpc-status` among trailers, `name: value\r\n…`.
pub fn status_in_trailers(trailers: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"grpc-status:";
    trailers.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then(|| status(value.trim_ascii())).flatten()
    })
}

/// Counts the messages in a body: each begins with a byte of flags and its length in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounter {
    count: u64,
    /// Bytes of the message that are to come.
    left: u32,
    /// Bytes of its prefix that came, and the length as far as they tell it.
    prefix: u8,
    length: u32,
}

impl MessageCounter {
    /// Bytes before a message.
    const PREFIX: u8 = 5;

    /// Messages that have begun.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Look at the next bytes of the body.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            // A `u32` fits into a `usize`, the smaller of the two into a `u32`.
            let skipped = (self.left as usize).min(rest.len());
            self.left -= skipped as u32;
            rest = &rest[skipped..];
            let Some((byte, behind)) = rest.split_first() else { return };
            rest = behind;
            self.length = self.length << 8 | u32::from(*byte);
            if self.prefix == 0 {
                // The flags.
                self.length = 0;
            }
            self.prefix += 1;
            if self.prefix == Self::PREFIX {
                self.prefix = 0;
                self.left = self.length;
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC;x"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", ""] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn statuses_are_found() {
        for (trailers, expected) in [
            ("grpc-status: 0\r\n", Some(0)),
            ("x: 1\r\nGrpc-Status: 14\r\ngrpc-message: a\r\n", Some(14)),
            ("grpc-status: x\r\n", None),
            ("grpc-status: 256\r\n", None),
            ("grpc-status-details-bin: 0\r\n", None),
            ("", None),
        ] {
            assert_eq!(status_in_trailers(trailers.as_bytes()), expected, "{trailers:?}");
        }
    }

    #[test]
    fn messages_are_counted_however_they_come() {
        let mut body = Vec::new();
        for length in [0usize, 1, 300, 0, 70_000] {
            body.push(u8::from(length % 2 == 1));
            body.extend_from_slice(&(length as u32).to_be_bytes());
            body.resize(body.len() + length, 0xff);
        }
        for size in [1, 2, 3, 4, 5, 6, 7, 1000, body.len()] {
            let mut counter = MessageCounter::default();
            for piece in body.chunks(size) {
                counter.add(piece);
            }
            assert_eq!(
                counter,
                MessageCounter { count: 5, length: 70_000, ..MessageCounter::default() }
            );
        }
    }
}
