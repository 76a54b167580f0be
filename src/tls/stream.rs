//! An encrypted connection as a layer over its socket.
//!
//! A waiting connection holds the small buffer that its receive is in flight with, and nothing else;
//! larger ones are taken from the pool when a record needs them and go back when it is used up. All
//! records of a read are decrypted at once, so that between reads only the beginning of a record lies
//! here, and a send never has to look at data that was not taken yet. What is sent is encrypted into one
//! buffer, many records at a time, and leaves in one operation.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::error::TlsError;
use super::plaintext::Plaintext;
use super::pools::TlsPools;
use super::session::{
    self, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES, RECORD_PLAINTEXT_BYTES, Session,
};
use crate::net::{Buffer, Layer, PooledFuture, Stream};

/// The most that one receive brings: what it decrypts to must fit into one buffer.
const RECEIVE_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
/// The most plaintext that one send takes.
const SEND_BYTES_MAX: usize = 4 * RECORD_PLAINTEXT_BYTES;

pub(super) struct TlsStream {
    socket: Stream,
    pools: TlsPools,
    state: RefCell<State>,
}

type InFlight<T> = PooledFuture<'static, (io::Result<T>, Buffer)>;

struct State {
    session: Session,
    /// Ciphertext: the beginning of a record. None while it is in a receive in flight.
    received: Option<Buffer>,
    /// The small buffer, while a larger one is used.
    idle: Option<Buffer>,
    /// Did the last receive fill its buffer? Then more is there.
    filled: bool,
    plaintext: Plaintext,
    receiving: Option<InFlight<usize>>,
    sending: Option<InFlight<()>>,
    /// The bytes whose records are in the send in flight.
    sending_of: Taken,
    /// Records in answer to the peer's (key updates, alerts) that wait for the next send.
    answer: Vec<u8>,
    peer_finished: bool,
    receive_shut: bool,
    send_shut: bool,
    /// The session or the socket failed: the session is never asked again, not for its end either.
    failed: bool,
    reset: bool,
}

/// Which bytes a send took: a send that is polled again is told from a new one after one that was
/// dropped. (Such bytes may be sent or not, as with a socket: who drops a send does not go on.)
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    address: usize,
    length: usize,
    count: usize,
}

impl TlsStream {
    pub(super) fn new(
        socket: Stream,
        session: Session,
        received: Buffer,
        plaintext: Plaintext,
        peer_finished: bool,
        pools: TlsPools,
    ) -> TlsStream {
        let state = State {
            session,
            received: Some(received),
            idle: None,
            filled: false,
            plaintext,
            receiving: None,
            sending: None,
            sending_of: Taken::default(),
            answer: Vec::new(),
            peer_finished,
            receive_shut: false,
            send_shut: false,
            failed: false,
            reset: false,
        };
        TlsStream { socket, pools, state: RefCell::new(state) }
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, TlsError::Handshake(error))
}

impl State {
    /// The buffer for the next receive: the small one unless a record, or more of a full read, needs a
    /// larger.
    fn receive_buffer(&mut self, pools: &TlsPools) -> Buffer {
        let mut buffer = self.received.take().unwrap_or_else(Buffer::idle);
        if buffer.is_empty() {
            let keep = buffer.is_idle_size() || self.filled;
            if !keep {
                pools.buffers.give(buffer);
                buffer = self.idle.take().unwrap_or_else(Buffer::idle);
            }
            buffer.clear();
        } else {
            buffer.compact();
            let needed = session::wanted(&buffer).unwrap_or(0).min(RECORD_BYTES_MAX);
            if needed.saturating_sub(buffer.len()) > buffer.receivable_bytes().len()
                || buffer.is_full()
            {
                let mut larger = pools.buffers.take();
                if needed > larger.receivable_bytes().len() || !buffer.is_idle_size() {
                    pools.buffers.give(larger);
                    larger = pools.buffers.take_large();
                }
                larger.append(&buffer);
                buffer.clear();
                if buffer.is_idle_size() {
                    self.idle = Some(buffer);
                } else {
                    pools.buffers.give(buffer);
                }
                buffer = larger;
            }
        }
        buffer.limit_receive(RECEIVE_BYTES_MAX as u64);
        buffer
    }

    fn start_receive(&mut self, socket: &Stream, pools: &TlsPools) -> InFlight<usize> {
        // The part of a handshake message stays here, where a send can show it to rustls; what comes is
        // put behind it.
        let held = self.received.as_deref().is_some_and(session::holds_a_whole_record);
        let buffer = if held { pools.buffers.take() } else { self.receive_buffer(pools) };
        let socket = socket.clone();
        pools.receives.place(move || async move { socket.receive(buffer).await })
    }

    /// Put what came where the next step looks for it.
    fn keep_received(&mut self, buffer: Buffer, pools: &TlsPools) -> io::Result<()> {
        let Some(mut held) = self.received.take() else {
            self.received = Some(buffer);
            return Ok(());
        };
        if !held.append(&buffer) {
            let mut larger = pools.buffers.take_large();
            let fits = larger.append(&held) && larger.append(&buffer);
            pools.buffers.give(held);
            held = larger;
            if !fits {
                pools.buffers.give(buffer);
                self.received = Some(held);
                return Err(io::Error::new(io::ErrorKind::InvalidData, TlsError::TooLarge));
            }
        }
        pools.buffers.give(buffer);
        self.received = Some(held);
        Ok(())
    }

    /// Decrypt all that came: into `into` while there is room, the rest stays here.
    fn decrypt(&mut self, into: &mut [u8], pools: &TlsPools) -> io::Result<usize> {
        let State { session, received, plaintext, answer, .. } = self;
        let Some(received) = received.as_mut() else { return Ok(0) };
        let mut count = 0;
        let mut take = |bytes: &[u8]| {
            let room = into.len() - count;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            into[count..count + now.len()].copy_from_slice(now);
            count += now.len();
            plaintext.put(later, &pools.buffers);
        };
        let outcome = session.receive(received, &mut take, answer);
        if plaintext.overflowed() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TlsError::TooLarge));
        }
        self.peer_finished |= outcome.map_err(broken)?.peer_finished;
        Ok(count)
    }

    /// Send answers that wait, as far as the socket takes them at once.
    fn send_answer(&mut self, socket: &Stream) {
        if self.answer.is_empty() || self.sending.is_some() {
            return;
        }
        if let Ok(sent) = socket.send_now(&self.answer) {
            self.answer.drain(..sent);
        }
        if self.answer.is_empty() {
            self.answer = Vec::new();
        }
    }

    /// A buffer with the waiting answers and the records of the first of `bytes`; how many of them.
    fn encrypt(&mut self, bytes: &[u8], pools: &TlsPools) -> io::Result<(Buffer, usize)> {
        let mut buffer = pools.buffers.take();
        let fits = bytes.len() + 2 * RECORD_OVERHEAD_BYTES + self.answer.len() < buffer.spare();
        if !fits {
            pools.buffers.give(buffer);
            buffer = pools.buffers.take_large();
        }
        let bytes = &bytes[..bytes.len().min(SEND_BYTES_MAX)];
        let fitted = buffer.append(&self.answer);
        let received = match &mut self.received {
            Some(received) => &mut received[..],
            None => &mut [],
        };
        match self.session.encrypt(received, bytes, &mut buffer) {
            Ok(true) if fitted => {
                self.answer.clear();
                Ok((buffer, bytes.len()))
            }
            Ok(_) => {
                pools.buffers.give(buffer);
                self.failed = true;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Err(error) => {
                pools.buffers.give(buffer);
                self.failed = true;
                Err(broken(error))
            }
        }
    }

    fn start_send(&mut self, buffer: Buffer, socket: &Stream, pools: &TlsPools) {
        let socket = socket.clone();
        self.sending =
            Some(pools.sends.place(move || async move { socket.send_buffer(buffer).await }));
    }

    /// Tell the peer that nothing more comes. Not while a send is in flight.
    fn finish_sending(&mut self, socket: &Stream, pools: &TlsPools) {
        if !self.failed {
            let received = match &mut self.received {
                Some(received) => &mut received[..],
                None => &mut [],
            };
            self.session.finish(received, &mut self.answer);
        }
        self.send_answer(socket);
        if self.answer.is_empty() {
            socket.shutdown(Shutdown::Write);
            return;
        }
        // The socket is full: the rest goes when there is room, and the peer is told by the record alone.
        let mut buffer = pools.buffers.take();
        if buffer.append(&self.answer) {
            self.answer = Vec::new();
            self.start_send(buffer, socket, pools);
            // Submitted now: nobody has to come for it.
            let Some(mut sending) = self.sending.take() else { return };
            match Pin::new(&mut sending).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready((_, buffer)) => pools.buffers.give(buffer),
                Poll::Pending => self.sending = Some(sending),
            }
        } else {
            pools.buffers.give(buffer);
        }
    }
}

impl Layer for TlsStream {
    fn poll_receive(&self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            if !state.plaintext.is_empty() {
                return Poll::Ready(Ok(state.plaintext.take(into, &self.pools.buffers)));
            }
            if state.peer_finished {
                return Poll::Ready(Ok(0));
            }
            if state.failed {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let receiving = match state.receiving.take() {
                Some(receiving) => receiving,
                None if state.receive_shut => return Poll::Ready(Ok(0)),
                None => state.start_receive(&self.socket, &self.pools),
            };
            let receiving = state.receiving.insert(receiving);
            let Poll::Ready((outcome, buffer)) = Pin::new(receiving).poll(task) else {
                return Poll::Pending;
            };
            state.receiving = None;
            state.filled = buffer.is_full() || matches!(outcome, Ok(RECEIVE_BYTES_MAX));
            let kept = state.keep_received(buffer, &self.pools);
            let count = match outcome {
                Ok(0) if state.receive_shut => return Poll::Ready(Ok(0)),
                // An end that the peer did not tell may be an attacker's cut.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => kept.and_then(|()| state.decrypt(into, &self.pools)),
                Err(error) => {
                    state.failed = true;
                    return Poll::Ready(Err(error));
                }
            };
            state.send_answer(&self.socket);
            match count {
                Ok(0) => {}
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) => {
                    state.failed = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn poll_send(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        let (address, length) = (bytes.as_ptr().addr(), bytes.len());
        loop {
            if let Some(sending) = &mut state.sending {
                let Poll::Ready((outcome, buffer)) = Pin::new(sending).poll(task) else {
                    return Poll::Pending;
                };
                state.sending = None;
                self.pools.buffers.give(buffer);
                let taken = std::mem::take(&mut state.sending_of);
                if let Err(error) = outcome {
                    state.failed = true;
                    return Poll::Ready(Err(error));
                }
                if state.failed {
                    // What was refused meanwhile: the alert had to wait for the send.
                    state.send_answer(&self.socket);
                } else if state.send_shut {
                    state.finish_sending(&self.socket, &self.pools);
                }
                if taken == (Taken { address, length, count: taken.count }) {
                    return Poll::Ready(Ok(taken.count));
                }
                continue;
            }
            if state.send_shut || state.failed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let (buffer, count) = match state.encrypt(bytes, &self.pools) {
                Ok(encrypted) => encrypted,
                Err(error) => return Poll::Ready(Err(error)),
            };
            state.sending_of = Taken { address, length, count };
            state.start_send(buffer, &self.socket, &self.pools);
        }
    }

    fn shutdown(&self, how: Shutdown) {
        let state = &mut *self.state.borrow_mut();
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            state.receive_shut = true;
        }
        match how {
            Shutdown::Write => {
                let was_shut = std::mem::replace(&mut state.send_shut, true);
                if !was_shut && state.sending.is_none() {
                    state.finish_sending(&self.socket, &self.pools);
                }
            }
            // Not told as an orderly end: whoever gives up in the middle comes this way too.
            Shutdown::Read | Shutdown::Both => {
                state.send_shut |= how == Shutdown::Both;
                self.socket.shutdown(how);
            }
        }
    }

    fn reset_on_close(&self) {
        self.state.borrow_mut().reset = true;
        self.socket.reset_on_close();
    }

    fn is_dead(&self) -> bool {
        self.state.borrow().failed || self.socket.is_dead()
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_address()
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        // A send that was dropped in the middle is no orderly end.
        if !state.send_shut && !state.failed && !state.reset && state.sending.is_none() {
            let received = match &mut state.received {
                Some(received) => &mut received[..],
                None => &mut [],
            };
            state.session.finish(received, &mut state.answer);
            state.send_answer(&self.socket);
        }
        state.plaintext.give_back(&self.pools.buffers);
        if let Some(received) = state.received.take() {
            self.pools.buffers.give(received);
        }
    }
}
