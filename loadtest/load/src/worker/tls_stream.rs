//! TLS over a connection of the runtime, whose operations own their buffers.

use std::io::{self, ErrorKind, Read, Write};

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use rustls::{ClientConnection, HandshakeKind};

use super::connect::{Idle, look, take_seen};
use crate::tls::Tls;

/// Bytes received at once: a record of the largest size and a little more.
const CIPHERTEXT: usize = 18 * 1024;

/// A TLS connection.
pub(super) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
    received: Vec<u8>,
    /// Part of `received` that the session has taken.
    taken: usize,
    outgoing: Vec<u8>,
}

/// A session's own complaint, apart from those of the socket.
pub(super) fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl TlsStream {
    /// Shakes hands. [`ErrorKind::InvalidData`] is an error of TLS itself.
    pub(super) async fn connect(socket: TcpStream, tls: &Tls) -> io::Result<TlsStream> {
        let session =
            ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(broken)?;
        let received = Vec::with_capacity(CIPHERTEXT);
        let mut stream = TlsStream { socket, session, received, taken: 0, outgoing: Vec::new() };
        stream.flush().await?;
        while stream.session.is_handshaking() {
            if stream.advance().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(stream)
    }

    /// Looks at an idle connection without waiting. What is of TLS alone, such as a session ticket, is taken;
    /// anything else is a surplus.
    pub(super) fn look(&mut self) -> Idle {
        let mut byte = [0];
        loop {
            match self.session.reader().read(&mut byte) {
                Ok(0) => return Idle::Ended,
                Ok(_) => return Idle::Surplus,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Idle::Ended,
            }
            if self.taken == self.received.len() {
                match look(&self.socket) {
                    Idle::Surplus => {}
                    other => return other,
                }
                self.received.resize(CIPHERTEXT, 0);
                let count = take_seen(&self.socket, &mut self.received).unwrap_or(0);
                self.received.truncate(count);
                self.taken = 0;
            }
            let mut rest = &self.received[self.taken..];
            match self.session.read_tls(&mut rest) {
                Ok(count @ 1..) => self.taken += count,
                Ok(0) | Err(_) => return Idle::Ended,
            }
            if self.session.process_new_packets().is_err() {
                return Idle::Ended;
            }
        }
    }

    /// Did the handshake resume a session?
    pub(super) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The protocol that was agreed on.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// The parts, right after the handshake; with the ciphertext that came after it.
    pub(super) fn into_parts(mut self) -> (TcpStream, ClientConnection, Vec<u8>) {
        self.received.drain(..self.taken);
        (self.socket, self.session, self.received)
    }

    /// Sends all of the bytes.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // The session takes as much as its buffer holds.
            let taken = self.session.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush().await?;
        }
        Ok(())
    }

    /// Receives into the buffer, from its beginning; 0 at the end that the peer has announced.
    pub(super) async fn receive(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        // The buffer's bytes are initialised once: it keeps its length from then on.
        let capacity = buffer.capacity();
        buffer.resize(capacity, 0);
        loop {
            match self.session.reader().read(&mut buffer) {
                Ok(count) => return (Ok(count), buffer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return (Err(error), buffer),
            }
            if let Err(error) = self.advance().await {
                return (Err(error), buffer);
            }
        }
    }

    /// Shows the session more of what came, and answers; 0 at the end of the connection.
    async fn advance(&mut self) -> io::Result<usize> {
        if self.taken == self.received.len() {
            let (count, received) = self.socket.read(std::mem::take(&mut self.received)).await;
            self.received = received;
            self.taken = 0;
            if count? == 0 {
                self.received.clear();
            }
        }
        let mut rest = &self.received[self.taken..];
        let count = self.session.read_tls(&mut rest)?;
        self.taken += count;
        let processed = self.session.process_new_packets();
        // An alert tells the peer why.
        let flushed = self.flush().await;
        processed.map_err(broken)?;
        flushed?;
        Ok(count)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.outgoing.clear();
        while self.session.wants_write() {
            self.session.write_tls(&mut self.outgoing)?;
        }
        let mut bytes = std::mem::take(&mut self.outgoing);
        let mut sent = 0;
        while sent < bytes.len() {
            use monoio::buf::IoBuf;
            let length = bytes.len();
            let (count, slice) = self.socket.write(bytes.slice(sent..length)).await;
            bytes = slice.into_inner();
            sent += count?;
        }
        self.outgoing = bytes;
        Ok(())
    }
}
