//! Copies of requests (Istio's `mirror` and `mirrors`): sent by a task of their own, their responses
//! thrown away. Nothing that becomes of a copy can slow or fail the request.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::attempt::{self, Attempt};
use super::context::{Replica, WorkerContext};
use super::request::begin_record;
use crate::http::BodyLength;
use crate::http1::chunked::ChunkedDecoder;
use crate::http1::{self, HeaderStorage};
use crate::ids::ClusterId;
use crate::net::{Buffer, sleep};
use crate::snapshot::Mirror;

/// Copies under way on a worker; further ones are dropped, and counted.
const MIRRORS_MAX: u64 = 1024;
/// A copy's connection is cut after this time.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Send copies of `request`, a whole head and body, to those of `mirrors` that chance picks.
/// `is_head`: it is a `HEAD`, whose response has no body.
pub fn start(
    context: &Rc<WorkerContext>,
    replica: &Rc<Replica>,
    mirrors: &[Mirror],
    request: &[u8],
    is_head: bool,
) {
    for mirror in mirrors {
        let picked = context.random.borrow_mut().u32(..1_000_000) < mirror.ppm;
        if !picked {
            continue;
        }
        if context.mirrors_active.get() >= MIRRORS_MAX {
            context.count(|counters, _| counters.mirrors_dropped += 1);
            continue;
        }
        context.mirrors_active.set(context.mirrors_active.get() + 1);
        context.count(|counters, _| counters.mirrors_sent += 1);
        let (context, replica) = (Rc::clone(context), Rc::clone(replica));
        let (cluster, request) = (mirror.cluster, request.to_vec());
        crate::net::spawn(async move {
            send(&context, &replica, cluster, request, is_head).await;
            context.mirrors_active.set(context.mirrors_active.get() - 1);
        });
    }
}

async fn send(
    context: &WorkerContext,
    replica: &Replica,
    cluster: ClusterId,
    request: Vec<u8>,
    is_head: bool,
) {
    let mut scratch = context.take_scratch();
    begin_record(context, &mut scratch, Instant::now());
    let begun = attempt::begin(context, replica, cluster, false, TIMEOUT, &mut scratch).await;
    context.give_scratch(scratch);
    // What a copy met on its way is in the counters of the upstream; nobody waits for it.
    let Ok(mut attempt) = begun else { return };
    let stream = attempt.connection.stream().clone();
    let reusable = {
        let mut exchange = pin!(exchange(context, &mut attempt, request, is_head));
        let mut timer = pin!(sleep(TIMEOUT));
        let mut late = false;
        std::future::poll_fn(|task| {
            if !late && timer.as_mut().poll(task).is_ready() {
                late = true;
                // It ends the operation that the exchange waits in.
                stream.shutdown(std::net::Shutdown::Both);
            }
            match exchange.as_mut().poll(task) {
                Poll::Ready(reusable) => Poll::Ready(reusable && !late),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    if reusable {
        attempt.check_in(context, context.clock.coarse_milliseconds());
    } else {
        attempt.close(context);
    }
}

/// Send the request and read its response to the end. True when the connection can serve another
/// request; then a receive is in flight on it.
async fn exchange(
    context: &WorkerContext,
    attempt: &mut Attempt,
    request: Vec<u8>,
    is_head: bool,
) -> bool {
    let (outcome, _) = attempt.connection.stream().send_all(request).await;
    if outcome.is_err() {
        return false;
    }
    let mut head: Option<Response> = None;
    loop {
        let Some((outcome, mut buffer)) = attempt.connection.received().await else { return false };
        if !matches!(outcome, Ok(count) if count > 0) {
            context.buffers.give(buffer);
            return false;
        }
        let ended = match read(&mut head, &mut buffer, is_head) {
            Some(ended) if !buffer.is_full() => ended,
            // Malformed, or a head that is longer than a copy is worth.
            _ => {
                context.buffers.give(buffer);
                return false;
            }
        };
        if ended {
            let reusable = head.is_some_and(|head| head.keep_alive) && buffer.is_empty();
            buffer.clear();
            if reusable {
                attempt.connection.begin_receive(buffer);
            } else {
                context.buffers.give(buffer);
            }
            return reusable;
        }
        attempt.connection.begin_receive(buffer);
    }
}

/// What is left of a response.
struct Response {
    body: Body,
    keep_alive: bool,
}

enum Body {
    Fixed(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// Take what `buffer` holds of a response. True when it is complete; none when it is malformed.
fn read(response: &mut Option<Response>, buffer: &mut Buffer, is_head: bool) -> Option<bool> {
    while response.is_none() {
        let mut storage = HeaderStorage::new();
        let parsed = http1::parse_response(buffer, &mut storage, is_head).ok()?;
        let Some(parsed) = parsed else { return Some(false) };
        let head_bytes = parsed.head_bytes;
        let status = parsed.head.status;
        if status == 101 {
            return None;
        }
        if status >= 200 {
            let body = match parsed.body {
                BodyLength::Empty => Body::Fixed(0),
                BodyLength::Fixed(length) => Body::Fixed(length),
                BodyLength::Chunked => Body::Chunked(ChunkedDecoder::new()),
                BodyLength::UntilClose => Body::UntilClose,
            };
            *response = Some(Response { body, keep_alive: parsed.keep_alive });
        }
        buffer.advance(head_bytes);
    }
    match &mut response.as_mut()?.body {
        Body::Fixed(left) => {
            let here = (buffer.len() as u64).min(*left);
            buffer.advance(here as usize);
            *left -= here;
            Some(*left == 0)
        }
        Body::Chunked(decoder) => {
            let decoded = decoder.decode(buffer).ok()?;
            buffer.advance(decoded.consumed);
            Some(decoded.done)
        }
        Body::UntilClose => {
            buffer.clear();
            Some(false)
        }
    }
}
