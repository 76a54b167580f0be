//! HTTP/2 over [`crate::net::Stream`]: the only module that names `h2`. Each of its streams is made a
//! [`crate::net::Layer`] on which HTTP/1.1 is spoken inside the process, so that one story of a request
//! serves every pair of versions (`docs/decisions/0011-one-exchange-for-every-version.md`).
//!
//! * [`server`]: a client's connection, and its streams as layers;
//! * [`client`]: a connection to an endpoint, shared by many requests;
//! * [`StreamIo`]: the bytes of a connection, as the crate wants them.
//!
//! Private files: `request_head` and `response_head` turn heads from one version to the other, `fields`
//! their fields, `body` the bytes behind them, `flood` counts frames that cost more than they bring.

mod body;
pub mod client;
mod fields;
mod flood;
mod io;
mod request_head;
mod response_head;
pub mod server;

pub use io::{IoProgress, IoSlots, StreamIo};

use std::io as std_io;

/// What a client's connection begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Can a connection that begins with these bytes be HTTP/2?
#[inline]
pub fn may_be_preface(received: &[u8]) -> bool {
    let length = received.len().min(PREFACE.len());
    received[..length] == PREFACE[..length]
}

/// An error of the crate as one of a connection. [`std_io::ErrorKind::ConnectionRefused`]: the peer
/// has done nothing of what was sent on the stream.
fn io_error(error: h2::Error) -> std_io::Error {
    let kind = if is_refused(&error) {
        std_io::ErrorKind::ConnectionRefused
    } else if error.is_reset() || error.is_go_away() {
        std_io::ErrorKind::ConnectionReset
    } else {
        match error.get_io() {
            Some(error) => error.kind(),
            None => std_io::ErrorKind::BrokenPipe,
        }
    };
    std_io::Error::new(kind, error)
}

/// The same of a stream. Streams say how they end: that of their connection's bytes is none of theirs.
fn stream_error(error: h2::Error) -> std_io::Error {
    let error = io_error(error);
    match error.kind() {
        std_io::ErrorKind::UnexpectedEof => {
            std_io::Error::new(std_io::ErrorKind::ConnectionReset, error)
        }
        _ => error,
    }
}

/// Does the error say that the peer has not begun with the stream (RFC 9113 section 8.7)?
fn is_refused(error: &h2::Error) -> bool {
    let reason = error.reason();
    error.is_remote()
        && (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
            || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_http1() {
        for yes in [&b"P"[..], b"PRI", PREFACE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"] {
            assert!(may_be_preface(yes));
        }
        for no in [&b"GET / HTTP/1.1"[..], b"POST", b"PRI / ", b"PRI * HTTP/2.0\r\n\r\nXX"] {
            assert!(!may_be_preface(no));
        }
    }
}
