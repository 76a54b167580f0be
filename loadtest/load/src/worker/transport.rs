//! The bytes of a connection: TCP, or TLS over it.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::board::Board;
use super::connect::{Idle, connect, look};
use super::tls_stream::TlsStream;
use crate::failure::Failure;
use crate::record::Opening;

/// A connection on which requests are sent and responses received.
pub(super) enum Transport {
    /// In clear text.
    Clear(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream>),
}

/// Opens a connection within the time-out; see [`open`].
pub(super) async fn open_in_time(board: &Board, slot: u32) -> Result<Transport, Failure> {
    let deadline = board.clock.now() + board.timeout();
    let opened = board.in_time(slot, deadline, open(board)).await;
    opened.unwrap_or_else(|| Err(board.given_up(Failure::ConnectTimeout)))
}

/// Opens a connection and records how long that took, with the TLS handshake. The deadline is the caller's.
pub(super) async fn open(board: &Board) -> Result<Transport, Failure> {
    let began = board.clock.now();
    let stream = connect(board).await?;
    let transport = match &board.plan.tls {
        None => Transport::Clear(stream),
        Some(tls) => match TlsStream::connect(stream, tls).await {
            Ok(stream) => Transport::Tls(Box::new(stream)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Failure::Reset);
            }
            Err(_) => return Err(Failure::Tls),
        },
    };
    let resumed = matches!(&transport, Transport::Tls(stream) if stream.is_resumed());
    let kept = board.plan.keep_alive;
    board.connected(Opening { began, done: board.clock.now(), kept, resumed });
    Ok(transport)
}

impl Transport {
    /// Looks at the connection while nothing is under way on it.
    pub(super) fn look(&mut self) -> Idle {
        match self {
            Transport::Clear(stream) => look(stream),
            Transport::Tls(stream) => stream.look(),
        }
    }

    /// Sends all of the bytes.
    pub(super) async fn send(&mut self, bytes: &'static [u8]) -> io::Result<()> {
        match self {
            Transport::Clear(stream) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let sent = stream.write(rest).await.0?;
                    if sent == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    rest = &rest[sent..];
                }
                Ok(())
            }
            Transport::Tls(stream) => stream.send(bytes).await,
        }
    }

    /// Receives into the buffer, from its beginning; 0 at the end of the connection.
    pub(super) async fn receive(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Transport::Clear(stream) => stream.read(buffer).await,
            Transport::Tls(stream) => stream.receive(buffer).await,
        }
    }
}
