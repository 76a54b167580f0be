//! A connection to an endpoint in HTTP/2, shared by many requests, and its streams as layers that speak
//! HTTP/1.1: the request is written to a stream, the response read from it.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason};
use sha1::{Digest, Sha1};

use super::body::{Arriving, Framing, Leaving};
use super::io::{IoProgress, StreamIo};
use super::request_head;
use super::response_head::{self, Http1Response};
use super::{IoSlots, io_error, stream_error};
use crate::http::{BodyLength, Scheme};
use crate::http1::{HeaderStorage, ParsedRequest, parse_request};
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAMS_MAX, HTTP2_UPSTREAM_WINDOW_BYTES,
};
use crate::net::{Layer, Stream, oneshot};

/// The window of a connection to an endpoint: that of all its streams together. A client that does not
/// read holds the window of its stream; it must not hold those of others.
const CONNECTION_WINDOW_BYTES: u32 = HTTP2_UPSTREAM_WINDOW_BYTES * HTTP2_STREAMS_MAX;
/// What a WebSocket server adds to the client's key (RFC 6455 section 1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// PINGs that tell whether the endpoint is still there (`http2KeepAlive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2KeepAlive {
    /// Time between them.
    pub interval: Duration,
    /// An answer must come within this time.
    pub timeout: Duration,
}

/// What a connection's streams share.
struct Shared {
    active: Cell<usize>,
    closed: Cell<bool>,
    progress: Rc<IoProgress>,
    local_address: Option<SocketAddr>,
    /// Called whenever a request is over.
    on_end: OnceCell<Box<dyn Fn()>>,
    /// Who waits for the settings of the endpoint.
    settling: RefCell<Vec<oneshot::Sender<()>>>,
}

impl Shared {
    /// Those who wait for the settings go on.
    fn settled(&self) {
        // The borrow ends before a waker runs.
        let waiting = std::mem::take(&mut *self.settling.borrow_mut());
        drop(waiting);
    }
}

/// A connection to an endpoint. When this and its streams are dropped it ends.
pub struct ClientConnection {
    sender: RefCell<SendRequest<Bytes>>,
    shared: Rc<Shared>,
}

/// What moves the bytes of a connection; must be polled until it ends.
pub struct Driver {
    connection: Connection<StreamIo, Bytes>,
    shared: Rc<Shared>,
    stream: Stream,
}

/// Begin to speak HTTP/2 on `stream`.
///
/// # Errors
/// The endpoint has closed the connection.
pub async fn begin(stream: Stream, slots: IoSlots) -> io::Result<(ClientConnection, Driver)> {
    let io = StreamIo::of_endpoint(stream.clone(), slots);
    let progress = io.progress();
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(HTTP2_UPSTREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .handshake(io)
        .await
        .map_err(io_error)?;
    let shared = Rc::new(Shared {
        active: Cell::new(0),
        closed: Cell::new(false),
        progress,
        local_address: stream.local_address(),
        on_end: OnceCell::new(),
        settling: RefCell::default(),
    });
    let client = ClientConnection { sender: RefCell::new(sender), shared: Rc::clone(&shared) };
    Ok((client, Driver { connection, shared, stream }))
}

impl Driver {
    /// Run until the connection has ended.
    pub async fn run(self, keepalive: Option<Http2KeepAlive>) {
        let Driver { mut connection, shared, stream } = self;
        let pings = connection.ping_pong();
        {
            let mut driving = pin!(connection);
            let mut watching = pin!(async {
                match (keepalive, pings) {
                    (Some(keepalive), Some(pings)) => watch(keepalive, pings).await,
                    _ => std::future::pending().await,
                }
            });
            let mut watched = false;
            std::future::poll_fn(|task| {
                if shared.progress.flooded.get() && !watched {
                    watched = true;
                    stream.shutdown(Shutdown::Both);
                }
                if driving.as_mut().poll(task).is_ready() {
                    return Poll::Ready(());
                }
                if shared.progress.settled.get() {
                    shared.settled();
                }
                if !watched && watching.as_mut().poll(task).is_ready() {
                    // Nobody answers: whoever waits for it is to hear so.
                    watched = true;
                    stream.shutdown(Shutdown::Both);
                    return driving.as_mut().poll(task).map(drop);
                }
                Poll::Pending
            })
            .await;
        }
        shared.closed.set(true);
        shared.settled();
    }
}

/// Send PINGs until one is not answered in time.
async fn watch(keepalive: Http2KeepAlive, mut pings: PingPong) {
    loop {
        crate::net::sleep(keepalive.interval).await;
        let answered = crate::net::within(keepalive.timeout, pings.ping(Ping::opaque())).await;
        if !matches!(answered, Some(Ok(_))) {
            return;
        }
    }
}

impl ClientConnection {
    /// Can a request still be sent on it, as far as is known?
    pub fn is_usable(&self) -> bool {
        let mut task = Context::from_waker(Waker::noop());
        !self.shared.closed.get()
            && !matches!(self.sender.borrow_mut().poll_ready(&mut task), Poll::Ready(Err(_)))
    }

    /// Call this whenever a request on it is over; the first one that is given counts.
    pub fn when_a_request_ends(&self, on_end: impl Fn() + 'static) {
        let _ = self.shared.on_end.set(Box::new(on_end));
    }

    /// How often something has been received on it.
    pub fn receives(&self) -> u64 {
        self.shared.progress.receives.get()
    }

    /// Requests under way on it.
    pub fn active(&self) -> usize {
        self.shared.active.get()
    }

    /// Requests that the endpoint allows at a time. One until its settings have come, the first that it
    /// says: it may refuse what is beyond, and a request whose body is on its way cannot always be sent
    /// again.
    pub fn allowed(&self) -> usize {
        match self.shared.progress.settled.get() {
            false => 1,
            true => self.sender.borrow().current_max_send_streams(),
        }
    }

    /// Have the settings of the endpoint come?
    pub fn is_settled(&self) -> bool {
        self.shared.progress.settled.get()
    }

    /// Hear when the settings of the endpoint have come or the connection has ended; `None`: they are here.
    pub fn settling(&self) -> Option<oneshot::Receiver<()>> {
        if self.shared.progress.settled.get() || self.shared.closed.get() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.shared.settling.borrow_mut().push(sender);
        Some(receiver)
    }

    /// A stream for a request.
    pub fn stream(&self) -> Stream {
        self.shared.active.set(self.shared.active.get() + 1);
        let state = State {
            sender: self.sender.borrow().clone(),
            request: Request::Awaited(Vec::new()),
            response: Response::Unasked,
            is_head: false,
            tunnel: None,
            closed: false,
            reader: None,
            writer: None,
        };
        Stream::over(ClientStream { state: RefCell::new(state), shared: Rc::clone(&self.shared) })
    }
}

enum Request {
    /// Its head has not been written; what there is of it.
    Awaited(Vec<u8>),
    Leaving(Leaving),
}

enum Response {
    /// The request's head has not been sent.
    Unasked,
    Head(Arriving, ResponseFuture),
    Arriving(Arriving),
}

/// What an upgrade asks for.
struct Tunnel {
    protocol: Vec<u8>,
    /// `Sec-WebSocket-Accept`.
    accept: Option<String>,
}

struct State {
    sender: SendRequest<Bytes>,
    request: Request,
    response: Response,
    is_head: bool,
    tunnel: Option<Tunnel>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A stream of a connection to an endpoint.
struct ClientStream {
    state: RefCell<State>,
    shared: Rc<Shared>,
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.shared.active.set(self.shared.active.get().saturating_sub(1));
        if let Some(on_end) = self.shared.on_end.get() {
            on_end();
        }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The connection takes no further stream: nothing of the request was sent.
fn not_begun(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, error)
}

impl State {
    fn poll_request(
        &mut self,
        task: &mut Context<'_>,
        bytes: &[u8],
        progress: &IoProgress,
    ) -> Poll<io::Result<usize>> {
        let head = match &mut self.request {
            Request::Leaving(leaving) => return leaving.poll(task, bytes),
            Request::Awaited(head) => head,
        };
        // The endpoint may allow fewer streams than there are.
        ready!(self.sender.poll_ready(task)).map_err(not_begun)?;
        // Almost always all of a head comes at once.
        let before = head.len();
        let joined;
        let whole = if before == 0 {
            bytes
        } else {
            head.extend_from_slice(bytes);
            joined = std::mem::take(head);
            &joined
        };
        let mut storage = HeaderStorage::new();
        let Some(parsed) = parse_request(whole, &mut storage, Scheme::Http).map_err(invalid)?
        else {
            *head = whole.to_vec();
            return Poll::Ready(Ok(bytes.len()));
        };
        if parsed.upgrade.is_some() && !self.sender.is_extended_connect_protocol_enabled() {
            if !progress.settled.get() {
                // Its settings are still to come.
                *head = whole[..before].to_vec();
                progress.on_received.set(Some(task.waker().clone()));
                return Poll::Pending;
            }
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        self.send(&parsed)?;
        Poll::Ready(Ok(parsed.head_bytes.saturating_sub(before)))
    }

    fn send(&mut self, parsed: &ParsedRequest<'_>) -> io::Result<()> {
        let request = request_head::from_http1(parsed)
            .map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        self.is_head = parsed.head.method == b"HEAD";
        let length = match parsed.upgrade {
            Some(protocol) => {
                self.tunnel = Some(Tunnel { protocol: protocol.to_vec(), accept: accept(parsed) });
                BodyLength::UntilClose
            }
            None => parsed.body,
        };
        let ended = length == BodyLength::Empty;
        let (response, stream) = self.sender.send_request(request, ended).map_err(not_begun)?;
        self.request = Request::Leaving(Leaving::new(stream, length));
        let arriving = Arriving::new(Vec::new(), Framing::Plain, None);
        self.response = Response::Head(arriving, response);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn poll_response(
        &mut self,
        task: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let (arriving, response) = match &mut self.response {
                Response::Unasked => return Poll::Pending,
                Response::Arriving(arriving) => return arriving.poll(task, into),
                Response::Head(arriving, response) => (arriving, response),
            };
            if arriving.has_text() {
                return arriving.poll(task, into);
            }
            let mut of = Http1Response { ended: false, is_head: self.is_head, tunnel: None };
            let mut text = Vec::with_capacity(512);
            if let Poll::Ready(Some(interim)) = response.poll_informational(task) {
                response_head::write_http1(&interim.map_err(stream_error)?, &of, &mut text);
                arriving.push_text(&text);
                continue;
            }
            let response = ready!(Pin::new(response).poll(task)).map_err(stream_error)?;
            let (parts, body) = response.into_parts();
            of.ended = body.is_end_stream();
            of.tunnel = self.tunnel.as_ref().map(|tunnel| {
                (&*tunnel.protocol, tunnel.accept.as_ref().map(|accept| accept.as_bytes()))
            });
            let response = http::Response::from_parts(parts, ());
            let chunked = response_head::write_http1(&response, &of, &mut text);
            let framing = if chunked { Framing::Chunked } else { Framing::Plain };
            self.response = Response::Arriving(Arriving::new(text, framing, Some(body)));
        }
    }
}

/// The proof that a WebSocket server has read the client's key (RFC 6455 section 4.2.2).
fn accept(parsed: &ParsedRequest<'_>) -> Option<String> {
    let mut fields = parsed.head.headers.iter();
    let key = fields.find(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-key"))?;
    let digest = Sha1::new().chain_update(key.value).chain_update(WEBSOCKET_GUID).finalize();
    Some(BASE64.encode(&digest))
}

/// A send fails with [`io::ErrorKind::Unsupported`] when the request cannot be sent in HTTP/2 to this
/// endpoint, [`io::ErrorKind::ConnectionRefused`] when the connection takes no further stream; in either
/// case nothing of it was sent.
impl Layer for ClientStream {
    fn poll_receive(&self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let polled = state.poll_response(task, into);
        if polled.is_pending() {
            state.reader = Some(task.waker().clone());
        }
        polled
    }

    fn poll_send(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let polled = state.poll_request(task, bytes, &self.shared.progress);
        if polled.is_pending() {
            state.writer = Some(task.waker().clone());
        }
        polled
    }

    fn shutdown(&self, how: Shutdown) {
        let mut state = self.state.borrow_mut();
        match (how, &mut state.request) {
            (Shutdown::Write, Request::Leaving(leaving)) => leaving.finish(),
            (Shutdown::Write | Shutdown::Read, _) => {}
            (Shutdown::Both, request) => {
                if let Request::Leaving(leaving) = request {
                    // Nothing is sent when both sides have ended already.
                    leaving.stream().send_reset(Reason::CANCEL);
                }
                state.closed = true;
            }
        }
        for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn reset_on_close(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn is_dead(&self) -> bool {
        self.state.borrow().closed || self.shared.closed.get()
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.shared.local_address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_key_is_answered_as_the_standard_says() {
        let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut storage = HeaderStorage::new();
        let parsed = parse_request(request.as_bytes(), &mut storage, Scheme::Http);
        let parsed = parsed.expect("well-formed").expect("complete");
        assert_eq!(accept(&parsed).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
