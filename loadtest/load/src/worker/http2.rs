//! HTTP/2: several requests under way on each connection, one task for each of these streams.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};

use super::board::Board;
use super::http2_io::Http2Io;
use super::judge::Answer;
use super::transport::{Transport, open};
use crate::dispatch::Job;
use crate::failure::Failure;
use crate::plan::PreparedRequest;
use crate::response::KEPT_BODY_MAX;
use crate::schedule::{Clock, Nanos};

/// Windows of flow control that a run hardly ever waits for, bytes: of a stream and of a connection.
const WINDOWS: (u32, u32) = (1 << 20, 1 << 24);
/// Pause after a connection broke: a target that fails at once must not become a busy loop.
const PAUSE: Duration = Duration::from_millis(1);

enum State {
    Closed,
    /// One of the streams is opening it.
    Opening,
    Open(SendRequest<Bytes>),
}

/// A connection that several streams share.
pub(super) struct Connection {
    state: RefCell<State>,
    /// Which of the connections, one after the other, it is.
    generation: Cell<u64>,
    /// Streams that wait for it to be opened.
    waiting: RefCell<Vec<Waker>>,
}

impl Connection {
    pub(super) fn new() -> Rc<Connection> {
        Rc::new(Connection {
            state: RefCell::new(State::Closed),
            generation: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The connection of this generation is of no more use.
    fn close(&self, generation: u64) {
        if self.generation.get() == generation && matches!(*self.state.borrow(), State::Open(_)) {
            self.set(State::Closed);
        }
    }

    /// A sender that can send, with its generation; opens the connection if need be.
    async fn sender(
        self: &Rc<Self>,
        board: &Rc<Board>,
    ) -> Result<(SendRequest<Bytes>, u64), Failure> {
        loop {
            let open = match &*self.state.borrow() {
                State::Open(sender) => Some(Some(sender.clone())),
                State::Opening => Some(None),
                State::Closed => None,
            };
            match open {
                Some(Some(sender)) => {
                    let generation = self.generation.get();
                    match sender.ready().await {
                        Ok(sender) => return Ok((sender, generation)),
                        // It is going away: the next one will do.
                        Err(_) => self.close(generation),
                    }
                }
                Some(None) => self.opened().await,
                None => self.open(board).await?,
            }
        }
    }

    /// Waits until another stream has opened the connection, or has failed to.
    async fn opened(&self) {
        poll_fn(|context| {
            if !matches!(*self.state.borrow(), State::Opening) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    async fn open(self: &Rc<Self>, board: &Rc<Board>) -> Result<(), Failure> {
        self.set(State::Opening);
        // Whoever gives up leaves it to the next.
        let reset = Reset(self);
        let transport = open(board).await?;
        if let Transport::Tls(stream) = &transport
            && stream.protocol() != Some(b"h2")
        {
            return Err(Failure::Tls);
        }
        let io = Http2Io::new(transport, Rc::clone(board)).map_err(|_| Failure::Tls)?;
        let (sender, driver) = Builder::new()
            .initial_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .enable_push(false)
            .handshake::<_, Bytes>(io)
            .await
            .map_err(|_| Failure::Stream)?;
        std::mem::forget(reset);
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        self.set(State::Open(sender));
        let connection = Rc::clone(self);
        monoio::spawn(async move {
            // Its streams know what became of them.
            let _ = driver.await;
            connection.close(generation);
        });
        Ok(())
    }
}

/// Takes back [`State::Opening`] when opening does not come to its end.
struct Reset<'c>(&'c Connection);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(State::Closed);
    }
}

/// A response and its times.
struct Received {
    status: u16,
    body_bytes: u64,
    kept: Vec<u8>,
    sent: Nanos,
    first_byte: Nanos,
    done: Nanos,
}

/// Sends what falls to a stream's slot until the run is over. `opened` is told when the connection is open
/// or cannot be.
pub(super) async fn run(
    board: Rc<Board>,
    slot: u32,
    connection: Rc<Connection>,
    opened: impl FnOnce(),
) {
    let deadline = board.clock.now() + board.timeout();
    if board.opens_early() {
        // A failure here is nobody's request: the first job tries again and is counted.
        let sender = board.in_time(slot, deadline, connection.sender(&board)).await;
        if !matches!(sender, Some(Ok(_))) {
            board.opening_failed();
        }
    }
    opened();
    while let Some(job) = board.next_job(slot, board.clock.now()).await {
        if !serve(&board, slot, &job, &connection).await {
            monoio::time::sleep(PAUSE).await;
        }
    }
    board.ended();
}

/// Makes one exchange and records it; false when it broke.
async fn serve(board: &Rc<Board>, slot: u32, job: &Job, connection: &Rc<Connection>) -> bool {
    let Some(request) = board.plan.requests.get(job.request as usize) else { return false };
    let begun = board.clock.now();
    let deadline = begun + board.timeout();
    let exchange = async {
        let (sender, generation) = connection.sender(board).await?;
        let outcome = exchange(sender, request, board.clock).await;
        outcome.map_err(|error| {
            if error.is_io() || error.is_go_away() {
                connection.close(generation);
            }
            kind(&error)
        })
    };
    let received = board.in_time(slot, deadline, exchange).await;
    let received = match received.unwrap_or_else(|| Err(board.given_up(Failure::Timeout))) {
        Ok(received) => received,
        Err(kind) => {
            board.failed(job, board.clock.now(), kind, None);
            return false;
        }
    };
    let answer = Answer {
        status: received.status,
        body_bytes: received.body_bytes,
        kept: &received.kept,
        begun,
        sent: received.sent,
        first_byte: received.first_byte,
        done: received.done,
    };
    board.answered(job, request, &answer);
    true
}

async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: &PreparedRequest,
    clock: Clock,
) -> Result<Received, h2::Error> {
    let sent = clock.now();
    let (response, mut body) =
        sender.send_request(request.head.clone(), request.body.is_empty())?;
    if !request.body.is_empty() {
        body.send_data(request.body.clone(), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    let first_byte = clock.now();
    let (mut kept, mut body_bytes) = (Vec::new(), 0);
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body_bytes += piece.len() as u64;
        body.flow_control().release_capacity(piece.len())?;
        if request.check.sees_body() {
            let room = KEPT_BODY_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }
    let done = if body_bytes == 0 { first_byte } else { clock.now() };
    Ok(Received { status: head.status.as_u16(), body_bytes, kept, sent, first_byte, done })
}

fn kind(error: &h2::Error) -> Failure {
    match error.get_io().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset) => Failure::Reset,
        Some(std::io::ErrorKind::InvalidData) => Failure::Tls,
        Some(_) => Failure::Closed,
        None => Failure::Stream,
    }
}
