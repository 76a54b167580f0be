//! The bytes of a connection: TCP, or TLS over it.

use std::io;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::board::Board;
use super::connect::connect;
use crate::failure::Failure;

/// A connection on which requests are sent and responses received.
pub(super) enum Transport {
    /// In clear text.
    Clear(TcpStream),
}

/// Opens a connection within the time-out and records how long that took.
pub(super) async fn open(board: &Board, slot: u32) -> Result<Transport, Failure> {
    let began = board.clock.now();
    let opening = async { connect(board).await.map(Transport::Clear) };
    let opened = board.in_time(slot, began + board.timeout(), opening).await;
    let transport = opened.unwrap_or_else(|| Err(board.given_up(Failure::ConnectTimeout)))?;
    board.connected(began, board.clock.now());
    Ok(transport)
}

impl Transport {
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
        }
    }

    /// Receives into the buffer, from its beginning; 0 at the end of the connection.
    pub(super) async fn receive(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Transport::Clear(stream) => stream.read(buffer).await,
        }
    }
}
