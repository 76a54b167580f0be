//! Copies of requests (Istio's `mirror` and `mirrors`): sent by a task of their own, their responses
//! thrown away. Nothing that becomes of a copy can slow or fail the request.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::attempt::{self, Attempt, Wanted};
use super::context::{Replica, WorkerContext};
use super::request::begin_record;
use super::response_body::{ResponseBody, Step, finish_receive};
use crate::http1::{self, HeaderStorage};
use crate::ids::ClusterId;
use crate::limits::MIRRORS_OF_ROUTE_MAX;
use crate::net::{Buffer, sleep};
use crate::snapshot::Mirror;

/// Copies under way on a worker; further ones are dropped, and counted.
const MIRRORS_MAX: u64 = 1024;
/// A copy's connection is cut after this time.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The copies of one request that chance wants.
pub struct Copies<'r> {
    mirrors: &'r [Mirror],
    /// A bit for each of `mirrors`.
    due: Cell<u64>,
}

impl<'r> Copies<'r> {
    /// Draw for each of `mirrors`.
    pub fn new(context: &WorkerContext, mirrors: &'r [Mirror]) -> Copies<'r> {
        let mut due = 0;
        for (index, mirror) in mirrors.iter().take(MIRRORS_OF_ROUTE_MAX).enumerate() {
            due |= u64::from(context.chance(mirror.ppm)) << index;
        }
        Copies { mirrors, due: Cell::new(due) }
    }

    /// Is any wanted?
    pub fn are_due(&self) -> bool {
        self.due.get() != 0
    }

    /// Send them: `request` is a whole head and body, `is_head` whether it is a `HEAD`, whose response has
    /// no body, and `came_by_http2` whether its client speaks HTTP/2.
    pub fn send(
        &self,
        context: &Rc<WorkerContext>,
        replica: &Rc<Replica>,
        request: &[u8],
        is_head: bool,
        came_by_http2: bool,
    ) {
        let due = self.due.take();
        for (index, mirror) in self.mirrors.iter().take(MIRRORS_OF_ROUTE_MAX).enumerate() {
            if due & 1 << index == 0 {
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
                let wanted = Wanted {
                    fresh: false,
                    limit: TIMEOUT,
                    avoid_tried: true,
                    elsewhere: false,
                    client: None,
                    came_by_http2,
                };
                send(&context, &replica, cluster, &wanted, request, is_head).await;
                context.mirrors_active.set(context.mirrors_active.get() - 1);
            });
        }
    }

    /// Those that could not be sent: the body was too long, or never came to its end.
    pub fn count_dropped(&self, context: &WorkerContext) {
        let left = u64::from(self.due.take().count_ones());
        if left > 0 {
            context.count(|counters, _| counters.mirrors_dropped += left);
        }
    }
}

async fn send(
    context: &Rc<WorkerContext>,
    replica: &Replica,
    cluster: ClusterId,
    wanted: &Wanted<'_>,
    request: Vec<u8>,
    is_head: bool,
) {
    let mut scratch = context.take_scratch();
    begin_record(context, &mut scratch, Instant::now());
    let begun = attempt::begin(context, replica, cluster, wanted, &mut scratch).await;
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
        attempt.check_in(context, replica.snapshot.cluster(cluster));
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
    let mut response: Option<Response> = None;
    loop {
        let Some((outcome, mut buffer)) = attempt.connection.received().await else { return false };
        let step = match outcome {
            Ok(count) if count > 0 => read(&mut response, &mut buffer, is_head),
            _ => Err(()),
        };
        match (step, &response) {
            (Ok(Some(step)), Some(response)) if step.done => {
                let reusable = response.keep_alive && !step.excess;
                finish_receive(context, &mut attempt.connection, buffer, reusable);
                return reusable;
            }
            // What it holds of a body was looked at.
            (Ok(Some(_)), _) => buffer.clear(),
            (Ok(None), _) if !buffer.is_full() => {}
            // It ended, is malformed, or has a head that is longer than a copy is worth.
            _ => {
                context.buffers.give(buffer);
                return false;
            }
        }
        attempt.connection.begin_receive(buffer);
    }
}

/// What is left of a response.
struct Response {
    body: ResponseBody,
    keep_alive: bool,
}

/// Take what `buffer` holds of a response; none: its head is not complete. An error: it is malformed.
fn read(
    response: &mut Option<Response>,
    buffer: &mut Buffer,
    is_head: bool,
) -> Result<Option<Step>, ()> {
    while response.is_none() {
        let mut storage = HeaderStorage::new();
        let parsed = http1::parse_response(buffer, &mut storage, is_head).map_err(|_| ())?;
        let Some(parsed) = parsed else { return Ok(None) };
        let (head_bytes, status) = (parsed.head_bytes, parsed.head.status);
        if status == 101 {
            return Err(());
        }
        if status >= 200 {
            let body = ResponseBody::new(parsed.body, false, false);
            *response = Some(Response { body, keep_alive: parsed.keep_alive });
        }
        buffer.advance(head_bytes);
    }
    response.as_mut().map(|response| response.body.take(buffer)).transpose().map_err(|_| ())
}
