//! A client's connection in HTTP/2, and its streams as layers that speak HTTP/1.1: the request is read
//! from a stream, the response written to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;

use super::body::{Arriving, Framing, Leaving};
use super::io::StreamIo;
use super::{io_error, request_head, response_head};
use crate::http::BodyLength;
use crate::http1::{HeaderStorage, parse_response};
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_LOCAL_RESETS_MAX,
    HTTP2_PENDING_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_WINDOW_BYTES,
    HTTP2_STREAMS_MAX,
};
use crate::net::Layer;

/// A client's connection.
pub struct ServerConnection {
    connection: Connection<StreamIo, Bytes>,
}

/// A request that a client began.
pub enum Accepted {
    /// It is well-formed as far as HTTP/2 goes.
    Stream(ServerStream),
    /// It is not: its stream was reset.
    Malformed,
}

impl ServerConnection {
    /// Exchange the first frames.
    ///
    /// # Errors
    /// The client does not speak HTTP/2, or went away.
    pub async fn handshake(io: StreamIo) -> io::Result<ServerConnection> {
        let connection = Builder::new()
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
            .max_local_error_reset_streams(Some(HTTP2_LOCAL_RESETS_MAX))
            .reset_stream_duration(Duration::from_secs(1))
            .enable_connect_protocol()
            .handshake(io)
            .await
            .map_err(io_error)?;
        Ok(ServerConnection { connection })
    }

    /// The next request; `None`: the connection has ended. Must be polled for any of its streams to
    /// get on. `key`: random, for WebSocket handshakes.
    pub fn poll_accept(
        &mut self,
        task: &mut Context<'_>,
        local_address: Option<SocketAddr>,
        key: impl FnOnce() -> [u8; 16],
    ) -> Poll<Option<io::Result<Accepted>>> {
        match ready!(self.connection.poll_accept(task)) {
            None => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(io_error(error)))),
            Some(Ok((request, respond))) => {
                let stream = ServerStream::new(request, respond, local_address, key());
                let accepted = stream.map_or(Accepted::Malformed, Accepted::Stream);
                Poll::Ready(Some(Ok(accepted)))
            }
        }
    }

    /// Take no further streams, and end when those that there are have ended.
    pub fn drain(&mut self) {
        self.connection.graceful_shutdown();
    }

    /// Tell the client that nothing more comes, and end.
    pub fn close(&mut self) {
        self.connection.abrupt_shutdown(Reason::NO_ERROR);
    }

    /// Tell the client that it asks too much, and end.
    pub fn calm(&mut self) {
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }
}

enum Response {
    /// Its head has not been written.
    Awaited(SendResponse<Bytes>),
    Leaving(Leaving),
}

/// An extended CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tunnel {
    /// The request is none, or was refused: what is behind its head is its body.
    No,
    /// It is one, and has no answer yet. Its DATA must not be read: inside it is a request without a
    /// body, behind which another one would be looked for.
    Asked,
    /// The answer was 101: what follows is the tunnel's.
    Open,
}

struct State {
    request: Arriving,
    response: Response,
    /// The beginning of a head that was written in pieces.
    head: Vec<u8>,
    is_head: bool,
    tunnel: Tunnel,
    read_shut: bool,
    closed: bool,
    reset_by_client: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A stream of a client's connection. A cheap handle.
#[derive(Clone)]
pub struct ServerStream {
    state: Rc<RefCell<State>>,
    local_address: Option<SocketAddr>,
    complete: Rc<Cell<bool>>,
}

impl ServerStream {
    /// `None`: the request is malformed, and the stream was reset.
    fn new(
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        local_address: Option<SocketAddr>,
        key: [u8; 16],
    ) -> Option<ServerStream> {
        let (parts, body) = request.into_parts();
        let mut text = Vec::with_capacity(512);
        let written = request_head::write_http1(&parts, body.is_end_stream(), key, &mut text);
        let Ok(written) = written else {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        };
        let framing = if written.chunked { Framing::Chunked } else { Framing::Plain };
        // Without a body nothing is to be said about its end.
        let body = (!body.is_end_stream()).then_some(body);
        let state = State {
            request: Arriving::new(text, framing, body),
            response: Response::Awaited(respond),
            head: Vec::new(),
            is_head: written.is_head,
            tunnel: if written.tunnel { Tunnel::Asked } else { Tunnel::No },
            read_shut: false,
            closed: false,
            reset_by_client: false,
            reader: None,
            writer: None,
        };
        Some(ServerStream {
            state: Rc::new(RefCell::new(state)),
            local_address,
            complete: Rc::default(),
        })
    }

    /// Tell the client that nothing was done of the request, and end.
    pub fn refuse(&self) {
        let mut state = self.state.borrow_mut();
        state.reset(Reason::REFUSED_STREAM);
        state.closed = true;
    }

    /// Ready when the client has reset the stream, or its connection is gone.
    pub fn poll_reset(&self, task: &mut Context<'_>) -> Poll<()> {
        if self.complete.get() {
            return Poll::Pending;
        }
        let mut state = self.state.borrow_mut();
        let reset = match &mut state.response {
            Response::Awaited(respond) => respond.poll_reset(task),
            Response::Leaving(leaving) => leaving.stream().poll_reset(task),
        };
        let _ = ready!(reset);
        state.reset_by_client = true;
        Poll::Ready(())
    }
}

impl State {
    /// Take some of the bytes of a response. True: it is complete.
    fn poll_response(
        &mut self,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<(usize, bool)>> {
        if let Response::Leaving(leaving) = &mut self.response {
            let count = ready!(leaving.poll(task, bytes))?;
            return Poll::Ready(Ok((count, leaving.is_ended())));
        }
        // Almost always all of a head comes at once.
        let before = self.head.len();
        let joined;
        let whole = if before == 0 {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.head);
            &joined
        };
        let head_bytes = match self.respond(whole) {
            Err(error) => return Poll::Ready(Err(error)),
            Ok(None) => {
                self.head = whole.to_vec();
                return Poll::Ready(Ok((bytes.len(), false)));
            }
            Ok(Some(head_bytes)) => head_bytes,
        };
        let ended = match &self.response {
            Response::Leaving(leaving) => leaving.is_ended(),
            Response::Awaited(_) => false,
        };
        Poll::Ready(Ok((head_bytes.saturating_sub(before), ended)))
    }

    /// Send the head at the start of `bytes`; `None`: it is not complete.
    fn respond(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let invalid = |error: Box<dyn std::error::Error + Send + Sync>| {
            io::Error::new(io::ErrorKind::InvalidData, error)
        };
        let Response::Awaited(respond) = &mut self.response else { return Ok(Some(0)) };
        let mut storage = HeaderStorage::new();
        let parsed = match parse_response(bytes, &mut storage, self.is_head) {
            Err(error) => return Err(invalid(error.into())),
            Ok(None) => return Ok(None),
            Ok(Some(parsed)) => parsed,
        };
        let response = response_head::from_http1(&parsed).map_err(|error| invalid(error.into()))?;
        let status = parsed.head.status;
        if status < 200 && status != 101 {
            respond.send_informational(response).map_err(io_error)?;
            return Ok(Some(parsed.head_bytes));
        }
        let length = if status == 101 { BodyLength::UntilClose } else { parsed.body };
        if self.tunnel == Tunnel::Asked {
            // One that is refused has nothing more to be read.
            self.read_shut |= status != 101;
            self.tunnel = if status == 101 { Tunnel::Open } else { Tunnel::No };
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        let ended = length == BodyLength::Empty;
        let stream = respond.send_response(response, ended).map_err(io_error)?;
        self.response = Response::Leaving(Leaving::new(stream, length));
        Ok(Some(parsed.head_bytes))
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.response {
            Response::Awaited(respond) => respond.send_reset(reason),
            Response::Leaving(leaving) => leaving.stream().send_reset(reason),
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Layer for ServerStream {
    fn poll_receive(&self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        // When the response is complete nobody wants what is left of the request: when the stream is
        // dropped, the client is told (RFC 9113 section 8.1).
        if state.read_shut || state.closed || self.complete.get() && state.tunnel != Tunnel::Open {
            return Poll::Ready(Ok(0));
        }
        let polled = match state.tunnel {
            Tunnel::Asked => match state.request.take_text(into) {
                0 => Poll::Pending,
                count => Poll::Ready(Ok(count)),
            },
            Tunnel::No | Tunnel::Open => state.request.poll(task, into),
        };
        if polled.is_pending() {
            state.reader = Some(task.waker().clone());
        }
        polled
    }

    fn poll_send(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if state.closed || state.reset_by_client {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.poll_response(task, bytes) {
            Poll::Ready(Ok((count, complete))) => {
                self.complete.set(complete);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                state.writer = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }

    fn shutdown(&self, how: Shutdown) {
        let mut state = self.state.borrow_mut();
        match how {
            Shutdown::Read => state.read_shut = true,
            Shutdown::Write if state.tunnel == Tunnel::Open => {
                if let Response::Leaving(leaving) = &mut state.response {
                    leaving.finish();
                    self.complete.set(true);
                }
            }
            Shutdown::Write | Shutdown::Both => {
                if !self.complete.get() && !state.closed && !state.reset_by_client {
                    state.reset(Reason::INTERNAL_ERROR);
                }
                state.closed = true;
            }
        }
        state.wake();
    }

    fn reset_on_close(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn is_dead(&self) -> bool {
        let state = self.state.borrow();
        state.closed || state.reset_by_client
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }
}
