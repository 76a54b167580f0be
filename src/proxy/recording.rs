//! The body of a request as it was sent upstream, kept so that it can be sent again: by a retry that the
//! route's policy wants, or in a copy for a mirror. Bounded; a longer body is streamed and forgotten.

use std::cell::{Cell, RefCell};

use super::request_body::RequestBody;
use crate::limits::RECORDED_BODY_BYTES_MAX;

/// What was sent of a request behind its first piece.
pub struct Recording {
    /// What a copy begins with (empty when there is none), then what followed the first piece.
    bytes: RefCell<Vec<u8>>,
    first_piece: usize,
    complete: Cell<bool>,
    lost: Cell<bool>,
    /// The rest of the body is known to fit.
    fits: bool,
}

impl Recording {
    /// Begin to record what follows. `rest` is what the client has yet to send; a copy for a mirror
    /// begins with `first_piece`.
    pub fn new(rest: &RequestBody, first_piece: &[u8]) -> Recording {
        let left = match rest {
            RequestBody::Done => Some(0),
            RequestBody::Fixed(left) => Some(*left),
            RequestBody::Chunked(_) => None,
        };
        let most = RECORDED_BODY_BYTES_MAX as u64;
        Recording {
            bytes: RefCell::new(first_piece.to_vec()),
            first_piece: first_piece.len(),
            complete: Cell::new(false),
            lost: Cell::new(left.is_some_and(|left| left > most)),
            fits: left.is_some_and(|left| left <= most),
        }
    }

    /// These bytes were sent, or would have been.
    pub fn add(&self, sent: &[u8]) {
        if self.lost.get() {
            return;
        }
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() - self.first_piece + sent.len() > RECORDED_BODY_BYTES_MAX {
            self.lost.set(true);
            *bytes = Vec::new();
        } else {
            bytes.extend_from_slice(sent);
        }
    }

    /// That was all of it.
    pub fn finish(&self) {
        self.complete.set(true);
    }

    /// Can the request be sent again, once the rest of it has come?
    pub fn can_repeat(&self) -> bool {
        !self.lost.get() && (self.fits || self.complete.get())
    }

    /// Is the body longer than what is kept?
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Put what followed the first piece behind it. False: it is not complete.
    pub fn append_to(&self, request: &mut Vec<u8>) -> bool {
        let usable = self.complete.get() && !self.lost.get();
        if usable {
            request.extend_from_slice(&self.bytes.borrow()[self.first_piece..]);
        }
        usable
    }

    /// All of a request whose first piece was given; none when it is not complete.
    pub fn copy(&self) -> Option<Vec<u8>> {
        let usable = self.complete.get() && !self.lost.get() && self.first_piece > 0;
        usable.then(|| self.bytes.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::chunked::ChunkedDecoder;

    #[test]
    fn what_was_sent_comes_back() {
        let recording = Recording::new(&RequestBody::Fixed(6), b"HEAD");
        assert!(recording.can_repeat());
        recording.add(b"abc");
        let mut request = b"HEAD2".to_vec();
        assert!(!recording.append_to(&mut request) && recording.copy().is_none());
        recording.add(b"def");
        recording.finish();
        assert!(recording.append_to(&mut request));
        assert_eq!(request, b"HEAD2abcdef");
        assert_eq!(recording.copy().as_deref(), Some(&b"HEADabcdef"[..]));
    }

    #[test]
    fn a_body_of_unknown_length_counts_when_it_is_complete() {
        let recording = Recording::new(&RequestBody::Chunked(ChunkedDecoder::new()), b"");
        recording.add(b"3\r\nabc\r\n");
        assert!(!recording.can_repeat());
        recording.finish();
        assert!(recording.can_repeat());
        assert!(recording.copy().is_none(), "nobody asked for a copy");
    }

    #[test]
    fn a_long_body_is_forgotten() {
        let most = RECORDED_BODY_BYTES_MAX as u64;
        assert!(Recording::new(&RequestBody::Fixed(most), b"").can_repeat());
        assert!(Recording::new(&RequestBody::Fixed(most + 1), b"").is_lost());
        let recording = Recording::new(&RequestBody::Chunked(ChunkedDecoder::new()), b"HEAD");
        recording.add(&vec![0; RECORDED_BODY_BYTES_MAX]);
        assert!(!recording.is_lost(), "the head does not count");
        recording.add(b"x");
        recording.add(b"y");
        recording.finish();
        assert!(recording.is_lost() && !recording.can_repeat() && recording.copy().is_none());
    }
}
