//! The life of a request on an HTTP/1 connection, from its first byte to its record. Read this
//! first; `docs/architecture.md` follows it.
//!
//! [`serve`] is what an idle connection costs: a small future and a small buffer. When bytes arrive
//! the rest of the story runs in a pooled slot ([`exchange`]) and gives its memory back when the
//! connection is idle again.

use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::attempt::{self, Attempt};
use super::context::{Replica, WorkerContext};
use super::downstream::{Downstream, ListenerSlot, Phase};
use super::error::ProxyError;
use super::local_reply;
use super::request::{self, Decision, Plan};
use super::request_body::{self, Progress, Pumped, RequestBody};
use super::response::{self, Responded};
use super::scratch::Scratch;
use super::tunnel;
use crate::http1::{HeadScanner, RequestError};
use crate::ids::ClusterId;
use crate::limits::DEFAULT_RETRIES;
use crate::net::{Buffer, Stream};
use crate::stream_info::ResponseFlags;

/// Base of the wait before a retry (Envoy's `retry_back_off.base_interval`).
const RETRY_BACKOFF_MS: u64 = 25;
/// How long a client may keep sending after a response that ended the connection.
const LINGER_MS: u64 = 1000;
/// How much of that is read and thrown away.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Serve a connection until it ends.
pub async fn serve(
    context: Rc<WorkerContext>,
    stream: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
) {
    let connection = context.downstreams.insert(Downstream::new(stream, peer, listener));
    context.count(|counters, gauges| {
        counters.downstream_accepted += 1;
        gauges.downstream_active += 1;
    });
    wait_for_request(&context, &connection, Instant::now());
    let mut buffer = Buffer::idle();
    loop {
        let (outcome, received) = connection.stream.receive(buffer).await;
        if !matches!(outcome, Ok(count) if count > 0) {
            break;
        }
        let exchange = context
            .exchanges
            .place(|| exchange(Rc::clone(&context), Rc::clone(&connection), received));
        match exchange.await {
            Some(empty) => buffer = empty,
            None => break,
        }
    }
    context.downstreams.remove(&connection);
    context.count(|counters, gauges| {
        counters.downstream_closed += 1;
        gauges.downstream_active -= 1;
    });
}

fn wait_for_request(context: &WorkerContext, connection: &Downstream, now: Instant) {
    let timeout = context.replica.borrow().snapshot.settings.idle_timeout;
    let deadline = context.clock.milliseconds(now).saturating_add(timeout.as_millis() as u64);
    connection.wait(Phase::Idle, deadline);
}

/// How a request left its connection.
enum After {
    /// It can serve another one.
    Next,
    /// It must be closed, in order.
    Close,
    /// It must be cut: the client has a part of a response.
    Cut,
}

/// Serve the request whose first bytes are in `input`, and those pipelined behind it. Returns the
/// idle buffer, empty, when the connection is to wait for another request.
async fn exchange(
    context: Rc<WorkerContext>,
    connection: Rc<Downstream>,
    input: Buffer,
) -> Option<Buffer> {
    let mut scratch = context.take_scratch();
    let mut receiver = Receiver { input: Some(input), idle: None };
    let after = loop {
        match one_request(&context, &connection, &mut receiver, &mut scratch).await {
            After::Next => {
                let pipelined = receiver.input.as_ref().is_some_and(|input| !input.is_empty());
                if pipelined && !context.draining.get() {
                    continue;
                }
                break if pipelined { After::Close } else { After::Next };
            }
            other => break other,
        }
    };
    context.give_scratch(scratch);
    match after {
        After::Next => Some(receiver.into_idle(&context)),
        After::Close => {
            linger(&context, &connection).await;
            None
        }
        After::Cut => {
            connection.stream.reset_on_close();
            None
        }
    }
}

/// What a connection receives into, and the idle buffer while a larger one took its place.
struct Receiver {
    /// `None` only while a body is streamed.
    input: Option<Buffer>,
    idle: Option<Buffer>,
}

impl Receiver {
    fn into_idle(self, context: &WorkerContext) -> Buffer {
        match (self.idle, self.input) {
            (Some(idle), Some(input)) => {
                context.buffers.give(input);
                idle
            }
            (Some(idle), None) => idle,
            (None, Some(input)) if input.is_idle_size() => input,
            (None, _) => Buffer::idle(),
        }
    }

    fn grow(&mut self, context: &WorkerContext) -> bool {
        let Some(input) = self.input.take() else { return false };
        match context.buffers.grow(input) {
            Ok((larger, idle)) => {
                self.input = Some(larger);
                if idle.is_some() {
                    self.idle = idle;
                }
                true
            }
            Err(same) => {
                self.input = Some(same);
                false
            }
        }
    }
}

/// One request and its response.
async fn one_request(
    context: &Rc<WorkerContext>,
    connection: &Rc<Downstream>,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
) -> After {
    let started = Instant::now();
    connection.wait_unbounded(Phase::Upstream);
    let decision = match read_head(context, connection, receiver, scratch, started).await {
        Some(decision) => decision,
        None => return After::Close,
    };
    context.count(|_, gauges| gauges.requests_active += 1);
    let (after, replica) = match decision {
        Decision::Forward { plan, cluster, replica } => {
            let after =
                forward(context, connection, receiver, scratch, &plan, cluster, &replica).await;
            (after, replica)
        }
        Decision::Configured { plan, route, replica } => {
            let action = &replica.snapshot.route(route).action;
            let read = pass_over_body(receiver, scratch, &plan);
            let next =
                local_reply::send_configured(context, connection, &plan, action, read, scratch)
                    .await;
            (if next { After::Next } else { After::Close }, replica)
        }
        Decision::Reply { plan, error } => {
            let after = reply(context, connection, receiver, scratch, plan.as_ref(), error).await;
            (after, Rc::clone(&context.replica.borrow()))
        }
        // `read_head` returns only decisions.
        Decision::Incomplete => (After::Close, Rc::clone(&context.replica.borrow())),
    };
    let ended = Instant::now();
    connection.set_upstream(None);
    finish(context, connection, scratch, &replica, ended);
    if matches!(after, After::Next) {
        wait_for_request(context, connection, ended);
    }
    after
}

/// Receive until the head is complete, and decide. `None`: the client went away before it said
/// anything that wants an answer.
async fn read_head(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    started: Instant,
) -> Option<Decision> {
    let mut scanner: Option<HeadScanner> = None;
    loop {
        let input = receiver.input.as_ref()?;
        let may_be_complete = match &mut scanner {
            None => true,
            Some(scanner) => scanner.may_be_complete(input),
        };
        if may_be_complete {
            match request::prepare(context, connection, input, scratch, started) {
                Decision::Incomplete => {}
                decision => return Some(decision),
            }
        }
        if scanner.is_none() {
            scanner = Some(HeadScanner::default());
            let timeout = context.replica.borrow().snapshot.settings.request_head_timeout;
            let deadline = context.clock.milliseconds(started) + timeout.as_millis() as u64;
            connection.wait(Phase::RequestHead, deadline);
        }
        if input.is_full() && !receiver.grow(context) {
            let error = ProxyError::Request(RequestError::HeadTooLarge);
            return Some(reject(context, scratch, started, error));
        }
        let (outcome, received) = connection.stream.receive(receiver.input.take()?).await;
        receiver.input = Some(received);
        match outcome {
            Ok(0) if connection.expired() => {
                return Some(reject(context, scratch, started, ProxyError::RequestHeadTimeout));
            }
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// A reply to a request whose head could not be read.
fn reject(
    context: &WorkerContext,
    scratch: &mut Scratch,
    started: Instant,
    error: ProxyError,
) -> Decision {
    request::begin_record(context, scratch, started);
    scratch.fields.clear();
    Decision::Reply { plan: None, error }
}

/// Answer a request ourselves.
async fn reply(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    plan: Option<&Plan>,
    error: ProxyError,
) -> After {
    context.count(|counters, _| match error {
        ProxyError::Request(_) | ProxyError::RequestBody => {
            counters.downstream_protocol_errors += 1
        }
        _ => {}
    });
    let read = plan.is_some_and(|plan| pass_over_body(receiver, scratch, plan));
    match local_reply::send(context, connection, plan, error, read, scratch).await {
        true => After::Next,
        false => After::Close,
    }
}

/// Take a request that is answered here out of the receive buffer. A body that is here completely
/// can be passed over (true); otherwise the connection ends after the answer.
fn pass_over_body(receiver: &mut Receiver, scratch: &mut Scratch, plan: &Plan) -> bool {
    let Some(input) = receiver.input.as_mut() else { return false };
    input.advance(plan.head_bytes);
    let progress = Progress::default();
    scratch.request.clear();
    let body = request_body::begin(plan.body, input, &mut scratch.request, &progress);
    scratch.info.request_body_bytes = progress.body_bytes.get();
    matches!(body, Ok(RequestBody::Done))
}

/// Send a request upstream and its response back, with the retries that are safe.
async fn forward(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    plan: &Plan,
    cluster: ClusterId,
    replica: &Replica,
) -> After {
    let progress = Progress::default();
    let body = {
        let Some(input) = receiver.input.as_mut() else { return After::Close };
        input.advance(plan.head_bytes);
        match request_body::begin(plan.body, input, &mut scratch.request, &progress) {
            Ok(body) => body,
            Err(error) => {
                return reply_now(context, connection, scratch, plan, error, false).await;
            }
        }
    };
    let mut body = Some(body);
    let mut retries = 0;
    let mut fresh = false;
    let outcome = loop {
        let mut attempt = match attempt::begin(context, replica, cluster, fresh, scratch).await {
            Ok(attempt) => attempt,
            Err(error) => {
                // Istio's default policy: connect failures, on another endpoint, twice.
                let connect_failed = matches!(
                    error,
                    ProxyError::UpstreamConnect | ProxyError::UpstreamConnectTimeout
                );
                if connect_failed && retries < DEFAULT_RETRIES {
                    retries += 1;
                    back_off(context, retries).await;
                    count_attempt(context, scratch, retries);
                    continue;
                }
                if connect_failed && retries > 0 {
                    scratch.info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                }
                break Err(error);
            }
        };
        connection.set_upstream(Some(attempt.connection.stream().clone()));
        if context.access_log.borrow().is_some() {
            scratch.info.upstream_local_address = attempt.connection.local_address();
        }
        let (responded, send_failed) = send_and_relay(
            context,
            connection,
            receiver,
            scratch,
            plan,
            &mut body,
            &progress,
            &mut attempt,
        )
        .await;
        let Responded::Nothing(error) = responded else { break Ok((responded, attempt)) };
        let reused = attempt.reused;
        attempt.close(context);
        // The endpoint had closed the kept connection: nothing of the request was served.
        let stale = reused && error == ProxyError::UpstreamClosed;
        let safe = plan.idempotent || send_failed;
        // Once the rest of a body was asked for, what came of it may be lost.
        if stale && safe && body.is_some() && !fresh && !connection.gone() {
            fresh = true;
            retries += 1;
            // The same endpoint is as good as any other for a fresh connection.
            scratch.tried.pop();
            count_attempt(context, scratch, retries);
            continue;
        }
        break Err(error);
    };
    scratch.info.request_bytes += progress.wire_bytes.get();
    scratch.info.request_body_bytes = progress.body_bytes.get();
    match outcome {
        Err(error) => {
            let read = progress.request_done.get() && receiver.input.is_some();
            reply_now(context, connection, scratch, plan, error, read).await
        }
        Ok((Responded::Complete { upstream_reusable, keep_alive }, attempt)) => {
            if upstream_reusable {
                attempt.check_in(context, context.clock.coarse_milliseconds());
            } else {
                attempt.close(context);
            }
            // A request that is still coming would be taken for the next one.
            let read = progress.request_done.get() && receiver.input.is_some();
            if keep_alive && read { After::Next } else { After::Close }
        }
        Ok((Responded::Switched(from_upstream), attempt)) => {
            run_tunnel(context, connection, receiver, scratch, &attempt, from_upstream).await;
            attempt.close(context);
            After::Close
        }
        Ok((Responded::Cut | Responded::Nothing(_), attempt)) => {
            attempt.close(context);
            After::Cut
        }
    }
}

/// Send the request on `attempt` and relay the response while the rest of the body streams. The
/// second value: the kernel took nothing of the request, the connection was dead.
#[expect(clippy::too_many_arguments, reason = "the state of one request, used in one place")]
async fn send_and_relay(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    plan: &Plan,
    body: &mut Option<RequestBody>,
    progress: &Progress,
    attempt: &mut Attempt,
) -> (Responded, bool) {
    let head = std::mem::take(&mut scratch.request);
    let now_ms = context.clock.coarse_milliseconds();
    connection.upstream_until(now_ms.saturating_add(context.progress_timeout_ms()));
    let (outcome, head) = attempt.connection.stream().send_all(head).await;
    connection.upstream_until(u64::MAX);
    scratch.request = head;
    let cut_short = match outcome {
        Ok(()) => false,
        Err((_, 0)) => return (Responded::Nothing(ProxyError::UpstreamClosed), true),
        // It took a part and no more: it may have answered already (413, say).
        Err(_) => true,
    };
    // On a kept connection the request left as soon as it was read: no need to ask the clock again.
    let sent = if attempt.reused && scratch.info.attempts == 1 {
        scratch.info.started
    } else {
        Instant::now()
    };
    let upstream = attempt.connection.stream().clone();
    let mut relay = pin!(response::relay(
        context,
        connection,
        &mut attempt.connection,
        plan,
        scratch,
        progress,
        sent,
    ));
    if progress.request_done.get() || cut_short {
        let responded = match relay.await {
            Responded::Complete { keep_alive, .. } if cut_short => {
                progress.request_done.set(false);
                Responded::Complete { upstream_reusable: false, keep_alive }
            }
            responded => responded,
        };
        return (responded, false);
    }
    let (Some(rest), Some(input)) = (body.take(), receiver.input.take()) else {
        return (Responded::Nothing(ProxyError::UpstreamClosed), false);
    };
    let mut pump = context
        .pumps
        .place(|| request_body::pump(context, connection, upstream, rest, input, progress));
    let mut pumping = true;
    let responded = std::future::poll_fn(|task| {
        if pumping && let Poll::Ready(pumped) = Pin::new(&mut pump).poll(task) {
            pumping = false;
            match pumped {
                Pumped::Done(input) => receiver.input = Some(input),
                // Its response may be on the way already.
                Pumped::UpstreamGone => {}
                Pumped::Client(error) => {
                    let begun = progress.response_started.get() || progress.sending.get();
                    return Poll::Ready(if begun {
                        Responded::Cut
                    } else {
                        Responded::Nothing(error)
                    });
                }
            }
        }
        relay.as_mut().poll(task)
    })
    .await;
    (responded, false)
}

/// Answer `error` after the request had been on its way.
async fn reply_now(
    context: &WorkerContext,
    connection: &Downstream,
    scratch: &mut Scratch,
    plan: &Plan,
    error: ProxyError,
    read: bool,
) -> After {
    context.count(|counters, _| match error {
        ProxyError::UpstreamProtocol(_) | ProxyError::UpstreamInterim => {
            counters.upstream_protocol_errors += 1;
        }
        ProxyError::RequestBody => counters.downstream_protocol_errors += 1,
        _ => {}
    });
    match local_reply::send(context, connection, Some(plan), error, read, scratch).await {
        true => After::Next,
        false if error == ProxyError::DownstreamGone => After::Cut,
        false => After::Close,
    }
}

/// Wait a random part of the n-th retry's interval (Envoy: up to `(2^n - 1) * base`, at most ten
/// times the base).
async fn back_off(context: &WorkerContext, retry: u32) {
    let longest = (((1u64 << retry.min(10)) - 1) * RETRY_BACKOFF_MS).min(RETRY_BACKOFF_MS * 10);
    let wait = context.random.borrow_mut().u64(..longest.max(1));
    // Boxed: a timer is large, and the rare retry must not enlarge every exchange.
    Box::pin(crate::net::sleep(Duration::from_millis(wait))).await;
}

/// Note a further attempt in the head that is sent again.
fn count_attempt(context: &WorkerContext, scratch: &mut Scratch, retries: u32) {
    context.count(|counters, _| counters.upstream_retries += 1);
    if let Some(digit) = scratch.request.get_mut(scratch.attempt_count_at) {
        *digit = b'1' + retries.min(8) as u8;
    }
}

async fn run_tunnel(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    attempt: &Attempt,
    from_upstream: Buffer,
) {
    context.count(|counters, gauges| {
        counters.tunnels_opened += 1;
        gauges.tunnels_active += 1;
    });
    connection.wait_unbounded(Phase::Tunnel);
    let from_client = receiver.input.take().unwrap_or_else(Buffer::idle);
    let upstream = attempt.connection.stream();
    let tunnel = context
        .tunnels
        .place(|| tunnel::run(context, &connection.stream, upstream, from_client, from_upstream));
    let moved = tunnel.await;
    scratch.info.request_body_bytes += moved.up_bytes;
    scratch.info.request_bytes += moved.up_bytes;
    scratch.info.response_body_bytes += moved.down_bytes;
    scratch.info.response_bytes += moved.down_bytes;
    context.count(|_, gauges| gauges.tunnels_active -= 1);
}

/// Write the record of a request.
fn finish(
    context: &WorkerContext,
    connection: &Downstream,
    scratch: &mut Scratch,
    replica: &Replica,
    ended: Instant,
) {
    let info = &mut scratch.info;
    info.duration_us = ended.saturating_duration_since(info.started).as_micros() as u64;
    context.metrics.record(info);
    context.count(|_, gauges| gauges.requests_active -= 1);
    if let Some(sink) = context.access_log.borrow_mut().as_mut() {
        let line = super::record::line_context(&replica.snapshot, info, connection);
        sink.record(info, &scratch.fields, &line);
    }
}

/// Let the client read the last response before the connection goes: end our side, then take what
/// it still sends. Closing at once could destroy the response on its way (RFC 9112 section 9.6).
async fn linger(context: &WorkerContext, connection: &Downstream) {
    connection.stream.shutdown(Shutdown::Write);
    let deadline = context.clock.milliseconds(Instant::now()) + LINGER_MS;
    connection.wait(Phase::Lingering, deadline);
    let mut buffer = context.buffers.take();
    let mut taken = 0;
    loop {
        let (outcome, received) = connection.stream.receive(buffer).await;
        buffer = received;
        match outcome {
            Ok(count) if count > 0 && taken < LINGER_BYTES_MAX => {
                taken += count;
                buffer.clear();
            }
            _ => break,
        }
    }
    context.buffers.give(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs its future, a kilobyte of buffer and four small blocks; together
    /// they must stay below 2 KiB. And the slot of an exchange is written once per request.
    #[test]
    fn futures_stay_small() {
        fn of_four<F, A, B, C, D>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        fn of_three<F, A, B, C>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        assert!(of_four(serve) <= 256, "an idle connection: {}", of_four(serve));
        assert!(of_three(exchange) <= 2304, "an exchange: {}", of_three(exchange));
    }
}
