//! A connection as `h2` wants it: polled reads and writes over operations that own their buffers. What is
//! written is gathered and leaves in one send.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::board::Board;
use super::tls_stream::broken;
use super::transport::Transport;

/// Bytes received at once.
const RECEIVED: usize = 32 * 1024;
/// Bytes that are gathered before a write waits for the socket.
const GATHERED_MAX: usize = 64 * 1024;

type Reading = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>, ReadHalf)>>>;
type Writing = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<u8>, WriteHalf)>>>;
type ReadHalf = OwnedReadHalf<TcpStream>;
type WriteHalf = OwnedWriteHalf<TcpStream>;

/// The bytes of an HTTP/2 connection.
pub(super) struct Http2Io {
    /// Counts what comes.
    board: Rc<Board>,
    session: Option<ClientConnection>,
    /// At rest, with the buffer; none while a receive is in flight.
    read_half: Option<(ReadHalf, Vec<u8>)>,
    reading: Option<Reading>,
    /// Received and decrypted, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    ended: bool,
    write_half: Option<(WriteHalf, Vec<u8>)>,
    writing: Option<Writing>,
    /// To be sent, encrypted.
    gathered: Vec<u8>,
}

impl Http2Io {
    pub(super) fn new(transport: Transport, board: Rc<Board>) -> io::Result<Http2Io> {
        let (socket, session, rest) = match transport {
            Transport::Clear(socket) => (socket, None, Vec::new()),
            Transport::Tls(stream) => {
                let (socket, session, rest) = stream.into_parts();
                (socket, Some(session), rest)
            }
        };
        let (read_half, write_half) = socket.into_split();
        let mut io = Http2Io {
            board,
            session,
            read_half: Some((read_half, Vec::with_capacity(RECEIVED))),
            reading: None,
            plain: Vec::new(),
            taken: 0,
            ended: false,
            write_half: Some((write_half, Vec::new())),
            writing: None,
            gathered: Vec::new(),
        };
        io.take(&rest)?;
        Ok(io)
    }

    /// Takes ciphertext, or clear text where there is no session, and counts what it holds.
    fn take(&mut self, received: &[u8]) -> io::Result<()> {
        if self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
        }
        let before = self.plain.len();
        let outcome = self.decrypt(received);
        self.board.received(self.plain.len() - before, self.board.clock.now());
        outcome
    }

    fn decrypt(&mut self, mut received: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            self.plain.extend_from_slice(received);
            return Ok(());
        };
        // What is in the session from the handshake comes out even when nothing is added.
        loop {
            if !received.is_empty() {
                session.read_tls(&mut received)?;
            }
            session.process_new_packets().map_err(broken)?;
            match session.reader().read_to_end(&mut self.plain) {
                // The peer has announced the end.
                Ok(_) => self.ended = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if received.is_empty() || self.ended {
                return Ok(());
            }
        }
    }

    /// Moves what the session wants to send to the bytes that are gathered.
    fn gather(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            while session.wants_write() {
                session.write_tls(&mut self.gathered)?;
            }
        }
        Ok(())
    }

    /// Waits for the send under way, then begins the next if there is something to be sent.
    fn poll_send(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing {
            let (outcome, mut bytes, half) = ready!(writing.as_mut().poll(task));
            self.writing = None;
            bytes.clear();
            self.write_half = Some((half, bytes));
            outcome?;
        }
        self.gather()?;
        if !self.gathered.is_empty()
            && let Some((half, spare)) = self.write_half.take()
        {
            let bytes = std::mem::replace(&mut self.gathered, spare);
            self.writing = Some(Box::pin(write_all(half, bytes)));
        }
        Poll::Ready(Ok(()))
    }
}

async fn write_all(
    mut half: WriteHalf,
    mut bytes: Vec<u8>,
) -> (io::Result<()>, Vec<u8>, WriteHalf) {
    let (mut sent, length) = (0, bytes.len());
    while sent < length {
        let (outcome, slice) = half.write(bytes.slice(sent..length)).await;
        bytes = slice.into_inner();
        match outcome {
            Ok(0) => return (Err(ErrorKind::WriteZero.into()), bytes, half),
            Ok(count) => sent += count,
            Err(error) => return (Err(error), bytes, half),
        }
    }
    (Ok(()), bytes, half)
}

impl AsyncRead for Http2Io {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        loop {
            let waiting = &io.plain[io.taken..];
            if !waiting.is_empty() {
                let count = waiting.len().min(into.remaining());
                into.put_slice(&waiting[..count]);
                io.taken += count;
                return Poll::Ready(Ok(()));
            }
            if io.ended {
                return Poll::Ready(Ok(()));
            }
            if let Some((mut half, buffer)) = io.read_half.take() {
                io.reading = Some(Box::pin(async move {
                    let (outcome, buffer) = half.read(buffer).await;
                    (outcome, buffer, half)
                }));
            }
            let Some(reading) = &mut io.reading else { return Poll::Ready(Ok(())) };
            let (outcome, buffer, half) = ready!(reading.as_mut().poll(task));
            io.reading = None;
            let decrypted = match outcome {
                Ok(0) => {
                    io.ended = true;
                    Ok(())
                }
                Ok(count) => io.take(&buffer[..count]),
                Err(error) => Err(error),
            };
            io.read_half = Some((half, buffer));
            decrypted?;
            // A session may have to answer, to a key update for instance.
            if let Poll::Ready(sent) = io.poll_send(task) {
                sent?;
            }
        }
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        while io.gathered.len() >= GATHERED_MAX {
            ready!(io.poll_send(task))?;
        }
        let count = match &mut io.session {
            Some(session) => session.writer().write(bytes)?,
            None => {
                io.gathered.extend_from_slice(bytes);
                bytes.len()
            }
        };
        io.gather()?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        while io.writing.is_some() || !io.gathered.is_empty() {
            ready!(io.poll_send(task))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
        }
        self.gather()?;
        self.as_mut().poll_flush(task)
    }
}
