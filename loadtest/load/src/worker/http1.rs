//! HTTP/1.1: one task for each connection, one request under way on it.

use std::io;
use std::rc::Rc;

use super::board::Board;
use super::connect::Idle;
use super::judge::Answer;
use super::transport::{Transport, open_in_time};
use crate::dispatch::Job;
use crate::failure::Failure;
use crate::plan::PreparedRequest;
use crate::response::{Response, ResponseReader};
use crate::schedule::Nanos;

/// Bytes of the buffer that a connection receives into: enough for a small response at once.
const BUFFER: usize = 4 * 1024;
/// The same once a body is larger.
const LARGE_BUFFER: usize = 64 * 1024;
/// A connection that was idle for so long is looked at before it is used: servers end idle ones, and that
/// is no failure of the next request; and what came meanwhile must not be taken for its response. A system
/// call, which the highest rates are spared.
const LONG_IDLE: Nanos = 1_000_000;
/// Pause after a connection broke: a target that fails at once must not become a busy loop.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// A response and its times.
struct Received {
    response: Response,
    sent: Nanos,
    first_byte: Nanos,
    done: Nanos,
}

struct Connection {
    transport: Option<Transport>,
    /// When its last response was complete.
    used: Nanos,
    reader: ResponseReader,
    buffer: Vec<u8>,
}

/// Opens a connection and sends what falls to its slot until the run is over. `opened` is told when the
/// connection is open or cannot be.
pub(super) async fn run(board: Rc<Board>, slot: u32, opened: impl FnOnce()) {
    let mut connection = Connection {
        transport: None,
        used: 0,
        reader: ResponseReader::new(),
        buffer: Vec::with_capacity(BUFFER),
    };
    if board.plan.keep_alive && board.opens_early() {
        // A failure here is nobody's request: the first job tries again and is counted.
        match open_in_time(&board, slot).await {
            Ok(transport) => connection.transport = Some(transport),
            Err(_) => board.opening_failed(),
        }
    }
    opened();
    let mut free_since = board.clock.now();
    while let Some(job) = board.next_job(slot, free_since).await {
        let done = serve(&board, slot, &job, &mut connection).await;
        if done.is_none() {
            monoio::time::sleep(PAUSE).await;
        }
        if board.plan.keep_alive && connection.transport.is_none() && !board.is_over() {
            // The next request should not wait for a handshake if there is time for it now.
            connection.transport = open_in_time(&board, slot).await.ok();
            free_since = board.clock.now();
        } else {
            free_since = done.unwrap_or_else(|| board.clock.now());
        }
    }
    board.ended();
}

/// Makes one exchange and records it; when its response was complete, none when the connection broke.
async fn serve(board: &Board, slot: u32, job: &Job, connection: &mut Connection) -> Option<Nanos> {
    let request = board.plan.requests.get(job.request as usize)?;
    let begun = board.clock.now();
    let mut began = begun;
    if began.saturating_sub(connection.used) > LONG_IDLE
        && let Some(transport) = &mut connection.transport
    {
        match transport.look() {
            Idle::Open => {}
            Idle::Ended => connection.transport = None,
            Idle::Surplus => {
                connection.transport = None;
                board.failed(job, board.clock.now(), Failure::Malformed, None);
                return None;
            }
        }
    }
    if connection.transport.is_none() {
        match open_in_time(board, slot).await {
            Ok(transport) => {
                connection.transport = Some(transport);
                began = board.clock.now();
            }
            Err(kind) => {
                board.failed(job, board.clock.now(), kind, None);
                return None;
            }
        }
    }
    connection.reader.begin(request.bodiless, request.check.sees_body());
    let exchange = connection.exchange(request, began, board);
    let received = board.in_time(slot, began + board.timeout(), exchange).await;
    let received = received.unwrap_or_else(|| Err(board.given_up(Failure::Timeout)));
    let received = match received {
        Ok(received) => received,
        Err(kind) => {
            connection.transport = None;
            board.failed(job, board.clock.now(), kind, None);
            return None;
        }
    };
    connection.used = received.done;
    let Response { status, close, body_bytes } = received.response;
    if close || !board.plan.keep_alive {
        connection.transport = None;
    }
    let answer = Answer {
        status,
        body_bytes,
        kept: connection.reader.kept.as_deref().unwrap_or_default(),
        begun,
        sent: received.sent,
        first_byte: received.first_byte,
        done: received.done,
    };
    board.answered(job, request, &answer);
    Some(received.done)
}

impl Connection {
    async fn exchange(
        &mut self,
        request: &PreparedRequest,
        sent: Nanos,
        board: &Board,
    ) -> Result<Received, Failure> {
        let transport = self.transport.as_mut().ok_or(Failure::Closed)?;
        transport.send(request.wire).await.map_err(|error| broken(&error, Failure::Send))?;
        let mut first_byte = None;
        loop {
            let (count, buffer) = transport.receive(std::mem::take(&mut self.buffer)).await;
            self.buffer = buffer;
            let count = count.map_err(|error| broken(&error, Failure::Closed))?;
            let now = board.clock.now();
            if count == 0 {
                let response = self.reader.end().ok_or(Failure::Closed)?;
                let first_byte = first_byte.unwrap_or(now);
                return Ok(Received { response, sent, first_byte, done: now });
            }
            board.received(count, now);
            let first_byte = *first_byte.get_or_insert(now);
            match self.reader.feed(&self.buffer[..count]) {
                Ok(Some(response)) => {
                    return Ok(Received { response, sent, first_byte, done: now });
                }
                Ok(None) => {}
                Err(_) => return Err(Failure::Malformed),
            }
            if self.buffer.capacity() < LARGE_BUFFER && self.reader.body_left() > BUFFER as u64 {
                self.buffer = Vec::with_capacity(LARGE_BUFFER);
            }
        }
    }
}

/// What an error of the connection means; `otherwise` if it says nothing of itself.
fn broken(error: &io::Error, otherwise: Failure) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionReset => Failure::Reset,
        io::ErrorKind::InvalidData => Failure::Tls,
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        _ => otherwise,
    }
}
